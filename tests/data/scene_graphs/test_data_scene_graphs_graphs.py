import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers_cli import error_of, run
from helpers_files import files_in, small_files

from itmatch.data import PrecompFolder, SceneGraphs, read_scene_graph_benchmark, read_visual_genome, save_array

# -------------------------------------------------------------------------------------------- Scene-Graph-Benchmark

INFO = {
    "idx_to_files": ["photos/a.jpg", "photos/b_000007.jpg", "photos/c.jpg"],
    "ind_to_classes": ["__background__", "ball", "dog"],
    "ind_to_predicates": ["__background__", "with", "on", "near"],
}
SIZES = {"a.jpg": [1200, 600], "b_000007.jpg": [600, 900], "c.jpg": [300, 300]}  # -> 1000 x 500, 600 x 900, 600 x 600


def prediction():
    return {
        "0": {
            "bbox": [[0, 0, 500, 250], [500, 250, 999, 499], [0, 0, 1000, 500]],
            "bbox_labels": [2, 1, 2],
            "bbox_scores": [0.9, 0.8, 0.1],
            "rel_pairs": [[0, 1], [1, 0], [0, 2], [0, 1]],
            "rel_labels": [1, 3, 2, 1],
            "rel_scores": [0.5, 0.9, 0.2, 0.3],
            "rel_all_scores": "not read",
        },
        "1": {
            "bbox": [[0, 0, 300, 450], [300, 450, 600, 900]],
            "bbox_labels": [1, 0],
            "bbox_scores": [0.7, 0.6],
            "rel_pairs": [[1, 0], [0, 1]],
            "rel_labels": [2, 0],
            "rel_scores": [1.0000001, 0.8],
        },
        "2": {"bbox": [], "bbox_labels": [], "bbox_scores": [], "rel_pairs": [], "rel_labels": [], "rel_scores": []},
    }


@pytest.fixture
def benchmark(tmp_path):
    """Writes the two files and reads them; the content can be changed before."""

    def read(change=None, sizes=SIZES, **options):
        content = {"prediction": prediction(), "info": json.loads(json.dumps(INFO))}
        if change is not None:
            change(content)
        paths = tmp_path / "custom_prediction.json", tmp_path / "custom_data_info.json"
        for path, value in zip(paths, (content["prediction"], content["info"]), strict=True):
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return read_scene_graph_benchmark(*paths, sizes, **options)

    return read


def relations_of(graphs, row):
    table = graphs.relations[row]
    return table[(table != -1).all(-1)].tolist()


def test_benchmark_is_read(benchmark):
    graphs = benchmark()
    assert graphs.image_ids == ["a.jpg", "b_000007.jpg", "c.jpg"]
    assert graphs.lengths.tolist() == [3, 2, 0]
    assert (graphs.label_names, graphs.predicate_names) == (["ball", "dog"], ["with", "on", "near"])
    expected = [[0, 0, 0.5, 0.5], [0.5, 0.5, 0.999, 0.998], [0, 0, 1, 1]]
    np.testing.assert_allclose(graphs.boxes[0], expected, rtol=1e-6)
    np.testing.assert_allclose(graphs.boxes[1, :2], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], rtol=1e-6)
    assert graphs.labels.tolist() == [[1, 0, 1], [0, -1, -1], [-1, -1, -1]]  # the background is unknown
    # Most confident first; the weaker repetition and the relation that is background are gone.
    assert relations_of(graphs, 0) == [[1, 2, 0], [0, 0, 1], [0, 1, 2]]
    assert relations_of(graphs, 1) == [[1, 1, 0]]
    assert relations_of(graphs, 2) == []
    np.testing.assert_allclose(graphs.relation_scores, [[0.9, 0.5, 0.2], [1, 0, 0], [0, 0, 0]], rtol=1e-6)
    assert repr(graphs).endswith("custom_prediction.json: 3 images, 4 relations, 3 predicates)")


def test_benchmark_limits(benchmark):
    graphs = benchmark(max_regions=2, max_relations=1, min_confidence=0.5)
    assert graphs.boxes.shape == (3, 2, 4)
    assert [relations_of(graphs, row) for row in range(3)] == [[[1, 2, 0]], [[1, 1, 0]], []]
    assert relations_of(benchmark(max_regions=2), 0) == [[1, 2, 0], [0, 0, 1]]
    assert relations_of(benchmark(min_confidence=0.5), 0) == [[1, 2, 0], [0, 0, 1]]


