"""Scenes as pictures: every object where its box is, escaped and the same every time."""

import pickle
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from itmatch.data import RelationScenes
from itmatch.data.relation_scenes.drawing import SIDE
from itmatch.data.relation_scenes.figures import PAINTS, figure
from itmatch.data.relation_scenes.grammar import CATEGORIES, COLOURS, parse_caption

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def split():
    return RelationScenes("hard", num_train=2, num_val=2, num_test=20).split("test")


def objects_of(drawing):
    """Names and corners of the figures of a drawing."""
    found = []
    for group in ElementTree.fromstring(drawing).findall(f"{SVG}g"):
        inner = group.find(f"{SVG}g")
        if inner is not None:
            place = inner.get("transform").removeprefix("translate(").partition(")")[0].split()
            found.append((group.find(f"{SVG}title").text, [int(number) for number in place]))
    return found


def test_every_image_has_a_drawing_of_its_objects_at_their_boxes(split):
    assert len(split.pictures) == split.num_images
    for image in range(split.num_images):
        found, item = objects_of(split.picture(image)), split.image(image)
        wanted = sorted((SIDE * item.boxes[:, :2]).round().int().tolist())
        np.testing.assert_allclose(sorted(place for _, place in found), wanted, atol=1)
        labels = sorted(split.names.label(int(label)) for label in item.labels)
        assert sorted(name.split()[-1] for name, _ in found) == labels


def test_what_captions_say_is_in_the_drawing(split):
    for caption in range(split.num_captions):
        drawing = ElementTree.fromstring(split.picture(int(split.caption_image[caption])))
        title = drawing.find(f"{SVG}title").text
        for statement in parse_caption(split.captions[caption]):
            assert f"{statement.subject.colour} {statement.subject.category}" in title
            if statement.predicate in RelationScenes.predicates:
                assert f"{statement.subject.category} {statement.predicate} " in title


def test_twins_differ_and_a_drawing_is_the_same_every_time(split):
    again = RelationScenes("hard", num_train=2, num_val=2, num_test=20).split("test")
    assert split.pictures[:6] == [again.picture(image) for image in range(6)]
    assert all(split.picture(image) != split.picture(image + 1) for image in range(0, 20, 2))
    assert split.pictures[-1] == split.picture(19)
    assert pickle.loads(pickle.dumps(split)).picture(3) == split.picture(3)
    with pytest.raises(IndexError):
        _ = split.pictures[20]


def test_categories_and_colours_look_different():
    assert len({figure(category, "red") for category in CATEGORIES}) == len(CATEGORIES)
    assert len({figure("dog", colour) for colour in COLOURS}) == len(COLOURS) == len(set(PAINTS.values()))
