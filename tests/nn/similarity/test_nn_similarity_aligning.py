from pathlib import Path

import numpy as np
import pytest
import torch

import itmatch.nn.similarity.aligning as aligning
from itmatch.batch import Fragments
from itmatch.nn import (
    GeneralizedPooling,
    HardAligningSimilarity,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    SoftAligningSimilarity,
    SoftmaxPooling,
    SumPooling,
)
from itmatch.ops import hard_alignment, lengths_to_mask
from itmatch.ops.ragged import Ragged

REFERENCE = Path(__file__).parents[2] / "reference"
POOLINGS = {
    "max": MaxPooling(),
    "mean": MeanPooling(),
    "sum": SumPooling(),
    "lse": LogSumExpPooling(0.1, scaled=False),
    "softmax": SoftmaxPooling(0.1),
}
CODINGS = {
    "VHA": lambda pooling: HardAligningSimilarity("words", pooling),
    "THA": lambda pooling: HardAligningSimilarity("regions", pooling),
    "VSA": lambda pooling: SoftAligningSimilarity(0.1, "regions", pooling, normalize=True),
}
SIMILARITIES = {
    "hard words": lambda **k: HardAligningSimilarity("words", **k),
    "hard regions": lambda **k: HardAligningSimilarity("regions", **k),
    "hard both": lambda **k: HardAligningSimilarity("both", region_pooling=MeanPooling(), **k),
    "soft words": lambda **k: SoftAligningSimilarity(0.2, "words", **k),
    "soft both": lambda **k: SoftAligningSimilarity(0.2, "both", normalize=True, **k),
}


def make(images=5, captions=7, requires_grad=True):
    torch.manual_seed(0)
    v = torch.randn(images, 4, 6, dtype=torch.double, requires_grad=requires_grad)
    t = torch.randn(captions, 8, 6, dtype=torch.double, requires_grad=requires_grad)
    vm = lengths_to_mask(torch.randint(1, 5, (images,)), 4)
    return Fragments(v, vm), Fragments(t, lengths_to_mask(torch.randint(1, 9, (captions,)), 8))


