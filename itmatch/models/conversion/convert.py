"""Models from the checkpoints of public repositories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from itmatch.formats.messages import reason
from itmatch.models.conversion.layouts import FORMATS, PublicReader, State
from itmatch.models.conversion.pickles import read_public_checkpoint
from itmatch.models.matching import MatchingModel
from itmatch.ops.checks import check_choice

_IGNORED = ("num_batches_tracked", "embeddings.position_ids")
_IMAGE = {"feedforward.ln.": "norm.", "feedforward.attn.": "attention.", "gpool.": "pooling."} | {
    "mlp.layers.0.": "mlp.0.", "mlp.bns.0.": "mlp.1.", "mlp.layers.1.": "mlp.3.",
}  # fmt: skip
_WORDS = {"cap_rnn.": "rnn.", "gpool.": "pooling.", "bert.": "transformer.", "linear.": "fc."}
_SIMILARITY = {
    "v_global_w.": "region_pooling.", "t_global_w.": "word_pooling.",
    "sim_tranloc_w.": "local.", "sim_tranglo_w.": "whole.", "sim_eval_w.": "score.", "SGR_module.": "head.layers.",
    "SAF_module.attn_sim_w.": "head.gate.", "SAF_module.bn.weight": "head.scale", "SAF_module.bn.bias": "head.shift",
    "SAF_module.bn.running_mean": "head.mean", "SAF_module.bn.running_var": "head.variance",
}  # fmt: skip
_WITHIN_SIMILARITY = {
    "embedding_local.0.": "local.", "embedding_local.1.": "local_norm.", "embedding_global.0.": "whole.",
    "embedding_global.1.": "whole_norm.", "embedding_common.0.": "common.",
    "graph_query_w.": "query.", "graph_key_w.": "key.", "sim_graph_w.": "out.",
}  # fmt: skip


@dataclass
class Conversion:
    """A model from a public checkpoint, and what became of the file.

    Args:
        model: with the weights of the file, in evaluation mode.
        settings: what decided its form, by the names of the public code.
        notes: changes and additions, a line each.
        unused: weights of the file that the model has no place for, as ``model[0].fc.weight``.
    """

    model: MatchingModel
    settings: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        parameters = sum(p.numel() for p in self.model.parameters())
        lines = [f"{parameters} parameters; {settings}", *self.notes]
        if self.unused:
            lines.append(f"not used: {', '.join(self.unused)}")
        return "\n".join(lines)


def convert_checkpoint(
    path: str | Path,
    format: str,
    *,
    vocabulary: str | Path | None = None,
    text_model: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """A model from a checkpoint file of CHAN, VSE++, VSE-infinity, SCAN or SGRAF.

    Args:
        path: the ``.pth`` or ``.pth.tar`` file; see :func:`read_public_checkpoint` for what is admitted.
        format: ``"chan"``, ``"vse_pp"``, ``"vse_infty"``, ``"scan"`` or ``"sgraf"``.
        vocabulary: the file of the words that it was trained with, json or pickled, so that the model takes strings.
        text_model: name or folder of the BERT that it was trained with, for tokenizer and configuration. Without
            it the configuration is read off the weights (64 numbers a head), and captions come as token ids.
        options: settings by the names of the public code, for a file without; they win over those of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another layout, a setting that has no counterpart here, a weight that is missing or has another
            shape, or something that is not admitted.
    """
    check_choice("format", format, *FORMATS)
    source = read_public_checkpoint(path)
    source.options.update(options or {})
    if len(source.states) < 2:
        raise ValueError(f"{path}: {len(source.states)} state dicts, expected those of an image and a text encoder")
    try:
        return _converted(PublicReader(source, format), vocabulary, text_model)
    except KeyError as error:
        raise ValueError(f"{path}: no {error} in it; is this a checkpoint of {format}?") from error
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and any(str(known) in str(error) for known in (path, vocabulary or path)):
            raise
        raise ValueError(f"{path}: no model of {format} can be made of it ({reason(error)})") from error


def _converted(reader: PublicReader, vocabulary: str | Path | None, text_model: str | None) -> Conversion:
    source = reader.source
    parts = FORMATS[reader.format](reader)
    similarity, image = parts.similarity, reader.image_encoder(**parts.image)
    text, tokenizer = reader.text_encoder(vocabulary, text_model, **parts.text)
    model = MatchingModel(image, text, similarity, tokenizer)
    unused = [
        *_fill(reader, 0, image, _IMAGE),
        *_fill(reader, 1, text, _WORDS),
        *(_fill(reader, 2, similarity, _SIMILARITY, _WITHIN_SIMILARITY) if len(source.states) > 2 else []),
        *(f"model[{i}].{name}" for i in range(3, len(source.states)) for name in source.states[i]),
    ]
    return Conversion(model.eval(), reader.settings, source.notes, unused)


def _fill(reader: PublicReader, number: int, part: torch.nn.Module, *renamings: Mapping[str, str]) -> list[str]:
    """Load a state dict into a part of the model; returns the names of the weights that have no place there."""
    own = part.state_dict()
    found: State = {}
    unused = []
    for public, value in reader.states[number].items():
        name = public
        for renaming in renamings:
            for old, new in renaming.items():
                at = name.startswith(old) if renaming is renamings[0] else old in name
                name = name.replace(old, new, 1) if at else name
        if name not in own:
            unused += [] if name.endswith(_IGNORED) else [f"model[{number}].{public}"]
            continue
        if own[name].shape != value.shape:
            raise ValueError(
                f"{reader.source.path}: model[{number}].{public} has shape {tuple(value.shape)}, "
                f"expected {tuple(own[name].shape)}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{reader.source.path}: model[{number}].{public} holds a NaN or an infinity")
        found[name] = value
    missing = [name for name in own if name not in found and not name.endswith(_IGNORED)]
    if missing:
        raise ValueError(
            f"{reader.source.path}: model[{number}] has nothing for {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        )
    part.load_state_dict(found, strict=False)
    return unused
