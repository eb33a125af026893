"""Graphs from boxes and from scene graphs, against loops over pairs of boxes and over edges."""

import math

import pytest
import torch

from itmatch.batch import SceneGraph
from itmatch.ops import (
    Edges,
    box_iou,
    lengths_to_mask,
    nearest_boxes,
    semantic_graph,
    spatial_graph,
    strongest_edges,
)

LENGTHS, WIDTH = (5, 3, 1), 6
MASK = lengths_to_mask(torch.tensor(LENGTHS), WIDTH)


def random_boxes(seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(len(LENGTHS), WIDTH, 2, generator=generator, dtype=torch.double) * 0.5
    size = torch.rand(len(LENGTHS), WIDTH, 2, generator=generator, dtype=torch.double) * 0.5
    return torch.cat((corner, corner + size), -1).masked_fill(~MASK[..., None], math.nan)


def scene_graph(**fields):
    edges = torch.tensor([[0, 4, 1, 2], [1, 0, 0, 0]])
    return SceneGraph(edges, torch.tensor([0, 0, 1, 1]), 3, **fields)


def as_dict(edges):
    found = {}
    kinds = [None] * len(edges.edge_weight) if edges.edge_attr is None else edges.edge_attr.tolist()
    for source, target, weight, kind in zip(*edges.edge_index.tolist(), edges.edge_weight.tolist(), kinds, strict=True):
        assert (source, target, kind) not in found
        found[source, target, kind] = weight
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("weight", ["iou", "ones"])
def test_spatial_graph_equals_loop(threshold, weight):
    boxes, expected = random_boxes(), {}
    for row, length in enumerate(LENGTHS):
        for i in range(length):
            for j in range(length):
                iou = float(box_iou(boxes[row, i : i + 1], boxes[row, j : j + 1]))
                if i != j and iou >= threshold and (iou > 0 or weight == "ones"):
                    expected[row * WIDTH + j, row * WIDTH + i, None] = iou if weight == "iou" else 1.0
    matrices = spatial_graph(boxes, MASK, threshold, weight)
    edges = matrices.as_list()
    assert as_dict(edges) == pytest.approx(expected)
    assert edges.edge_attr is None
    assert threshold != 0.1 or 0 < count(edges) < 26  # neither nothing nor everything
    assert threshold != 0.0 or weight == "iou" or count(edges) == 26
    assert torch.equal(edges.matrices(edges.edge_weight, *MASK.shape), matrices.edge_weight)
    assert torch.equal(matrices.edge_weight, matrices.edge_weight.transpose(1, 2))


def count(edges):
    return len(edges.as_list().edge_weight) if edges.edge_index is None else len(edges.edge_weight)


@pytest.mark.parametrize("as_list", [True, False])
def test_ends_and_sums_of_edges(as_list):
    edges = spatial_graph(random_boxes(), MASK, 0.1)
    edges, values = edges.as_list() if as_list else edges, torch.randn(*MASK.shape, 4, dtype=torch.double)
    weight = spatial_graph(random_boxes(), MASK, 0.1).edge_weight
    target, source = edges.ends(values)
    if as_list:
        row, i, j = weight.nonzero().unbind(1)
        expected = values[row, i], values[row, j]
    else:
        expected = values[:, :, None].expand(3, WIDTH, WIDTH, 4), values[:, None].expand(3, WIDTH, WIDTH, 4)
    torch.testing.assert_close(target + 2 * source, expected[0] + 2 * expected[1])
    normalized, joined = edges.normalized(*MASK.shape)
    sums = normalized.matrices(normalized.edge_weight, *MASK.shape).sum(2)
    torch.testing.assert_close(sums, joined.double())
    assert torch.equal(joined, (weight > 0).any(2))
    assert 0 < joined.sum() < MASK.sum()


def test_values_of_repeated_edges_are_added():
    edges = Edges(torch.ones(3), torch.tensor([[0, 0, 1], [1, 1, 0]]))
    matrices = edges.matrices(torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]), 1, 2)
    assert matrices.tolist() == [[[[0.0, 0.0], [3.0, 30.0]], [[3.0, 30.0], [0.0, 0.0]]]]


def test_the_threshold_itself_is_an_edge():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 0.5, 1], [0.5, 0, 1, 0.5]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert as_dict(spatial_graph(boxes, mask, 0.5).as_list()) == {(0, 1, None): 0.5, (1, 0, None): 0.5}
    assert count(spatial_graph(boxes, mask, 0.25)) == 4