@pytest.mark.parametrize("file", ["chan_basic", "chan_selfattention"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_agrees_with_the_public_code_of_chan(file, coding, pooling):
    arrays = np.load(REFERENCE / f"{file}.npz", allow_pickle=False)
    image, text = (
        Fragments(features, lengths_to_mask(torch.from_numpy(arrays[lengths]), features.shape[1]))
        for features, lengths in (
            (torch.from_numpy(arrays["image_fragments"]), "region_lengths"),
            (torch.from_numpy(arrays["text_fragments"]), "token_lengths"),
        )
    )
    expected = torch.from_numpy(arrays[f"scores.{coding}.{pooling}"])
    scores = CODINGS[coding](POOLINGS[pooling])(image, text)
    # The public softmax pooling multiplies weight 0 by -inf in padded places: NaN unless a row is unpadded.
    known = ~expected.isnan() if pooling == "softmax" else torch.ones_like(expected, dtype=torch.bool)
    assert known.any()
    torch.testing.assert_close(scores[known], expected[known], atol=1e-5, rtol=0)
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_and_gradient_mode_do_not_matter(name, chunk_size, monkeypatch):
    image, text = make()
    expected, chunked = SIMILARITIES[name]()(image, text), SIMILARITIES[name](chunk_size=chunk_size)(image, text)
    assert expected.shape == (5, 7)
    torch.testing.assert_close(chunked, expected, atol=1e-12, rtol=1e-12)
    torch.manual_seed(1)
    weights = torch.randn(5, 7, dtype=torch.double)
    inputs = image.features, text.features
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for a, b in zip(torch.autograd.grad((chunked * weights).sum(), inputs), theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    for tile in (1, 100, 1 << 24):
        monkeypatch.setattr(aligning, "_TILE", tile)
        with torch.no_grad():
            inference = SIMILARITIES[name](chunk_size=chunk_size)(image, text)
        torch.testing.assert_close(inference, expected.detach(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_padding_and_garbage_do_not_matter(name):
    image, text = make(requires_grad=False)
    scores = SIMILARITIES[name]()(image, text)

    def dirty(fragments, extra):
        features = fragments.features.masked_fill(~fragments.mask[..., None], torch.nan)
        pad = torch.nn.functional.pad
        features = pad(features, (0, 0, 0, extra), value=torch.inf).requires_grad_()
        return Fragments(features, pad(fragments.mask, (0, extra)))

    noisy_image, noisy_text = dirty(image, 2), dirty(text, 3)
    noisy = SIMILARITIES[name]()(noisy_image, noisy_text)
    torch.testing.assert_close(noisy.detach(), scores, atol=1e-12, rtol=1e-12)
    noisy.sum().backward()
    for fragments in (noisy_image, noisy_text):
        assert torch.isfinite(fragments.features.grad).all()
        assert (fragments.features.grad[~fragments.mask] == 0).all()
    with torch.no_grad():
        torch.testing.assert_close(SIMILARITIES[name]()(noisy_image, noisy_text), scores, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_permutation(name):
    image, text = make(requires_grad=False)
    rows, columns = torch.randperm(len(image)), torch.randperm(len(text))
    scores = SIMILARITIES[name]()(image, text)
    torch.testing.assert_close(SIMILARITIES[name]()(image[rows], text[columns]), scores[rows][:, columns])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradcheck(name):
    image, text = make(images=2, captions=3)
    similarity = SIMILARITIES[name]()
    function = lambda v, t: similarity(Fragments(v, image.mask), Fragments(t, text.mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (image.features, text.features))


@pytest.mark.parametrize("name", SIMILARITIES)
def test_one_image_and_one_caption(name):
    image, text = make(requires_grad=False)
    scores = SIMILARITIES[name]()(image, text)
    single = SIMILARITIES[name]()(image[2:3], text[4:5])
    torch.testing.assert_close(single, scores[2:3, 4:5])


def test_inference_never_holds_the_aligned_values_or_a_copy_of_all_captions(monkeypatch):
    sizes, copied = [], []

    def spy(image, image_mask, text, *args, **kwargs):
        result = hard_alignment(image, image_mask, text, *args, **kwargs)
        sizes.append(result.numel())
        copied.append(text.numel())
        return result

    monkeypatch.setattr("itmatch.nn.similarity.hard_aligning.hard_alignment", spy)
    monkeypatch.setattr(aligning, "_TILE", 1000)
    image, text = make(images=10, captions=60, requires_grad=False)
    HardAligningSimilarity()(image, text)
    assert max(sizes) <= 1000
    assert sum(sizes) < 10 * 60 * 8 * 0.9  # captions of like length go together, so little of it is padding
    monkeypatch.setattr(aligning, "_TILE", 1 << 24)
    monkeypatch.setattr(aligning, "_COPIED", 5 * text.features[0].numel())
    copied.clear()
    HardAligningSimilarity()(image, text)
    assert len(copied) > 5
    assert max(copied) <= 5 * text.features[0].numel()


def test_learned_pooling_gets_a_gradient_from_frozen_features():
    image, text = make(requires_grad=False)
    similarity = HardAligningSimilarity(pooling=GeneralizedPooling(8, 4).double())
    similarity(image, text).sum().backward()
    assert similarity.pooling.linear.weight.grad.abs().sum() > 0


def test_both_is_the_mean_of_the_two():
    image, text = make(requires_grad=False)
    words = HardAligningSimilarity("words", MeanPooling())(image, text)
    regions = HardAligningSimilarity("regions", MaxPooling())(image, text)
    both = HardAligningSimilarity("both", MeanPooling(), region_pooling=MaxPooling())(image, text)
    torch.testing.assert_close(both, (words + regions) / 2)


def test_soft_tends_to_hard():
    image, text = make(requires_grad=False)
    hard = HardAligningSimilarity("both", MeanPooling())(image, text)
    soft = SoftAligningSimilarity(1e-4, "both", MeanPooling())(image, text)
    torch.testing.assert_close(soft, hard, atol=1e-6, rtol=0)


def test_align_of_hard_shows_the_winners():
    image, text = make(requires_grad=False)
    image, text = image[:1], text[text.mask.sum(1) < 8][:1]
    words = HardAligningSimilarity("words").align(image, text)
    assert words.shape == (4, 8)
    aligned = hard_alignment(image.features, image.mask, text.features, text.mask)[0, 0]
    torch.testing.assert_close(words.sum(0), aligned)  # one winner a column
    assert ((words != 0).sum(0) == text.mask[0].int()).all()
    regions = HardAligningSimilarity("regions").align(image, text)
    assert ((regions != 0).sum(1) == image.mask[0].int()).all()
    torch.testing.assert_close(HardAligningSimilarity("both").align(image, text), (words + regions) / 2)


def test_align_of_soft_shows_the_attention():
    image, text = make(requires_grad=False)
    image, text = image[:1], text[:1]
    weights = SoftAligningSimilarity(0.3, "words").align(image, text)
    torch.testing.assert_close(weights.sum(0), text.mask[0].double())
    assert (weights[~image.mask[0]] == 0).all()
    weights = SoftAligningSimilarity(0.3, "regions").align(image, text)
    torch.testing.assert_close(weights.sum(1), image.mask[0].double())


def test_bad_arguments_are_named():
    image, text = make(requires_grad=False)
    with pytest.raises(ValueError, match="'neither'"):
        HardAligningSimilarity("neither")
    with pytest.raises(ValueError, match="region_pooling"):
        HardAligningSimilarity("words", region_pooling=MeanPooling())
    with pytest.raises(ValueError, match="chunk_size: 0"):
        HardAligningSimilarity(chunk_size=0)
    with pytest.raises(ValueError, match="temperature"):
        SoftAligningSimilarity(-1.0)
    with pytest.raises(ValueError, match="embedding sizes differ: image 6, text 5"):
        HardAligningSimilarity()(image, Fragments(text.features[..., :5], text.mask))
    with pytest.raises(ValueError, match="one image and one caption, got 5 and 7"):
        HardAligningSimilarity().align(image, text)


@pytest.mark.parametrize("queries", [2, 30])  # 30 have more fragments than are asked without packing
@pytest.mark.parametrize(("rows_equal", "queries_equal"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("query", ["words", "regions"])
def test_stored_rows_are_scored_as_padded_ones(query, rows_equal, queries_equal, queries):
    torch.manual_seed(0)

    def some(count, width, equal):
        lengths = torch.full((count,), width) if equal else torch.randint(1, width + 1, (count,))
        return Fragments(torch.randn(count, width, 6), lengths_to_mask(lengths, width))

    rows, asking = some(70, 4, rows_equal), some(queries, 8, queries_equal)
    stored = Ragged.of(rows, torch.float16)
    wide = stored[:].to(dtype=torch.float32)
    similarity = HardAligningSimilarity(query)
    expected = similarity(wide, asking) if query == "words" else similarity(asking, wide).T
    torch.testing.assert_close(similarity.score_rows(stored, asking), expected)
    part = stored.select(slice(10, 30))
    torch.testing.assert_close(similarity.score_rows(part, asking), expected[10:30])
