import numpy as np
import pytest
import torch

from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import ImageTextSplit, Vocabulary, WordTokenizer
from itmatch.data.choices.rows import Choice
from itmatch.models import MatchingModel
from itmatch.models.choosing import measure_choices
from itmatch.nn import CosineSimilarity, ImageEncoder, TextEncoder

WORDS = ["red", "blue", "green", "dark"]


class Colour(ImageEncoder):
    """An image is its feature."""

    embed_dim = 4

    def forward(self, regions: Regions) -> Fragments:
        return Fragments(regions.features, regions.mask, regions.features[:, 0])


class Names(TextEncoder):
    """A caption is the sum of its words' axes, its first word twice."""

    embed_dim = 4

    def __init__(self, ids: list[int]):
        super().__init__()
        self.ids = torch.tensor(ids)

    def forward(self, captions: Captions) -> Fragments:
        axes = (captions.input_ids[..., None] == self.ids).float()  # (T, W, 4)
        return Fragments(axes, captions.mask, axes.sum(1) + axes[:, 1])  # word 0 is <start>


@pytest.fixture
def model():
    tokenizer = WordTokenizer(Vocabulary.build([WORDS], min_count=1))
    names = Names([tokenizer.vocabulary[word] for word in WORDS])
    return MatchingModel(Colour(), names, CosineSimilarity(), tokenizer)


@pytest.fixture
def split():
    features = np.eye(4, dtype=np.float32)[:3, None] + 0.1
    return ImageTextSplit(features, image_ids=[f"photos/{word}.jpg" for word in WORDS[:3]])


def by_name(figures):
    return {(one.kind, one.name): one for one in figures}


def test_accuracy_by_kind_and_the_control(model, split):
    asked = [
        Choice("photos/red.jpg", ("red dark",), ("blue dark",), "colour"),
        Choice("blue.jpg", ("blue dark",), ("red dark",), "colour"),
        Choice("green", ("dark green",), ("green dark",), "order"),  # green first is nearer: wrong
        Choice("green", ("green red", "green blue"), ("red blue",), "two"),
    ]
    found = by_name(measure_choices(model, split, asked, batch_size=2))
    assert found["colour", "accuracy"].value == 100
    assert found["order", "accuracy"].value == 0
    assert found["two", "accuracy"].value == 100
    assert found["all", "accuracy"].count == 4
    assert found["all", "accuracy"].value == 75
    assert found["colour", "accuracy"].blind is not None
    assert found["colour", "accuracy"].blind < 100  # another image does not know


def test_the_control_asks_about_another_image(model, split):
    """With all images asked the same way, each control is of an image that is not its own."""
    colours = ("red", "blue", "green")
    asked = [
        Choice(one, (f"{one} dark",), tuple(f"{other} dark" for other in colours if other != one), "a")
        for one in colours
    ]
    for seed in range(5):
        one = by_name(measure_choices(model, split, asked, seed=seed))["a", "accuracy"]
        assert (one.value, one.blind) == (100, 0)


def test_groups_and_single_captions(model, split):
    asked = [
        Choice("red", ("red",), ("blue",), "g", "1"),
        Choice("blue", ("blue",), ("red",), "g", "1"),
        Choice("red", ("red",), (), "s"),
        Choice("green", ("green",), (), "s"),
        Choice("blue", (), ("red",), "s"),
    ]
    found = by_name(measure_choices(model, split, asked))
    assert {name: found["g", name].value for name in ("text", "image", "group")} == dict.fromkeys(
        ("text", "image", "group"), 100
    )
    assert found["s", "auc"].value == 100
    assert found["s", "auc"].count == 2
    assert ("s", "accuracy") not in found


def test_one_image_has_no_control(model, split):
    (one,) = measure_choices(model, split, [Choice("red", ("red",), ("blue",), "a")])
    assert one.blind is None


def test_unknown_images_and_no_questions(model, split):
    with pytest.raises(ValueError, match=r"1 of the 2 images of the questions are not in it, such as 'pink'"):
        measure_choices(model, split, [Choice("red", ("red",), ("blue",)), Choice("pink", ("red",), ("blue",))])
    with pytest.raises(ValueError, match="choices: none"):
        measure_choices(model, split, [])
    model.tokenizer = None
    with pytest.raises(ValueError, match="tokenizer"):
        measure_choices(model, split, [Choice("red", ("red",), ("blue",))])


class Subjects(Names):
    """A caption is what its relations have as subjects."""

    def forward(self, captions: Captions) -> Fragments:
        plain = super().forward(captions)
        found = torch.zeros_like(plain.pooled)
        if captions.graph is not None:
            subject = plain.features[captions.graph.row, captions.graph.edge_index[0]]
            found.index_add_(0, captions.graph.row, subject)
        return Fragments(plain.features, plain.mask, found)


def test_relations_of_questions_reach_the_model(model, split):
    tokenizer = model.tokenizer
    ids = [tokenizer.vocabulary[word] for word in WORDS]
    model = MatchingModel(Colour(), Subjects(ids), CosineSimilarity(), tokenizer)
    texts = ("red dark",), ("dark blue",)
    right, wrong = ((0, 3), (-1, -1), (4, 8)), ((5, 9), (-1, -1), (0, 4))
    known = [Choice("red", *texts, "colour", relations=((right,), (wrong,)))]
    assert measure_choices(model, split, known)[0].value == 100
    silent = [Choice("red", *texts, "colour")]
    assert measure_choices(model, split, silent)[0].value == 0  # nothing on either side: a tie is wrong