def test_benchmark_ids_and_some_images(benchmark):
    graphs = benchmark(sizes={"7": [600, 900]}, ids="number", image_ids={"7"}, change=number_files)
    assert graphs.image_ids == ["7"]
    assert benchmark(sizes={"a": [1000, 500], "c": [600, 600]}, ids="stem", image_ids=["c", "a"]).image_ids == [
        "a",
        "c",
    ]


def number_files(content):
    content["info"]["idx_to_files"] = ["COCO_1.jpg", "x2_000007.jpg", "3.jpg"]


def test_benchmark_sizes_of_the_resized_images(benchmark, tmp_path):
    (tmp_path / "sizes.json").write_text(
        json.dumps({"a.jpg": [1000, 500], "b_000007.jpg": [600, 900], "c.jpg": [2, 2]})
    )
    graphs = benchmark(sizes=tmp_path / "sizes.json", resized=None)
    np.testing.assert_array_equal(graphs.boxes, benchmark().boxes)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((500, 375), (800, 600)),
        ((375, 500), (600, 800)),
        ((500, 333), (900, 600)),  # 900.9: rounded down
        ((1000, 200), (1000, 200)),
        ((2000, 300), (1000, 150)),
        ((300, 2001), (150, 1000)),  # 149.93 is rounded, then 150 * 2001 / 300 = 1000.5 rounded down
        ((600, 1000), (600, 1000)),
    ],
)
def test_sizes_are_those_that_the_benchmark_resizes_to(benchmark, size, expected):
    def whole(content):
        width, height = expected
        content["prediction"]["0"]["bbox"] = [[0, 0, width, height]] * 2 + [[0, 0, width / 2, height / 4]]

    graphs = benchmark(whole, sizes=SIZES | {"a.jpg": size})
    np.testing.assert_allclose(graphs.boxes[0, 1:], [[0, 0, 1, 1], [0, 0, 0.5, 0.25]], rtol=1e-6)


def test_vocabularies(benchmark):
    graphs = benchmark(predicates=["behind", "Near", "on", "with"], labels=["dog", "ball", "cat"])
    assert (graphs.label_names, graphs.predicate_names) == (["dog", "ball", "cat"], ["behind", "Near", "on", "with"])
    assert relations_of(graphs, 0) == [[1, 1, 0], [0, 3, 1], [0, 2, 2]]
    assert graphs.labels.tolist() == [[0, 1, 0], [1, -1, -1], [-1, -1, -1]]
    some = {"predicates": ["on"], "labels": ["dog"]}
    with pytest.raises(ValueError, match=r"image 'a.jpg' has predicate 'with'.*not among the 1 names.*unknown='drop'"):
        benchmark(**some)
    with pytest.raises(ValueError, match=r"image 'a.jpg' has label 'ball'"):
        benchmark(labels=["dog"])
    graphs = benchmark(**some, unknown="drop")
    assert [relations_of(graphs, row) for row in range(2)] == [[[0, 0, 2]], [[1, 0, 0]]]
    assert graphs.labels.tolist() == [[0, -1, 0], [-1, -1, -1], [-1, -1, -1]]
    assert (
        benchmark(predicates=["near", "on"], min_confidence=0.6).num_relations == 2
    )  # what is not kept is not looked up
    with pytest.raises(ValueError, match="predicates: 'NEAR' comes twice"):
        benchmark(predicates=["near", "NEAR"])


def at(place, key, value):
    def change(content):
        content["prediction"][place][key] = value

    return change


def without(place, key):
    return lambda content: content["prediction"][place].pop(key)


def cut(content):
    content["prediction"] = json.dumps(content["prediction"])[:-50]


def drop_image(content):
    del content["prediction"]["1"]


def rename_image(content):
    content["prediction"]["01"] = content["prediction"].pop("1")


