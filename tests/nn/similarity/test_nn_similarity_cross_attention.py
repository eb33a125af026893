from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_textbook import (
    LAYOUTS,
    NORMALIZATIONS,
    POOLS,
    assert_order_does_not_matter,
    assert_padding_does_not_matter,
    cross_attention_scores,
    gradients,
    lay_out,
    ragged_pair,
)

from itmatch.batch import Fragments
from itmatch.losses import hard_negative_triplet_loss
from itmatch.nn import (
    CrossAttentionSimilarity,
    GeneralizedPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    SumPooling,
)
from itmatch.ops import l2_normalize, lengths_to_mask

REFERENCE = Path(__file__).parents[2] / "reference"
QUERIES = {"words": "t2i", "regions": "i2t"}  # and their names in the public code
TEMPERATURE = {"words": 1 / 9, "regions": 1 / 4}
POOLINGS = {
    "mean": MeanPooling(),
    "max": MaxPooling(),
    "sum": SumPooling(),
    "lse": LogSumExpPooling(1 / 6, scaled=True),
}
CLOSE = {"atol": 1e-10, "rtol": 1e-9}


def build(query="words", normalization="clipped_l2norm", pooling="lse", **kwargs):
    return CrossAttentionSimilarity(query, normalization=normalization, pooling=POOLINGS[pooling], **kwargs)


def assert_all_close(ours, theirs, **kwargs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **(kwargs or CLOSE))


def both(query="words", normalization="clipped_l2norm", pooling="lse", sides=None):
    """Scores of the library and of the textbook for the same inputs, and those inputs."""
    image, text = ragged_pair() if sides is None else sides
    ours = build(query, normalization, pooling)(image, text)
    theirs = cross_attention_scores(image, text, POOLS[pooling], query, TEMPERATURE[query], normalization)
    return ours, theirs, (image.features, text.features)


