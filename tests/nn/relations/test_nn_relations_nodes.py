"""VisualRelationGraph and TextualRelationGraph: the nodes, what they give back, and what there is without relations."""

import pytest
import torch
from helpers_relations import LENGTHS, MASK, PREDICATES, SIZE, WIDTH, geometry, moved, random_boxes, random_features
from helpers_relations import scene_graph as semantic
from torch.nn.functional import leaky_relu

from itmatch.batch import SceneGraph
from itmatch.nn import ClassEmbedding, TextualRelationGraph, VisualRelationGraph
from itmatch.spec import build

HEADS = 2


def visual(**options):
    torch.manual_seed(0)
    given = {"predicates": PREDICATES, "order": None, "num_heads": HEADS} | options
    return moved(VisualRelationGraph(SIZE, **given).double())


def textual(**options):
    torch.manual_seed(0)
    return moved(TextualRelationGraph(SIZE, num_heads=HEADS, **options).double())


def words():
    """Relations between words; the predicates are places of words, or -1."""
    return semantic(predicate=torch.tensor([2, -1, 4, 3, 1, 1]), confidence=None)


def nearest(boxes, row, count):
    """(subject, object) of the nearest boxes of a row."""
    centres = (boxes[row, : LENGTHS[row], :2] + boxes[row, : LENGTHS[row], 2:]) / 2
    pairs = []
    for i in range(LENGTHS[row]):
        others = sorted(
            (j for j in range(LENGTHS[row]) if j != i), key=lambda j: float((centres[i] - centres[j]).norm())
        )
        pairs += [(i, j) for j in others[:count]]
    return pairs


def node(module, first, known, second):
    return (first + second) / 2 + module.output(module.hidden(torch.cat((first, known, second))).relu())


def updated(module, features, relations):
    """GATv2 over the relations (subject, object, vector) at each fragment of one row, node by node."""
    found = features.clone()
    for i in range(len(features)):
        incident = [(vector, 0) for s, _, vector in relations if s == i]
        incident += [(vector, 1) for _, o, vector in relations if o == i]
        if not incident:
            continue
        conv, size = module.attention, SIZE // HEADS
        taken = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            values = [(conv.lin_l(vector))[part] for vector, _ in incident]
            logits = [
                conv.att[0, head]
                @ leaky_relu(value + conv.lin_r(features[i])[part] + conv.lin_edge.weight[part, place], 0.2)
                for value, (_, place) in zip(values, incident, strict=True)
            ]
            weights = torch.stack(logits).softmax(0)
            taken.append(sum(w * v for w, v in zip(weights, values, strict=True)))
        found[i] = features[i] + module.update(torch.cat(taken))
    return found


def edges_of(graph, row):
    return [k for k in range(len(graph.row)) if int(graph.row[k]) == row]


def check(found, features, per_row, module):
    for row, length in enumerate(LENGTHS):
        relations = per_row[row]
        assert int(found.nodes_mask[row].sum()) == len(relations)
        for place, (_, _, vector) in enumerate(relations):
            torch.testing.assert_close(found.nodes[row, place], vector)
        assert bool((found.nodes[row, len(relations) :] == 0).all())
        torch.testing.assert_close(found.features[row, :length], updated(module, features[row, :length], relations))
        assert bool((found.features[row, length:] == 0).all())


@pytest.mark.parametrize("options", [{}, {"neighbours": 2}, {"semantic": False, "neighbours": 1}, {"geometry": False},
                                     {"predicates": None}, {"min_confidence": 0.55}, {"max_relations": 2}])  # fmt: skip
