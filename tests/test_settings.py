"""Settings out of range are refused by every public constructor, in one line that names them."""

import inspect
import re

import numpy as np
import pytest
import torch

import itmatch.evaluation
import itmatch.losses
import itmatch.nn
from itmatch.batch import SceneGraph
from itmatch.evaluation import Relevance, streamed_hits, streamed_ranks
from itmatch.losses import InfoNCELoss, info_nce_loss, probabilistic_matching_loss, sigmoid_loss
from itmatch.ops import (
    cross_attention,
    hard_alignment,
    l2_normalize,
    nearest_boxes,
    semantic_graph,
    soft_alignment,
    spatial_graph,
    strongest_edges,
)

NAN, INF = float("nan"), float("inf")
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**SMALL, "vocab_size": 30, "max_position_embeddings": 8, "projection_dim": 16},
    "vision_config": {**SMALL, "image_size": 16, "patch_size": 8, "projection_dim": 16},
}
BERT = {"model_type": "bert", "vocab_size": 50, "max_position_embeddings": 16, **SMALL}
# what a constructor needs beside the setting that is tried
ARGUMENTS = {
    "BatchRelationLoss": {"embed_dim": 16},
    "ClassEmbedding": {"classes": 3, "dim": 4},
    "ClipTextEncoder": {"config": CLIP},
    "ContextualOrder": {"embed_dim": 8},
    "DistanceWeightedNegatives": {"dim": 8},
    "Evaluator": {"similarity": torch.nn.Identity()},
    "GRUTextEncoder": {"vocabulary": 9, "embed_dim": 8, "word_dim": 4},
    "GaussianPooling": {"embed_dim": 8},
    "GlobalAttentionPooling": {"embed_dim": 8, "batch_norm": True},
    "ImplicitRelationAttention": {"embed_dim": 8},
    "MemoryLoss": {"loss": InfoNCELoss(), "embed_dim": 8, "size": 4},
    "RegionEncoder": {"in_features": 6, "embed_dim": 8, "self_attention": True},
    "SpatialSemanticGCN": {"embed_dim": 8},
    "TextualRelationGraph": {"embed_dim": 8},
    "TransformerPooling": {"embed_dim": 16},
    "TransformerTextEncoder": {"config": BERT, "embed_dim": 8},
    "TransformerImageEncoder": {"config": {"model_type": "vit", **CLIP["vision_config"]}, "embed_dim": 8},
    "VectorSimilarity": {"embed_dim": 8},
    "LayerNormPooling": {"pooling": itmatch.nn.MeanPooling(), "embed_dim": 8},
    "RegionViewEncoder": {"encoder": itmatch.nn.RegionEncoder(6, 8)},
    "ViewEncoder": {"encoder": itmatch.nn.RegionEncoder(6, 8)},
    "VisualRelationGraph": {"embed_dim": 8},
}
LEFT_OUT = {"Agreement", "AligningSimilarity", "ChoiceFigure", "PlausibleMatch"}  # answers; abstract; checks its files
NO_NUMBERS = {"vocabulary"}  # may be much else, with errors of its own
MAY_BE_0 = {"feedforward_dim", "neighbours", "pad_id", "warmup_epochs"}  # of the whole numbers
SIGNED = {"bias", "log_variance", "gamma", "negative_margin", "positive_margin", "threshold"}  # of the others
ABOVE_0 = re.compile("temperature|scale$|cutoff|far|relevance_weight")


def settings():
    """(class, name of the setting, bad value) of every number that a public constructor takes."""
    for module in (itmatch.nn, itmatch.losses, itmatch.evaluation):
        for name in module.__all__:
            cls = getattr(module, name)
            if not inspect.isclass(cls) or inspect.isabstract(cls) or issubclass(cls, tuple) or name in LEFT_OUT:
                continue
            for parameter in inspect.signature(cls).parameters.values():
                words = set(re.findall(r"\w+", str(parameter.annotation)))
                if parameter.name in NO_NUMBERS or not words & {"int", "float"} or words & {"dict", "Sequence"}:
                    continue
                whole = "int" in words
                yield from ((name, cls, parameter.name, value) for value in bad_values(parameter.name, whole))
                if "None" not in words:
                    yield name, cls, parameter.name, None


def bad_values(name, whole):
    yield from (NAN, INF, -INF, True, np.float32("nan"))
    if name != "classes":
        yield "a"
    if whole:
        yield from (-1, 1.5, 10**400)
        yield from () if name in MAY_BE_0 else (0,)
    elif name not in SIGNED:
        yield -0.1
        yield from (0, 0.0) if ABOVE_0.search(name) else ()
    if name == "dropout":
        yield from (1, 1.0, 1.5)


