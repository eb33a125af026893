import numpy as np
import pytest

from itmatch.data import validation


def test_one_sentence_a_problem_with_the_number_of_places(monkeypatch):
    monkeypatch.setattr(validation, "_BLOCK", 2)  # the count goes over all blocks
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (5, 3, 1))
    boxes[[1, 4], 2, 0] = 7
    (problem,) = validation.box_problems(boxes, 5, 3, "x")
    assert problem.startswith("x: image 1 region 2 has box [7.0, 0.0, 1.0, 1.0]")
    assert problem.endswith("(2 such in all)")
    relations = np.zeros((5, 2, 3), int)
    relations[3:, 1, 2] = 3
    (problem,) = validation.relation_problems(relations, 5, 3, "x")
    assert problem.startswith("x: image 3 relation 1 is [0, 0, 3]")
    assert problem.endswith("(2 such in all)")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nonfinite_regions(dtype):
    features = np.zeros((2, 3, 4), dtype)
    features[0, 1, 2], features[1, 0, 0], features[1, 2, 3] = np.nan, np.inf, -np.inf
    features[0, 0, 0] = np.finfo(dtype).max
    assert validation.nonfinite_regions(features).tolist() == [[False, True, False], [True, False, True]]


def test_feature_problems_go_through_all_blocks(monkeypatch):
    monkeypatch.setattr(validation, "_BLOCK_BYTES", 64)
    features = np.zeros((10, 3, 4), np.float32)
    assert list(validation.feature_problems(features, "x")) == []
    features[7, 2, 1] = features[9, 0, 0] = np.nan
    (problem,) = validation.feature_problems(features, "x")
    assert problem == "x: image 7 region 2: NaN or inf in the features (2 such in all)"


def test_what_lies_beyond_the_length_does_not_matter():
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (2, 3, 1))
    boxes[1, 2] = np.nan
    assert len(list(validation.box_problems(boxes, 2, 3, "x"))) == 1
    assert list(validation.box_problems(boxes, 2, 3, "x", np.array([3, 2]))) == []
