import pytest
import torch
from helpers_textbook import (
    LAYOUTS,
    POOLS,
    assert_order_does_not_matter,
    assert_padding_does_not_matter,
    gradients,
    interactive_scores,
    lay_out,
    ragged_pair,
    residual,
)

from itmatch.batch import Fragments
from itmatch.losses import hard_negative_triplet_loss
from itmatch.nn import GeneralizedPooling, InteractiveSimilarity, LogSumExpPooling, MaxPooling, MeanPooling
from itmatch.ops import l2_normalize

CLOSE = {"atol": 1e-10, "rtol": 1e-9}
PARTS = {"word_alignment": "words", "region_alignment": "regions", "cross_level": "cross"}
POOLINGS = {"mean": MeanPooling(), "max": MaxPooling(), "lse": LogSumExpPooling(1 / 6, scaled=True)}
BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
TYPES = [(BF16, BF16), (FP16, BF16), (FP32, FP16), (FP64, BF16)]


LEVEL = ["score"]  # what cross-level attention does


@pytest.fixture(autouse=True, params=["score", "refine"])
def level(request):
    LEVEL[0] = request.param
    return request.param


def switched(*parts):
    """The arguments by which these parts and no others are taken."""
    return {
        "region_alignment": "region_alignment" in parts,
        "cross_level": LEVEL[0] if "cross_level" in parts else None,
    }


def build(*, pooling="mean", dtype=torch.double, **kwargs):
    """A similarity with all parts, whose parameters are far from where they start, so that each of them counts."""
    kwargs = {"region_alignment": True, "cross_level": LEVEL[0]} | kwargs
    torch.manual_seed(5)
    similarity = InteractiveSimilarity(pooling=POOLINGS[pooling], **kwargs).double()
    with torch.no_grad():
        for parameter in similarity.parameters():
            parameter.add_(0.6 + 0.5 * torch.randn_like(parameter))
    return similarity.to(dtype)


def refinements(similarity):
    """The textbook's refinement of the regions and of the words, with the parameters of a similarity."""
    return residual(similarity.gamma_regions), residual(similarity.gamma_words)


def textbook(similarity, image, text, pool="mean", **kwargs):
    taken = ["words", "regions"] if similarity.region_alignment else ["words"]
    kwargs.setdefault("parts", taken + (["cross"] if similarity.cross_level == "score" else []))
    if similarity.cross_level == "refine":
        kwargs |= {"eta": similarity.eta[0], "mu": similarity.mu[0]}
    refine_regions, refine_words = refinements(similarity)
    return interactive_scores(image, text, POOLS[pool], refine_regions, refine_words, **kwargs)


