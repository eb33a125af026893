import numpy as np
import pytest

from itmatch.data.batching import validation


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


def test_what_lies_beyond_the_length_does_not_matter():
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (2, 3, 1))
    boxes[1, 2] = np.nan
    assert len(list(validation.box_problems(boxes, 2, 3, "x"))) == 1
    assert list(validation.box_problems(boxes, 2, 3, "x", np.array([3, 2]))) == []


@pytest.mark.parametrize(
    ("captions", "problem"),
    [
        (["a dog", float("nan")], "x:2: nan of type float, expected the caption as a string"),
        (["a dog", None, 3], "x:2: None of type NoneType, expected the caption as a string"),
        (["\u200b", "a", "\ufeff \x07"], "x:1: empty caption (2 such in all)"),
        (["a", "half \ud83d of a pair"], "x:2: caption with '\\ud83d', which no text has"),
        (["a\0b"], "x:1: caption with '\\x00', which no text has"),
        (["\U0001f436", "...", "\u200da"], None),
    ],
)
def test_captions_are_visible_text(captions, problem):
    assert list(validation.caption_problems(captions, "x")) == ([] if problem is None else [problem])


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (["1", 2], "x:2: 2 of type int, expected the image id as a string"),
        (["1", "\ud800"], "x:2: image id with '\\ud800', which no text has"),
        (["1", " "], "x:2: empty image id"),
    ],
)
def test_ids_are_text(ids, problem):
    assert list(validation.id_problems(ids, "x")) == [problem]


def test_unsigned_integers_do_not_turn_into_absent_ones():
    """-1 written into an unsigned array is the largest number, and would be read as -1 again."""
    relations = np.zeros((2, 1, 3), np.uint64)
    labels = np.zeros((2, 3), np.uint64)
    assert list(validation.relation_problems(relations, 2, 3, "x")) == []
    assert list(validation.label_problems(labels, 2, 3, "x")) == []
    relations[1, 0, 1] = labels[1, 2] = 2**64 - 1
    (problem,) = validation.relation_problems(relations, 2, 3, "x")
    assert problem.startswith(f"x: image 1 relation 0 is [0, {2**64 - 1}, 0]")
    (problem,) = validation.label_problems(labels, 2, 3, "x")
    assert problem.startswith(f"x: image 1 region 2 has label {2**64 - 1}")


def test_lengths():
    assert list(validation.length_problems(np.array([0, 3]), 2, 3, "x", least=0)) == []
    (problem,) = validation.length_problems(np.array([0, 4, -1]), 3, 3, "x", least=0)
    assert problem == "x: image 1 has 4 regions, expected 0..3 (2 such in all)"
    (problem,) = validation.length_problems(np.array([0]), 1, None, "x")
    assert problem == "x: image 0 has 0 regions, expected 1.."
