"""Blocks of vectors: the public numbers, a loop over pairs, and what no similarity may depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_textbook import all_pairs, assert_padding_does_not_matter, gradients, ragged_pair

from itmatch.batch import Fragments
from itmatch.nn import BlockSimilarity, CosineSimilarity, MeanPooling

REFERENCE = Path(__file__).parents[2] / "reference"
CASES = ["block256", "small_16", "small_32", "small_64", "small_16_32", "uneven", "loss", "loss_wide"]
CLOSE = {"atol": 1e-9, "rtol": 1e-9}


def loop(widths, image, text):
    """One pair, one block and one width at a time."""

    def pair(views, words):
        total = 0
        for width in widths:
            count = views.shape[1] // width
            for word in words:
                for block in word.chunk(count):
                    found = [block @ b / (block.norm() * b.norm()) for view in views for b in view.chunk(count)]
                    total = total + torch.stack(found).max()
        return total

    return all_pairs(image, text, pair)


def public(case):
    """The two views of the images, the vectors of the captions, and the widths of a case of the public code."""
    arrays = np.load(REFERENCE / "avse.npz", allow_pickle=False)
    image, text = (torch.from_numpy(arrays[f"{case}.{side}"]).requires_grad_() for side in ("image", "text"))
    views = image.unflatten(1, (2, text.shape[1]))
    words = torch.full((len(text), 3, text.shape[1]), 7.0)  # which are not read
    widths = arrays[f"{case}.blocks"].tolist()
    return arrays, image, text, (Fragments(views), Fragments(words, pooled=text)), widths


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_public_code_of_avse(case):
    arrays, image, text, sides, widths = public(case)
    scores = BlockSimilarity(widths)(*sides)
    torch.testing.assert_close(scores.detach(), torch.from_numpy(arrays[f"{case}.scores"]), atol=1e-5, rtol=0)
    if len(widths) == 1:
        torch.testing.assert_close(BlockSimilarity(widths[0])(*sides), scores)
    if f"{case}.cotangent" in arrays:
        scores.backward(torch.from_numpy(arrays[f"{case}.cotangent"]))
        for vectors, side in ((image, "image"), (text, "text")):
            expected = torch.from_numpy(arrays[f"{case}.grad.{side}"])
            torch.testing.assert_close(vectors.grad, expected, atol=1e-5, rtol=0)


def test_the_public_gradients_are_read():
    assert [case for case in ("block256", "small_16") if f"{case}.cotangent" in public(case)[0]] == [
        "block256",
        "small_16",
    ]


@pytest.mark.parametrize("widths", [[2], [3], [2, 6], [5]])
def test_agrees_with_a_loop(widths):
    similarity, (image, text) = BlockSimilarity(widths), ragged_pair()
    ours, theirs = similarity(image, text), loop(widths, image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.manual_seed(1)
    weights, inputs = torch.randn(5, 7, dtype=torch.double), (image.features, text.features)
    for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_padded_views_do_not_matter():
    assert_padding_does_not_matter(BlockSimilarity(2), CLOSE)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_and_single_pairs(chunk_size):
    image, text = ragged_pair()
    scores = BlockSimilarity([2, 3])(image, text)
    torch.testing.assert_close(BlockSimilarity([2, 3], chunk_size=chunk_size)(image, text), scores, **CLOSE)
    torch.testing.assert_close(BlockSimilarity([2, 3])(image[1:2], text[4:5]), scores[1:2, 4:5], **CLOSE)


def test_gradcheck():
    image, text = ragged_pair(images=2, captions=3, size=4, regions=2, words=2, seed=1, garbage=False)
    function = lambda v, t: BlockSimilarity(2)(Fragments(v, image.mask), Fragments(t, text.mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (image.features, text.features))


def test_one_block_of_one_view_is_the_cosine():
    image, text = ragged_pair(holes=False, garbage=False)
    vectors = [MeanPooling()(side.features, side.mask[..., None], dim=1) for side in (image, text)]
    pooled = [Fragments(side.features, side.mask, vector) for side, vector in zip((image, text), vectors, strict=True)]
    torch.testing.assert_close(BlockSimilarity(6)(*pooled), CosineSimilarity()(*pooled))


def test_half_precision_is_only_rounded_once():
    image, text = ragged_pair(garbage=False)
    half = [Fragments(side.features.detach().half(), side.mask) for side in (image, text)]
    scores = BlockSimilarity(2)(*half)
    assert scores.dtype == torch.float32
    wide = [Fragments(side.features.double(), side.mask) for side in half]
    torch.testing.assert_close(scores.double(), BlockSimilarity(2)(*wide), atol=1e-5, rtol=0)


def test_what_does_not_fit():
    image, text = ragged_pair()
    with pytest.raises(ValueError, match="vectors of size 6, expected at least one block of 7"):
        BlockSimilarity(7)(image, text)
    with pytest.raises(ValueError, match=r"vectors of size 5, expected a multiple of 2 \(blocks of 2\)"):
        BlockSimilarity(2)(*(Fragments(torch.randn(2, 2, 5)) for _ in range(2)))
    with pytest.raises(ValueError, match="block_dim: 0, expected a whole number"):
        BlockSimilarity(0)
    with pytest.raises(ValueError, match="block_dim: an empty list"):
        BlockSimilarity([])
    with pytest.raises(ValueError, match="embedding sizes differ"):
        BlockSimilarity(2)(image, Fragments(torch.randn(1, 2, 4, dtype=torch.double)))
    with pytest.raises(NotImplementedError, match="BlockSimilarity has no alignment of regions and words"):
        BlockSimilarity(2).align(image[:1], text[:1])
