"""Numpy arrays and lists, as users of torchmetrics and numpy give them: the same figures as with tensors."""

import numpy as np
import pytest
import torch

from itmatch.evaluation import (
    Relevance,
    RetrievalMetrics,
    RetrievalRanks,
    RetrievedHits,
    paired_bootstrap,
    retrieval_metrics,
    retrieval_ranks,
    streamed_hits,
    streamed_ranks,
    twin_accuracy,
)
from itmatch.ops.arrays import as_tensor

SCORES = torch.randn(7, 21, generator=torch.Generator().manual_seed(0))
INDEX = torch.arange(21) // 3
RANKS = retrieval_ranks(SCORES, INDEX)


def equal(first, second):
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, second, strict=True))


ARRAYS = {
    "numpy": lambda x: x.numpy(),
    "lists": lambda x: x.tolist(),
    "read only": lambda x: np.broadcast_to(x.numpy(), x.shape),
    "reversed": lambda x: x.numpy()[::-1].copy()[::-1],
    "big-endian": lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder(">")),
    "columns first": lambda x: np.asfortranarray(x.numpy()),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.filterwarnings("error")
def test_ranks_and_recalls(kind):
    give = ARRAYS[kind]
    assert equal(retrieval_ranks(give(SCORES), give(INDEX)), RANKS)
    given = RetrievalRanks(*(give(part) for part in RANKS))
    assert retrieval_metrics(given) == retrieval_metrics(RANKS)
    metric = RetrievalMetrics()
    metric.update(given, give(torch.arange(7)), give(torch.arange(21)))
    assert metric.compute()["rsum"].item() == pytest.approx(retrieval_metrics(RANKS)["rsum"])
    other = RetrievalRanks(RANKS.image_to_text + 3, RANKS.text_to_image)
    assert paired_bootstrap(given, other, give(INDEX), samples=20) == paired_bootstrap(RANKS, other, INDEX, samples=20)
    scores = SCORES[0], SCORES[1]
    assert twin_accuracy(*map(give, scores), ["a"] * 21) == twin_accuracy(*scores, ["a"] * 21)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint64", "int16"])
def test_index_types_of_numpy(dtype):
    assert equal(retrieval_ranks(SCORES, INDEX.numpy().astype(dtype)), RANKS)


def test_blocks_that_are_arrays():
    def block(images, captions):
        return SCORES[images][:, captions].numpy()

    assert equal(streamed_ranks(block, INDEX.numpy(), 7, chunk_size=3, caption_chunk_size=4), RANKS)
    relevance = Relevance.own(INDEX)
    as_arrays = Relevance(relevance.image_to_text.numpy(), relevance.text_to_image.numpy())
    found = streamed_hits(block, np.arange(7), list(range(21)), as_arrays)
    expected = streamed_hits(lambda i, t: SCORES[i][:, t], torch.arange(7), torch.arange(21), relevance)
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))
    assert equal([Relevance.own(INDEX.numpy()).image_to_text], [relevance.image_to_text])
    hits = RetrievedHits(*(part.numpy() for part in expected[0]))
    assert [hits.recall(1), hits.r_precision(), hits.map_at_r()] == [
        expected[0].recall(1),
        expected[0].r_precision(),
        expected[0].map_at_r(),
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: retrieval_ranks(np.ones((2, 2), int), [0, 1]), TypeError, r"scores: \(2, 2\) torch.int64"),
        (
            lambda: retrieval_ranks([[1.0], [1.0, 2.0]], [0, 1]),
            ValueError,
            "scores: a list, expected .* rows of one length",
        ),
        (lambda: retrieval_ranks([["a"]], [0]), TypeError, "scores: a list of <U1"),
        (lambda: retrieval_ranks(None, [0]), TypeError, "scores: None, expected an array"),
        (lambda: retrieval_ranks(np.ones((1, 1), np.longdouble), [0]), TypeError, "scores: .*float128"),
        (lambda: retrieval_ranks(np.ones((1, 1), complex), [0]), TypeError, "scores: .*complex128"),
        (lambda: retrieval_ranks(SCORES.numpy(), INDEX.numpy() * 1.0), TypeError, "caption_image_index: .*float"),
        (lambda: retrieval_ranks(SCORES.numpy(), INDEX.numpy() + 7), ValueError, "caption 0 has image 7"),
        (lambda: retrieval_ranks(np.full((1, 1), np.nan), [0]), ValueError, "score of image 0 and caption 0 is nan"),
        (lambda: as_tensor("ranks", np.array([2**63], np.uint64)), ValueError, "ranks: 9223372036854775808"),
        (lambda: retrieval_metrics(RetrievalRanks([0.5], [0])), TypeError, r"i2t ranks: \(1,\) torch.float64"),
        (lambda: Relevance([0, 1], [[0, 1]]), ValueError, r"Relevance.image_to_text: \(2,\)"),
        (lambda: Relevance([[0, 1]], [[0.0, 1.0]]), ValueError, "Relevance.text_to_image: .*float64"),
        (lambda: RetrievalMetrics(ks=()), ValueError, "ks: "),
        (lambda: RetrievalMetrics(ks=(1, 2.5)), ValueError, "ks.*whole number"),
    ],
)
def test_what_is_no_array_of_numbers(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_recall_of_more_places_than_were_kept():
    """R@10 of rankings cut at five would be R@5, without a word."""
    found = streamed_hits(
        lambda i, t: SCORES[i][:, t], torch.arange(7), torch.arange(21), Relevance.own(INDEX), places=5
    )
    assert [hits.recall(5) for hits in found]
    for hits in found:
        for k in (0, -1, 6):
            with pytest.raises(ValueError, match=f"k: {k}, expected 1 to 5"):
                hits.recall(k)
    with pytest.raises(ValueError, match="no query to average over"):
        RetrievedHits(*(part[:0] for part in found[0])).recall(1)


def test_rankings_shorter_than_the_places_are_filled_up():
    found = streamed_hits(
        lambda i, t: SCORES[i][:, t], torch.arange(2), torch.arange(4), Relevance.own(torch.tensor([0, 0, 1, 1]))
    )
    assert [tuple(hits.hits.shape) for hits in found] == [(2, 10), (4, 10)]
    assert [hits.recall(10) for hits in found] == [100.0, 100.0]
