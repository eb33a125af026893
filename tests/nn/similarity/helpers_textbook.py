"""Cross-attention and interactive similarities as a textbook writes them: pair by pair, every vector built.

Slow and plain on purpose. Two loops go over images and captions, each pair sees its real fragments only, and every
attended or refined vector of size D exists. Nothing of the library's own arithmetic is used here.
"""

from __future__ import annotations

import torch
from torch.nn.functional import leaky_relu

from itmatch.batch import Fragments
from itmatch.ops import lengths_to_mask

NORMALIZATIONS = ("clipped_l2norm", "l2norm", "clipped_l1norm", "l1norm", "clipped", "softmax", "no_norm")

# Over a vector of values; "lse" with lambda 6, as SCAN has it.
POOLS = {
    "mean": lambda values: values.mean(),
    "max": lambda values: values.max(),
    "sum": lambda values: values.sum(),
    "lse": lambda values: (values * 6).exp().sum().log() / 6,
}


def cosines(a, b):
    """Of the rows of ``a`` (N, D) with those of ``b`` (N, D): N numbers, 0 where a vector is 0."""
    lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(1) / lengths.clamp(min=1e-8)


def attention(queries, keys, temperature, normalization):
    """Weights (Q, K) of the keys for each query. Scores are first normalised over the *queries*, for each key."""
    scores = queries @ keys.T  # (Q, K)
    if normalization.startswith("clipped"):
        scores = leaky_relu(scores, 0.1)
    if normalization.endswith("l2norm"):
        scores = scores / (torch.linalg.vector_norm(scores, dim=0, keepdim=True) + 1e-8)
    elif normalization.endswith("l1norm"):
        scores = scores / (scores.abs().sum(0, keepdim=True) + 1e-8)
    elif normalization == "softmax":
        scores = scores.softmax(0)
    return (scores / temperature).softmax(1)


def all_pairs(image, text, pair):
    """``pair(regions, words)`` of the real fragments of every image and caption, as (I, T)."""
    rows = []
    for v, v_mask in zip(image.features, image.mask, strict=True):
        rows.append([pair(v[v_mask], t[t_mask]) for t, t_mask in zip(text.features, text.mask, strict=True)])
    return torch.stack([torch.stack(row) for row in rows])


def cross_attention_scores(image, text, pool, query="words", temperature=1 / 9, normalization="clipped_l2norm"):
    """Each word or region against the mean of the other side that it attends to; then ``pool``."""

    def pair(regions, words):
        queries, keys = (words, regions) if query == "words" else (regions, words)
        attended = attention(queries, keys, temperature, normalization) @ keys  # (Q, D)
        return pool(cosines(queries, attended))

    return all_pairs(image, text, pair)


def interactive_scores(
    image,
    text,
    pool,
    refine_regions=None,
    refine_words=None,
    parts=("words", "regions", "cross"),
    region_temperature=1 / 4,
    word_temperature=1 / 9,
    normalization="clipped_l2norm",
    temperature=0.1,
    eta=0.0,
    mu=0.0,
):
    """Interactive attention, refinement, alignment both ways, cross-level attention.

    ``refine_regions(v, c)`` and ``refine_words(t, d)`` make the refined fragments from the fragments and from what they
    attend to; None leaves the fragments as they are. ``eta`` is how far the sentence scales the regions that words
    attend to, ``mu`` the share of the pooling in which the other side weighs the words, or the regions.
    """

    def pair(regions, words):
        alpha = attention(regions, words, region_temperature, normalization)  # (R, W), a row sums to 1
        beta = attention(words, regions, word_temperature, normalization)  # (W, R), a row sums to 1
        refined_regions = regions if refine_regions is None else refine_regions(regions, alpha @ words)
        pi = weights_of(words.mean(0), refined_regions, temperature)
        scales = 1 + eta * len(regions) * pi[:, None]
        refined_words = words if refine_words is None else refine_words(words, beta @ (scales * regions))
        rho = weights_of(regions.mean(0), refined_words, temperature)
        found = []
        if "words" in parts:
            values = cosines(refined_words, beta @ (scales * refined_regions))
            found.append((1 - mu) * pool(values) + mu * (rho * values).sum())
        if "regions" in parts:
            values = cosines(refined_regions, alpha @ refined_words)
            found.append((1 - mu) * pool(values) + mu * (pi * values).sum())
        if "cross" in parts:
            found.append(cosines((pi @ refined_regions)[None], (rho @ refined_words)[None])[0])
        return sum(found) / len(found)

    return all_pairs(image, text, pair)


def weights_of(query, keys, temperature):
    """Of the keys (K, D): a softmax of their products with the direction of the query (D)."""
    direction = query / torch.linalg.vector_norm(query).clamp(min=1e-8)
    return (keys @ direction / temperature).softmax(0)