BAD_PREDICTIONS = {
    "cut": (cut, r"custom_prediction\.json:1: not json"),
    "key": (without("0", "rel_pairs"), r"image 0 \('a.jpg'\): no list 'rel_pairs'"),
    "no dict": (lambda content: content["prediction"].update({"0": 3}), r"image 0 \('a.jpg'\): no list 'bbox'"),
    "image": (drop_image, r"2 images, expected the 3 of .*info\.json"),
    "other number": (rename_image, r"image 1 \('b_000007.jpg'\): not there"),
    "edge": (
        at("1", "rel_pairs", [[0, 1], [0, 2]]),
        r"image 1 \('b_000007.jpg'\): rel_pairs\[1\] is \[0, 2\], expected whole numbers in 0\.\.1",
    ),
    "negative": (at("1", "rel_pairs", [[0, -1], [0, 1]]), r"rel_pairs\[0\] is \[0, -1\]"),
    "pair": (at("1", "rel_pairs", [[0], [1]]), r"'rel_pairs' has 2 entries, expected numbers of shape \(2, 2\)"),
    "triples": (at("1", "rel_pairs", [[0, 1, 0], [0, 1, 0]]), r"'rel_pairs' has 2 entries"),
    "predicate": (at("1", "rel_labels", [1, 4]), r"rel_labels\[1\] is 4, expected whole numbers in 0\.\.3"),
    "class": (at("1", "bbox_labels", [1, 1.5]), r"bbox_labels\[1\] is 1.5, expected whole numbers in 0\.\.2"),
    "few labels": (at("1", "bbox_labels", [1]), r"'bbox_labels' has 1 entries, expected numbers of shape \(2,\)"),
    "score": (at("1", "rel_scores", [0.5, 1.5]), r"rel_scores\[1\] is 1.5, expected 0\.\.1"),
    "NaN": (at("1", "rel_scores", [0.5, float("nan")]), r"rel_scores\[1\] holds a NaN"),
    "long numbers": (at("1", "rel_scores", [10**400, 1]), r"'rel_scores' has 2 entries, expected numbers"),
    "numbers in strings": (at("1", "rel_scores", ["0.5", "1"]), r"'rel_scores' has 2 entries, expected numbers"),
    "text": (at("1", "rel_scores", ["x", 1]), r"'rel_scores' has 2 entries, expected numbers"),
    "box": (at("1", "bbox", [[0, 0, 300, 450], [0, 0, 700, 10]]), r"bbox\[1\] is .*700.*inside 600 x 900 pixels"),
    "turned": (at("1", "bbox", [[0, 0, 300, 450], [9, 0, 3, 10]]), r"bbox\[1\] is \[9.0, 0.0, 3.0, 10.0\]"),
    "files": (lambda content: content["info"].pop("idx_to_files"), r"_info\.json: no list of strings 'idx_to"),
    "names": (
        lambda content: content["info"].update(ind_to_predicates=[1, 2]),
        r"custom_data_info\.json: no list of strings 'ind_to_predicates'",
    ),
    "twice": (lambda content: content["info"].update(idx_to_files=["x/a", "a", "c"]), r"files\[1\]: .*'a' is already"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PREDICTIONS)
def test_broken_predictions(name, benchmark):
    change, message = BAD_PREDICTIONS[name]
    with pytest.raises(ValueError, match=message):
        benchmark(change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": {"b.jpg": [1, 1]}}, "sizes: no size of image 'a.jpg'; there are 'b.jpg'"),
        ({"sizes": SIZES | {"a.jpg": [0, 3]}}, r"image 'a.jpg' has size \[0, 3\]"),
        ({"sizes": SIZES | {"a.jpg": [10**400, 3]}}, "image 'a.jpg' has size"),
        ({"sizes": SIZES | {"a.jpg": 3}}, "image 'a.jpg' has size 3"),
        ({"sizes": SIZES | {"a.jpg": ["5", 3]}}, "image 'a.jpg' has size"),
        ({"ids": "number"}, "'photos/a.jpg', in whose name is no number"),
        ({"ids": "path"}, "ids: 'path'"),
        ({"max_regions": 0}, "max_regions: 0"),
        ({"max_relations": 0}, "max_relations: 0"),
        ({"min_confidence": 1.5}, "min_confidence: 1.5"),
        ({"unknown": "keep"}, "unknown: 'keep'"),
    ],
)
def test_bad_options(options, message, benchmark):
    with pytest.raises(ValueError, match=message):
        benchmark(**options)


# ---------------------------------------------------------------------------------------------------- Visual Genome

IMAGES = [
    {"image_id": 1, "width": 100, "height": 50, "coco_id": None, "flickr_id": None, "url": "x"},
    {"image_id": 2, "width": 10, "height": 10, "coco_id": 77, "flickr_id": 5},
    {"image_id": 3, "width": 10, "height": 10, "coco_id": None, "flickr_id": None},
]


def end(number, name, x, y, w, h, **more):
    return {"object_id": number, "name": name, "x": x, "y": y, "w": w, "h": h, "synsets": []} | more


