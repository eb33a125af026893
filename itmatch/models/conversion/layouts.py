"""What the checkpoints of each public repository say of their models: settings, and the parts that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch import nn
from itmatch.data import HuggingFaceTokenizer, Tokenizer, WordTokenizer
from itmatch.formats.messages import shown
from itmatch.models.conversion.pickles import PublicCheckpoint

State = dict[str, Tensor]


class PublicReader:
    """The settings and weights of a file; remembers which settings were asked for."""

    def __init__(self, source: PublicCheckpoint, format: str) -> None:
        self.source = source
        self.format = format
        self.states = source.states
        self.settings: dict[str, Any] = {}

    def option(self, name: str) -> Any:
        """A setting; raises if the file does not have it."""
        if name not in self.source.options:
            lacking = "name it with --options" if not self.source.options else f"is this a checkpoint of {self.format}?"
            raise ValueError(f"{self.source.path}: no opt.{name}; {lacking}")
        self.settings[name] = self.source.options[name]
        return self.settings[name]

    def positive(self, name: str) -> float:
        """A setting that is a number above 0."""
        value = self.option(name)
        if not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{self.source.path}: opt.{name} is {shown(value)}, expected a number above 0")
        return float(value)

    def switch(self, name: str) -> bool:
        """A setting that older versions of the public code do not have, where it is off."""
        if name not in self.source.options:
            self.source.notes.append(f"opt.{name} is missing; taken as False")
            return False
        return bool(self.option(name))

    def choose(self, name: str, choices: Mapping[str, Any]) -> Any:
        """What a setting stands for; raises for one that has no counterpart here."""
        value = self.option(name)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{self.source.path}: opt.{name} is {shown(value)}, expected one of {', '.join(choices)}")
        return choices[value]

    def refuse(self, *prefixes: str) -> None:
        """Raise if there are weights of these names, or further state dicts: then it is a file of another system."""
        for number, state in enumerate(self.states):
            for name in state:
                if number > 1 or name.startswith(prefixes):
                    raise ValueError(
                        f"{self.source.path}: has model[{number}].{name}, which a checkpoint of {self.format} has not"
                    )

    def image_encoder(self, **options: Any) -> nn.RegionEncoder:
        """An encoder of the form that the first state dict has, with fresh weights, and with these settings."""
        state = self.states[0]
        if any(name.startswith(("backbone.", "feedforward.mlp.")) for name in state):
            kind = self.source.options.get("precomp_enc_type")
            raise ValueError(
                f"{self.source.path}: precomp_enc_type is {kind!r}; only region features through basic and "
                "selfattention have a counterpart here"
            )
        if "fc.weight_v" in state:  # weight_norm(fc, dim=None), or a length for each row
            direction = state.pop("fc.weight_v")
            scale = state.pop("fc.weight_g")
            length = direction.norm() if scale.numel() == 1 else direction.norm(dim=1, keepdim=True)
            state["fc.weight"] = scale * direction / length
            self.source.notes.append("model[0].fc: weight normalisation is multiplied out")
        embed_dim, region_dim = state["fc.weight"].shape
        attention = "feedforward.ln.weight" in state
        found = {
            "self_attention": attention,
            "mask_attention": not attention,  # the public code does not mask
            "normalize": not self.switch("no_imgnorm"),
            "mlp": "mlp.layers.0.weight" in state,
            "pooling": _generalized(state),
        }
        return nn.RegionEncoder(region_dim, embed_dim, **found | options)

    def text_encoder(
        self, vocabulary: str | Path | None, text_model: str | None, **options: Any
    ) -> tuple[nn.TextEncoder, Tokenizer | None]:
        """An encoder of the form that the second state dict has, with fresh weights, and its tokenizer if known."""
        state = self.states[1]
        options = {"pooling": _generalized(state)} | options
        if "normalize" not in options:
            options["normalize"] = not self.switch("no_txtnorm")
        if any(name.startswith("bert.") for name in state):
            if vocabulary is not None:
                raise ValueError(f"{self.source.path}: its text encoder is BERT, which has no vocabulary file")
            config = None if text_model else _bert_config(state)
            encoder = nn.TransformerTextEncoder(text_model, len(state["linear.bias"]), config=config, **options)
            return encoder, HuggingFaceTokenizer(text_model) if text_model else None
        if text_model is not None:
            raise ValueError(f"{self.source.path}: its text encoder is a GRU, no {text_model!r}")
        tokenizer = None if vocabulary is None else WordTokenizer(vocabulary)
        if tokenizer is not None:
            state["embed.weight"] = self._with_mask(state["embed.weight"], tokenizer)
        size, word_dim = state["embed.weight"].shape
        prefix = "cap_rnn" if "cap_rnn.weight_hh_l0" in state else "rnn"
        gru = nn.GRUTextEncoder(
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


def _generalized(state: State) -> nn.Pooling | None:
    if "gpool.linear.weight" not in state:
        return None
    return nn.GeneralizedPooling(state["gpool.gru.weight_ih_l0"].shape[1], state["gpool.linear.weight"].shape[1])


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


@dataclass(frozen=True)
class Parts:
    """The similarity of a system, and settings of its encoders that are in no file.

    Args:
        similarity: with fresh weights.
        image: settings of the image encoder.
        text: settings of the text encoder.
    """

    similarity: nn.Similarity
    image: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)


def _chan(reader: PublicReader) -> Parts:
    pooling = reader.choose(
        "pooling_type",
        {
            "MaxPooling": nn.MaxPooling,
            "MeanPooling": nn.MeanPooling,
            "SumPooling": nn.SumPooling,
            "SoftmaxPooling": lambda: nn.SoftmaxPooling(reader.positive("belta")),
            "LSEPooling": lambda: nn.LogSumExpPooling(reader.positive("belta"), scaled=False),
        },
    )()
    codings: dict[str, Callable[[], nn.Similarity]] = {
        "VHACoding": lambda: nn.HardAligningSimilarity("words", pooling),
        "THACoding": lambda: nn.HardAligningSimilarity("regions", pooling),
        "VSACoding": lambda: nn.SoftAligningSimilarity(reader.positive("alpha"), "regions", pooling, normalize=True),
    }
    return Parts(reader.choose("coding_type", codings)())


def _vse_pp(reader: PublicReader) -> Parts:
    reader.refuse("feedforward.", "gpool.", "mlp.", "cap_rnn.", "bert.")
    if "measure" in reader.source.options:
        reader.choose("measure", {"cosine": None})
    for name in ("use_abs", "no_imgnorm"):  # not of cosines any more
        if reader.source.options.get(name):
            raise ValueError(f"{reader.source.path}: opt.{name} is on; only models without it have a counterpart here")
    state = reader.states[0]
    network = [name for name in state if name.startswith("cnn.")]
    for name in network:
        del state[name]
    if network:
        kind = reader.source.options.get("cnn_type", "its kind is not said")
        reader.source.notes.append(
            f"model[0].cnn: the network ({kind}) is left out; the model takes its output, one vector per photo"
        )
    image = {"pooling": nn.MeanPooling(), "input_norm": "l2" if network else None}
    return Parts(nn.CosineSimilarity(), image, {"pooling": nn.LastPooling(), "normalize": True})


def _vse_infty(reader: PublicReader) -> Parts:
    reader.refuse()
    for number, state in enumerate(reader.states[:2]):
        if "gpool.linear.weight" not in state:
            raise ValueError(f"{reader.source.path}: no model[{number}].gpool; is this a checkpoint of vse_infty?")
    return Parts(nn.CosineSimilarity())


def _scan(reader: PublicReader) -> Parts:
    reader.refuse("feedforward.", "gpool.", "mlp.", "cap_rnn.")
    poolings = {
        "LogSumExp": lambda: nn.LogSumExpPooling(1 / reader.positive("lambda_lse")),
        "Mean": nn.MeanPooling,
        "Max": nn.MaxPooling,
        "Sum": nn.SumPooling,
    }
    similarity = nn.CrossAttentionSimilarity(
        reader.choose("cross_attn", {"t2i": "words", "i2t": "regions"}),
        1 / reader.positive("lambda_softmax"),
        reader.option("raw_feature_norm"),
        reader.choose("agg_func", poolings)(),
    )
    return Parts(similarity)


def _sgraf(reader: PublicReader) -> Parts:
    state = reader.states[2] if len(reader.states) > 2 else {}
    size, embed_dim = state["sim_tranloc_w.weight"].shape
    steps = len({name.split(".")[1] for name in state if name.startswith("SGR_module.")})
    heads: dict[str, Callable[[], nn.SimilarityHead]] = {
        "SGR": lambda: nn.SimilarityReasoning(size, steps),
        "SAF": lambda: nn.SimilarityFiltration(size),
    }
    positions = len(state["v_global_w.embedding_local.1.weight"])
    regions = nn.GlobalAttentionPooling(embed_dim, batch_norm=True, positions=positions)
    similarity = nn.VectorSimilarity(embed_dim, reader.choose("module_name", heads)(), regions)
    return Parts(similarity, text={"dropout": 0.4})


FORMATS: dict[str, Callable[[PublicReader], Parts]] = {
    "chan": _chan,
    "vse_pp": _vse_pp,
    "vse_infty": _vse_infty,
    "scan": _scan,
    "sgraf": _sgraf,
}
