"""Rows of batches of tensors: whatever is asked for, the answer is a batch, or one clear line."""

import numpy as np
import pytest
import torch

from itmatch.batch import Captions, Fragments, Regions, SceneGraph
from itmatch.ops.ragged import Ragged

MASK = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
GRAPH = SceneGraph(torch.tensor([[0, 1, 1], [2, 0, 0]]), torch.tensor([0, 0, 2]), 4)


def make(kind):
    features = torch.arange(4.0 * 3 * 2).view(4, 3, 2)
    if kind == "Fragments":
        return Fragments(features, MASK, features[:, 0], ~MASK)
    if kind == "Ragged":
        return Ragged.of(Fragments(features, MASK, features[:, 0]))
    if kind == "Regions":
        return Regions(features, MASK, torch.rand(4, 3, 4), torch.zeros(4, 3, dtype=torch.int64), GRAPH)
    if kind == "Captions":
        return Captions(torch.arange(12).view(4, 3), MASK, SceneGraph(GRAPH.edge_index, GRAPH.row, 4))
    return GRAPH


KINDS = ["Fragments", "Ragged", "Regions", "Captions", "SceneGraph"]


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    return a == b if not hasattr(a, "__dict__") else all(same(value, vars(b)[name]) for name, value in vars(a).items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 2, 3, -1, -4, np.int64(2), torch.tensor(1)])
def test_a_number_gives_a_batch_of_one_row(kind, row):
    data, place = make(kind), int(row) % 4
    found = data[row]
    assert len(found) == 1
    assert same(found, data[place : place + 1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [4, -5, 10**12])
def test_a_row_that_is_not_there(kind, row):
    with pytest.raises(IndexError, match=f"{kind}: row {row}, of 4 rows"):
        make(kind)[row]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows",
    [None, ..., "a", True, 0.0, (0, 1), [0.5], [[0, 1]], torch.ones(2, 2).bool(), torch.ones(3).bool(), [[], [1]]],
)
def test_what_is_no_row(kind, rows):
    with pytest.raises(TypeError, match=f"^{kind}: rows .*expected a number, a slice"):
        make(kind)[rows]


@pytest.mark.parametrize("kind", ["Fragments", "Ragged"])
@pytest.mark.parametrize(
    "rows", [[2, 0], np.array([2, 0]), np.array([2, 0], np.uint8), torch.tensor([2, 0]), [], np.array([], np.int64)]
)
def test_any_rows(kind, rows):
    data = make(kind)
    expected = data[torch.tensor([2, 0][: len(rows)], dtype=torch.int64)]
    assert same(data[rows], expected)
    assert len(data[rows]) == len(rows)


@pytest.mark.parametrize("kind", ["Fragments", "Ragged"])
def test_a_bool_a_row(kind):
    data = make(kind)
    assert same(data[torch.tensor([True, False, False, True])], data[[0, 3]])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_can_be_gone_over(kind):
    assert [len(row) for row in make(kind)] == [1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["Regions", "Captions", "SceneGraph"])
def test_a_graph_has_consecutive_rows_alone(kind):
    for rows in ([2, 0], slice(0, 4, 2)):
        with pytest.raises(ValueError, match=r"SceneGraph: rows .* expected a slice of consecutive ones"):
            make(kind)[rows]