def relation(predicate, subject, object_):
    return {"relationship_id": 1, "predicate": predicate, "synsets": [], "subject": subject, "object": object_}


def genome():
    man, hat, dog = (
        end(11, "Man", 0, 0, 50, 50),
        end(12, "", 10, -5, 20, 10, names=["hat"]),
        end(13, "dog", 50, 0, 60, 50),
    )
    del hat["name"]
    return [
        {
            "image_id": 1,
            "relationships": [
                relation("ON", hat, man),
                relation("near ", dog, man),
                relation("on", hat, man),  # again
                relation("near", man, man),  # says nothing
                relation("near", man, dog),
            ],
        },
        {"image_id": 2, "relationships": [relation("near", end(21, "cat", 1, 1, 4, 4), end(22, "dog", 5, 5, 5, 5))]},
        {"image_id": 3, "relationships": []},
    ]


@pytest.fixture
def visual_genome(tmp_path):
    def read(change=None, **options):
        relations, images = genome(), json.loads(json.dumps(IMAGES))
        if change is not None:
            change(relations, images)
        paths = tmp_path / "relationships.json", tmp_path / "image_data.json"
        for path, value in zip(paths, (relations, images), strict=True):
            path.write_text(json.dumps(value))
        return read_visual_genome(*paths, **options)

    return read


def test_visual_genome_is_read(visual_genome):
    graphs = visual_genome()
    assert graphs.image_ids == ["1", "2", "3"]
    assert graphs.lengths.tolist() == [3, 2, 0]
    assert graphs.predicate_names == ["near", "on"]  # 4 and 2 times
    assert graphs.label_names == ["dog", "cat", "hat", "man"]  # twice, then in the order of the alphabet
    expected = [[0.1, 0, 0.3, 0.1], [0, 0, 0.5, 1], [0.5, 0, 1, 1]]  # hat and dog are cut at the edge of the image
    np.testing.assert_allclose(graphs.boxes[0], expected, rtol=1e-6)
    assert graphs.labels[0].tolist() == [2, 3, 0]
    assert relations_of(graphs, 0) == [[0, 1, 1], [2, 0, 1], [1, 0, 2]]
    assert graphs.relation_scores is None


def test_visual_genome_options(visual_genome):
    assert visual_genome(ids="coco_id").image_ids == ["77"]
    assert visual_genome(image_ids={"2"}).predicate_names == ["near"]
    assert relations_of(visual_genome(max_regions=2), 0) == [[0, 1, 1]]
    assert relations_of(visual_genome(max_relations=1), 0) == [[0, 1, 1]]
    first = visual_genome()
    again = visual_genome(predicates=first.predicate_names[:1], unknown="drop")
    assert relations_of(again, 0) == [[2, 0, 1], [1, 0, 2]]
    assert again.labels.tolist() == first.labels.tolist()
    with pytest.raises(ValueError, match="image '1' has predicate 'on'"):
        visual_genome(predicates=["near"])
    with pytest.raises(ValueError, match="ids: 'name'"):
        visual_genome(ids="name")


def first_relation(**changes):
    return lambda relations, images: relations[0]["relationships"][1].update(changes)


BROKEN_RELATIONS = {
    "predicate": (first_relation(predicate=" "), r"image 1: relationships\[1\]: no 'predicate'"),
    "name": (first_relation(object=end(1, "", 0, 0, 1, 1)), r"relationships\[1\]: object has neither a 'name'"),
    "names": (first_relation(object=end(1, [], 0, 0, 1, 1)), r"relationships\[1\]: object has neither a 'name'"),
    "outside": (first_relation(object=end(1, "x", 0, -900, 5, 5)), "object has x 0, y -900, w 5, h 5: no part of it"),
    "thin": (first_relation(subject=end(1, "x", 5, 5, 0, 5)), "subject has x 5, y 5, w 0, h 5: no part of it"),
    "NaN": (first_relation(subject=end(1, "x", float("nan"), 5, 5, 5)), "subject has x nan"),
    "inf": (first_relation(subject=end(1, "x", 0, 5, float("inf"), 5)), "subject has x 0, y 5, w inf"),
    "long number": (first_relation(subject=end(1, "x", 10**400, 5, 5, 5)), "subject has x 1000000000"),
}


