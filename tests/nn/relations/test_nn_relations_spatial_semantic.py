"""SpatialSemanticGCN: loops over nodes and edges, lists and matrices, and what padding and order may not do."""

import copy
import math
import pickle

import pytest
import torch
from helpers_relations import (
    LENGTHS,
    MASK,
    PREDICATES,
    SIZE,
    WIDTH,
    in_loops,
    moved,
    random_boxes,
    random_features,
    scene_graph,
)
from torch_geometric.nn import MessagePassing

from itmatch.batch import SceneGraph
from itmatch.nn import SpatialSemanticGCN
from itmatch.nn.relations import spatial_semantic
from itmatch.ops import semantic_graph
from itmatch.spec import build

TYPED = {"num_predicates": PREDICATES}
COMPLETE = {"threshold": 0.0, "spatial_weight": "ones", "geometry": True}
FULL = {**TYPED, **COMPLETE, "num_layers": 2}
VARIANTS = [
    {},
    {"semantic": False},
    {"semantic": False, "geometry": True, "threshold": 0.1},
    {"spatial": False, **TYPED, "min_confidence": 0.5},
    {"geometry": True, "threshold": 0.1, "min_confidence": 0.6},
    TYPED,
    FULL,
]
SPARSE_BELOW = {"sparse": math.inf, "dense": 0.0}  # share of edges


def force(monkeypatch, implementation):
    """Lists, or matrices, whatever the number of edges."""
    if implementation in SPARSE_BELOW:
        share = SPARSE_BELOW[implementation]
        monkeypatch.setattr(spatial_semantic, "SPARSE_BELOW", {"plain": share, "factors": share})


@pytest.fixture(autouse=True)
def _implementation(request, monkeypatch):
    if "implementation" in request.fixturenames:
        force(monkeypatch, request.getfixturevalue("implementation"))


def relation(**kwargs):
    torch.manual_seed(0)
    return moved(SpatialSemanticGCN(SIZE, num_heads=2, **kwargs).double())