def test_visual_graph_written_out(options):
    module, features, boxes, graph = visual(**options), random_features(), random_boxes(), semantic()
    per_row = []
    for row in range(len(LENGTHS)):
        edges = edges_of(graph, row) if module.semantic else []
        edges = [k for k in edges if float(graph.confidence[k]) >= module.min_confidence]
        if module.max_relations is not None:
            best = sorted(edges, key=lambda k: -float(graph.confidence[k]))[: module.max_relations]
            edges = [k for k in edges if k in best]
        ends = [(*graph.edge_index[:, k].tolist(), int(graph.predicate[k])) for k in edges]
        ends += [(i, j, -1) for i, j in nearest(boxes, row, module.neighbours)]
        relations = []
        for i, j, kind in ends:
            known = [torch.zeros(0, dtype=torch.double)]
            known += [] if module.predicates is None else [module.predicates.embed.weight[kind]]
            known += [geometry(boxes[row, i], boxes[row, j])] if module.geometry else []
            relations.append((i, j, node(module.relations, features[row, i], torch.cat(known), features[row, j])))
        per_row.append(relations)
    assert max(len(relations) for relations in per_row) > 1
    check(module(features, MASK, boxes, graph), features, per_row, module.relations)


@pytest.mark.parametrize("given", [True, False])
def test_textual_graph_written_out(given):
    module, features, graph = textual(), random_features(), words() if given else None
    per_row = []
    for row, length in enumerate(LENGTHS):
        ends = [(i, i + 1, -1) for i in range(length - 1)]
        if graph is not None:
            ends = [(*graph.edge_index[:, k].tolist(), int(graph.predicate[k])) for k in edges_of(graph, row)]
        relations = []
        for i, j, word in ends:
            predicate = module.no_word if word < 0 else features[row, word]
            relations.append((i, j, node(module.relations, features[row, i], predicate, features[row, j])))
        per_row.append(relations)
    check(module(features, MASK, None, graph), features, per_row, module.relations)


def test_the_update_is_the_identity_at_the_start():
    features = random_features(torch.float32).masked_fill(~MASK[..., None], 0)
    boxes = random_boxes(torch.float32)
    graph = semantic(confidence=None)
    assert torch.equal(VisualRelationGraph(SIZE, PREDICATES)(features, MASK, boxes, graph).features, features)
    assert torch.equal(TextualRelationGraph(SIZE)(features, MASK).features, features)


def test_the_order_of_edges_orders_the_nodes_alone():
    module, features, boxes, graph = visual(), random_features(), random_boxes(), semantic()
    turned = torch.tensor([5, 3, 0, 4, 2, 1])
    other = SceneGraph(
        graph.edge_index[:, turned], graph.row[turned], 3, graph.predicate[turned], graph.confidence[turned]
    )
    first, second = module(features, MASK, boxes, graph), module(features, MASK, boxes, other)
    torch.testing.assert_close(first.features, second.features)
    torch.testing.assert_close(first.nodes[0].sum(0), second.nodes[0].sum(0))