@pytest.mark.parametrize("name", BROKEN_RELATIONS)
def test_broken_relations_can_be_skipped(name, visual_genome):
    change, message = BROKEN_RELATIONS[name]
    with pytest.raises(ValueError, match=r"relationships\.json.*" + message):
        visual_genome(change)
    graphs = visual_genome(change, skip_broken=True)
    assert len(relations_of(graphs, 0)) == 2
    assert graphs.lengths[0] == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first_relation(subject=3), r"image 1: relationships\[1\]: no 'subject'"),
        (first_relation(subject={"name": "x", "object_id": 1, "x": 0}), "subject has no number 'y'"),
        (first_relation(subject=end(1, "x", True, 5, 5, 5)), "subject has no number 'x'"),
        (lambda relations, images: images[1].update(width=10**400), "image 2: width 1000.* and height 10, "),
        (lambda relations, images: relations[1].pop("relationships"), "image 2: no list 'relationships'"),
        (lambda relations, images: relations[1].pop("image_id"), r"relationships.json: \[1\]: no 'image_id'"),
        (lambda relations, images: images.pop(1), r"image 2: not in .*image_data.json"),
        (lambda relations, images: images[1].update(width=None), "image 2: width None and height 10"),
        (lambda relations, images: images[1].update(width=float("inf")), "image 2: width inf and height 10"),
        (lambda relations, images: images.append(images[0]), r"image_data.json: \[\d\]: image 1 is there already"),
        (lambda relations, images: relations.append(relations[1]), "image id '2' is already"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("skip_broken", [False, True])
def test_broken_files(change, message, skip_broken, visual_genome):
    with pytest.raises(ValueError, match=message):
        visual_genome(change, skip_broken=skip_broken)


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a dict, expected a list"):
        read_visual_genome(tmp_path / "a.json", tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"none.json: no such file"):
        read_visual_genome(tmp_path / "none.json", tmp_path / "none.json")


# ------------------------------------------------------------------------------------------------------ SceneGraphs


def random_graphs(seed=0, images=6, regions=7, relations=12, scored=True):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, regions + 1, images)
    corners = rng.uniform(0, 1, (images, regions, 2, 2))
    table = rng.integers(0, 3, (images, relations, 3))
    table[:, :, ::2] = (rng.uniform(0, 1, (images, relations, 2)) * lengths[:, None, None]).astype(int)
    table[0, 3:] = -1
    return SceneGraphs(
        [f"{i}.jpg" for i in range(images)],
        lengths,
        np.concatenate([corners.min(2), corners.max(2)], -1),
        rng.integers(-1, 4, (images, regions)),
        table,
        np.sort(rng.uniform(0, 1, (images, relations)))[:, ::-1] if scored else None,
        list("wxyz"),
        ["a", "b", "c"],
    )


def iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    inside = np.prod(np.clip(high - low, 0, None))
    return inside / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inside)


@pytest.mark.parametrize("scored", [True, False])
def test_matching_is_that_of_a_loop(scored):
    graphs, other = random_graphs(scored=scored), random_graphs(1, regions=5)
    matched = graphs.matched_to(other.boxes, other.lengths, min_iou=0.2)
    np.testing.assert_array_equal(matched.lengths, other.lengths)
    for row in range(len(graphs)):
        own, new = graphs.boxes[row, : graphs.lengths[row]], other.boxes[row, : other.lengths[row]]
        overlap = np.array([[iou(a, b) for b in new] for a in own])
        expected = []
        for subject, predicate, object_ in relations_of(graphs, row):
            a, b = overlap[subject].argmax(), overlap[object_].argmax()
            good = overlap[subject, a] >= 0.2 and overlap[object_, b] >= 0.2 and a != b
            if good and [a, predicate, b] not in expected:
                expected.append([a, predicate, b])
        assert relations_of(matched, row) == expected
        best = [graphs.labels[row, o.argmax()] if o.max() >= 0.2 else -1 for o in overlap.T]
        assert matched.labels[row, : other.lengths[row]].tolist() == best
    assert 0 < matched.num_relations < graphs.num_relations
    few = graphs.matched_to(other.boxes, other.lengths, min_iou=0.2, max_relations=1)
    assert [relations_of(few, row) for row in range(6)] == [relations_of(matched, row)[:1] for row in range(6)]


