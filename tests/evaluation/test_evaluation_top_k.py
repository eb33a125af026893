"""The first places of rankings, against a sort of the whole matrix."""

import numpy as np
import pytest
import torch

from itmatch.batch import Fragments
from itmatch.evaluation import FragmentScores, retrieval_ranks, top_k
from itmatch.nn import HardAligningSimilarity
from itmatch.ops import lengths_to_mask

BLOCKS = [(1, 1), (3, 4), (256, 1024)]


def tied(images=9, captions=23, seed=0):
    """Scores of a few values, so that most of them are ties."""
    return torch.randint(0, 4, (images, captions), generator=torch.Generator().manual_seed(seed)).float()


def sorted_by_hand(row, right):
    """Candidates of one query: by score, wrong ones first, by index."""
    return sorted(range(len(row)), key=lambda c: (-row[c], right[c], c))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("chunk_size", "caption_chunk_size"), BLOCKS)
@pytest.mark.parametrize("k", [1, 5, 40])
def test_it_is_the_beginning_of_a_sort(k, chunk_size, caption_chunk_size, known):
    scores = tied()
    owner = torch.randint(-1, 9, (23,), generator=torch.Generator().manual_seed(1))
    options = {"caption_image": owner} if known else {}
    found = top_k(scores, k, chunk_size=chunk_size, caption_chunk_size=caption_chunk_size, **options)
    right = (owner == torch.arange(9)[:, None]) & known
    for side, matrix, hits in zip(found, (scores, scores.T), (right, right.T), strict=True):
        expected = [sorted_by_hand(*rows)[:k] for rows in zip(matrix.tolist(), hits.tolist(), strict=True)]
        assert side.indices.tolist() == expected
        assert torch.equal(side.scores, matrix.gather(1, side.indices))


def test_the_first_right_answer_stands_at_its_rank():
    scores, owner = tied(), torch.arange(23) % 8  # the last image has no captions
    ranks = retrieval_ranks(scores, owner)
    captions, images = top_k(scores, 23, caption_image=owner)
    hit = owner[captions.indices] == torch.arange(9)[:, None]
    assert torch.equal(hit[:8].int().argmax(1), ranks.image_to_text[:8])
    assert torch.equal((images.indices == owner[:, None]).int().argmax(1), ranks.text_to_image)


@pytest.mark.parametrize(("chunk_size", "caption_chunk_size"), BLOCKS)
def test_fragments_are_ranked_as_their_scores(chunk_size, caption_chunk_size):
    generator = torch.Generator().manual_seed(0)
    image, text = (
        Fragments(
            torch.randn(rows, 5, 6, dtype=torch.double, generator=generator),
            lengths_to_mask(torch.randint(1, 6, (rows,), generator=generator), 5),
        )
        for rows in (7, 11)
    )
    similarity = HardAligningSimilarity()
    fragments = FragmentScores([(similarity, image, text)])
    with torch.no_grad():
        expected = top_k(similarity(image, text), 4)
    found = top_k(fragments, 4, chunk_size=chunk_size, caption_chunk_size=caption_chunk_size)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.indices, other.indices)
        torch.testing.assert_close(one.scores, other.scores)


@pytest.mark.parametrize(
    ("scores", "options", "error"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), {}, "expected two dimensions of a floating dtype"),
        (torch.zeros(0, 3), {}, "nothing to rank"),
        (torch.tensor([[0.0, torch.nan]]), {}, "caption 1 is nan"),
        (np.zeros((2, 3)), {"caption_image": [0]}, "expected 3 integers"),
        (np.zeros((2, 3)), {"k": 0}, "k: 0"),
    ],
)
def test_what_cannot_be_ranked_is_told(scores, options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        top_k(scores, **options)
