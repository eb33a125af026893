"""Models from the checkpoints of public repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch.data import HuggingFaceTokenizer, Tokenizer, WordTokenizer
from itmatch.models.matching import MatchingModel
from itmatch.models.public_files import PublicCheckpoint, read_public_checkpoint
from itmatch.nn import (
    Block,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GeneralizedPooling,
    GlobalAttentionPooling,
    GRUTextEncoder,
    HardAligningSimilarity,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    RegionEncoder,
    Similarity,
    SimilarityFiltration,
    SimilarityHead,
    SimilarityReasoning,
    SoftAligningSimilarity,
    SoftmaxPooling,
    SumPooling,
    TransformerTextEncoder,
    VectorSimilarity,
)

State = dict[str, Tensor]

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
    path: str | Path, format: str, *, vocabulary: str | Path | None = None, text_model: str | None = None
) -> Conversion:
    """A model from a checkpoint file of CHAN, VSE-infinity, SCAN or SGRAF.

    Args:
        path: the ``.pth`` or ``.pth.tar`` file; see :func:`read_public_checkpoint` for what is admitted.
        format: ``"chan"``, ``"vse_infty"``, ``"scan"`` or ``"sgraf"``.
        vocabulary: the json file of the words that it was trained with, so that the model takes strings.
        text_model: name or folder of the BERT that it was trained with, for tokenizer and configuration. Without
            it the configuration is read off the weights (64 numbers a head), and captions come as token ids.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another layout, a setting that has no counterpart here, a weight that is missing or has another
            shape, or something that is not admitted.
    """
    if format not in FORMATS:
        raise ValueError(f"format: {format!r}, expected one of {', '.join(FORMATS)}")
    source = read_public_checkpoint(path)
    if len(source.states) < 2:
        raise ValueError(f"{path}: {len(source.states)} state dicts, expected those of an image and a text encoder")
    reader = _Reader(source)
    try:
        similarity, word_options = FORMATS[format](reader)
        image = reader.image_encoder()
        text, tokenizer = reader.text_encoder(vocabulary, text_model, **word_options)
    except KeyError as error:
        raise ValueError(f"{path}: no {error} in it; is this a checkpoint of {format}?") from error
    model = MatchingModel(image, text, similarity, tokenizer)
    unused = [
        *_fill(reader, 0, image, _IMAGE),
        *_fill(reader, 1, text, _WORDS),
        *(_fill(reader, 2, similarity, _SIMILARITY, _WITHIN_SIMILARITY) if len(source.states) > 2 else []),
        *(f"model[{i}].{name}" for i in range(3, len(source.states)) for name in source.states[i]),
    ]
    return Conversion(model.eval(), reader.settings, source.notes, unused)


class _Reader:
    """The settings and weights of a file; remembers which settings were asked for."""

    def __init__(self, source: PublicCheckpoint) -> None:
        self.source = source
        self.states = source.states
        self.settings: dict[str, Any] = {}

    def option(self, name: str, default: Any = None) -> Any:
        value = self.source.options.get(name, default)
        self.settings[name] = value
        return value

    def choose(self, name: str, choices: Mapping[str, Any], default: str | None = None) -> Any:
        value = self.option(name, default)
        if value not in choices:
            raise ValueError(f"{self.source.path}: opt.{name} is {value!r}, expected one of {', '.join(choices)}")
        return choices[value]

    def image_encoder(self) -> RegionEncoder:
        state = self.states[0]
        if any(name.startswith(("backbone.", "feedforward.mlp.")) for name in state):
            kind = self.option("precomp_enc_type")
            raise ValueError(
                f"{self.source.path}: precomp_enc_type is {kind!r}; only region features through basic and "
                "selfattention have a counterpart here"
            )
        if "fc.weight_v" in state:  # weight_norm(fc, dim=None)
            direction = state.pop("fc.weight_v")
            state["fc.weight"] = state.pop("fc.weight_g") * direction / direction.norm()
            self.source.notes.append("model[0].fc: weight normalisation is multiplied out")
        embed_dim, region_dim = state["fc.weight"].shape
        attention = "feedforward.ln.weight" in state
        return RegionEncoder(
            region_dim,
            embed_dim,
            self_attention=attention,
            mask_attention=not attention,  # the public code does not mask
            normalize=not self.option("no_imgnorm"),
            mlp="mlp.layers.0.weight" in state,
            pooling=_generalized(state),
        )

    def text_encoder(
        self, vocabulary: str | Path | None, text_model: str | None, **options: Any
    ) -> tuple[Block, Tokenizer | None]:
        state = self.states[1]
        options |= {"normalize": not self.option("no_txtnorm"), "pooling": _generalized(state)}
        if any(name.startswith("bert.") for name in state):
            if vocabulary is not None:
                raise ValueError(f"{self.source.path}: its text encoder is BERT, which has no vocabulary file")
            config = None if text_model else _bert_config(state)
            encoder = TransformerTextEncoder(text_model, len(state["linear.bias"]), config=config, **options)
            return encoder, HuggingFaceTokenizer(text_model) if text_model else None
        if text_model is not None:
            raise ValueError(f"{self.source.path}: its text encoder is a GRU, no {text_model!r}")
        tokenizer = None if vocabulary is None else WordTokenizer(vocabulary)
        if tokenizer is not None:
            state["embed.weight"] = self._with_mask(state["embed.weight"], tokenizer)
        size, word_dim = state["embed.weight"].shape
        prefix = "cap_rnn" if "cap_rnn.weight_hh_l0" in state else "rnn"
        gru = GRUTextEncoder(
            size,
            state[f"{prefix}.weight_hh_l0"].shape[1],
            word_dim=word_dim,
            num_layers=sum(name.startswith(f"{prefix}.weight_hh_l") and "reverse" not in name for name in state),
            bidirectional=f"{prefix}.weight_hh_l0_reverse" in state,
            **options,
        )
        return gru, tokenizer

    def _with_mask(self, weight: Tensor, tokenizer: WordTokenizer) -> Tensor:
        if len(weight) == tokenizer.vocab_size - 1 and tokenizer.mask_id == len(weight):
            self.source.notes.append("model[1].embed: a word <mask> is added, with the vector of <unk>")
            return torch.cat((weight, weight[tokenizer.vocabulary["<unk>"]][None]))
        if len(weight) != tokenizer.vocab_size:
            raise ValueError(
                f"{self.source.path}: {len(weight)} words in its embedding, the vocabulary has "
                f"{tokenizer.vocab_size} (<mask> included)"
            )
        return weight


def _generalized(state: State) -> Pooling | None:
    if "gpool.linear.weight" not in state:
        return None
    return GeneralizedPooling(state["gpool.gru.weight_ih_l0"].shape[1], state["gpool.linear.weight"].shape[1])


def _bert_config(state: State) -> dict[str, Any]:
    words = state["bert.embeddings.word_embeddings.weight"]
    layers = {name.split(".")[3] for name in state if name.startswith("bert.encoder.layer.")}
    return {
        "model_type": "bert",
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(1, words.shape[1] // 64),
        "intermediate_size": len(state["bert.encoder.layer.0.intermediate.dense.bias"]),
        "max_position_embeddings": len(state["bert.embeddings.position_embeddings.weight"]),
        "type_vocab_size": len(state["bert.embeddings.token_type_embeddings.weight"]),
    }


def _fill(reader: _Reader, number: int, part: torch.nn.Module, *renamings: Mapping[str, str]) -> list[str]:
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
        found[name] = value
    missing = [name for name in own if name not in found and not name.endswith(_IGNORED)]
    if missing:
        raise ValueError(
            f"{reader.source.path}: model[{number}] has nothing for {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        )
    part.load_state_dict(found, strict=False)
    return unused


_Parts = tuple[Similarity, dict[str, Any]]  # and options of the text encoder


def _chan(reader: _Reader) -> _Parts:
    temperature = reader.option("belta", 0.1)
    pooling = reader.choose(
        "pooling_type",
        {
            "MaxPooling": MaxPooling,
            "MeanPooling": MeanPooling,
            "SumPooling": SumPooling,
            "SoftmaxPooling": lambda: SoftmaxPooling(temperature),
            "LSEPooling": lambda: LogSumExpPooling(temperature, scaled=False),
        },
    )()
    codings: dict[str, Callable[[], Similarity]] = {
        "VHACoding": lambda: HardAligningSimilarity("words", pooling),
        "THACoding": lambda: HardAligningSimilarity("regions", pooling),
        "VSACoding": lambda: SoftAligningSimilarity(reader.option("alpha"), "regions", pooling, normalize=True),
    }
    return reader.choose("coding_type", codings)(), {}


def _vse_infty(reader: _Reader) -> _Parts:
    return CosineSimilarity(), {}


def _scan(reader: _Reader) -> _Parts:
    lse = reader.option("lambda_lse", 6.0)
    poolings = {
        "LogSumExp": lambda: LogSumExpPooling(1 / lse),
        "Mean": MeanPooling,
        "Max": MaxPooling,
        "Sum": SumPooling,
    }
    similarity = CrossAttentionSimilarity(
        reader.choose("cross_attn", {"t2i": "t2i", "i2t": "i2t"}, "t2i"),
        reader.option("lambda_softmax", 9.0),
        reader.option("raw_feature_norm", "clipped_l2norm"),
        reader.choose("agg_func", poolings, "LogSumExp")(),
    )
    return similarity, {}


def _sgraf(reader: _Reader) -> _Parts:
    state = reader.states[2] if len(reader.states) > 2 else {}
    size, embed_dim = state["sim_tranloc_w.weight"].shape
    steps = len({name.split(".")[1] for name in state if name.startswith("SGR_module.")})
    heads: dict[str, Callable[[], SimilarityHead]] = {
        "SGR": lambda: SimilarityReasoning(size, steps),
        "SAF": lambda: SimilarityFiltration(size),
    }
    places = len(state["v_global_w.embedding_local.1.weight"])
    regions = GlobalAttentionPooling(embed_dim, batch_norm=True, places=places)
    return VectorSimilarity(embed_dim, reader.choose("module_name", heads)(), regions), {"dropout": 0.4}


FORMATS: dict[str, Callable[[_Reader], _Parts]] = {
    "chan": _chan,
    "vse_infty": _vse_infty,
    "scan": _scan,
    "sgraf": _sgraf,
}
