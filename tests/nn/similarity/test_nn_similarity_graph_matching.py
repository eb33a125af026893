"""GraphMatchingSimilarity: the two levels written out, empty sets of relations, and pictures."""

import pytest
import torch

from itmatch.batch import Fragments
from itmatch.nn import GraphMatchingSimilarity, HardAligningSimilarity, LogSumExpPooling, MaxPooling, MeanPooling

SIZE = 5
IMAGE, TEXT = [(4, 3), (2, 0), (3, 1)], [(3, 2), (5, 0), (1, 0), (4, 1)]  # objects, relations


def nodes(counts, seed, *, holes=True, dtype=torch.double):
    """Fragments with objects and relations mixed, and NaN in the padding."""
    generator = torch.Generator().manual_seed(seed)
    width = max(a + b for a, b in counts) + 2
    features = torch.randn(len(counts), width, SIZE, generator=generator, dtype=torch.double).to(dtype)
    mask, relation = (
        torch.zeros(len(counts), width, dtype=torch.bool),
        torch.zeros(len(counts), width, dtype=torch.bool),
    )
    for row, (objects, relations) in enumerate(counts):
        places = torch.randperm(width, generator=generator) if holes else torch.arange(width)
        mask[row, places[: objects + relations]] = True
        relation[row, places[objects : objects + relations]] = True
        relation[row, places[objects + relations :]] = bool(row % 2)  # says nothing
    features[~mask] = float("nan")
    return Fragments.unchecked(features, mask, None, relation)


def level(fragments, row, *, relation):
    chosen = fragments.mask[row] & (fragments.is_relation[row] == relation)
    return fragments.features[row, chosen]


def written_out(image, text, query, weight, pool=torch.mean):
    scores = torch.zeros(len(image), len(text), dtype=torch.double)
    for i in range(len(image)):
        for t in range(len(text)):
            for relation, factor in ((False, 1.0), (True, weight)):
                products = level(image, i, relation=relation) @ level(text, t, relation=relation).T
                if not products.numel():
                    continue
                parts = []
                if query in ("words", "both"):
                    parts.append(pool(products.amax(0)))
                if query in ("regions", "both"):
                    parts.append(pool(products.amax(1)))
                scores[i, t] += factor * sum(parts) / len(parts)
    return scores


@pytest.mark.parametrize("query", ["words", "regions", "both"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("chunk_size", [None, 1, 2])
def test_written_out(query, weight, chunk_size):
    image, text = nodes(IMAGE, 0), nodes(TEXT, 1)
    similarity = GraphMatchingSimilarity(query, relation_weight=weight, chunk_size=chunk_size)
    torch.testing.assert_close(similarity(image, text), written_out(image, text, query, weight))


def test_gradients():
    image, text = nodes(IMAGE, 0), nodes(TEXT, 1)
    leaves = [side.features.requires_grad_() for side in (image, text)]
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    found = torch.autograd.grad((GraphMatchingSimilarity()(image, text) * weights).sum(), leaves)
    expected = torch.autograd.grad((written_out(image, text, "words", 1.0) * weights).sum(), leaves)
    for side, one, other in zip((image, text), found, expected, strict=True):
        torch.testing.assert_close(one[side.mask], other[side.mask])
        assert bool((one[~side.mask] == 0).all())


def test_poolings_of_the_two_levels():
    image, text = nodes(IMAGE, 0), nodes(TEXT, 1)
    found = GraphMatchingSimilarity(pooling=MaxPooling(), relation_pooling=MaxPooling())(image, text)
    torch.testing.assert_close(found, written_out(image, text, "words", 1.0, pool=torch.amax))
    mixed = GraphMatchingSimilarity(pooling=LogSumExpPooling())
    assert isinstance(mixed.edges.pooling, MeanPooling)


@pytest.mark.parametrize("side", ["image", "text", "both"])
def test_without_relations(side):
    image, text = nodes(IMAGE, 0), nodes(TEXT, 1)
    expected = HardAligningSimilarity(pooling=MeanPooling())(image.objects(), text.objects())
    if side != "text":
        image = image.objects()
    if side != "image":
        text = text.objects()
    assert torch.equal(GraphMatchingSimilarity()(image, text), expected)
    assert torch.equal(GraphMatchingSimilarity(relation_weight=0.0)(nodes(IMAGE, 0), nodes(TEXT, 1)), expected)


def test_no_row_has_a_relation():
    image, text = nodes([(2, 0), (3, 0)], 0), nodes(TEXT, 1)
    torch.testing.assert_close(GraphMatchingSimilarity()(image, text), written_out(image, text, "words", 1.0))
    assert GraphMatchingSimilarity().align(image[:1], text[:1]).shape == (image.mask.shape[1], text.mask.shape[1])


def test_picture():
    image, text = nodes(IMAGE, 0), nodes(TEXT, 1)
    similarity = GraphMatchingSimilarity(relation_weight=0.5)
    shown = similarity.align(image[:1], text[:1])
    scores = image.features[0] @ text.features[0].T
    expected = torch.zeros_like(scores)
    for word in range(expected.shape[1]):
        if bool(text.mask[0, word]):
            same = image.mask[0] & (image.is_relation[0] == text.is_relation[0, word])
            best = scores[:, word].masked_fill(~same, -torch.inf).argmax()
            expected[best, word] = scores[best, word] * (0.5 if bool(text.is_relation[0, word]) else 1.0)
    torch.testing.assert_close(shown, expected)
    bare = similarity.align(image[1:2], text[:1])  # an image without relations
    relations_of_text = text.mask[0] & text.is_relation[0]
    assert bool((bare[:, relations_of_text] == 0).all())
    assert int((bare != 0).sum()) == TEXT[0][0]
    assert torch.equal(
        similarity.align(image.objects()[:1], text.objects()[:1]) != 0, (shown != 0) & ~relations_of_text
    )


def test_half_precision():
    image, text = nodes(IMAGE, 0, holes=False, dtype=torch.bfloat16), nodes(TEXT, 1, holes=False, dtype=torch.bfloat16)
    found = GraphMatchingSimilarity()(image, text)
    assert found.dtype == torch.float32
    wide = [Fragments.unchecked(s.features.double(), s.mask, None, s.is_relation) for s in (image, text)]
    torch.testing.assert_close(found.double(), written_out(*wide, "words", 1.0), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match="relation_weight"):
        GraphMatchingSimilarity(relation_weight=weight)
