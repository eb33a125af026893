"""SpatialSemanticGCN: loops over nodes and edges, both implementations, and what padding and order may not do."""

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

from itmatch.batch import SceneGraph
from itmatch.nn import SpatialSemanticGCN
from itmatch.nn.relations import spatial_semantic
from itmatch.ops import semantic_graph
from itmatch.spec import build

TYPED = {"num_predicates": PREDICATES}
COMPLETE = {"threshold": 0.0, "spatial_weight": "ones", "geometry": True}
FULL = {**TYPED, **COMPLETE, "affinity": True, "num_layers": 2}
MERGES = ["mean", "concat", "gate", "union"]
VARIANTS = [
    {},
    {"semantic": False},
    {"semantic": False, "geometry": True, "threshold": 0.1},
    {"semantic": False, "affinity": True, "threshold": 0.1},
    {"spatial": False, **TYPED, "inverse": False, "min_confidence": 0.5},
    *({"merge": merge} for merge in MERGES),
    *({"merge": merge, **FULL} for merge in MERGES),
    {"merge": "union", **TYPED},
    {"merge": "union", "geometry": True, "threshold": 0.1},
    {"merge": "union", "affinity": True, "threshold": 0.1, "min_confidence": 0.6},
]


def relation(implementation="auto", **kwargs):
    torch.manual_seed(0)
    return moved(SpatialSemanticGCN(SIZE, num_heads=2, implementation=implementation, **kwargs).double())


def run(module, features=None, boxes=None, graph=None, mask=MASK):
    """All inputs, but for those that a branch which is off would not look at."""
    boxes = random_boxes() if boxes is None else boxes
    graph = scene_graph() if graph is None else graph
    features = random_features() if features is None else features
    kinds = [kind for group in module.kinds.values() for kind in group]
    return module(features, mask, boxes if "spatial" in kinds else None, graph if "semantic" in kinds else None)


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_equals_loops(kwargs, implementation):
    module = relation(implementation, **kwargs)
    found, expected = run(module), in_loops(module, random_features(), random_boxes(), scene_graph())
    torch.testing.assert_close(found[MASK], expected[MASK])
    assert found[~MASK].eq(0).all()
    assert (found - random_features())[MASK].abs().max() > 0.1


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_implementations_agree_in_values_and_gradients(kwargs):
    results = []
    for implementation in ("dense", "sparse", "auto"):
        module, features = relation(implementation, **kwargs), random_features().requires_grad_()
        output = run(module, features)
        output.pow(3).sum().backward()
        results.append({"output": output, "input": features.grad, **{k: p.grad for k, p in module.named_parameters()}})
    for other in results[1:]:
        for name, expected in results[0].items():
            torch.testing.assert_close(other[name], expected, msg=lambda text, name=name: f"{name}: {text}")
    assert all(value.abs().max() > 0 for value in results[0].values())


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_gradcheck(implementation):
    module = relation(implementation, merge="gate", **FULL)
    check = lambda features: run(module, features)  # noqa: E731
    assert torch.autograd.gradcheck(check, random_features().requires_grad_())


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_identity_at_the_start_and_able_to_leave_it(kwargs, implementation):
    torch.manual_seed(0)
    module = SpatialSemanticGCN(SIZE, num_heads=2, implementation=implementation, **kwargs).double()
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
def test_nan_in_padded_places_changes_nothing(kwargs, implementation):
    module, results = relation(implementation, **kwargs), []
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
    module = relation(implementation, **kwargs)
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
    module, graph = relation(implementation, **kwargs), scene_graph()
    order = torch.tensor([3, 5, 0, 4, 2, 1])  # new place -> old place; real and padded places mixed
    edges = torch.tensor([4, 2, 5, 0, 3, 1])
    place = order.argsort()  # old place -> new place
    shuffled = SceneGraph(
        place[graph.edge_index[:, edges]],
        graph.row[edges],
        len(LENGTHS),
        graph.predicate[edges],
        graph.confidence[edges],
    )
    found = run(module, random_features()[:, order], random_boxes()[:, order], shuffled, MASK[:, order])
    torch.testing.assert_close(found, run(module)[:, order])