CASES = list(settings())


def test_the_search_finds_the_settings():
    found = {(name, setting) for name, _, setting, _ in CASES}
    expected = {"dropout", "temperature", "chunk_size", "margin", "embed_dim", "min_confidence"}
    assert expected <= {setting for _, setting in found}
    assert len(found) > 90


@pytest.mark.parametrize("name", sorted({name for name, _, _, _ in CASES}))
def test_settings_out_of_range(name):
    for _, cls, setting, value in (case for case in CASES if case[0] == name):
        arguments = ARGUMENTS.get(name, {}) | {setting: value}
        with pytest.raises((ValueError, TypeError)) as caught:
            print(cls(**arguments), setting, value)
        assert setting in str(caught.value), (setting, value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted({name for name, _, _, _ in CASES}))
def test_the_arguments_of_this_test_are_good(name):
    getattr(next(m for m in (itmatch.nn, itmatch.losses, itmatch.evaluation) if hasattr(m, name)), name)(
        **ARGUMENTS.get(name, {})
    )


SIDES = (torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)) * 2
BOXES = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.1, 0.1, 0.6, 0.6]]])
MASK = torch.ones(1, 2, dtype=torch.bool)
GRAPH = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 1, confidence=torch.tensor([0.5]))
SCORES = torch.eye(2)


def block(images, captions):
    return SCORES[images][:, captions]


def hits(**kwargs):
    return streamed_hits(block, torch.arange(2), torch.arange(2), Relevance.own(torch.arange(2)), **kwargs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_attention(*SIDES, temperature=NAN), "temperature: nan"),
        (lambda: cross_attention(*SIDES, temperature=-9.0), "temperature: -9.0"),
        (lambda: cross_attention(*SIDES, normalization="l3norm"), "normalization: 'l3norm', expected"),
        (lambda: cross_attention(*SIDES, chunk_size=NAN), "chunk_size: nan"),
        (lambda: hard_alignment(*SIDES, chunk_size=0), "chunk_size: 0"),
        (lambda: soft_alignment(*SIDES, temperature=INF), "temperature: inf"),
        (lambda: l2_normalize(SCORES, eps=NAN), "eps: nan"),
        (lambda: l2_normalize(SCORES, eps=-1e-8), "eps: -1e-08"),
        (lambda: spatial_graph(BOXES, MASK, NAN), "threshold: nan"),
        (lambda: spatial_graph(BOXES, MASK, weight="area"), "weight: 'area'"),
        (lambda: semantic_graph(GRAPH, MASK, NAN), "min_confidence: nan"),
        (lambda: semantic_graph(GRAPH, MASK, num_predicates=0), "num_predicates: 0"),
        (lambda: nearest_boxes(BOXES, MASK, -1), "count: -1"),
        (lambda: strongest_edges(GRAPH, NAN), "min_confidence: nan"),
        (lambda: strongest_edges(GRAPH, most=-1), "most: -1"),
        (lambda: info_nce_loss(SCORES, temperature=-1.0), "temperature: -1.0"),
        (lambda: sigmoid_loss(SCORES, temperature=NAN), "temperature: nan"),
        (lambda: sigmoid_loss(SCORES, bias=INF), "bias: inf"),
        (lambda: probabilistic_matching_loss(torch.ones(2, 4), torch.ones(2, 4), temperature=0.0), "temperature: 0.0"),
        (lambda: streamed_ranks(block, torch.arange(2), 2, chunk_size=0), "chunk_size: 0"),
        (lambda: streamed_ranks(block, torch.arange(2), 2, caption_chunk_size=NAN), "caption_chunk_size: nan"),
        (lambda: hits(places=0), "places: 0"),
        (lambda: hits(chunk_size=-1), "chunk_size: -1"),
        (lambda: itmatch.losses.LadderLoss(margins=0.2), "margins: 0.2, expected a list"),
        (lambda: itmatch.losses.LadderLoss(margins=[0.2, NAN]), r"margins\[1\]: nan"),
        (lambda: itmatch.losses.PolynomialLoss(positive_coefficients="abc"), "positive_coefficients: 'abc'"),
        (lambda: itmatch.losses.Objective({"a": InfoNCELoss()}, weights={"a": NAN}), r"weights\['a'\]: nan"),
        (lambda: itmatch.losses.Objective({"a": InfoNCELoss()}, start={"a": 0.5}), r"start\['a'\]: 0.5"),
        (lambda: itmatch.losses.Objective({"a": InfoNCELoss()}, ramp={"a": "b"}), r"ramp\['a'\]: 'b'"),
    ],
)
def test_arguments_of_functions(call, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)