def test_matching_keeps_confidences_beside_their_relations():
    graphs, other = random_graphs(), random_graphs(1, regions=5)
    one = graphs.matched_to(other.boxes, other.lengths, min_iou=0.2)
    two = SceneGraphs(
        **{**vars(graphs), "relations": graphs.relations[:, ::-1], "relation_scores": graphs.relation_scores[:, ::-1]}
    )
    two = two.matched_to(other.boxes, other.lengths, min_iou=0.2)
    np.testing.assert_array_equal(one.relations, two.relations)  # sorted by confidence, wherever they stood
    np.testing.assert_array_equal(one.relation_scores, two.relation_scores)


def test_matching_regions_to_themselves_changes_nothing():
    graphs = random_graphs()
    loops = graphs.relations[..., 0] == graphs.relations[..., 2]
    matched = graphs.matched_to(graphs.boxes, graphs.lengths, min_iou=1.0)
    assert matched.num_relations <= graphs.num_relations - (loops & (graphs.relations[..., 0] >= 0)).sum()
    np.testing.assert_array_equal(matched.labels[0, : graphs.lengths[0]], graphs.labels[0, : graphs.lengths[0]])


def test_images_without_regions_match_nothing():
    graphs = random_graphs().select(["5.jpg", "other", "0.jpg"], missing="empty")
    assert graphs.image_ids == ["5.jpg", "other", "0.jpg"]
    assert graphs.lengths[1] == 0
    matched = graphs.matched_to(random_graphs(1, images=3).boxes)
    assert relations_of(matched, 1) == []
    assert matched.labels[1].tolist() == [-1] * 7


def test_select():
    graphs = random_graphs()
    some = graphs.select(["4.jpg", "1.jpg"])
    for new, old in ((0, 4), (1, 1)):
        assert relations_of(some, new) == relations_of(graphs, old)
        count = graphs.lengths[old]
        np.testing.assert_allclose(some.boxes[new, :count], graphs.boxes[old, :count], rtol=1e-6)
    with pytest.raises(ValueError, match=r"no scene graph of image '9' \(1 of 2 images have none\).*such as '0.jpg'"):
        graphs.select(["1.jpg", "9"])
    with pytest.raises(ValueError, match="missing: 'skip'"):
        graphs.select([], missing="skip")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_ids", ["a"] * 6, "image id 'a' is already"),
        ("lengths", np.array([7, 7, -1, 7, 7, 7]), "lengths: image 2 has -1 regions, expected 0..7"),
        ("boxes", np.zeros((6, 7)), "boxes: float64 of shape"),
        ("boxes", np.full((6, 7, 4), 3.0), "image 0 region 0 has box"),
        ("labels", np.zeros((6, 2), int), "labels: int64 of shape"),
        ("labels", np.full((6, 7), 4), "label 4, expected one of the 4 names"),
        ("relations", np.full((6, 12, 3), 7), "relation 0 is .7, 7, 7., expected regions of"),
        ("relations", np.tile([0, 3, 1], (6, 12, 1)), "predicate 3, expected one of the 3 names"),
        ("relation_scores", np.full((6, 12), 2.0), "has score 2, expected 0..1"),
    ],
)
def test_scene_graphs_are_checked(field, value, message):
    with pytest.raises(ValueError, match=message):
        SceneGraphs(**{**vars(random_graphs()), field: value})


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        (np.zeros((5, 2, 4)), {}, "boxes to match: float64 of shape"),
        (np.full((6, 2, 4), 300.0), {}, "boxes to match: image 0 region 0"),
        (np.zeros((6, 2, 4)), {"min_iou": 0}, "min_iou: 0"),
    ],
)
def test_boxes_to_match_are_checked(boxes, options, message):
    with pytest.raises(ValueError, match=message):
        random_graphs().matched_to(boxes, **options)


# ----------------------------------------------------------------------------------------------------------- folders


def features(folder, graphs, split="train", regions=7):
    """A precomputed folder with the images of some scene graphs, but without relations."""
    folder.mkdir(exist_ok=True)
    count = len(graphs)
    np.save(
        folder / f"{split}_ims.npy", np.random.default_rng(0).standard_normal((count, regions, 4)).astype(np.float32)
    )
    (folder / f"{split}_caps.txt").write_text("a dog\n" * count)
    (folder / f"{split}_ids.txt").write_text("".join(f"{name}\n" for name in graphs.image_ids))
    return folder


