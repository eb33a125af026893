"""Vectors of length 0 have finite scores and finite gradients, in every similarity and every precision."""

import contextlib

import pytest
import torch

from itmatch.batch import Fragments
from itmatch.nn import (
    BlockSimilarity,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GlobalAttentionPooling,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    PatchSlimmingSimilarity,
    SetSimilarity,
    SimilarityFiltration,
    SimilarityReasoning,
    SoftAligningSimilarity,
    VectorSimilarity,
)
from itmatch.ops import box_iou, edge_geometry, l2_normalize, lengths_to_mask
from itmatch.ops.pairs.attention import NORMALIZATIONS
from itmatch.ops.pairs.lengths import cosine

FP16, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
SIZE = 8
SIMILARITIES = {
    "cosine": CosineSimilarity,
    "hard": lambda: HardAligningSimilarity("both"),
    "soft": lambda: SoftAligningSimilarity(0.1, "both"),
    "soft cosine": lambda: SoftAligningSimilarity(0.1, "both", normalize=True),
    "smooth sets": lambda: SetSimilarity(normalize=True),
    "sigmoid sets": lambda: SetSimilarity("mean_sigmoid"),
    "blocks": lambda: BlockSimilarity(4),
    "slimming": lambda: PatchSlimmingSimilarity(SIZE, 4, merged=0.7, class_token=False),
    "interactive": lambda: InteractiveSimilarity(region_alignment=True, cross_level="score"),
    "refined": lambda: InteractiveSimilarity(region_alignment=True, cross_level="refine"),
    "sgr": lambda: VectorSimilarity(SIZE, SimilarityReasoning(4)),
    "saf": lambda: VectorSimilarity(SIZE, SimilarityFiltration(4)),
    "graph": lambda: GraphMatchingSimilarity("both"),
}
for _name in NORMALIZATIONS:
    SIMILARITIES[f"words {_name}"] = lambda name=_name: CrossAttentionSimilarity("words", normalization=name)
for _name in ("clipped_l2norm", "l1norm"):
    SIMILARITIES[f"regions {_name}"] = lambda name=_name: CrossAttentionSimilarity("regions", normalization=name)
# type of the fragments, type of the module, type of autocast
MODES = {
    "float32": (FP32, FP32, None),
    "float16": (FP16, FP32, None),
    "autocast float16": (FP32, FP32, FP16),
    "autocast bfloat16": (FP32, FP32, BF16),
    "half": (FP16, FP16, None),
}
# which regions (image, place) and words (caption, place) are zero; image 2 has one region, caption 3 one word
ZEROS = {
    "an image": ([(1, 0), (1, 1), (1, 2)], []),
    "a caption": ([], [(1, 0), (1, 1), (1, 2), (1, 3)]),
    "a region and a word": ([(0, 1)], [(0, 2)]),
    "the only region and the only word": ([(2, 0)], [(3, 0)]),
    "everything": ([(n, k) for n in range(3) for k in range(3)], [(n, k) for n in range(4) for k in range(4)]),
    "regions that cancel": ("cancel", []),
}


def side(lengths, zeros, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    features = l2_normalize(torch.randn(len(lengths), max(lengths), SIZE, generator=generator))
    if zeros == "cancel":
        features[0, 1], zeros = -features[0, 0], [(0, 2)]
    for place in zeros:
        features[place] = 0
    return Fragments(features.to(dtype).requires_grad_(), lengths_to_mask(torch.tensor(lengths)))


@pytest.fixture
def _like_cuda(monkeypatch):
    """Inner products in the type of autocast, as on a GPU."""
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.usefixtures("_like_cuda")
def test_scores_and_gradients_of_zero_vectors(name, mode):
    dtype, module_dtype, autocast = MODES[mode]
    for what, (regions, words) in ZEROS.items():
        torch.manual_seed(0)
        similarity = SIMILARITIES[name]().to(module_dtype)
        image, text = side((3, 3, 1), regions, dtype, 1), side((4, 4, 2, 1), words, dtype, 2)
        with torch.autocast("cpu", dtype=autocast) if autocast else contextlib.nullcontext():
            scores = similarity(image, text)
        assert scores.isfinite().all(), what
        scores.sum().backward()
        gradients = [image.features.grad, text.features.grad, *(p.grad for p in similarity.parameters())]
        for gradient in gradients:
            assert gradient is None or gradient.isfinite().all(), what
            # of 12 scores; what a division by 1e-8 gives is far larger
            assert gradient is None or gradient.abs().max() < 1e4, what


@pytest.mark.parametrize("name", ["words clipped_l2norm", "regions clipped_l2norm", "cosine"])
def test_a_zero_vector_has_cosine_zero_and_no_gradient(name):
    image, text = side((3, 3, 1), ZEROS["an image"][0], FP32, 1), side((4, 4, 2, 1), [], FP32, 2)
    scores = SIMILARITIES[name]()(image, text)
    assert (scores[1] == 0).all()
    scores[1].sum().backward()
    assert (image.features.grad[1] == 0).all()


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_normalisation_has_a_finite_gradient_at_and_near_zero(dtype):
    smallest = torch.finfo(dtype).smallest_normal
    x = torch.tensor([[0.0, 0.0], [smallest / 4, 0.0], [smallest, smallest], [3.0, 4.0]], dtype=dtype)
    unit = l2_normalize(x.requires_grad_())
    assert (unit[0] == 0).all()
    assert unit.isfinite().all()
    unit.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[0] == 0).all()


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
@pytest.mark.parametrize("function", [lambda b: box_iou(b, b), lambda b: edge_geometry(b[:, None], b)])
def test_boxes_of_no_size(dtype, function):
    boxes = torch.tensor([[0.0] * 4, [0.5, 0.5, 0.5, 0.9], [0.1, 0.1, 0.9, 0.9]], dtype=dtype).requires_grad_()
    values = function(boxes)
    assert values.dtype == FP32
    assert values.isfinite().all()
    if dtype != FP16:  # which cannot hold the gradient of a shift in units of the smallest width, 1e6
        values.sum().backward()
        assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("gate", [-30.0, 0.0])
@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_gates_that_are_nearly_shut(gate, dtype):
    head = SimilarityFiltration(4)
    with torch.no_grad():
        head.shift.fill_(gate)
    vectors = torch.randn(2, 3, 4).to(dtype).requires_grad_()
    found = head.to(dtype)(vectors, torch.ones(2, 3, dtype=torch.bool))
    found.sum().backward()
    assert found.isfinite().all()
    assert found.dtype == dtype
    assert found.abs().sum() > 0
    assert vectors.grad.isfinite().all()


def test_padding_does_not_enter_the_gradient_of_attention_pooling():
    pooling, mask = GlobalAttentionPooling(4).eval(), torch.tensor([[True, True, True], [True, True, False]])
    values = torch.randn(2, 3, 4).masked_fill(~mask[..., None], torch.nan)
    found = pooling(values, mask[..., None], dim=1)
    assert found.isfinite().all()
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in pooling.parameters())


def test_where_nothing_is_zero_no_bit_changes():
    """The guard only replaces what belongs to a zero vector."""
    generator = torch.Generator().manual_seed(0)
    product, square, other = (torch.rand(50, 60, generator=generator) for _ in range(3))
    expected = (product / (square.sqrt() * other.sqrt()).clamp(min=1e-8)).clamp(-1, 1)
    assert torch.equal(cosine(product, square, other), expected)
