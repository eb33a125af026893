import numpy as np
import pytest
import torch

from itmatch.data import FeatureStore, ImageTextSplit


def parts(**changes):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((3, 4, 2, 2), dtype=np.float32), axis=2).reshape(3, 4, 4)
    given = {
        "features": rng.standard_normal((3, 4, 5)).astype(np.float16),
        "captions": ["a", "b", "c", "d"],
        "caption_image": np.array([0, 0, 1, 2]),
        "image_ids": ["x", "y", "z"],
        "lengths": np.array([4, 2, 3]),
        "boxes": boxes,
        "labels": np.array([[0, 1, 2, -1]] * 3, np.int16),
        "relations": np.array([[[0, 7, 1], [-1, -1, -1], [1, 8, 0]]] * 3, np.int16),
        "relation_scores": np.array([[0.5, np.nan, 0.25]] * 3, np.float16),
        "name": "toy",
    }
    return {**given, **changes}


def test_items_carry_what_was_given():
    given = parts()
    dataset = ImageTextSplit(**given)
    item = dataset.image(1)
    assert (dataset.num_images, dataset.num_captions, dataset.feature_dim) == (3, 4, 5)
    assert item.index == 1
    assert item.features.dtype == torch.float16  # as they are stored
    assert torch.equal(item.features, torch.from_numpy(given["features"][1, :2]).float())
    assert torch.equal(item.boxes, torch.from_numpy(given["boxes"][1, :2]))
    assert item.labels.tolist() == [0, 1]
    assert item.labels.dtype == torch.int64
    assert item.relations.tolist() == [[0, 7, 1], [1, 8, 0]]
    assert item.relation_scores.tolist() == [0.5, 0.25]
    assert dataset.caption(3).text == "d"
    assert dataset.caption(3).image == 2
    assert dataset.caption_image.dtype == np.int64


def test_relations_of_captions():
    captions = ["a dog", "b", "two cats sleep", "d"]
    relations = [[[(0, 1), (-1, -1), (2, 5)]], [], np.array([[[4, 8], [9, 14], [0, 3]]] * 2), np.empty((0, 3, 2))]
    dataset = ImageTextSplit(**parts(captions=captions, caption_relations=relations))
    assert [len(dataset.caption(i).relations) for i in range(4)] == [1, 0, 2, 0]
    assert dataset.caption(2).relations.tolist() == relations[2].tolist()
    assert dataset.caption(1).relations.shape == (0, 3, 2)
    assert dataset.caption(0).relations.dtype == torch.int64
    dataset.caption(0).relations.zero_()
    assert dataset.caption(0).relations.tolist() == [[[0, 1], [-1, -1], [2, 5]]]
    assert ImageTextSplit(**parts()).caption(0).relations is None


def relation(*spans):
    return {"captions": ["abc", "b", "two", "d"], "caption_relations": [[], [], [spans], []]}


def test_default_ids_and_absent_columns():
    dataset = ImageTextSplit(np.ones((2, 1, 3), np.float32), ["a", "b"], np.array([0, 1]))
    assert dataset.image_ids == ["0", "1"]
    item = dataset.image(0)
    assert item.boxes is item.labels is item.relations is item.relation_scores is None
    assert dataset.caption_twin is None


def test_items_are_copies():
    features = np.ones((2, 1, 3), np.float32)
    ImageTextSplit(features, ["a", "b"], np.array([0, 1])).image(0).features.zero_()
    assert features.all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_features_raise_when_read(dtype, value):
    features = np.ones((3, 4, 5), dtype)
    features[1, 1, 2] = value
    dataset = ImageTextSplit(**parts(features=features))
    dataset.image(0)
    with pytest.raises(ValueError, match="toy: image 'y' region 1: NaN or inf"):
        dataset.image(1)


def test_nonfinite_padding_and_large_sums_are_no_problem():
    features = np.full((3, 4, 5), 3e38, np.float32)  # the sum overflows, no term does
    features[1, 3] = np.nan  # beyond the length of image 1
    assert torch.isfinite(ImageTextSplit(**parts(features=features)).image(1).features).all()


def test_boxes_a_hair_outside_are_clipped():
    boxes = parts()["boxes"]
    boxes[0, 0] = [-0.005, 0, 1.005, 1]
    assert ImageTextSplit(**parts(boxes=boxes)).image(0).boxes[0].tolist() == [0, 0, 1, 1]


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