def test_saved_and_read(tmp_path):
    graphs = random_graphs()
    folder = features(tmp_path / "data", graphs)
    assert PrecompFolder(folder).num_predicates is None
    graphs.save(folder, "train", regions=True)
    assert json.loads((folder / "predicates.json").read_text()) == ["a", "b", "c"]
    assert json.loads((folder / "labels.json").read_text()) == list("wxyz")
    assert PrecompFolder(folder).num_predicates == 3
    dataset = PrecompFolder(folder).split("train")
    for row in range(6):
        item, count = dataset.image(row), graphs.lengths[row]
        assert item.relations.tolist() == relations_of(graphs, row)
        assert item.labels.tolist() == graphs.labels[row, :count].tolist()
        np.testing.assert_allclose(item.boxes, graphs.boxes[row, :count], rtol=1e-6)
        np.testing.assert_allclose(item.relation_scores, graphs.relation_scores[row, : len(item.relations)], rtol=1e-6)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_nothing_is_overwritten_unless_told(tmp_path):
    graphs = random_graphs()
    graphs.save(tmp_path, "train")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match=r"train_relations.npy: is there already"):
        graphs.save(tmp_path, "train")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    certain = random_graphs(2, scored=False)
    certain.save(tmp_path, "train", overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "train_relations.npy"), certain.relations)
    assert not (tmp_path / "train_relation_scores.npy").exists()  # those of the other relations
    graphs.save(tmp_path, "dev")
    others = SceneGraphs(**{**vars(graphs), "predicate_names": ["a", "c", "b"]})
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"predicates.json: other names than those of scene graphs"):
            others.save(tmp_path, "test", overwrite=overwrite)
    assert not list(tmp_path.glob("test_*"))


def test_an_image_without_regions_cannot_have_features(tmp_path):
    graphs = random_graphs().select(["0.jpg", "x"], missing="empty")
    with pytest.raises(ValueError, match="image 'x' has no region"):
        graphs.save(tmp_path, "train", regions=True)
    graphs.save(tmp_path, "train")


# ---------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def place(tmp_path, monkeypatch, benchmark, visual_genome):
    """A folder with both sorts of files, and features with boxes of the images."""
    monkeypatch.chdir(tmp_path)
    first, second = benchmark(), visual_genome()
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES))
    for name, graphs in (("sgb", first), ("vg", second)):
        folder = features(tmp_path / name, graphs, "dev", regions=3)
        boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (3, 3, 1))
        np.save(folder / "dev_boxes.npy", np.where(graphs.boxes.any(-1, keepdims=True), graphs.boxes, boxes)[:, ::-1])
    return tmp_path


SGB = ["--benchmark", "custom_prediction.json", "custom_data_info.json", "--sizes", "sizes.json"]
VG = ["--visual-genome", "relationships.json", "image_data.json"]


def command(folder, *options):
    return ["data", "scene-graphs", folder, "dev", *options]


def test_command_matches_regions(place, capsys):
    assert run(*command("sgb", *SGB)) == 0
    assert capsys.readouterr().out == (
        "dev: 4 relations of 3 images (4 before matching, 1 image without regions), 3 predicates\n"
    )
    source = PrecompFolder("sgb")
    assert source.num_predicates == 3
    dataset = source.split("val")
    assert dataset.image(0).relations.tolist() == [[1, 2, 2], [2, 0, 1], [2, 1, 0]]  # regions from behind
    assert dataset.image(2).relations.tolist() == []
    assert "dev_relations.npy: is there already" in error_of(capsys, *command("sgb", *SGB))
    assert run(*command("sgb", *SGB, "--overwrite", "--max-relations", "1", "--min-confidence", "0.95")) == 0
    assert [len(source.split("val").image(i).relations) for i in range(3)] == [0, 1, 0]


def test_command_with_the_same_regions(place, capsys):
    assert run(*command("sgb", *SGB, "--same-regions", "--max-relations", "2")) == 0
    assert PrecompFolder("sgb").split("val").image(0).relations.tolist() == [[1, 2, 0], [0, 0, 1]]
    np.save("sgb/dev_lengths.npy", np.array([1, 2, 1]))
    message = error_of(capsys, *command("sgb", *SGB, "--same-regions", "--overwrite"))
    assert "image 0 relation 0 is [1, 2, 0], expected regions of 0..0" in message