def assert_same(similarity, image, text, weights=None, **kwargs):
    """Scores, and the gradients of the features and of all parameters, are those of the textbook."""
    ours, theirs = similarity(image, text), textbook(similarity, image, text, **kwargs)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    inputs = (image.features, text.features, *similarity.parameters())
    found = gradients(ours, inputs, weights)
    for a, b in zip(found, gradients(theirs, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    return found


def dense():
    torch.manual_seed(1)
    return torch.randn(5, 7, dtype=torch.double)


# -- against the textbook --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
def test_scores_and_dense_gradients_of_the_textbook(pooling):
    image, text = ragged_pair()
    similarity = build(pooling=pooling)
    found = assert_same(similarity, image, text, dense(), pool=pooling)
    assert len(found) == (4 if LEVEL[0] == "score" else 6)
    assert all(gradient.abs().sum() > 0 for gradient in found)


@pytest.mark.parametrize(
    "parts",
    [
        ("word_alignment",),
        ("word_alignment", "region_alignment"),
        ("word_alignment", "cross_level"),
    ],
)
def test_parts(parts):
    image, text = ragged_pair()
    similarity = build(**switched(*parts))
    assert_same(similarity, image, text, dense())


@pytest.mark.parametrize("part", [*PARTS, "all"])
def test_factors_of_0_refine_nothing(part):
    image, text = ragged_pair()
    parts = PARTS if part == "all" else {"word_alignment": "words", part: PARTS[part]}
    similarity = build(**switched(*parts))
    with torch.no_grad():
        for parameter in similarity.parameters():
            parameter.zero_()
    scored = [name for part, name in parts.items() if part != "cross_level" or LEVEL[0] == "score"]
    expected = interactive_scores(image, text, POOLS["mean"], parts=scored)
    torch.testing.assert_close(similarity(image, text), expected, **CLOSE)


def test_numbers_are_used():
    image, text = ragged_pair()
    similarity = build(region_temperature=0.4, word_temperature=0.2, cross_level_temperature=0.4)
    kwargs = {"region_temperature": 0.4, "word_temperature": 0.2, "temperature": 0.4}
    assert_same(similarity, image, text, dense(), **kwargs)


def test_sparse_gradients_of_the_textbook():
    image, text = ragged_pair(images=9, captions=12)
    similarity = build()
    inputs = (image.features, text.features, *similarity.parameters())
    positives = torch.arange(9)[:, None] == torch.arange(12) % 9
    ours, theirs = similarity(image, text), textbook(similarity, image, text)
    losses = [hard_negative_triplet_loss(scores, positives, margin=0.02) for scores in (ours, theirs)]
    weights = torch.autograd.grad(losses[0], ours, retain_graph=True)[0]
    assert 0 < (weights != 0).sum() < 0.5 * weights.numel()  # most pairs get no gradient
    torch.testing.assert_close(*losses, **CLOSE)
    for a, b in zip(*(gradients(loss, inputs) for loss in losses), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("pairs", [[], [(2, 3)], [(0, 0), (4, 6)], [(1, column) for column in range(7)]])
def test_gradient_of_a_few_pairs(pairs):
    weights = torch.zeros(5, 7, dtype=torch.double)
    for i, t in pairs:
        weights[i, t] = i - 2 * t + 0.5
    assert_same(build(), *ragged_pair(), weights)


def test_parameters_learn_from_frozen_features():
    image, text = ragged_pair()
    similarity = build()
    expected = gradients(similarity(image, text), tuple(similarity.parameters()), dense())
    found = gradients(similarity(image.detach(), text.detach()), tuple(similarity.parameters()), dense())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_parameters_of_a_learned_pooling():
    image, text = ragged_pair()
    pooling = GeneralizedPooling(8, 4).double()
    similarity = InteractiveSimilarity(pooling=pooling, region_alignment=True, cross_level="score").double()
    assert {"gamma_regions", "gamma_words"} < {name for name, _ in similarity.named_parameters()}
    whole = torch.ones(1, dtype=torch.bool)
    refine_regions, refine_words = refinements(similarity)
    pool = lambda values: pooling(values, whole.expand(len(values)))  # noqa: E731
    theirs = interactive_scores(image, text, pool, refine_regions, refine_words)
    ours = similarity(image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    inputs = (image.features, text.features, *similarity.parameters())
    for a, b in zip(gradients(ours, inputs, dense()), gradients(theirs, inputs, dense()), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_one_side_without_gradient(frozen):
    image, text = ragged_pair()
    image, text = (image.detach(), text) if frozen == "image" else (image, text.detach())
    similarity = build()
    inputs = [x for x in (image.features, text.features, *similarity.parameters()) if x.requires_grad]
    ours, theirs = similarity(image, text), textbook(similarity, image, text)
    for a, b in zip(gradients(ours, inputs, dense()), gradients(theirs, inputs, dense()), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_gradcheck():
    image, text = ragged_pair(images=2, captions=2, size=3, regions=2, words=3, seed=1, garbage=False)
    similarity = build()
    names = [name for name, _ in similarity.named_parameters()]

    def function(v, t, *parameters):
        sides = Fragments(v, image.mask), Fragments(t, text.mask)
        return torch.func.functional_call(similarity, dict(zip(names, parameters, strict=True)), sides)

    inputs = (image.features, text.features, *similarity.parameters())
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


# -- what must not matter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_chunks_and_gradient_mode_do_not_matter(chunk_size):
    image, text = ragged_pair()
    whole, chunked = build(), build(chunk_size=chunk_size)
    chunked.load_state_dict(whole.state_dict())
    expected, scores = whole(image, text), chunked(image, text)
    torch.testing.assert_close(scores, expected, **CLOSE)
    weights = dense() * (torch.rand(5, 7) < 0.3)
    found = gradients(scores, (image.features, text.features, *chunked.parameters()), weights)
    wanted = gradients(expected, (image.features, text.features, *whole.parameters()), weights)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    with torch.no_grad():
        inference = chunked.eval()(image, text)
    assert not inference.requires_grad
    torch.testing.assert_close(inference, expected.detach(), **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiles_do_not_matter(layout, monkeypatch):
    lay_out(monkeypatch, layout)
    image, text = ragged_pair()
    similarity = build()
    ours, theirs = similarity(image, text), textbook(similarity, image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    inputs = (image.features, text.features, *similarity.parameters())
    for weights in (dense(), dense() * (torch.rand(5, 7) < 0.3)):
        for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
            torch.testing.assert_close(a, b, **CLOSE)


def test_padding_does_not_matter():
    assert_padding_does_not_matter(build(), CLOSE)


def test_order_does_not_matter():
    assert_order_does_not_matter(build(), CLOSE)


def test_no_captions():
    image, text = ragged_pair()
    assert build()(image, text[:0]).shape == (5, 0)
    with torch.no_grad():
        assert build()(image, text[:0]).shape == (5, 0)


def test_one_image_and_one_caption():
    image, text = ragged_pair()
    similarity = build()
    scores = similarity(image, text)
    for i, t in ((2, 4), (4, 6), (0, 6), (4, 0)):  # the last of each side has a single fragment
        torch.testing.assert_close(similarity(image[i : i + 1], text[t : t + 1]), scores[i : i + 1, t : t + 1], **CLOSE)
    torch.testing.assert_close(similarity(image[1:2], text), scores[1:2], **CLOSE)
    torch.testing.assert_close(similarity(image, text[1:2]), scores[:, 1:2], **CLOSE)


# -- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["words", "regions"])
def test_identical_fragments(side):
    image, text = ragged_pair(garbage=False)
    same = text if side == "words" else image
    features = same.features.detach()[:, :1].expand_as(same.features).clone().requires_grad_()
    sides = (image, Fragments(features, text.mask)) if side == "words" else (Fragments(features, image.mask), text)
    assert_same(build(), *sides, dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_vectors(dtype):
    image, text = ragged_pair(garbage=False)
    v, t = image.features.detach().clone(), text.features.detach().clone()
    v[0, 0], v[1], t[0, 1], t[2] = 0, 0, 0, 0  # one region, a whole image, one word, a whole caption
    sides = [Fragments(x.to(dtype).requires_grad_(), s.mask) for x, s in ((v, image), (t, text))]
    similarity = build(dtype=dtype)
    scores = similarity(*sides)
    exact = [Fragments(x, s.mask) for x, s in ((v, image), (t, text))]
    wide = build()
    theirs = textbook(wide, *exact).to(dtype)
    torch.testing.assert_close(scores, theirs, atol=1e-4 if dtype == torch.float32 else 1e-10, rtol=0)
    inputs = (sides[0].features, sides[1].features, *similarity.parameters())
    assert all(torch.isfinite(g).all() for g in gradients(scores, inputs))
    with torch.no_grad():
        torch.testing.assert_close(similarity(*sides), scores.detach())


def cancelling(x, dtype=torch.double):
    """Fragments that come with their opposites."""
    x = torch.cat((x, -x), 1).to(dtype)
    return Fragments(x.requires_grad_(), torch.ones(x.shape[:2], dtype=torch.bool))


def test_means_that_vanish():
    """The cross-level queries are 0: all weights are equal."""
    # short numbers, whose sum is 0 without rounding
    sides = [cancelling((x.features.detach()[:, :2] * 8).round() / 8) for x in ragged_pair(garbage=False)]
    similarity = build()
    scores = similarity(*sides)
    torch.testing.assert_close(scores, textbook(similarity, *sides), **CLOSE)
    inputs = (sides[0].features, sides[1].features, *similarity.parameters())
    assert all(torch.isfinite(g).all() for g in gradients(scores, inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize("part", PARTS)
def test_scores_of_vectors_that_nearly_vanish_are_cosines(part, noise, dtype):
    """Their direction may be lost to rounding, but not the bound of a cosine."""
    torch.manual_seed(0)
    sides = []
    for x in l2_normalize(torch.randn(2, 60, 2, 256, dtype=torch.double)):
        side = cancelling(x, dtype)
        with torch.no_grad():
            side.features.add_(noise / 16 * torch.randn_like(side.features))  # of length noise
        sides.append(side)
    similarity = build(dtype=dtype, **switched(part))
    if similarity.cross_level == "refine":
        with torch.no_grad():
            similarity.mu.fill_(0.4)  # not beyond the cosines that it mixes
    scores = similarity(*sides)
    assert (scores.abs() <= 1 + 1e-5).all()
    assert all(torch.isfinite(g).all() for g in gradients(scores, [side.features for side in sides]))


def test_fragments_orthogonal_to_everything():
    image, text = ragged_pair(size=8, garbage=False)
    v, t = image.features.detach().clone(), text.features.detach().clone()
    v[..., 6:], t[..., 6:] = 0, 0
    v[0, 0], t[0, 1] = torch.eye(8, dtype=torch.double)[6:]  # the scores with all others are exactly 0
    sides = [Fragments(x.requires_grad_(), s.mask) for x, s in ((v, image), (t, text))]
    similarity = build()
    scores = similarity(*sides)
    theirs = textbook(similarity, *sides)
    torch.testing.assert_close(scores, theirs, **CLOSE)
    inputs = (sides[0].features, sides[1].features, *similarity.parameters())
    assert all(torch.isfinite(g).all() for g in gradients(scores, inputs))


@pytest.mark.parametrize("gamma", [-1.0, 0.0, 50.0])
def test_extreme_gammas(gamma):
    """With one fragment on each side and gamma -1 the refined vectors are v - t and t - v."""
    image, text = ragged_pair()
    similarity = build()
    with torch.no_grad():
        similarity.gamma_regions.fill_(gamma)
        similarity.gamma_words.fill_(gamma)
    assert_same(similarity, image, text, dense())


def test_an_image_that_is_its_caption():
    """Regions and words are the same vectors: all refined vectors can be nearly parallel, and cosines reach 1."""
    image, _ = ragged_pair(garbage=False)
    unit = l2_normalize(image.features.detach())
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        sides = [Fragments(unit.to(dtype).requires_grad_(), image.mask) for _ in range(2)]
        similarity = build(dtype=dtype)
        scores = similarity(*sides)
        torch.testing.assert_close(scores, textbook(similarity, *sides), atol=tolerance, rtol=0)
        assert (scores <= 1 + 1e-5).all() or similarity.cross_level == "refine"
        assert all(torch.isfinite(g).all() for g in gradients(scores, [s.features for s in sides]))


@pytest.mark.parametrize(("image_type", "text_type"), TYPES)
def test_half_precision(image_type, text_type):
    image, text = ragged_pair(garbage=False)
    wide = torch.promote_types(image_type, torch.float32)
    sides = [
        Fragments(l2_normalize(s.features.detach()).to(dtype).requires_grad_(), s.mask)
        for s, dtype in ((image, image_type), (text, text_type))
    ]
    similarity = build(dtype=torch.float32)
    scores = similarity(*sides)
    with torch.no_grad():
        inference = similarity(*sides)
    assert scores.dtype == inference.dtype == wide
    exact_sides = [Fragments(s.features.detach().double().requires_grad_(), s.mask) for s in sides]
    exact = build()(*exact_sides)
    torch.testing.assert_close(scores.double(), exact, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(inference.double(), exact.detach(), atol=2e-5, rtol=1e-5)
    scores.sum().backward()
    exact.sum().backward()
    for side, exact_side in zip(sides, exact_sides, strict=True):
        assert side.features.grad.dtype == side.features.dtype
        torch.testing.assert_close(side.features.grad.double(), exact_side.features.grad, atol=0.03, rtol=0.03)


def test_scores_are_float32_under_autocast():
    image, text = (Fragments(s.features.detach().float(), s.mask) for s in ragged_pair(garbage=False))
    similarity = build(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        scores = similarity(image, text)
        with torch.no_grad():
            assert similarity(image, text).dtype == torch.float32
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, similarity(image, text), atol=0.05, rtol=0.05)


# -- pictures, parameters and errors ---------------------------------------------------------------------------------


def test_align():
    image, text = ragged_pair()
    similarity = build()
    for i, t in ((1, 2), (4, 3), (0, 6)):
        shown = similarity.align(image[i : i + 1], text[t : t + 1])
        real = image.mask[i][:, None] & text.mask[t]
        assert shown.shape == (4, 8)
        assert (shown[~real] == 0).all()
        assert torch.isfinite(shown).all()
        assert shown[real].abs().sum() > 0


def test_parameters_and_defaults():
    similarity = InteractiveSimilarity()
    starts = {name: value.tolist() for name, value in similarity.named_parameters()}  # no scalars: FSDP shards none
    gamma = [pytest.approx(0.1)]
    assert starts == {"gamma_regions": gamma, "gamma_words": gamma, "eta": [0.0], "mu": [0.0]}
    assert sorted(InteractiveSimilarity(cross_level="score").state_dict()) == ["gamma_regions", "gamma_words"]
    image, text = ragged_pair()
    expected = textbook(similarity, image, text)
    torch.testing.assert_close(similarity(image, text), expected, atol=1e-6, rtol=0)


def test_bad_arguments_are_named():
    image, text = ragged_pair()
    with pytest.raises(ValueError, match="cross_level: 'both', expected 'refine', 'score' or None"):
        InteractiveSimilarity(cross_level="both")
    with pytest.raises(ValueError, match="cross_level_temperature: 0"):
        InteractiveSimilarity(cross_level_temperature=0.0)
    with pytest.raises(ValueError, match="region_temperature: -1"):
        InteractiveSimilarity(region_temperature=-1.0)
    with pytest.raises(ValueError, match="word_temperature: -1"):
        InteractiveSimilarity(word_temperature=-1.0)
    with pytest.raises(ValueError, match="chunk_size: 0"):
        InteractiveSimilarity(chunk_size=0)
    with pytest.raises(ValueError, match="embedding sizes differ: image 6, text 5"):
        InteractiveSimilarity()(image, Fragments(text.features[..., :5], text.mask))
    with pytest.raises(ValueError, match="one image and one caption, got 5 and 7"):
        InteractiveSimilarity().align(image, text)