# -- against the public code and the textbook -----------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", ["clipped_l2norm", "l2norm", "softmax", "no_norm", "clipped"])
@pytest.mark.parametrize("aggregation", ["LogSumExp", "Mean", "Max", "Sum"])
def test_agrees_with_the_public_code_of_scan(query, normalization, aggregation):
    arrays = np.load(REFERENCE / "scan.npz", allow_pickle=False)
    regions, words = torch.from_numpy(arrays["image_fragments"]), torch.from_numpy(arrays["text_fragments"])
    image = Fragments(regions, torch.ones(regions.shape[:2], dtype=torch.bool))
    text = Fragments(words, lengths_to_mask(torch.from_numpy(arrays["token_lengths"]), words.shape[1]))
    expected = torch.from_numpy(arrays[f"scores.{QUERIES[query]}.{normalization}.{aggregation}"])
    poolings = {
        "LogSumExp": LogSumExpPooling(1 / 6 if query == "words" else 1 / 5, scaled=True),
        "Mean": MeanPooling(),
        "Max": MaxPooling(),
        "Sum": SumPooling(),
    }
    # the default temperature of each query is that of the public code
    similarity = CrossAttentionSimilarity(query, normalization=normalization, pooling=poolings[aggregation])
    torch.testing.assert_close(similarity(image, text), expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(similarity(image, text), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("pooling", ["lse", "max"])
def test_scores_and_dense_gradients_of_the_textbook(query, normalization, pooling):
    ours, theirs, inputs = both(query, normalization, pooling)
    assert ours.shape == (5, 7)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.manual_seed(1)
    weights = torch.randn(5, 7, dtype=torch.double)
    found = gradients(ours, inputs, weights)
    assert_all_close(found, gradients(theirs, inputs, weights))
    assert all(gradient.abs().sum() > 0 for gradient in found)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_sparse_gradients_of_the_textbook(query, normalization):
    image, text = ragged_pair(images=9, captions=12)
    ours, theirs, inputs = both(query, normalization, "mean", (image, text))
    positives = torch.arange(9)[:, None] == torch.arange(12) % 9
    losses = [hard_negative_triplet_loss(scores, positives, margin=0.1) for scores in (ours, theirs)]
    weights = torch.autograd.grad(losses[0], ours, retain_graph=True)[0]
    assert 0 < (weights != 0).sum() < 0.5 * weights.numel()  # most pairs get no gradient
    torch.testing.assert_close(*losses, **CLOSE)
    assert_all_close(gradients(losses[0], inputs), gradients(losses[1], inputs))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("pairs", [[], [(2, 3)], [(0, 0), (4, 6)], [(1, column) for column in range(7)]])
def test_gradient_of_a_few_pairs(query, pairs):
    ours, theirs, inputs = both(query)
    weights = torch.zeros(5, 7, dtype=torch.double)
    for i, t in pairs:
        weights[i, t] = i - 2 * t + 0.5
    assert_all_close(gradients(ours, inputs, weights), gradients(theirs, inputs, weights))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", ["clipped_l2norm", "clipped_l1norm", "softmax", "no_norm"])
@pytest.mark.parametrize("temperature", [2.0, 1 / 60, 1 / 500])
def test_temperature_is_used(query, normalization, temperature):
    image, text = ragged_pair()
    found = CrossAttentionSimilarity(query, temperature, normalization)(image, text)
    expected = cross_attention_scores(image, text, POOLS["mean"], query, temperature, normalization)
    torch.testing.assert_close(found, expected, **CLOSE)
    sides = [Fragments(side.features.detach().float().requires_grad_(), side.mask) for side in (image, text)]
    found = CrossAttentionSimilarity(query, temperature, normalization)(
        *sides
    )  # exp(1 / temperature) is beyond float32
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)
    assert all(torch.isfinite(g).all() for g in gradients(found, [side.features for side in sides]))


def test_both_is_the_mean_of_words_and_regions():
    image, text = ragged_pair()
    words, regions, mean = (CrossAttentionSimilarity(query) for query in ("words", "regions", "both"))
    torch.testing.assert_close(mean(image, text), (words(image, text) + regions(image, text)) / 2)
    shown = [similarity.align(image[1:2], text[2:3]) for similarity in (words, regions, mean)]
    torch.testing.assert_close(shown[2], (shown[0] + shown[1]) / 2)


def test_parameters_of_a_learned_pooling():
    image, text = ragged_pair()
    pooling = GeneralizedPooling(8, 4).double()
    similarity = CrossAttentionSimilarity(pooling=pooling)
    parameters = tuple(similarity.parameters())
    assert len(parameters) == len(list(pooling.parameters()))
    whole = torch.ones(1, dtype=torch.bool)
    theirs = cross_attention_scores(image, text, lambda values: pooling(values, whole.expand(len(values))))
    ours = similarity(image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    inputs = (image.features, text.features, *parameters)
    torch.manual_seed(1)
    weights = torch.randn(5, 7, dtype=torch.double)
    assert_all_close(gradients(ours, inputs, weights), gradients(theirs, inputs, weights))
    frozen = similarity(image.detach(), text.detach())  # encoders that are not trained
    assert_all_close(gradients(frozen, parameters, weights), gradients(theirs, parameters, weights))


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_one_side_without_gradient(frozen):
    image, text = ragged_pair()
    sides = (image.detach(), text) if frozen == "image" else (image, text.detach())
    ours, theirs, inputs = both(sides=sides)
    inputs = [x for x in inputs if x.requires_grad]
    assert len(inputs) == 1
    assert_all_close(gradients(ours, inputs), gradients(theirs, inputs))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradcheck(query, normalization):
    image, text = ragged_pair(images=2, captions=3, size=3, regions=3, words=4, seed=1, garbage=False)
    similarity = build(query, normalization, "mean")
    function = lambda v, t: similarity(Fragments(v, image.mask), Fragments(t, text.mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (image.features, text.features), fast_mode=True)


# -- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", ["clipped_l2norm", "softmax", "clipped_l1norm"])
@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_chunks_and_gradient_mode_do_not_matter(query, normalization, chunk_size):
    image, text = ragged_pair()
    inputs = image.features, text.features
    whole = build(query, normalization)(image, text)
    chunked = build(query, normalization, chunk_size=chunk_size)
    scores = chunked(image, text)
    torch.testing.assert_close(scores, whole, **CLOSE)
    torch.manual_seed(1)
    weights = torch.randn(5, 7, dtype=torch.double) * (torch.rand(5, 7) < 0.3)
    assert_all_close(gradients(scores, inputs, weights), gradients(whole, inputs, weights))
    with torch.no_grad():
        inference = chunked.eval()(image, text)
    assert not inference.requires_grad
    torch.testing.assert_close(inference, whole.detach(), **CLOSE)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", ["clipped_l2norm", "l1norm", "softmax", "no_norm"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_do_not_matter(query, normalization, layout, monkeypatch):
    lay_out(monkeypatch, layout)
    ours, theirs, inputs = both(query, normalization)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.manual_seed(1)
    for share in (1.0, 0.3):
        weights = torch.randn(5, 7, dtype=torch.double) * (torch.rand(5, 7) < share)
        assert_all_close(gradients(ours, inputs, weights), gradients(theirs, inputs, weights))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padding_does_not_matter(query, normalization):
    assert_padding_does_not_matter(build(query, normalization), CLOSE)


@pytest.mark.parametrize("query", QUERIES)
def test_order_does_not_matter(query):
    assert_order_does_not_matter(build(query), CLOSE)


@pytest.mark.parametrize("query", QUERIES)
def test_no_captions(query):
    image, text = ragged_pair()
    scores = build(query)(image, text[:0])
    assert scores.shape == (5, 0)
    assert build(query)(image.detach(), text.detach()[:0]).shape == (5, 0)


@pytest.mark.parametrize("query", QUERIES)
def test_one_image_and_one_caption(query):
    image, text = ragged_pair()
    similarity = build(query)
    scores = similarity(image, text)
    for i, t in ((2, 4), (4, 6), (0, 6), (4, 0)):  # the last of each side has a single fragment
        torch.testing.assert_close(similarity(image[i : i + 1], text[t : t + 1]), scores[i : i + 1, t : t + 1], **CLOSE)
    torch.testing.assert_close(similarity(image[1:2], text), scores[1:2], **CLOSE)
    torch.testing.assert_close(similarity(image, text[1:2]), scores[:, 1:2], **CLOSE)


# -- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_word_with_a_region_is_their_cosine(query, normalization):
    """With one key the attention has no choice."""
    torch.manual_seed(0)
    v, t = torch.randn(2, 1, 5, dtype=torch.double), torch.randn(3, 1, 5, dtype=torch.double)
    sides = [Fragments(x, torch.ones(len(x), 1, dtype=torch.bool)) for x in (v, t)]
    expected = l2_normalize(v[:, 0]) @ l2_normalize(t[:, 0]).T
    torch.testing.assert_close(build(query, normalization, "mean")(*sides), expected, **CLOSE)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("side", ["words", "regions"])
def test_identical_fragments(query, normalization, side):
    image, text = ragged_pair(garbage=False)
    same = text if side == "words" else image
    features = same.features.detach()[:, :1].expand_as(same.features).clone().requires_grad_()
    sides = (image, Fragments(features, text.mask)) if side == "words" else (Fragments(features, image.mask), text)
    ours, theirs, inputs = both(query, normalization, "mean", sides)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert_all_close(gradients(ours, inputs), gradients(theirs, inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("pooling", ["lse", "max"])
def test_zero_vectors(query, normalization, pooling, dtype):
    image, text = ragged_pair(garbage=False)
    v, t = image.features.detach().clone(), text.features.detach().clone()
    v[0, 0], v[1], t[0, 1], t[2] = 0, 0, 0, 0  # one region, a whole image, one word, a whole caption
    sides = [Fragments(x.to(dtype).requires_grad_(), s.mask) for x, s in ((v, image), (t, text))]
    ours, theirs, inputs = both(query, normalization, pooling, sides)
    torch.testing.assert_close(ours, theirs, atol=1e-5 if dtype == torch.float32 else 1e-10, rtol=1e-5)
    assert all(torch.isfinite(g).all() for g in gradients(ours, inputs))
    with torch.no_grad():
        torch.testing.assert_close(build(query, normalization, pooling)(*sides), ours.detach())


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_fragments_orthogonal_to_everything(query, normalization):
    image, text = ragged_pair(size=8, garbage=False)
    v, t = image.features.detach().clone(), text.features.detach().clone()
    v[..., 6:], t[..., 6:] = 0, 0
    v[0, 0], t[0, 1] = torch.eye(8, dtype=torch.double)[6:]  # the scores with all others are exactly 0
    sides = [Fragments(x.requires_grad_(), s.mask) for x, s in ((v, image), (t, text))]
    ours, theirs, inputs = both(query, normalization, "mean", sides)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    assert all(torch.isfinite(g).all() for g in gradients(ours, inputs))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_vectors_that_are_not_unit(query, scale):
    image, text = ragged_pair(garbage=False)
    sides = [Fragments((s.features.detach() * scale).requires_grad_(), s.mask) for s in (image, text)]
    ours, theirs, inputs = both(query, "clipped", "mean", sides)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    theirs = gradients(theirs, inputs)
    assert_all_close(gradients(ours, inputs), theirs, atol=1e-8 * max(g.abs().max() for g in theirs), rtol=1e-8)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("temperature", [1 / 9, 1 / 12, 1 / 13, 1 / 40])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_sharp_attention_over_long_fragments(query, temperature, size, sign):
    """Of one word, with which all regions agree: all exponentials are as large (or small) as they can be, and equal."""
    torch.manual_seed(0)
    word = l2_normalize(torch.randn(8))
    regions = size * l2_normalize(word + 0.1 * torch.randn(2, 36, 8))
    similarity = build(query, "l2norm", "mean", temperature=temperature)
    found = similarity(Fragments(regions), Fragments(sign * word[None, None]))[:, 0]
    met = l2_normalize(regions.mean(1)) if query == "words" else l2_normalize(regions).mean(1)
    torch.testing.assert_close(found, sign * (met @ word), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("image_type", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("text_type", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(query, image_type, text_type, autocast):
    image, text = ragged_pair(garbage=False)
    wide = torch.promote_types(text_type, torch.float32)
    sides = [
        Fragments(l2_normalize(s.features.detach()).to(dtype).requires_grad_(), s.mask)
        for s, dtype in ((image, image_type), (text, text_type))
    ]
    similarity = build(query)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        scores = similarity(*sides)
        with torch.no_grad():
            inference = similarity(*sides)
    assert scores.dtype == inference.dtype == wide
    exact_sides = [Fragments(s.features.detach().to(wide).requires_grad_(), s.mask) for s in sides]
    exact = similarity(*exact_sides)
    torch.testing.assert_close(scores, exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inference, exact.detach(), atol=1e-5, rtol=1e-5)
    scores.sum().backward()
    exact.sum().backward()
    for side, exact_side in zip(sides, exact_sides, strict=True):
        assert side.features.grad.dtype == side.features.dtype
        torch.testing.assert_close(side.features.grad.to(wide), exact_side.features.grad, atol=0.02, rtol=0.02)


# -- pictures and errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
def test_align(query):
    image, text = ragged_pair()
    similarity = build(query)
    for i, t in ((1, 2), (4, 3), (0, 6)):
        shown = similarity.align(image[i : i + 1], text[t : t + 1])
        real = image.mask[i][:, None] & text.mask[t]
        assert shown.shape == (4, 8)
        assert (shown[~real] == 0).all()
        assert torch.isfinite(shown).all()
        assert (shown[real] > 0).all()
        queries = text.mask[t] if query == "words" else image.mask[i]
        sums = shown.sum(0 if query == "words" else 1)
        torch.testing.assert_close(sums, queries.to(sums.dtype))  # the attention of each query


def test_bad_arguments_are_named():
    image, text = ragged_pair()
    with pytest.raises(ValueError, match="query: 't2i'"):
        CrossAttentionSimilarity("t2i")
    with pytest.raises(ValueError, match="'l3norm'"):
        CrossAttentionSimilarity(normalization="l3norm")
    with pytest.raises(ValueError, match="temperature: -1"):
        CrossAttentionSimilarity(temperature=-1.0)
    with pytest.raises(ValueError, match="chunk_size: 0"):
        CrossAttentionSimilarity(chunk_size=0)
    with pytest.raises(ValueError, match="embedding sizes differ: image 6, text 5"):
        CrossAttentionSimilarity()(image, Fragments(text.features[..., :5], text.mask))
    with pytest.raises(ValueError, match="one image and one caption, got 5 and 7"):
        CrossAttentionSimilarity().align(image, text)