def test_command_with_visual_genome(place, capsys):
    assert run(*command("vg", *VG)) == 0
    dataset = PrecompFolder("vg").split("val")
    assert dataset.relation_scores is None
    assert dataset.image(0).relations.tolist() == [[2, 1, 1], [0, 0, 1], [1, 0, 0]]
    names = json.dumps(["near", "under"])
    (place / "vg/predicates.json").write_text(names)  # the names of the folder are used
    assert "predicate 'on', which is not among" in error_of(capsys, *command("vg", *VG, "--overwrite"))
    assert run(*command("vg", *VG, "--overwrite", "--unknown", "drop")) == 0
    assert (place / "vg/predicates.json").read_text().split() == names.split()
    assert PrecompFolder("vg").split("val").image(0).relations.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (command("sgb"), "one of the arguments --benchmark --visual-genome is required"),
        (command("sgb", *SGB[:3]), "--benchmark needs --sizes"),
        (command("sgb", *SGB, *VG), "not allowed with"),
        (command("vg", *VG, "--min-confidence", "0.5"), "--sizes and --min-confidence go with --benchmark"),
        (command("sgb", *SGB, "--min-iou", "x"), "--min-iou: invalid float value: 'x'"),
        (command("none", *SGB), "none: no such folder"),
        (command("vg", *SGB), "no scene graph of image '1' (3 of 3 images have none)"),
        (command("sgb", *SGB, "--predicates", "sizes.json"), "sizes.json: holds a dict, expected a list"),
        (command("sgb", *SGB, "--ids", "url"), "ids: 'url'"),
    ],
)
def test_command_errors(arguments, message, place, capsys):
    assert message in error_of(capsys, *arguments)
    assert not list(place.glob("*/*relations.npy"))


def test_command_needs_ids_and_boxes(place, capsys):
    (place / "sgb/dev_boxes.npy").unlink()
    assert "dev_boxes.npy: no such file; without boxes" in error_of(capsys, *command("sgb", *SGB))
    (place / "sgb/dev_ids.txt").unlink()
    assert "dev_ids.txt: no such file" in error_of(capsys, *command("sgb", *SGB))


def test_command_help(capsys):
    assert run("data", "scene-graphs", "--help") == 0
    assert "--same-regions" in capsys.readouterr().out
    assert run("data", "--help") == 0
    assert "scene-graphs" in capsys.readouterr().out


def test_a_full_disk_leaves_the_earlier_relations(tmp_path):
    graphs = random_graphs()
    graphs.save(tmp_path, "train", regions=True)
    before = files_in(tmp_path)
    sizes = {name: len(content) for name, content in before.items()}
    assert max(sizes, key=sizes.get) == "train_boxes.npy"
    others = random_graphs(2)
    for size, fails in ((sizes["train_boxes.npy"] - 1, "train_boxes"), (100, "train_relation_scores")):
        with small_files(size), pytest.raises(OSError, match=rf"/{fails}\.npy: cannot be written \(File too large\)"):
            others.save(tmp_path, "train", regions=True, overwrite=True)
        assert files_in(tmp_path) == before
    with small_files(1), pytest.raises(OSError, match=r"/train_relations\.npy: cannot be written"):
        random_graphs(2, scored=False).save(tmp_path, "train", overwrite=True)
    assert files_in(tmp_path) == before  # and the scores, which have no place beside relations that are certain


def test_relations_come_last(tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (names.append(Path(new).name), replace(old, new)))
    random_graphs().save(tmp_path, "train", regions=True)
    assert set(names[:2]) == {"predicates.json", "labels.json"}
    assert names[-1] == "train_relations.npy"
    names.clear()
    random_graphs(2).save(tmp_path, "train", overwrite=True)
    assert names == ["train_relation_scores.npy", "train_relations.npy"]  # the names are as they were


def test_the_command_writes_all_splits_or_none(place, monkeypatch, capsys):
    for kind in ("ims.npy", "caps.txt", "ids.txt", "boxes.npy"):
        (place / f"sgb/big_{kind}").write_bytes((place / f"sgb/dev_{kind}").read_bytes())
    assert run(*command("sgb", "big", *SGB)) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["dev", "big"]
    before = files_in(place / "sgb")

    def full(path, array):
        if path.name == "big_relations.npy":
            raise OSError(f"{path}: the disk is full")
        save_array(path, array)

    monkeypatch.setattr("itmatch.data.scene_graphs.graphs.save_array", full)
    message = error_of(capsys, *command("sgb", "big", *SGB, "--overwrite", "--max-relations", "1"))
    assert message == "sgb/big_relations.npy: the disk is full"
    assert files_in(place / "sgb") == before
    assert capsys.readouterr().out == ""
