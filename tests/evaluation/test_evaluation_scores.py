"""Ranks and scores of pairs from fragments, against the whole matrix."""

import pytest
import torch

from itmatch.batch import Fragments
from itmatch.evaluation import FragmentScores, rank_fragments, retrieval_ranks
from itmatch.models import MatchingModel
from itmatch.nn import (
    Block,
    CosineSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    LogSumExpPooling,
    RegionEncoder,
    SoftAligningSimilarity,
)
from itmatch.ops import lengths_to_mask

SIMILARITIES = {
    "cosine": CosineSimilarity(),
    "hard": HardAligningSimilarity("both", LogSumExpPooling(0.1)),
    "soft": SoftAligningSimilarity(0.1),
}


def fragments(rows, length, seed):
    torch.manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows,))
    features = torch.randn(rows, length, 5, dtype=torch.double)  # so that no two roundings change a rank
    return Fragments(features, lengths_to_mask(lengths, length))


def owners(images, captions, order):
    torch.manual_seed(3)
    return {
        "sorted": torch.arange(captions) * images // captions,
        "reversed": (torch.arange(captions) * images // captions).flip(0),
        "random": torch.randint(0, images, (captions,)),
    }[order]


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("order", ["sorted", "reversed", "random"])
@pytest.mark.parametrize(("images", "captions"), [(7, 23), (23, 7), (9, 9)])
@pytest.mark.parametrize(("chunk_size", "caption_chunk_size"), [(1, 1), (3, 4), (256, 1024)])
def test_ranks_are_those_of_the_whole_matrix(name, order, images, captions, chunk_size, caption_chunk_size):
    similarity, index = SIMILARITIES[name], owners(images, captions, order)
    image, text = fragments(images, 4, 0), fragments(captions, 6, 1)
    model = MatchingModel(RegionEncoder(3, 5), GRUTextEncoder(4, 5), similarity)
    expected = retrieval_ranks(model.score(image, text), index)
    found = rank_fragments(similarity, image, text, index, chunk_size=chunk_size, caption_chunk_size=caption_chunk_size)
    assert torch.equal(found.image_to_text, expected.image_to_text)
    assert torch.equal(found.text_to_image, expected.text_to_image)
    assert expected.text_to_image.unique().numel() > 2  # ranks that could be confused


class Recording(Block):
    """Notes the shapes it is asked for, and whether a gradient is wanted."""

    def __init__(self):
        super().__init__()
        self.shapes, self.gradient = [], []
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, text):
        self.shapes.append((len(image), len(text)))
        self.gradient.append(torch.is_grad_enabled())
        return self.weight * CosineSimilarity()(image, text)


def test_blocks_bound_what_is_scored():
    similarity = Recording()
    rank_fragments(
        similarity, fragments(7, 4, 0), fragments(9, 6, 1), owners(7, 9, "random"), chunk_size=3, caption_chunk_size=4
    )
    assert max(rows for rows, _ in similarity.shapes) == 3
    assert max(columns for _, columns in similarity.shapes) == 4
    assert not any(similarity.gradient)


def test_equal_scores_rank_last():
    same = Fragments(torch.ones(3, 2, 4), torch.ones(3, 2, dtype=torch.bool))
    ranks = rank_fragments(CosineSimilarity(), same, same, torch.arange(3))
    assert ranks.image_to_text.tolist() == [2, 2, 2]
    assert ranks.text_to_image.tolist() == [2, 2, 2]


def test_a_score_that_is_nan_is_refused():
    image, text = fragments(4, 3, 0), fragments(4, 3, 1)

    class Broken(Block):
        def forward(self, image, text):
            return CosineSimilarity()(image, text).masked_fill(torch.eye(len(image), len(text)).bool(), float("nan"))

    with pytest.raises(ValueError, match="nan"):
        rank_fragments(Broken(), image, text, torch.arange(4))


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("block", [1, 3, 100])
def test_pair_scores_are_entries_of_the_matrix(name, block):
    similarity, image, text = SIMILARITIES[name], fragments(5, 4, 0), fragments(8, 6, 1)
    images, captions = torch.tensor([4, 0, 0, 2, 3, 4, 1]), torch.tensor([7, 0, 1, 1, 6, 7, 3])
    expected = similarity(image, text)[images, captions]
    found = FragmentScores([(similarity, image, text)]).pairs(images, captions, chunk_size=block)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert expected.unique().numel() == 6  # one pair stands there twice


def test_pair_scores_in_blocks_without_gradient():
    similarity = Recording()
    pairs = torch.arange(5)
    scores = FragmentScores([(similarity, fragments(5, 4, 0), fragments(5, 6, 1))]).pairs(pairs, pairs, chunk_size=2)
    assert similarity.shapes == [(2, 2), (2, 2), (1, 1)]
    assert not scores.requires_grad


def test_no_pairs():
    none = torch.zeros(0, dtype=torch.int64)
    scores = FragmentScores([(CosineSimilarity(), fragments(2, 3, 0), fragments(2, 3, 1))])
    assert scores.pairs(none, none).shape == (0,)