def message_of(implementation, graph, **kwargs):
    """Means that the branch computes for node features that tell the nodes apart: entry (n, i, j) is the share of j."""
    module = SpatialSemanticGCN(WIDTH, num_heads=1, implementation=implementation, **kwargs).double()
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
        ({"spatial": False, "inverse": False}, [(0, 2), (0, 4), (1, 0), (1, 1), (1, 3), (2, 0)]),
        ({"merge": "union"}, [(0, 4), (2, 0)]),
        ({"merge": "union", "affinity": True}, [(0, 4), (2, 0)]),
    ],
    ids=str,
)
def test_the_weights_of_a_node_sum_to_one(kwargs, alone, implementation):
    shares = message_of(implementation, None, threshold=0.1, **kwargs)
    expected = MASK.double()
    expected[tuple(zip(*alone, strict=True))] = 0
    torch.testing.assert_close(shares.sum(2), expected)
    assert shares.min() >= 0
    assert (shares.diagonal(dim1=1, dim2=2) == 0).all()


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_repeated_edges_count_each_time(implementation):
    shares = message_of(implementation, None, spatial=False, inverse=False)
    # node 2 of row 1 gets 0.6 from node 0, and 0.5 and 0.8 from node 3
    torch.testing.assert_close(shares[1, 2, [0, 3]], torch.tensor([0.6, 1.3]).double() / 1.9)
    assert shares[1, [0, 3]].eq(0).all()  # nothing flows back


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("merge", ["mean", "union"])
@pytest.mark.parametrize("inverse", [True, False])
def test_direction_of_semantic_edges(implementation, merge, inverse):
    graph = scene_graph()
    turned = SceneGraph(graph.edge_index.flip(0), graph.row, len(graph), graph.predicate, graph.confidence)
    typed = relation(implementation, merge=merge, inverse=inverse, **TYPED)
    assert (run(typed) - run(typed, graph=turned)).abs().max() > 0.1
    untyped = relation(implementation, merge=merge, inverse=inverse)
    assert torch.allclose(run(untyped), run(untyped, graph=turned)) is inverse


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
def test_which_box_is_left_shows_with_geometry_alone(implementation):
    mirrored = random_boxes()[..., [2, 1, 0, 3]]
    mirrored[..., [0, 2]] = 1 - mirrored[..., [0, 2]]
    blind = relation(implementation, semantic=False, threshold=0.0)
    torch.testing.assert_close(run(blind, boxes=mirrored), run(blind))
    seeing = relation(implementation, semantic=False, **COMPLETE)
    assert (run(seeing, boxes=mirrored) - run(seeing)).abs().max() > 0.1


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("kwargs", [{}, TYPED, {"affinity": True}], ids=str)
def test_nodes_without_edges_stay_as_they_are(implementation, kwargs):
    module = relation(implementation, spatial=False, **kwargs)
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
        module = relation(implementation, threshold=threshold, affinity=True, **kinds)
        features = (scale * random_features()).requires_grad_()
        output = run(module, features, graph=graph)
        output.sum().backward()
        results.append((output, features.grad))
    for found, expected in zip(*results, strict=True):
        assert found.isfinite().all()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("affinity", [True, False])
def test_edges_below_the_confidence_may_stay_with_weight_zero(implementation, affinity, monkeypatch):
    """As they do on a GPU."""
    module = relation(implementation, spatial=False, min_confidence=0.6, affinity=affinity, **TYPED)
    expected = run(module)
    monkeypatch.setattr(spatial_semantic, "semantic_graph", lambda g, m, _, **kwargs: semantic_graph(g, m, **kwargs))
    torch.testing.assert_close(run(module), expected)


