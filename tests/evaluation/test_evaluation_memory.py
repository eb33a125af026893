"""Blocks that fit into the memory that was granted."""

import pytest
import torch

from itmatch.batch import Fragments
from itmatch.evaluation import Evaluator, FragmentScores, retrieval_metrics, retrieval_ranks
from itmatch.evaluation.memory import _Memory, _peak_bytes, byte_count, fitting_block, held_scores
from itmatch.nn import Similarity
from itmatch.ops import lengths_to_mask, masked_mean

IMAGES, CAPTIONS = 24, 60


class AllAtOnce(Similarity):
    """As docs/extending.md writes one: it holds every region with every word."""

    def forward(self, image, text):
        self.check(image, text)
        scores = torch.einsum("ird,twd->itwr", image.features, text.features)
        scores = scores.masked_fill(~image.mask[:, None, None], -torch.inf)
        return masked_mean(scores.amax(-1), text.mask[None], -1)


def fragments(rows, length, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    return Fragments(torch.randn(rows, length, 32, generator=generator), lengths_to_mask(lengths, length))


@pytest.fixture
def scores():
    return FragmentScores([(AllAtOnce(), fragments(IMAGES, 12, 0), fragments(CAPTIONS, 10, 1))])


@pytest.mark.parametrize(("memory", "whole"), [("4MiB", True), ("200KiB", False), ("40KiB", False), (1, False)])
def test_a_block_stays_within_the_memory_and_uses_it(scores, memory, whole):
    memory = byte_count("memory", memory)
    block = fitting_block(scores, memory)
    assert (block == (IMAGES, CAPTIONS)) == whole
    if memory == 1:
        assert block == (1, 1)  # there is no smaller one
        return
    rows = [torch.arange(size).split(most) for size, most in zip((IMAGES, CAPTIONS), block, strict=True)]
    needed = max(_peak_bytes(scores, images, captions) for images in rows[0] for captions in rows[1])
    assert needed <= memory
    assert whole or needed > memory / 16


def test_an_evaluation_stays_within_the_memory():
    image, text = fragments(IMAGES, 12, 0), fragments(CAPTIONS, 10, 1)
    owner = torch.arange(CAPTIONS) % IMAGES
    figures = []
    for memory in ("1GiB", "64KiB"):
        evaluator = Evaluator(AllAtOnce(), memory=memory)
        evaluator.add_images(image, torch.arange(IMAGES))
        evaluator.add_captions(text, torch.arange(CAPTIONS), owner)
        with _Memory() as used:
            figures.append(evaluator.compute())
        peak = used.peak
    assert figures[0] == pytest.approx(figures[1])
    assert figures[0] == pytest.approx(retrieval_metrics(retrieval_ranks(AllAtOnce()(image, text), owner)))
    kept = (IMAGES * 12 + CAPTIONS * 10) * 32 * 4  # the fragments, joined
    assert peak < 2 * kept + (64 << 10) + (32 << 10)  # beside the ranks and the scores of right answers


def test_memory_is_counted_while_somebody_holds_it():
    with _Memory() as memory:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second * 2
        third.view(10, 100).add_(1)
    assert memory.peak == memory.now == 8000
    del second, third
    assert memory.now == 0


def test_all_scores_are_held_where_they_fit(scores):
    options = {"chunk_size": 7, "caption_chunk_size": 16}
    held = held_scores(scores, IMAGES * CAPTIONS * 4, **options)
    whole = AllAtOnce()(fragments(IMAGES, 12, 0), fragments(CAPTIONS, 10, 1))
    torch.testing.assert_close(held, whole)
    assert held_scores(scores, IMAGES * CAPTIONS * 4 - 1, **options) is None


@pytest.mark.parametrize("size", ["", "0", "-1GiB", "much", "1 PB", "nan", 1.5, True, None, 10**400])
def test_no_size_of_memory(size):
    with pytest.raises(ValueError, match="expected a size of memory such as 1GiB"):
        byte_count("memory", size)