def residual(gamma):
    return lambda x, attended: x + gamma * attended


# -- how the library cuts its work ------------------------------------------------------------------------------------

# Settings in itmatch.ops.pairs under which small inputs meet what large ones, and those on a GPU, meet.
_TILES, _PAIRS = {"over_pairs._DENSE": 0.0}, {"over_pairs._DENSE": 1.0}  # the backward pass recomputes
_SMALL = {"bands._BAND": {"cpu": 9}, "bands._TILE": {"cpu": 9}, "bands._LEAST": {"cpu": 9}} | _TILES
_IN_BANDS = {"bands._BAND": {"cpu": 8}, "bands._TILE": {"cpu": 8}, "bands._LEAST": {"cpu": 4}} | _TILES
_PADDED = {"bands._PADDING": 100.0}
_FEW_NUMBERS = {"plans._MADE": {"cpu": 100}, "plans._COPIED": {"cpu": 100}}
LAYOUTS = {
    "padded tiles": _PADDED,
    "padded tiles, single pairs": _PADDED | _PAIRS,
    "small tiles": _SMALL,
    "small and padded tiles": _SMALL | _PADDED,
    "several tiles in a band": _IN_BANDS,
    "several padded tiles in a band": _IN_BANDS | _PADDED,
    "single pairs in small parts": _FEW_NUMBERS | _PAIRS,
    "bounded tiles": _FEW_NUMBERS | _TILES,
}


def lay_out(monkeypatch, layout):
    for setting, value in LAYOUTS[layout].items():
        monkeypatch.setattr(f"itmatch.ops.pairs.{setting}", value)


# -- inputs ------------------------------------------------------------------------------------------------------


def ragged_pair(images=5, captions=7, size=6, regions=4, words=8, seed=0, *, holes=True, garbage=True):
    """Random float64 fragments with masks of different lengths, holes in them, and NaN in padded positions."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for rows, length in ((images, regions), (captions, words)):
        lengths = torch.randint(1, length + 1, (rows,), generator=generator)
        lengths[0], lengths[-1] = length, 1  # one without padding, one with a single fragment
        mask = lengths_to_mask(lengths, length)
        if holes:
            mask = torch.stack([row[torch.randperm(length, generator=generator)] for row in mask])
        features = torch.randn(rows, length, size, dtype=torch.double, generator=generator)
        if garbage:
            features = features.masked_fill(~mask[..., None], torch.nan)
        sides.append(Fragments(features.requires_grad_(), mask))
    return sides


def gradients(scores, inputs, weights=None):
    """Of the sum of the scores, weighted; zeros where an input takes no part."""
    total = (scores if weights is None else scores * weights).sum()
    found = torch.autograd.grad(total, inputs, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


# -- what holds for every similarity -----------------------------------------------------------------------------------


def assert_padding_does_not_matter(similarity, close):
    """More padding, and NaN or infinity in it: the same scores, and a gradient of 0 there."""
    image, text = ragged_pair(holes=False, garbage=False)
    expected = similarity(image, text)
    noisy_image, noisy_text = _dirty(image, 2), _dirty(text, 3)
    noisy = similarity(noisy_image, noisy_text)
    torch.testing.assert_close(noisy, expected, **close)
    noisy.sum().backward()
    for fragments in (noisy_image, noisy_text):
        assert torch.isfinite(fragments.features.grad).all()
        assert (fragments.features.grad[~fragments.mask] == 0).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in similarity.parameters())
    with torch.no_grad():
        torch.testing.assert_close(similarity(noisy_image, noisy_text), noisy.detach(), **close)


def _dirty(fragments, extra):
    features = fragments.features.detach().masked_fill(~fragments.mask[..., None], torch.nan)
    features = torch.nn.functional.pad(features, (0, 0, 0, extra), value=torch.inf).requires_grad_()
    return Fragments(features, torch.nn.functional.pad(fragments.mask, (0, extra)))


def assert_order_does_not_matter(similarity, close):
    """Images and captions in another order: the scores follow; words in another order: the same scores."""
    image, text = ragged_pair(holes=False, garbage=False)
    scores = similarity(image, text)
    rows, columns = torch.randperm(len(image)), torch.randperm(len(text))
    torch.testing.assert_close(similarity(image[rows], text[columns]), scores[rows][:, columns], **close)
    places = torch.randperm(text.mask.shape[1])  # of the words; the order within a caption is nothing to a set
    shuffled = Fragments(text.features[:, places], text.mask[:, places])
    torch.testing.assert_close(similarity(image, shuffled), scores, **close)