@pytest.mark.parametrize("implementation", ["sparse", "dense"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.double])
def test_large_affinities_are_safe(implementation, dtype):
    module = relation(implementation, affinity=True, threshold=0.1, num_layers=2, **TYPED).to(dtype)
    features = (1e4 * random_features(dtype)).requires_grad_()
    output = run(module, features, random_boxes(dtype))
    output.sum().backward()
    for values in (output, features.grad, *(parameter.grad for parameter in module.parameters())):
        assert values.isfinite().all()
    assert not torch.equal(output[MASK], features[MASK])


@pytest.mark.parametrize("implementation", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("merge", MERGES)
def test_bf16_autocast_and_half_precision_inputs(implementation, merge):
    module = relation(implementation, merge=merge, **FULL).float()
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


@pytest.mark.parametrize("merge", MERGES)
def test_parameters_do_not_depend_on_the_implementation(merge):
    states = [relation(kind, merge=merge, **FULL).state_dict() for kind in ("auto", "sparse", "dense")]
    assert states[0].keys() == states[1].keys() == states[2].keys()
    other = relation("sparse", merge=merge, **FULL)
    moved(other, seed=1).load_state_dict(states[2])
    torch.testing.assert_close(run(other), run(relation("dense", merge=merge, **FULL)))


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_rebuilt_from_spec_and_copied(kwargs):
    module = relation("sparse", **kwargs)
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
    plain = SpatialSemanticGCN(8, spatial=False, num_predicates=5, inverse=False)
    assert plain.branches["semantic"].layers[0].factors[0].table.shape == (5, 8)


def test_dropout_acts_in_training_only():
    module = relation(dropout=0.5)
    assert not torch.equal(run(module), run(module))
    assert torch.equal(run(module.eval()), run(module))
    assert torch.equal(run(module), run(relation()))


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_nothing_waits_for_a_device(kwargs):
    """Tensors on "meta" have no values: whatever would look at one fails."""
    module = relation(**kwargs).to("meta")
    boxes, graph = random_boxes().to("meta"), scene_graph().to("meta")
    found = run(module, random_features().to("meta"), boxes, graph, MASK.to("meta"))
    assert found.shape == (*MASK.shape, SIZE)


@pytest.mark.parametrize(
    ("kwargs", "implementation"),
    [
        ({"semantic": False, "threshold": 1.0}, "SparseGraph"),
        ({"semantic": False, **COMPLETE}, "DenseGraph"),
        ({"spatial": False}, "SparseGraph"),
        ({"threshold": 0.0, "merge": "union"}, "DenseGraph"),
    ],
)
def test_auto_looks_at_the_density(kwargs, implementation, monkeypatch):
    made = []
    for name in ("SparseGraph", "DenseGraph"):
        real = getattr(spatial_semantic, name)
        monkeypatch.setattr(
            spatial_semantic, name, lambda *args, name=name, real=real: made.append(name) or real(*args)
        )
    mask = torch.ones(2, 40, dtype=torch.bool)
    corner = torch.arange(40.0)[:, None] / 80
    boxes = torch.cat((corner, corner * 0, corner + 0.4, corner * 0 + 1), 1).expand(2, 40, 4)
    graph = SceneGraph(torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 1]), 2)
    SpatialSemanticGCN(8, **kwargs)(torch.randn(2, 40, 8), mask, boxes, graph)
    assert made == [implementation]


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
    with pytest.raises(ValueError, match="merge: 'sum', expected 'mean', 'concat', 'gate' or 'union'"):
        SpatialSemanticGCN(8, merge="sum")
    with pytest.raises(ValueError, match="implementation: 'fast', expected 'auto', 'sparse' or 'dense'"):
        SpatialSemanticGCN(8, implementation="fast")
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
    with pytest.raises(ValueError, match=r"boxes: .* at row 0, place 0"):
        run(relation(), boxes=random_boxes() * 640)
