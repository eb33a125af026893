"""Similarities of sets: the public numbers, a loop over pairs, and what no similarity may depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_textbook import (
    LAYOUTS,
    all_pairs,
    assert_order_does_not_matter,
    assert_padding_does_not_matter,
    gradients,
    lay_out,
    ragged_pair,
)
from torch.nn.functional import leaky_relu

from itmatch.batch import Fragments
from itmatch.nn import HardAligningSimilarity, MeanPooling, SetSimilarity
from itmatch.ops import l2_normalize, lengths_to_mask

REFERENCE = Path(__file__).parents[2] / "reference"
CLOSE = {"atol": 1e-9, "rtol": 1e-9}
FORMS = {  # settings, key in the reference files, factor of the reference
    "smooth 16": (("smooth_chamfer", 1 / 16), "smooth_chamfer.alpha16_denominator2", 1),
    "smooth 4": (("smooth_chamfer", 1 / 4), "smooth_chamfer.alpha4_denominator2", 1),
    "smooth 4, a sum of both sides": (("smooth_chamfer", 1 / 4), "smooth_chamfer.alpha4_denominator1", 2),
    "smooth 1": (("smooth_chamfer", 1.0), "smooth_chamfer.alpha1_denominator2", 1),
    "chamfer": (("chamfer",), "chamfer.denominator2", 1),
    "max": (("max",), "max", 1),
    "mean sigmoid": (("mean_sigmoid",), "mean_sigmoid", 1),
}
SIMILARITIES = {
    "smooth": lambda **k: SetSimilarity(temperature=0.2, **k),
    "smooth, clipped, unit": lambda **k: SetSimilarity(temperature=0.2, clipped=True, normalize=True, **k),
    "smooth, any length": lambda **k: SetSimilarity(temperature=0.2, length_normalized=True, **k),
    "chamfer": lambda **k: SetSimilarity("chamfer", **k),
    "chamfer, clipped, unit": lambda **k: SetSimilarity("chamfer", clipped=True, normalize=True, **k),
    "mean_max": lambda **k: SetSimilarity("mean_max", **k),
    "sum_max": lambda **k: SetSimilarity("sum_max", **k),
    "max": lambda **k: SetSimilarity("max", **k),
    "mean_sigmoid": lambda **k: sigmoid(**k),
    "mean_sigmoid, clipped": lambda **k: sigmoid(clipped=True, **k),
}


def sigmoid(scale=1.3, shift=-0.4, **options):
    similarity = SetSimilarity("mean_sigmoid", **options)
    with torch.no_grad():
        similarity.scale.fill_(scale)
        similarity.shift.fill_(shift)
    return similarity.double()


def loop(similarity, image, text):
    """One pair at a time, with its real fragments alone, as the formulas say."""

    def pair(regions, words):
        if similarity.normalize:
            regions, words = (x / x.norm(dim=1, keepdim=True) for x in (regions, words))
        c = regions @ words.T  # (R, W)
        c = torch.where(c < 0, 0.1 * c, c) if similarity.clipped else c
        alpha, average = 1 / similarity.temperature, similarity.length_normalized
        if similarity.kind == "smooth_chamfer":
            each = [(alpha * c).exp().mean(d) if average else (alpha * c).exp().sum(d) for d in (0, 1)]
            return sum(x.log().mean() / alpha for x in each) / 2
        if similarity.kind == "mean_sigmoid":
            return (1 / (1 + (-similarity.scale * c - similarity.shift).exp())).mean()
        return {
            "chamfer": lambda: (c.amax(0).mean() + c.amax(1).mean()) / 2,
            "mean_max": lambda: c.amax(0).mean(),
            "sum_max": lambda: c.amax(0).sum(),
            "max": lambda: c.amax(),
        }[similarity.kind]()

    return all_pairs(image, text, pair)


def close_to(found, expected):
    expected = torch.from_numpy(expected)
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)


@pytest.mark.parametrize("case", ["k4", "k3_5", "k1"])
@pytest.mark.parametrize("name", FORMS)
def test_agrees_with_the_public_code_of_dive(case, name):
    arrays = np.load(REFERENCE / "sets.npz", allow_pickle=False)
    settings, key, factor = FORMS[name]
    sides = [Fragments(torch.from_numpy(arrays[f"{case}.{side}_sets"]).requires_grad_()) for side in ("image", "text")]
    scores = factor * SetSimilarity(*settings)(*sides)
    close_to(scores.detach(), arrays[f"{case}.{key}"])
    scores.backward(torch.from_numpy(arrays[f"{case}.cotangent"]))
    for side, name in zip(sides, ("image", "text"), strict=True):
        close_to(side.features.grad, arrays[f"{case}.{key}.grad.{name}"])


@pytest.mark.parametrize("case", ["k4", "k3_5", "k1"])
def test_scale_and_shift_of_the_public_code(case):
    arrays = np.load(REFERENCE / "sets.npz", allow_pickle=False)
    sides = [Fragments(torch.from_numpy(arrays[f"{case}.{side}_sets"])) for side in ("image", "text")]
    scores = sigmoid(3.5, -1.2).float()(*sides)
    close_to(scores.detach(), arrays[f"{case}.mean_sigmoid_a3.5_b-1.2"])


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize(("kind", "key"), [("mean_max", "t2i"), ("chamfer", "both")])
def test_agrees_with_the_public_code_of_laps(kind, key, clipped):
    arrays = np.load(REFERENCE / "mean_max.npz", allow_pickle=False)
    regions, words = torch.from_numpy(arrays["maxmean.fragments"]), torch.from_numpy(arrays["maxmean.words"])
    text = Fragments(words, lengths_to_mask(torch.from_numpy(arrays["maxmean.word_lengths"]), words.shape[1]))
    scores = SetSimilarity(kind, clipped=clipped, normalize=True)(Fragments(regions), text)
    close_to(scores, arrays[f"maxmean.scores.{key}{'_leaky' * clipped}"])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_agrees_with_a_loop(name):
    similarity, (image, text) = SIMILARITIES[name](), ragged_pair()
    ours, theirs = similarity(image, text), loop(similarity, image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.manual_seed(1)
    weights, inputs = torch.randn(5, 7, dtype=torch.double), (image.features, text.features, *similarity.parameters())
    for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(similarity(image, text), theirs, **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["smooth", "mean_sigmoid"])
def test_layout_does_not_matter(name, layout, monkeypatch):
    similarity, (image, text) = SIMILARITIES[name](), ragged_pair(images=9, captions=12)
    inputs = image.features, text.features, *similarity.parameters()
    torch.manual_seed(1)
    weights = torch.randn(9, 12, dtype=torch.double) * (torch.rand(9, 12) < 0.3)
    expected = similarity(image, text)
    theirs = gradients(expected, inputs, weights)
    lay_out(monkeypatch, layout)
    found = similarity(image, text)
    torch.testing.assert_close(found, expected, **CLOSE)
    for a, b in zip(gradients(found, inputs, weights), theirs, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_chunks_do_not_matter(name, chunk_size):
    image, text = ragged_pair()
    chunked = SIMILARITIES[name](chunk_size=chunk_size)
    torch.testing.assert_close(chunked(image, text), SIMILARITIES[name]()(image, text), **CLOSE)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_padding_and_order_do_not_matter(name):
    assert_padding_does_not_matter(SIMILARITIES[name](), CLOSE)
    assert_order_does_not_matter(SIMILARITIES[name](), CLOSE)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradcheck(name):
    image, text = ragged_pair(images=2, captions=3, size=3, regions=3, words=4, seed=1, garbage=False)
    similarity = SIMILARITIES[name]()
    function = lambda v, t, *_: similarity(Fragments(v, image.mask), Fragments(t, text.mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (image.features, text.features, *similarity.parameters()))


@pytest.mark.parametrize("name", SIMILARITIES)
def test_one_image_and_one_caption(name):
    image, text = ragged_pair()
    similarity = SIMILARITIES[name]()
    torch.testing.assert_close(similarity(image[2:3], text[4:5]), similarity(image, text)[2:3, 4:5], **CLOSE)


def test_the_smooth_form_tends_to_the_plain_one():
    image, text = ragged_pair()
    smooth, plain = SetSimilarity(temperature=1e-4)(image, text), SetSimilarity("chamfer")(image, text)
    torch.testing.assert_close(smooth, plain, atol=1e-3, rtol=0)


def test_large_logits():
    similarity, (image, text) = SetSimilarity(temperature=0.01), ragged_pair()  # exponentials of some hundred
    inputs = image.features, text.features
    ours, weights = similarity(image, text), torch.arange(35, dtype=torch.double).view(5, 7)

    def pair(regions, words):
        c = regions @ words.T / 0.01
        return (c.logsumexp(0).mean() + c.logsumexp(1).mean()) * 0.01 / 2

    theirs = all_pairs(image, text, pair)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_alpha_16_does_not_overflow_in_half_precision():
    image, text = (Fragments(20 * side.features.detach().nan_to_num().half(), side.mask) for side in ragged_pair())
    scores = SetSimilarity()(image, text)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    torch.testing.assert_close(scores, SetSimilarity()(*(Fragments(s.features.float(), s.mask) for s in (image, text))))


def test_long_captions_do_not_score_higher():
    word = l2_normalize(torch.randn(1, 1, 8))
    text = Fragments(word.repeat(2, 6, 1), lengths_to_mask(torch.tensor([1, 6])))  # the same word, once and six times
    image = Fragments(torch.randn(3, 4, 8))
    longer = SetSimilarity()(image, text)
    assert (longer[:, 1] > longer[:, 0]).all()
    fair = SetSimilarity(length_normalized=True)(image, text)
    torch.testing.assert_close(fair[:, 1], fair[:, 0])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_align(name):
    similarity, (image, text) = SIMILARITIES[name](), ragged_pair()
    image, text = image[1:2], text[3:4]
    shown = similarity.align(image, text)
    assert shown.shape == (4, 8)
    real = image.mask[0][:, None] & text.mask[0]
    assert (shown[~real] == 0).all()
    regions, words = (side.features[0, side.mask[0]] for side in (image, text))
    if similarity.normalize:
        regions, words = l2_normalize(regions), l2_normalize(words)
    c = regions @ words.T
    c = leaky_relu(c, 0.1) if similarity.clipped else c
    found = shown[real].view_as(c)
    if similarity.kind == "smooth_chamfer":
        torch.testing.assert_close(found, ((c / 0.2).softmax(0) + (c / 0.2).softmax(1)) / 2)
    elif similarity.kind == "mean_sigmoid":
        torch.testing.assert_close(found.mean(), similarity(image, text)[0, 0])
    elif similarity.kind == "max":
        assert (found != 0).sum() == 1
        torch.testing.assert_close(found.sum(), c.max())
    elif similarity.kind == "sum_max":
        torch.testing.assert_close(found.sum(), similarity(image, text)[0, 0])


def test_chamfer_is_hard_alignment_both_ways():
    image, text = ragged_pair()
    expected = HardAligningSimilarity("both", MeanPooling())(image, text)
    torch.testing.assert_close(SetSimilarity("chamfer")(image, text), expected)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="kind: 'chamfers', expected 'smooth_chamfer', "):
        SetSimilarity("chamfers")
    with pytest.raises(ValueError, match="temperature: 0, expected"):
        SetSimilarity(temperature=0)
    with pytest.raises(ValueError, match="length_normalized goes with kind=\"smooth_chamfer\", got kind='max'"):
        SetSimilarity("max", length_normalized=True)
    with pytest.raises(ValueError, match="embedding sizes differ: image 3, text 4"):
        SetSimilarity()(Fragments(torch.randn(1, 2, 3)), Fragments(torch.randn(1, 2, 4)))