@pytest.mark.parametrize("kind", ["visual", "textual"])
def test_padding_plays_no_part(kind):
    module = visual(neighbours=2, order="raster") if kind == "visual" else textual()
    features, boxes, graph = random_features(), random_boxes(), semantic() if kind == "visual" else words()
    expected = module(features, MASK, boxes, graph)
    features[~MASK] = boxes[~MASK] = float("nan")
    leaf = features.requires_grad_()
    found = module(leaf, MASK, boxes, graph)
    for name in ("features", "nodes", "nodes_mask"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    (found.features.sum() + found.nodes.square().sum()).backward()
    assert bool((leaf.grad[~MASK] == 0).all())
    assert bool(leaf.grad.isfinite().all())
    shorter = module(features[1:2, :4].detach(), MASK[1:2, :4], boxes[1:2, :4], only_row(graph, 1))
    torch.testing.assert_close(shorter.nodes[0], expected.nodes[1, : shorter.nodes.shape[1]])


def only_row(graph, row):
    chosen = graph.row == row
    confidence = None if graph.confidence is None else graph.confidence[chosen]
    return SceneGraph(graph.edge_index[:, chosen], graph.row[chosen] * 0, 1, graph.predicate[chosen], confidence)


@pytest.mark.parametrize("kind", ["visual", "textual"])
def test_without_any_relation(kind):
    module = visual() if kind == "visual" else textual()
    nothing = torch.zeros(0, dtype=torch.int64)
    graph = SceneGraph(nothing.expand(2, 0), nothing, 3, nothing)
    features = random_features()
    found = module(features, MASK, random_boxes(), graph)
    assert found.nodes.shape == (3, 0, SIZE)
    assert found.nodes_mask.shape == (3, 0)
    assert torch.equal(found.features, features.masked_fill(~MASK[..., None], 0))
    if kind == "textual":
        assert textual(unparsed="none")(features, MASK).nodes.shape == (3, 0, SIZE)
        one_word = MASK[:, :1]
        assert module(features[:, :1], one_word).nodes.shape == (3, 0, SIZE)


def test_gradients_reach_every_parameter():
    for module, graph in ((visual(neighbours=1, order="given"), semantic()), (textual(), words())):
        found = module(random_features(), MASK, random_boxes(), graph)
        (found.features.square().sum() + found.nodes.square().sum()).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("kind", ["visual", "textual"])
def test_bfloat16_under_autocast(kind):
    module = (visual(order="given") if kind == "visual" else textual()).float()
    features, boxes = random_features(torch.float32), random_boxes(torch.float32)
    graph = semantic(confidence=None) if kind == "visual" else words()
    expected = module(features, MASK, boxes, graph)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(features, MASK, boxes, graph)
    torch.testing.assert_close(found.nodes.float(), expected.nodes, atol=0.1, rtol=0.1)
    torch.testing.assert_close(found.features.float(), expected.features, atol=0.2, rtol=0.2)


def test_predicates_with_names():
    table = ClassEmbedding(["on", "under", "beside"], dim=5)
    module = VisualRelationGraph(SIZE, table, num_heads=HEADS)
    again = build(module.spec)
    assert again.predicates.num_classes == 3
    again.load_state_dict(module.state_dict())


def test_what_is_missing():
    features, boxes = random_features(), random_boxes()
    with pytest.raises(ValueError, match="no graph, expected scene graphs"):
        visual()(features, MASK, boxes)
    with pytest.raises(ValueError, match="no boxes, expected"):
        visual()(features, MASK, None, semantic())
    with pytest.raises(ValueError, match="have no predicates"):
        visual()(features, MASK, boxes, semantic(predicate=None))
    with pytest.raises(ValueError, match=r"classes 0..2, expected -1 \(unknown\) .. 1"):
        visual(predicates=2)(features, MASK, boxes, semantic())
    with pytest.raises(ValueError, match=r"boxes: \[155.*as fractions"):
        visual()(features, MASK, boxes * 400, semantic())
    assert visual(geometry=False)(features, MASK, None, semantic()).nodes.shape == (3, 3, SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "not divisible by num_heads 3"),
        ({"min_confidence": 2}, "min_confidence: 2"),
        ({"max_relations": 0}, "max_relations: 0"),
        ({"neighbours": -1}, "neighbours: -1"),
        ({"semantic": False}, "semantic is off and neighbours is 0"),
        ({"order": "random"}, "'random'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        visual(**options)


def test_bad_settings_of_words():
    with pytest.raises(ValueError, match="'all', expected 'adjacent' or 'none'"):
        TextualRelationGraph(8, unparsed="all")
    assert max(LENGTHS) < WIDTH  # the helpers pad


def test_a_relation_begins_as_the_mean_of_its_ends():
    features = random_features(torch.float32)
    graph = semantic(confidence=None)
    found = VisualRelationGraph(SIZE, PREDICATES)(features, MASK, random_boxes(torch.float32), graph)
    first, second = graph.edge_index[:, 0].tolist()
    torch.testing.assert_close(found.nodes[0, 0], (features[0, first] + features[0, second]) / 2)
