import numpy as np
import pytest
import torch

from itmatch.batch import Fragments
from itmatch.data import ImageTextSplit, RatedPair, Vocabulary
from itmatch.errors import NonFiniteError
from itmatch.evaluation import measure_agreement
from itmatch.models import chan_gru
from itmatch.models.asking import encoded_rows
from itmatch.models.judging import judge_pairs
from itmatch.nn import Similarity

WORDS = ["red", "blue", "green", "dark"]
PAIRS = [
    RatedPair("0", "red", (4, 3)),
    RatedPair("photos/0.jpg", "blue dark", (1,)),
    RatedPair("1.jpg", "blue", (3, 2, 4)),
    RatedPair("2", "red", (1,)),
]


class Broken(Similarity):
    """Its scores are NaN."""

    def forward(self, image: Fragments, text: Fragments) -> torch.Tensor:
        return torch.full((len(image), len(text)), torch.nan)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return chan_gru(Vocabulary.build([WORDS], min_count=1), region_dim=8, embed_dim=8, word_dim=8)


@pytest.fixture
def split():
    features = np.random.default_rng(0).standard_normal((4, 3, 8)).astype(np.float32)
    return ImageTextSplit(features, image_ids=[f"photos/{number}.jpg" for number in range(4)])


def scores_of(model, split, pairs=((0, 0), (0, 1), (1, 2), (2, 0)), texts=("red", "blue dark", "blue")):
    """All images with all captions, of which the pairs are taken."""
    images = encoded_rows(model, split, range(4), 2)
    scores = model.score(images, model.encode_texts(list(texts)))
    return [float(scores[image, text]) for image, text in pairs]


def test_scores_are_those_of_the_pairs(model, split):
    found = judge_pairs(model, split, PAIRS, batch_size=2, seed=3)
    scores = scores_of(model, split)
    expected = measure_agreement(scores, [4, 3, 1, 3, 2, 4, 1], [0, 0, 1, 2, 2, 2, 3], [0, 0, 1, 2], seed=3)
    assert found == expected
    assert (found.ratings, found.pairs, found.images) == (7, 4, 3)


def test_a_mean_rating_a_pair(model, split):
    found = judge_pairs(model, split, PAIRS, average=True)
    expected = measure_agreement(scores_of(model, split), [3.5, 1, 3, 1], [0, 1, 2, 3], [0, 0, 1, 2])
    assert found == expected


def test_unknown_images_are_named_or_left_out(model, split):
    more = [*PAIRS, RatedPair("no.jpg", "red", (1,)), RatedPair("nor.jpg", "red", (2,))]
    with pytest.raises(ValueError, match=r"2 of the 6 images of the ratings are not in it, such as 'no\.jpg', 'nor"):
        judge_pairs(model, split, more)
    found, known = judge_pairs(model, split, more, skip_unknown=True), judge_pairs(model, split, PAIRS)
    assert (found.skipped, found.ratings, found.tau_b) == (2, known.ratings, known.tau_b)
    with pytest.raises(ValueError, match="none of the 2 rated pairs is of an image in it"):
        judge_pairs(model, split, more[-2:], skip_unknown=True)


def test_what_cannot_be_measured_is_refused(model, split):
    with pytest.raises(ValueError, match="pairs: none"):
        judge_pairs(model, split, [])
    with pytest.raises(ValueError, match="ratings: all are 3"):
        judge_pairs(model, split, [RatedPair("0", "red", (3,)), RatedPair("1", "red", (3,))])
    with pytest.raises(ValueError, match="image '0': no ratings"):
        judge_pairs(model, split, [RatedPair("0", "red", ())])
    model.similarity = Broken()
    with pytest.raises(NonFiniteError, match="4 scores are NaN"):
        judge_pairs(model, split, PAIRS)
    model.tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer"):
        judge_pairs(model, split, PAIRS)