GIVEN = parts()
WRONG = {
    r"toy: caption_relations: relations of 3 captions, expected 4": {"caption_relations": [[], [], []]},
    r"toy: caption_relations: caption 2, relation 0: subject at characters \[1, 4\], expected 0 <= start < end <= 3 in "
    r"'two'$": relation((1, 4), (-1, -1), (0, 1)),
    r"caption 2, relation 0: object at characters \[1, 1\]": relation((0, 1), (-1, -1), (1, 1)),
    r"caption 2, relation 0: object at characters \[-1, -1\]": relation((0, 1), (-1, -1), (-1, -1)),
    r"caption 2, relation 0: predicate at characters \[-1, 2\], .* \(or -1, -1\)": relation((0, 1), (-1, 2), (1, 2)),
    r"caption_relations: caption 1: int64 of shape \(3, 2\), expected integers of shape \(relations, 3, 2\)": {
        "caption_relations": [[], [[0, 1]] * 3, [], []]
    },
    r"caption_relations: caption 3: float64": {"caption_relations": [[], [], [], np.zeros((1, 3, 2))]},
    r"toy: features: int64": {"features": np.zeros((3, 4, 5), np.int64)},
    r"toy: features: .* expected .* \(images, regions, size\)": {"features": np.zeros(3, np.float32)},
    r"toy: captions\[2\]: empty caption$": {"captions": ["a", "b", " \t", "d"]},
    r"toy: captions\[1\]: empty caption \(2 such in all\)": {"captions": ["a", "", " ", "d"]},
    r"caption_image: caption 2 names image 3, expected -1\.\.2": {"caption_image": np.array([0, 0, 3, 2])},
    r"caption_image: caption 1 names image -2, expected -1\.\.2": {"caption_image": np.array([0, -2, 1, 2])},
    r"caption_image: int64 of shape \(3,\)": {"caption_image": np.array([0, 1, 2])},
    r"caption_image: float64": {"caption_image": np.array([0.0, 0, 1, 2])},
    r"image_ids: 2 ids for 3 images": {"image_ids": ["x", "y"]},
    r"image_ids\[2\]: image id 'x' is already at index 0": {"image_ids": ["x", "y", "x"]},
    r"image_ids\[1\]: empty image id": {"image_ids": ["x", "", "z"]},
    r"lengths: image 1 has 5 regions, expected 0\.\.4": {"lengths": np.array([4, 5, 3])},
    r"lengths: image 2 has -1 regions": {"lengths": np.array([4, 2, -1])},
    r"lengths: float64": {"lengths": np.array([4.0, 2, 3])},
    r"boxes: float32 of shape \(3, 4, 2\), expected floats of shape \(3, 4, 4\)": {"boxes": GIVEN["boxes"][..., :2]},
    r"boxes: image 2 region 1 has box": {"boxes": changed(GIVEN["boxes"], (2, 1), [0.5, 0, 0.2, 1])},
    r"boxes: image 0 region 3 has box": {"boxes": changed(GIVEN["boxes"], (0, 3), [0, 0, 1.5, 1])},
    r"boxes: image 0 region 0 has box \[nan": {"boxes": changed(GIVEN["boxes"], (0, 0, 0), np.nan)},
    r"labels: int16 of shape \(3, 3\), expected integers": {"labels": GIVEN["labels"][:, :3]},
    r"labels: image 0 region 2 has label -2": {"labels": changed(GIVEN["labels"], (0, 2), -2)},
    r"relations: int16 of shape \(3, 3, 2\)": {"relations": GIVEN["relations"][..., :2]},
    r"relations: image 1 relation 0 is \[2, 7, 1\], expected regions of 0\.\.1": {
        "relations": changed(GIVEN["relations"], (1, 0, 0), 2)
    },
    r"relations: image 0 relation 2 is \[1, -2, 0\]": {"relations": changed(GIVEN["relations"], (0, 2, 1), -2)},
    r"relation_scores: image 0 relation 2 has score 1.5, expected 0\.\.1": {
        "relation_scores": changed(GIVEN["relation_scores"], (0, 2), 1.5)
    },
    r"relation_scores: image 1 relation 0 has score nan": {
        "relation_scores": changed(GIVEN["relation_scores"], (1, 0), np.nan)
    },
    r"relation_scores: float16 of shape \(3, 2\)": {"relation_scores": GIVEN["relation_scores"][:, :2]},
    r"relation scores without relations": {"relations": None},
    r"image_ids\[0\]: 7 of type int, expected the image id as a string": {"image_ids": [7, 8, 9]},
    r"captions\[1\]: None of type NoneType, expected the caption as a string": {"captions": ["a", None, "b", "c"]},
    r"caption_twin: caption 0 names image 3": {"caption_twin": np.array([3, -1, 0, 0])},
    r"caption_twin_kind: 1 for 4": {"caption_twin_kind": ["spatial"]},
    r"no images and 0 captions, expected images": {
        **dict.fromkeys(("image_ids", "lengths", "boxes", "labels", "relations", "relation_scores")),
        "features": np.zeros((0, 4, 5), np.float32),
        "captions": [],
        "caption_image": np.zeros(0, int),
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_disagreement_is_named_in_one_line(message):
    with pytest.raises(ValueError, match=message) as caught:
        ImageTextSplit(**parts(**WRONG[message]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("toy")


def test_twins():
    dataset = ImageTextSplit(
        **parts(caption_twin=np.array([1, -1, 0, 0]), caption_twin_kind=["spatial", "", "", "semantic"])
    )
    assert dataset.caption_twin.tolist() == [1, -1, 0, 0]
    assert dataset.caption_twin_kind[3] == "semantic"


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range(index):
    dataset = ImageTextSplit(**parts())
    with pytest.raises(IndexError, match="toy: image"):
        dataset.image(index)
    with pytest.raises(IndexError, match="toy: caption"):
        dataset.caption(index)


def test_features_of_a_store_that_float32_cannot_hold():
    class Store(FeatureStore):
        feature_dim, num_regions = 5, 4

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.full((4, 5), [[1.0], [1.0], [1e39], [1.0]])

    dataset = ImageTextSplit(Store(), ["a"] * 3, np.arange(3), name="toy")
    with pytest.raises(ValueError, match="toy: image '1' region 2: float64 too large for float32 in the features"):
        dataset.image(1)


def test_columns_may_be_lists():
    listed = {name: GIVEN[name].tolist() for name in ("lengths", "labels", "relations")}
    again = ImageTextSplit(**parts(**listed)).image(1)
    item = ImageTextSplit(**parts()).image(1)
    assert again.labels.tolist() == item.labels.tolist()
    assert again.relations.tolist() == item.relations.tolist()


@pytest.mark.parametrize("column", ["captions", "image_ids", "pictures"])
def test_one_string_is_not_read_letter_by_letter(column):
    with pytest.raises(TypeError, match=rf"{column}: one string, 'ab', expected a list of strings"):
        ImageTextSplit(np.ones((2, 3, 4), np.float32), **{column: "ab"})