def test_a_single_box_has_no_edge():
    assert count(spatial_graph(torch.tensor([[[0.0, 0, 1, 1]]]), torch.ones(1, 1, dtype=torch.bool), 0.0)) == 0


def test_equal_and_empty_boxes():
    boxes = torch.tensor([[[0.2, 0.2, 0.6, 0.6]] * 2 + [[0.5, 0.5, 0.5, 0.5]] * 2])
    edges = spatial_graph(boxes, torch.ones(1, 4, dtype=torch.bool))
    assert as_dict(edges.as_list()) == {(0, 1, None): pytest.approx(1), (1, 0, None): pytest.approx(1)}


def test_half_precision_boxes_are_computed_in_float32():
    boxes = random_boxes().half()
    assert spatial_graph(boxes, MASK).edge_weight.dtype is torch.float32
    wide = spatial_graph(boxes.float(), MASK)
    torch.testing.assert_close(spatial_graph(boxes, MASK).edge_weight, wide.edge_weight)


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ([10.0, 20.0, 300.0, 200.0], r"\[10.0, 20.0, 300.0, 200.0\]"),
        ([0.5, 0.0, 0.4, 1.0], r"\[0.5, 0.0, 0.4, 1.0\]"),
        ([0.0, 0.5, 1.0, 0.4], "x1 <= x2 and y1 <= y2"),
        ([-0.02, 0.0, 1.0, 1.0], r"fractions of width and height \(0 to 1\)"),
        ([0.0, 0.0, math.nan, 1.0], "nan"),
        ([0.0, 0.0, math.inf, 1.0], "inf"),
    ],
)
def test_wrong_boxes(box, found):
    boxes = random_boxes()
    boxes[1, 2] = torch.tensor(box)
    with pytest.raises(ValueError, match=r"boxes: .* at row 1, position 2, expected finite") as caught:
        spatial_graph(boxes, MASK)
    assert caught.match(found)


def test_boxes_a_little_outside_are_taken():
    boxes = torch.tensor([[[-0.009, 0.0, 1.0, 1.009], [0.0, 0.0, 1.0, 1.0]]])
    assert count(spatial_graph(boxes, torch.ones(1, 2, dtype=torch.bool))) == 2


def test_wrong_arguments_of_spatial_graphs():
    boxes = random_boxes()
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"threshold: {threshold}, expected a number between 0 and 1"):
            spatial_graph(boxes, MASK, threshold)
    with pytest.raises(ValueError, match="weight: 'area', expected 'iou' or 'ones'"):
        spatial_graph(boxes, MASK, 0.4, "area")
    with pytest.raises(ValueError, match=r"boxes: \(3, 6, 3\) torch.float64, expected \(3, 6, 4\) of floats"):
        spatial_graph(boxes[..., :3], MASK)
    with pytest.raises(ValueError, match=r"boxes: \(3, 6, 4\) torch.int64"):
        spatial_graph(torch.zeros(3, 6, 4, dtype=torch.int64), MASK)


@pytest.mark.parametrize("num_predicates", [None, 7])
@pytest.mark.parametrize("least", [0.0, 0.5])
@pytest.mark.parametrize("confident", [True, False])
def test_semantic_graph_equals_loop(num_predicates, least, confident):
    confidence, predicates = [0.9, 0.4, 0.5, 1.0], [3, 0, 6, 3]
    graph = scene_graph(
        predicate=torch.tensor(predicates),
        confidence=torch.tensor(confidence, dtype=torch.double) if confident else None,
    )
    expected = {}
    for k, ((source, target), row) in enumerate(zip(graph.edge_index.T.tolist(), graph.row.tolist(), strict=True)):
        weight = confidence[k] if confident else 1.0
        if weight < least:
            continue
        source, target = row * WIDTH + source, row * WIDTH + target
        expected[source, target, num_predicates and predicates[k]] = weight
        expected[target, source, num_predicates and predicates[k] + num_predicates] = weight
    edges = semantic_graph(graph, MASK, least, num_predicates=num_predicates)
    assert as_dict(edges) == expected


def test_no_edges():
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = SceneGraph(nothing.expand(2, 0), nothing, 3)
    for num_predicates in (None, 4):
        edges = semantic_graph(empty, MASK, num_predicates=num_predicates)
        assert count(edges) == 0
        assert edges.edge_index.shape == (2, 0)
        assert (edges.edge_attr is None) is (num_predicates is None)
    below = scene_graph(confidence=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert count(semantic_graph(below, MASK, 0.5)) == 0


def test_repeated_edges_are_kept():
    twice = SceneGraph(torch.tensor([[0, 0], [1, 1]]), torch.zeros(2, dtype=torch.int64), 3)
    assert semantic_graph(twice, MASK).edge_index.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]


