import contextlib

import pytest
import torch
from torch import nn

from itmatch.batch import Fragments
from itmatch.nn import (
    BlockSimilarity,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GeneralizedPooling,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    LogSumExpPooling,
    MaxPooling,
    PatchSlimmingSimilarity,
    Pooling,
    SetSimilarity,
    SoftAligningSimilarity,
)
from itmatch.ops import l2_normalize, lengths_to_mask

BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
TYPES = [(BF16, BF16), (BF16, FP32), (FP32, BF16), (FP16, FP16), (FP16, BF16), (FP32, FP32), (FP64, FP64), (FP32, FP64)]
SIMILARITIES = {
    "cosine": CosineSimilarity,
    "hard": lambda: HardAligningSimilarity("both", LogSumExpPooling(0.1, scaled=False)),
    "hard max": lambda: HardAligningSimilarity(pooling=MaxPooling()),
    "hard gpo": lambda: HardAligningSimilarity(pooling=GeneralizedPooling(8, 4)),
    "sets": lambda: SetSimilarity(normalize=True),
    "max of sets": lambda: SetSimilarity("max", clipped=True),
    "blocks": lambda: BlockSimilarity(2),
    "soft": lambda: SoftAligningSimilarity(0.1, "both", normalize=True),
}


@pytest.fixture(params=["cpu", "like cuda"])
def _device_rules(request, monkeypatch):
    if request.param == "like cuda":
        monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)


def make(image_type=FP32, text_type=FP32, images=4, captions=5, size=8):
    torch.manual_seed(0)
    sides = []
    for rows, length, dtype in ((images, 3, image_type), (captions, 6, text_type)):
        features = l2_normalize(torch.randn(rows, length, size, dtype=FP64)).to(dtype).requires_grad_()
        sides.append(Fragments(features, lengths_to_mask(torch.randint(1, length + 1, (rows,)), length)))
    return sides


def autocast(*, on):
    return torch.autocast("cpu", dtype=BF16) if on else contextlib.nullcontext()


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("on", [True, False])
@pytest.mark.usefixtures("_device_rules")
def test_scores_are_at_least_float32(name, types, on):
    image, text = make(*types)
    expected_type = FP64 if FP64 in types else FP32
    similarity = SIMILARITIES[name]().eval()
    with autocast(on=on):
        scores = similarity(image, text)
        with torch.no_grad():
            inference = similarity(image, text)
    assert scores.dtype == inference.dtype == expected_type
    wide = [Fragments(side.features.to(expected_type), side.mask) for side in (image, text)]
    exact = similarity(*wide)
    # only what autocast multiplies on a CUDA device, and the GRU of GPO, may be rounded
    tolerance = {"atol": 0.1, "rtol": 0.02} if on and name != "cosine" else {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(scores, exact, **tolerance)
    torch.testing.assert_close(inference, exact, **tolerance)
    scores.sum().backward()
    for side, dtype in zip((image, text), types, strict=True):
        assert side.features.grad.dtype == dtype
        assert side.features.grad.abs().sum() > 0


@pytest.mark.parametrize("name", SIMILARITIES)
def test_half_vectors_do_not_tie_in_a_ranking(name, monkeypatch):
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    image, text = make(BF16, BF16, images=60, captions=60, size=64)
    similarity = SIMILARITIES[name]()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            scores = similarity(image, text)
        assert len(scores.unique()) > 0.9 * scores.numel()


def test_a_margin_survives_the_unscaled_pooling_of_half_products(monkeypatch):
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    image, text = make(BF16, BF16, images=40, captions=40)
    with autocast(on=True):
        scores = HardAligningSimilarity("words", LogSumExpPooling(0.1, scaled=False))(image, text)
    large = scores[scores > 4].unique()  # bfloat16 is spaced by 0.03 there
    assert large.diff().min() < 0.01


@pytest.mark.parametrize("name", ["cosine", "hard", "soft", "sets", "max of sets"])
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("on", [True, False])
def test_pictures_are_at_least_float32(name, types, on):
    image, text = (side[:1].detach() for side in make(*types))
    with autocast(on=on):
        shown = SIMILARITIES[name]().align(image, text)
    assert shown.dtype == (FP64 if FP64 in types else FP32)


def test_pooled_vectors_of_two_types():
    image, text = make()
    vectors = torch.randn(4, 8).bfloat16().requires_grad_()
    scores = CosineSimilarity()(Fragments(image.features, image.mask, vectors), text)
    expected = CosineSimilarity()(Fragments(image.features, image.mask, vectors.float()), text)
    torch.testing.assert_close(scores, expected)
    scores.sum().backward()
    assert vectors.grad.dtype == BF16


@pytest.mark.parametrize("query", ["words", "both"])
def test_a_pooling_with_layers_of_its_own(query):
    class Linear(Pooling):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, values, mask, dim=-1):
            assert values.dtype == FP32
            return self.layer(values.masked_fill(~mask, 0).sum(dim)[..., None]).squeeze(-1)

    with autocast(on=True):
        assert HardAligningSimilarity(query, Linear())(*make(BF16, BF16)).dtype == FP32


def test_no_captions_without_gradient():
    image, text = make(BF16, BF16)
    with torch.no_grad():
        assert HardAligningSimilarity()(image, text[:0]).dtype == FP32


@pytest.mark.parametrize("dtype", [BF16, FP16, FP64])
def test_an_interactive_similarity_in_one_precision(dtype):
    image, text = make(dtype, dtype)
    similarity = InteractiveSimilarity().to(dtype)
    scores = similarity(image, text)
    assert scores.dtype == torch.promote_types(dtype, FP32)
    scores.sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in similarity.parameters())


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "name", ["cosine", "hard", "soft", "sets", "blocks", "slimming", "attention", "interactive", "graph"]
)
def test_no_images_or_no_captions(name, grad):
    others = {
        "attention": CrossAttentionSimilarity,
        "interactive": InteractiveSimilarity,
        "graph": GraphMatchingSimilarity,
        "slimming": lambda: PatchSlimmingSimilarity(8, 4, merged=0.7),
    }
    similarity = (SIMILARITIES | others)[name]()
    for counts in ((0, 3), (3, 0)):
        image, text = (
            Fragments(torch.randn(n, 4, 8, requires_grad=grad), torch.ones(n, 4, dtype=torch.bool)) for n in counts
        )
        if name == "graph":
            image, text = (
                Fragments(side.features, side.mask, is_relation=torch.zeros_like(side.mask)) for side in (image, text)
            )
        assert similarity(image, text).shape == counts
