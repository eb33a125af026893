"""Regions whose features or boxes are all zero: finite scores and gradients of whole systems, in every precision."""

import contextlib

import pytest
import torch
from helpers_systems import WORDS, captions, change_start, regions

from itmatch.models import MatchingModel, chan_gru, cmsei_gru, hire_gru, resg_gru, scan_gru, sgraf_gru, vse_infty_gru
from itmatch.nn import (
    ContextualOrder,
    ImplicitRelationAttention,
    InteractiveSimilarity,
    RegionEncoder,
    SpatialSemanticGCN,
    VisualRelationGraph,
)

SIZES = {"region_dim": 6, "embed_dim": 16, "word_dim": 6}
SYSTEMS = {
    "chan": lambda: chan_gru(WORDS, **SIZES),
    "cmsei": lambda: cmsei_gru(WORDS, num_predicates=3, **SIZES),
    "hire": lambda: hire_gru(WORDS, word_attention=True, **SIZES),
    "resg": lambda: resg_gru(WORDS, predicates=3, **SIZES),
    "scan": lambda: scan_gru(WORDS, **SIZES),
    "sgraf": lambda: sgraf_gru(WORDS, **SIZES),
    "vse_infty": lambda: vse_infty_gru(WORDS, **SIZES),
}
RELATIONS = {
    "order": lambda: ContextualOrder(16, "raster"),
    "implicit": lambda: ImplicitRelationAttention(16, geometry=True),
    "explicit": lambda: SpatialSemanticGCN(16, geometry=True, num_predicates=3),
    "complete": lambda: SpatialSemanticGCN(16, threshold=0.0, spatial_weight="ones"),
    "nodes": lambda: VisualRelationGraph(16, 3, neighbours=1),
}
MODES = {
    "float32": (torch.float32, None),
    "autocast float16": (torch.float32, torch.float16),
    "autocast bfloat16": (torch.float32, torch.bfloat16),
    "half": (torch.float16, None),
}


def with_relation(name):
    model = scan_gru(WORDS, **SIZES)
    encoder = RegionEncoder(6, 16, relations=[RELATIONS[name]()])
    return MatchingModel(encoder, model.text_encoder, InteractiveSimilarity(), model.tokenizer)


MODELS = SYSTEMS | {f"relation {name}": lambda name=name: with_relation(name) for name in RELATIONS}


def zeros(what):
    """Four images of 3, 2, 3 and 1 regions."""
    given = regions()
    features, boxes = given.features.clone(), given.boxes.clone()
    features[slice(None) if what == "everything" else slice(1, 2)] = 0
    if what == "everything":
        boxes[:] = 0
    return regions(features=features, boxes=boxes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_zero_features_and_boxes(name, mode, monkeypatch):
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)  # as on a GPU
    dtype, autocast = MODES[mode]
    for what in ("an image", "everything"):
        for started in (True, False):  # at the start the vector of a zero region is zero: there is no bias yet
            torch.manual_seed(0)
            model = MODELS[name]()
            model = (model if started else change_start(model)).to(dtype)
            with torch.autocast("cpu", dtype=autocast) if autocast else contextlib.nullcontext():
                scores = model(zeros(what), captions(model))
            assert scores.isfinite().all()
            scores.sum().backward()
            found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
            assert found
            assert [key for key, gradient in found.items() if not gradient.isfinite().all()] == [], what
            assert max(gradient.abs().max() for gradient in found.values()) < 1e4, what


@pytest.mark.parametrize("name", ["cmsei", "hire", "scan"])
def test_the_scale_of_float16_training_does_not_fall(name, monkeypatch):
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    torch.manual_seed(0)
    model, images = MODELS[name](), zeros("an image")
    text, scaler = captions(model), torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(12):
        with torch.autocast("cpu", dtype=torch.float16):
            scores = model(images, text)
        optimizer.zero_grad()
        scaler.scale((scores - torch.eye(4)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**10
