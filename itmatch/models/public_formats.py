"""What the checkpoints of each public repository say of their models: settings, and the parts that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch.data import HuggingFaceTokenizer, Tokenizer, WordTokenizer
from itmatch.models.public_files import PublicCheckpoint
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


class PublicReader:
    """The settings and weights of a file; remembers which settings were asked for."""

    def __init__(self, source: PublicCheckpoint) -> None:
        self.source = source
        self.states = source.states
        self.settings: dict[str, Any] = {}

    def option(self, name: str, default: Any = None) -> Any:
        """A setting."""
        value = self.source.options.get(name, default)
        self.settings[name] = value
        return value

    def choose(self, name: str, choices: Mapping[str, Any], default: str | None = None) -> Any:
        """What a setting stands for; raises for one that has no counterpart here."""
        value = self.option(name, default)
        if value not in choices:
            raise ValueError(f"{self.source.path}: opt.{name} is {value!r}, expected one of {', '.join(choices)}")
        return choices[value]

    def image_encoder(self) -> RegionEncoder:
        """An encoder of the form that the first state dict has, with fresh weights."""
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
        """An encoder of the form that the second state dict has, with fresh weights, and its tokenizer if known."""
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


_Parts = tuple[Similarity, dict[str, Any]]  # and options of the text encoder


def _chan(reader: PublicReader) -> _Parts:
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


def _vse_infty(reader: PublicReader) -> _Parts:
    return CosineSimilarity(), {}


def _scan(reader: PublicReader) -> _Parts:
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


def _sgraf(reader: PublicReader) -> _Parts:
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


FORMATS: dict[str, Callable[[PublicReader], _Parts]] = {
    "chan": _chan,
    "vse_infty": _vse_infty,
    "scan": _scan,
    "sgraf": _sgraf,
}