def run(module, features=None, boxes=None, graph=None, mask=MASK):
    """All inputs, but for those that a branch which is off would not look at."""
    boxes = random_boxes() if boxes is None else boxes
    graph = scene_graph() if graph is None else graph
    features = random_features() if features is None else features
    kinds = list(module.branches)
    return module(features, mask, boxes if "spatial" in kinds else None, graph if "semantic" in kinds else None)


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_equals_loops(kwargs, implementation):
    module = relation(**kwargs)
    found, expected = run(module), in_loops(module, random_features(), random_boxes(), scene_graph())
    torch.testing.assert_close(found[MASK], expected[MASK])
    assert found[~MASK].eq(0).all()
    assert (found - random_features())[MASK].abs().max() > 0.1


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_implementations_agree_in_values_and_gradients(kwargs, monkeypatch):
    results = []
    for implementation in ("auto", "dense", "sparse"):
        force(monkeypatch, implementation)
        module, features = relation(**kwargs), random_features().requires_grad_()
        output = run(module, features)
        output.pow(3).sum().backward()
        results.append({"output": output, "input": features.grad, **{k: p.grad for k, p in module.named_parameters()}})
    for other in results[1:]:
        for name, expected in results[0].items():
            torch.testing.assert_close(other[name], expected, msg=lambda text, name=name: f"{name}: {text}")
    assert all(value.abs().max() > 0 for value in results[0].values())


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_gradcheck(implementation):
    module = relation(**FULL)
    check = lambda features: run(module, features)  # noqa: E731
    assert torch.autograd.gradcheck(check, random_features().requires_grad_())


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_identity_at_the_start_and_able_to_leave_it(kwargs, implementation):
    torch.manual_seed(0)
    module = SpatialSemanticGCN(SIZE, num_heads=2, **kwargs).double()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    start = {name: value.clone() for name, value in module.named_parameters()}
    for step in range(3):
        output = run(module)
        if step == 0:
            assert torch.equal(output[MASK], random_features()[MASK])
        optimizer.zero_grad()
        (output * random_features(seed=1)).sum().backward()
        for branch in module.branches.values():
            assert all(layer.output.weight.grad.abs().max() > 0 for layer in branch.layers)
        optimizer.step()
    assert [name for name, value in module.named_parameters() if torch.equal(value, start[name])] == []


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_nan_in_padded_positions_changes_nothing(kwargs, implementation):
    module, results = relation(**kwargs), []
    for value in (0.0, math.nan, math.inf):
        module.zero_grad()
        padding = ~MASK[..., None]
        features = random_features().masked_fill(padding, value).requires_grad_()
        output = run(module, features, random_boxes().masked_fill(padding, value))
        output.pow(3).sum().backward()
        assert features.grad[~MASK].eq(0).all()
        results.append([output, features.grad, *(parameter.grad for parameter in module.parameters())])
        assert all(value.isfinite().all() for value in results[-1])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_more_padding_and_other_rows_change_nothing(kwargs, implementation):
    module = relation(**kwargs)
    expected, graph = run(module), scene_graph()
    wide = torch.nn.functional.pad(MASK, (0, 3))
    pad = lambda values: torch.nn.functional.pad(values, (0, 0, 0, 3), value=math.nan)  # noqa: E731
    found = run(module, pad(random_features()), pad(random_boxes()), mask=wide)
    torch.testing.assert_close(found[:, :WIDTH], expected)
    for row, length in enumerate(LENGTHS):
        here = graph.row == row
        alone = SceneGraph(
            graph.edge_index[:, here], graph.row[here] * 0, 1, graph.predicate[here], graph.confidence[here]
        )
        features, boxes = random_features()[row : row + 1, :length], random_boxes()[row : row + 1, :length]
        found = run(module, features, boxes, alone, mask=torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(found[0], expected[row, :length])


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_order_of_regions_and_edges_is_kept(kwargs, implementation):
    module, graph = relation(**kwargs), scene_graph()
    order = torch.tensor([3, 5, 0, 4, 2, 1])  # new position -> old position; real and padded ones mixed
    edges = torch.tensor([4, 2, 5, 0, 3, 1])
    place = order.argsort()  # old position -> new position
    shuffled = SceneGraph(
        place[graph.edge_index[:, edges]],
        graph.row[edges],
        len(LENGTHS),
        graph.predicate[edges],
        graph.confidence[edges],
    )
    found = run(module, random_features()[:, order], random_boxes()[:, order], shuffled, MASK[:, order])
    torch.testing.assert_close(found, run(module)[:, order])


def message_of(graph, **kwargs):
    """Means that the branch computes for node features that tell the nodes apart: entry (n, i, j) is the share of j."""
    module = SpatialSemanticGCN(WIDTH, num_heads=1, **kwargs).double()
    (layer,) = next(iter(module.branches.values())).layers
    torch.nn.init.eye_(layer.value.weight)
    seen = []
    layer.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    run(module, torch.eye(WIDTH).double().expand(len(LENGTHS), -1, -1), graph=graph)
    return seen[0]


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize(
    ("kwargs", "alone"),
    [
        ({"semantic": False}, [(0, 3), (0, 4), (1, 3), (2, 0)]),
        ({"spatial": False}, [(0, 2), (0, 4), (1, 1), (2, 0)]),
    ],
    ids=str,
)
def test_the_weights_of_a_node_sum_to_one(kwargs, alone, implementation):
    shares = message_of(None, threshold=0.1, **kwargs)
    expected = MASK.double()
    expected[tuple(zip(*alone, strict=True))] = 0
    torch.testing.assert_close(shares.sum(2), expected)
    assert shares.min() >= 0
    assert (shares.diagonal(dim1=1, dim2=2) == 0).all()


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_repeated_edges_count_each_time(implementation):
    shares = message_of(None, spatial=False)
    # node 2 of row 1 gets 0.6 from node 0, and 0.5 and 0.8 from node 3
    torch.testing.assert_close(shares[1, 2, [0, 3]], torch.tensor([0.6, 1.3]).double() / 1.9)
    torch.testing.assert_close(shares[1, 3, 2], torch.tensor(1.0).double())  # messages flow back too


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_direction_of_semantic_edges_shows_with_types_alone(implementation):
    graph = scene_graph()
    turned = SceneGraph(graph.edge_index.flip(0), graph.row, len(graph), graph.predicate, graph.confidence)
    typed, untyped = relation(**TYPED), relation()
    assert (run(typed) - run(typed, graph=turned)).abs().max() > 0.1
    torch.testing.assert_close(run(untyped), run(untyped, graph=turned))


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_which_box_is_left_shows_with_geometry_alone(implementation):
    mirrored = random_boxes()[..., [2, 1, 0, 3]]
    mirrored[..., [0, 2]] = 1 - mirrored[..., [0, 2]]
    blind = relation(semantic=False, threshold=0.0)
    torch.testing.assert_close(run(blind, boxes=mirrored), run(blind))
    seeing = relation(semantic=False, **COMPLETE)
    assert (run(seeing, boxes=mirrored) - run(seeing)).abs().max() > 0.1


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("kwargs", [{}, TYPED], ids=str)
def test_nodes_without_edges_stay_as_they_are(implementation, kwargs):
    module = relation(spatial=False, **kwargs)
    found, features = run(module), random_features()
    assert torch.equal(found[0, 2], features[0, 2])
    assert torch.equal(found[2, 0], features[2, 0])
    assert (found - features)[0, 0].abs().max() > 0.1
    nothing = torch.zeros(0, dtype=torch.int64)
    for empty in (SceneGraph(nothing.expand(2, 0), nothing, 3), scene_graph(confidence=torch.zeros(6))):
        assert torch.equal(run(module, graph=empty)[MASK], features[MASK])


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("kind", ["spatial", "semantic"])
def test_edges_of_weight_zero_carry_nothing(implementation, scale, kind):
    results, confidence = [], torch.tensor([0.0, 0.9, 0.3, 0.6, 0.0, 0.8]).double()
    for threshold in (0.0, 1e-9):  # all spatial edges, many of IoU 0; only the others
        here = confidence >= threshold
        full = scene_graph(confidence=confidence)
        graph = SceneGraph(full.edge_index[:, here], full.row[here], 3, full.predicate[here], confidence[here])
        kinds = {"spatial": kind == "spatial", "semantic": kind == "semantic"}
        module = relation(threshold=threshold, **kinds)
        features = (scale * random_features()).requires_grad_()
        output = run(module, features, graph=graph)
        output.sum().backward()
        results.append((output, features.grad))
    for found, expected in zip(*results, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_edges_below_the_confidence_may_stay_with_weight_zero(implementation, monkeypatch):
    """As they do on a GPU."""
    module = relation(spatial=False, min_confidence=0.6, **TYPED)
    expected = run(module)
    monkeypatch.setattr(spatial_semantic, "semantic_graph", lambda g, m, _, **kwargs: semantic_graph(g, m, **kwargs))
    torch.testing.assert_close(run(module), expected)


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
def test_bf16_autocast_and_half_precision_inputs(implementation):
    module = relation(**FULL).float()
    features, boxes = random_features(torch.float32), random_boxes(torch.float32)
    expected = run(module, features, boxes)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(module, features, boxes)
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.15, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    half = run(module, features, random_boxes(torch.float16))
    torch.testing.assert_close(half, expected, atol=2e-2, rtol=0)
    low = run(copy.deepcopy(module).bfloat16(), features.bfloat16(), boxes)
    assert low.dtype is torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.15, rtol=0.05)


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_rebuilt_from_spec_and_copied(kwargs, monkeypatch):
    force(monkeypatch, "sparse")
    module = relation(**kwargs)
    expected = run(module)
    again = build(module.spec, SpatialSemanticGCN).double()
    again.load_state_dict(module.state_dict())
    assert again.spec == module.spec
    for other in (again, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(run(other), expected)


def test_types_differ_from_the_start():
    (layer,) = SpatialSemanticGCN(8, spatial=False, num_predicates=100).branches["semantic"].layers
    table = layer.factors[0].table
    assert table.shape == (200, 8)
    assert abs(float(table.detach().mean()) - 1) < 0.1
    assert abs(float(table.detach().std()) - 1) < 0.1


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_nothing_waits_for_a_device(kwargs):
    """Tensors on "meta" have no values: whatever would look at one fails."""
    module = relation(**kwargs).to("meta")
    boxes, graph = random_boxes().to("meta"), scene_graph().to("meta")
    found = run(module, random_features().to("meta"), boxes, graph, MASK.to("meta"))
    assert found.shape == (*MASK.shape, SIZE)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"semantic": False, "threshold": 1.0}, 1),
        ({"semantic": False, **COMPLETE}, 0),
        ({"spatial": False}, 1),
        ({"threshold": 0.0}, 1),  # the semantic edges
    ],
)
def test_few_edges_are_messages_of_torch_geometric(kwargs, expected):
    mask = torch.ones(2, 40, dtype=torch.bool)
    corner = torch.arange(40.0)[:, None] / 80
    boxes = torch.cat((corner, corner * 0, corner + 0.4, corner * 0 + 1), 1).expand(2, 40, 4)
    graph = SceneGraph(torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 1]), 2)
    module, seen = SpatialSemanticGCN(8, **kwargs), []
    for part in module.modules():
        if isinstance(part, MessagePassing):
            part.register_propagate_forward_pre_hook(lambda *inputs: seen.append(inputs))
    module(torch.randn(2, 40, 8), mask, boxes, graph)
    assert len(seen) == expected


