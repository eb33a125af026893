import pytest
import torch

from itmatch.vision.relations import BOX_PREDICATES, box_relations


def named(boxes, **options):
    graph = box_relations(torch.tensor([boxes]), **options)
    return {
        tuple(pair): BOX_PREDICATES[number]
        for pair, number in zip(graph.edge_index.T.tolist(), graph.predicate, strict=True)
    }


def test_predicates():
    big, small = [0.0, 0.0, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]
    right, below, shifted = [0.8, 0.0, 1.0, 0.5], [0.0, 0.8, 0.5, 1.0], [0.1, 0.0, 0.6, 0.5]
    assert named([big, small]) == {(0, 1): "contains", (1, 0): "inside"}
    assert named([big, right]) == {(0, 1): "left of", (1, 0): "right of"}
    assert named([big, below]) == {(0, 1): "above", (1, 0): "below"}
    assert named([big, shifted]) == {(0, 1): "overlaps", (1, 0): "overlaps"}
    assert named([big, big]) == {(0, 1): "overlaps", (1, 0): "overlaps"}
    assert len(named([[0.5, 0.5, 0.5, 0.5]] * 2)) == 2  # empty boxes are no error


def test_they_mirror_each_other():
    boxes = torch.rand(3, 9, 2, 2, generator=torch.Generator().manual_seed(0)).sort(2).values.flatten(2)
    mirror = {"inside": "contains", "left of": "right of", "above": "below", "overlaps": "overlaps"}
    mirror |= {other: one for one, other in mirror.items()}
    graph = box_relations(boxes)
    found = {
        (int(row), *map(int, pair)): BOX_PREDICATES[number]
        for row, pair, number in zip(graph.row, graph.edge_index.T, graph.predicate, strict=True)
    }
    assert len(found) == 3 * 9 * 8
    assert all(found[row, b, a] == mirror[name] for (row, a, b), name in found.items())


def test_neighbours_and_padding():
    boxes = torch.tensor([[[x, 0.0, x + 0.1, 0.1] for x in (0.0, 0.2, 0.5, 0.9)]])
    graph = box_relations(boxes, neighbours=1)
    assert graph.edge_index.tolist() == [[0, 1, 2, 3], [1, 0, 1, 2]]
    graph = box_relations(boxes, torch.tensor([[True, False, True, False]]), neighbours=3)
    assert graph.edge_index.tolist() == [[0, 2], [2, 0]]
    assert len(box_relations(boxes[:, :1]).row) == 0


def test_settings():
    with pytest.raises(ValueError, match="min_iou: 2"):
        box_relations(torch.zeros(1, 1, 4), min_iou=2)
