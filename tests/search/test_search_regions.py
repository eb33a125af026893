"""What a model read of the images, where an index keeps it."""

import numpy as np
import pytest
import torch
from helpers_photos import halves_model, write_photos
from helpers_search import SCENES, part, system

from itmatch.data import ImageTextSplit
from itmatch.formats.photos import read_photo
from itmatch.search import Index


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


def test_what_the_model_read_is_kept_and_gives_the_same_fragments(tmp_path, split):
    model = system("cmsei")
    built = Index.build(model, split, tmp_path / "index", keep_regions=True)
    for index in (built, Index.open(tmp_path / "index")):
        assert index.images.has_regions
        for row in (0, 29):
            item, found = split.image(row), index.images.regions(row)
            torch.testing.assert_close(found.features[0], item.features, atol=1e-3, rtol=1e-3)  # they were in float16
            torch.testing.assert_close(found.boxes[0], item.boxes)
            assert torch.equal(found.labels[0], item.labels)
            triples = torch.stack((found.graph.edge_index[0], found.graph.predicate, found.graph.edge_index[1]), 1)
            assert torch.equal(triples, item.relations)
            torch.testing.assert_close(found.graph.confidence, item.relation_scores)
            again, stored = model.encode_images(found).features, index.images.fragments([row])[:].features
            torch.testing.assert_close(again, stored.float(), atol=2e-2, rtol=2e-2)


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path, split):
    index = Index.build(system(), part(split, 0, 3), tmp_path / "index")
    assert not index.images.has_regions
    assert index.images.regions(0) is None
    index.add(part(split, 3, 5))
    assert index.images.regions(4) is None


def test_what_is_added_is_kept_as_well_and_rows_stay_with_their_regions(tmp_path, split):
    index = Index.build(system(), part(split, 0, 4), tmp_path / "index", keep_regions=True)
    index.add(part(split, 4, 9))
    index.delete([index.images.ids[1], index.images.ids[5]])
    for _ in range(2):
        assert [len(index.images.regions(row).features[0]) for row in range(7)] == [
            len(split.image(split.image_ids.index(name)).features) for name in index.images.ids
        ]
        found = index.images.regions(4)
        expected = split.image(split.image_ids.index(index.images.ids[4])).features
        torch.testing.assert_close(found.features[0], expected, atol=1e-3, rtol=1e-3)
        assert (found.boxes, found.labels, found.graph) == (None, None, None)  # which these rows lack
        index.compact()


def test_regions_of_photos_are_kept(tmp_path):
    write_photos(tmp_path)
    model = halves_model()
    photos = [tmp_path / f"{colour}.jpg" for colour in ("red", "blue")]
    index = Index.build(model, photos, tmp_path / "index", keep_regions=True)
    found, expected = index.images.regions(1), model.extractor([read_photo(photos[1], "blue")])
    torch.testing.assert_close(found.features, expected.features, atol=1e-3, rtol=0)
    assert found.labels.tolist() == [[0, 1]]


def test_features_that_float16_cannot_hold_are_told_of(tmp_path):
    features = np.ones((2, 3, 64), np.float32)
    features[1, 0, 0] = 1e6
    split = ImageTextSplit(features, ["a dog", "a cat"], np.arange(2))
    with pytest.raises(ValueError, match=r"image '1': what is read of it holds a number that is 1e\+06, which float16"):
        Index.build(system(), split, tmp_path / "index", keep_regions=True)
    assert len(Index.build(system(), split, tmp_path / "index").images) == 2