def test_missing_inputs():
    module, features = relation(), random_features()
    with pytest.raises(ValueError, match=r"no boxes, .* need spatial=False"):
        module(features, MASK, None, scene_graph())
    with pytest.raises(ValueError, match=r"no graph, .* need semantic=False"):
        module(features, MASK, random_boxes(), None)
    assert relation(semantic=False)(features, MASK, random_boxes()).shape == features.shape
    assert relation(spatial=False)(features, MASK, None, scene_graph()).shape == features.shape


def test_errors():
    with pytest.raises(ValueError, match="spatial and semantic are both off"):
        SpatialSemanticGCN(8, spatial=False, semantic=False)
    with pytest.raises(ValueError, match="SpatialSemanticGCN: embed_dim 8 is not divisible by num_heads 3"):
        SpatialSemanticGCN(8, num_heads=3)
    with pytest.raises(ValueError, match=r"SpatialSemanticGCN.num_layers: 0, expected a whole number, 1 or more"):
        SpatialSemanticGCN(8, num_layers=0)
    for wrong in ({"threshold": 1.5}, {"spatial_weight": "area"}, {"num_predicates": 0}, {"min_confidence": 2.0}):
        with pytest.raises(ValueError, match=next(iter(wrong)).removeprefix("spatial_")):
            SpatialSemanticGCN(8, **wrong)
    with pytest.raises(ValueError, match="SpatialSemanticGCN: fragments of size 7, expected its embed_dim 8"):
        run(relation(), random_features()[..., :7])
    with pytest.raises(ValueError, match=r"SceneGraph.predicate: 2 at edge 0 of row 0, expected 0..1"):
        run(relation(num_predicates=2))
    with pytest.raises(ValueError, match=r"boxes: .* at row 0, position 0"):
        run(relation(), boxes=random_boxes() * 640)