def test_wrong_semantic_graphs():
    with pytest.raises(ValueError, match=r"SceneGraph.predicate: None, expected the class of every edge"):
        semantic_graph(scene_graph(), MASK, num_predicates=5)
    for value in (5, -1):
        graph = scene_graph(predicate=torch.tensor([0, 4, 2, value]))
        with pytest.raises(ValueError, match=f"SceneGraph.predicate: {value} at edge 3 of row 1, expected 0..4"):
            semantic_graph(graph, MASK, num_predicates=5)
        assert count(semantic_graph(graph, MASK)) == 8  # untyped edges do not look at it
    with pytest.raises(ValueError, match=r"edge 1 joins nodes \[4, 0\] of row 0, which has 2 nodes"):
        semantic_graph(scene_graph(), lengths_to_mask(torch.tensor([2, 3, 1]), WIDTH))
    with pytest.raises(ValueError, match="SceneGraph has 3 rows, the fragments have 2"):
        semantic_graph(scene_graph(), MASK[:2])
    with pytest.raises(ValueError, match="num_predicates: 0, expected a whole number, 1 or more"):
        semantic_graph(scene_graph(), MASK, num_predicates=0)


def test_values_on_other_devices_are_not_looked_at():
    graph = scene_graph(predicate=torch.tensor([9, 9, 9, 9]), confidence=torch.rand(4)).to("meta")
    assert count(semantic_graph(graph, MASK.to("meta"), num_predicates=2)) == 8
    assert spatial_graph(torch.full((3, 6, 4), 9.0, device="meta"), MASK.to("meta")).edge_weight.shape == (3, 6, 6)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_nearest_boxes_equal_loop(count):
    generator = torch.Generator().manual_seed(4)
    corner = torch.rand(3, 5, 2, generator=generator) * 0.7
    boxes, mask = torch.cat((corner, corner + 0.2), -1), torch.rand(3, 5, generator=generator) < 0.7
    mask[2] = torch.tensor([False, True, False, False, False])
    boxes[~mask] = float("nan")
    expected = set()
    for row in range(3):
        real = mask[row].nonzero()[:, 0].tolist()
        for i in real:
            far = {j: float((corner[row, i] - corner[row, j]).norm()) for j in real if j != i}
            expected |= {(row, i, j) for j in sorted(far, key=far.__getitem__)[:count]}
    row, ends = nearest_boxes(boxes, mask, count)
    assert len(row) == len(expected)
    assert set(zip(row.tolist(), *ends.tolist(), strict=True)) == expected


def test_equally_near_boxes_are_the_first_ones_whatever_the_padding():
    grid = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij"), -1).view(1, 36, 2) / 7
    boxes, mask = torch.cat((grid, grid + 0.1), -1), torch.ones(1, 36, dtype=torch.bool)
    row, ends = nearest_boxes(boxes, mask, 3)
    assert ends[:, :3].tolist() == [[0, 0, 0], [1, 6, 7]]
    for padding in (1, 9, 30):
        wide = torch.cat((boxes, torch.zeros(1, padding, 4)), 1)
        found = nearest_boxes(wide, torch.cat((mask, mask[:, :1].expand(1, padding) & False), 1), 3)
        assert torch.equal(found[0], row)
        assert torch.equal(found[1], ends)


def test_strongest_edges():
    row = torch.tensor([1, 0, 1, 1, 0, 1])
    confidence = torch.tensor([0.5, 0.9, 0.9, 0.2, 0.9, 0.5])
    graph = SceneGraph(torch.zeros(2, 6, dtype=torch.int64), row, 3, confidence=confidence)
    assert strongest_edges(graph).tolist() == [0, 1, 2, 3, 4, 5]
    assert strongest_edges(graph, 0.5).tolist() == [0, 1, 2, 4, 5]
    assert strongest_edges(graph, most=1).tolist() == [1, 2]  # of equal ones the first
    assert strongest_edges(graph, most=2).tolist() == [0, 1, 2, 4]
    assert strongest_edges(graph, 0.6, most=2).tolist() == [1, 2, 4]
    plain = SceneGraph(torch.zeros(2, 6, dtype=torch.int64), row, 3)
    assert strongest_edges(plain, 0.99, most=2).tolist() == [0, 1, 2, 4]
    assert strongest_edges(SceneGraph(torch.zeros(2, 0, dtype=torch.int64), row[:0], 3), most=1).tolist() == []
