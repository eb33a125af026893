"""The dataclasses of tensors: what they refuse, what they let through, and how they move."""

import dataclasses

import pytest
import torch

from itmatch.batch import Batch, Captions, Fragments, Regions, SceneGraph

NAN, INF = float("nan"), float("inf")
MASK = torch.tensor([[True, True, True], [True, False, False]])


def features(size=4):
    return torch.arange(2 * 3 * size, dtype=torch.float32).view(2, 3, size)


def graph(**changes):
    fields = {
        "edge_index": torch.tensor([[0, 1, 0], [2, 0, 0]]),
        "row": torch.tensor([0, 0, 1]),
        "num_rows": 2,
        "predicate": torch.tensor([3, 1, 4]),
        "confidence": torch.tensor([0.0, 0.5, 1.0]),
    }
    return SceneGraph(**{**fields, **changes})


def regions(**changes):
    fields = {
        "features": features(),
        "mask": MASK,
        "boxes": torch.rand(2, 3, 4),
        "labels": torch.tensor([[1, 2, 3], [4, -1, -1]]),
        "graph": graph(),
    }
    return Regions(**{**fields, **changes})


def words(**changes):
    return graph(**{"predicate": torch.tensor([2, -1, 0]), **changes})


def captions(**changes):
    return Captions(**{"input_ids": torch.tensor([[5, 6, 7], [8, 0, 0]]), "mask": MASK, "graph": words(), **changes})


def batch(**changes):
    fields = {
        "regions": regions(),
        "captions": captions(),
        "image_index": torch.tensor([7, 9]),
        "caption_index": torch.tensor([3, 1]),
        "caption_image": torch.tensor([9, 7]),
    }
    return Batch(**{**fields, **changes})


def with_value(tensor, place, value):
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


BOXES = torch.rand(2, 3, 4)
IDS = torch.tensor([[5, 6, 7], [8, 0, 0]])
REFUSED = {
    "edge_index of one row": (lambda: graph(edge_index=torch.zeros(1, 3, dtype=torch.int64)), r"edge_index: shape"),
    "edge_index flat": (lambda: graph(edge_index=torch.zeros(3, dtype=torch.int64)), r"edge_index: shape \(3,\)"),
    "edge_index a scalar": (lambda: graph(edge_index=torch.tensor(3)), r"edge_index: shape \(\)"),
    "edge_index of floats": (lambda: graph(edge_index=torch.zeros(2, 3)), r"edge_index: dtype torch.float32"),
    "edge_index of int32": (lambda: graph(edge_index=torch.zeros(2, 3, dtype=torch.int32)), r"edge_index: dtype"),
    "too few graph rows": (lambda: graph(row=torch.tensor([0, 1])), r"SceneGraph.row: shape \(2,\), expected \(3,\)"),
    "graph rows of int32": (lambda: graph(row=torch.zeros(3, dtype=torch.int32)), r"SceneGraph.row: dtype"),
    "graph row beyond": (lambda: graph(row=torch.tensor([0, 0, 2])), r"SceneGraph.row: 0..2 outside 0..1"),
    "graph row below": (lambda: graph(row=torch.tensor([-1, 0, 1])), r"SceneGraph.row: -1..1 outside 0..1"),
    "negative node": (lambda: graph(edge_index=torch.tensor([[0, 1, 0], [-1, 0, 0]])), r"edge_index: negative node"),
    "too few predicates": (lambda: graph(predicate=torch.tensor([1])), r"predicate: shape \(1,\)"),
    "predicates of floats": (lambda: graph(predicate=torch.zeros(3)), r"predicate: dtype"),
    "too few confidences": (lambda: graph(confidence=torch.zeros(2)), r"confidence: shape"),
    "confidence of integers": (lambda: graph(confidence=torch.ones(3, dtype=torch.int64)), r"confidence: dtype"),
    "confidence above 1": (lambda: graph(confidence=torch.tensor([0, 1.1, 0])), r"confidence: .*outside \[0, 1\]"),
    "confidence below 0": (lambda: graph(confidence=torch.tensor([0, -0.1, 0])), r"confidence: .*outside \[0, 1\]"),
    "confidence NaN": (lambda: graph(confidence=torch.tensor([0, NAN, 0])), r"confidence: .*\(or NaN\)"),
    "features flat": (lambda: regions(features=torch.zeros(2, 3)), r"Regions.features: .*three dimensions"),
    "features of integers": (lambda: regions(features=features().long()), r"Regions.features: dtype torch.int64"),
    "features NaN": (
        lambda: regions(features=with_value(features(), (0, 2, 1), NAN)),
        r"Regions.features: .* row 0, place 2",
    ),
    "features inf": (
        lambda: regions(features=with_value(features(), (1, 0, 3), -INF)),
        r"Regions.features: .* row 1, place 0",
    ),
    "mask too short": (lambda: regions(mask=MASK[:, :2]), r"Regions.mask: shape \(2, 2\), expected \(2, 3\)"),
    "mask of integers": (lambda: regions(mask=MASK.long()), r"Regions.mask: .*torch.int64.*torch.bool"),
    "image without region": (lambda: regions(mask=with_value(MASK, (1, 0), False)), r"Regions: row 1 has no valid"),
    "boxes of three": (lambda: regions(boxes=BOXES[..., :3]), r"Regions.boxes: shape \(2, 3, 3\)"),
    "boxes of integers": (lambda: regions(boxes=BOXES.long()), r"Regions.boxes: dtype"),
    "boxes NaN": (lambda: regions(boxes=with_value(BOXES, (0, 1, 2), NAN)), r"Regions.boxes: .* row 0, place 1"),
    "too few labels": (lambda: regions(labels=torch.zeros(2, 2, dtype=torch.int64)), r"Regions.labels: shape"),
    "labels of floats": (lambda: regions(labels=torch.zeros(2, 3)), r"Regions.labels: dtype"),
    "edge to padding": (
        lambda: regions(graph=graph(edge_index=torch.tensor([[0, 1, 0], [2, 0, 1]]))),
        r"edge 2 joins nodes \[0, 1\] of row 1, which has 1 nodes",
    ),
    "edge outside": (
        lambda: regions(graph=graph(edge_index=torch.tensor([[0, 3, 0], [2, 0, 0]]))),
        r"edge 1 joins nodes \[3, 0\] of row 0, which has 3 nodes",
    ),
    "graph of other rows": (lambda: regions(graph=graph(num_rows=5)), r"SceneGraph has 5 rows, the fragments have 2"),
    "ids of other shape": (lambda: captions(input_ids=IDS[:, :2]), r"Captions.input_ids: shape \(2, 2\)"),
    "ids of int32": (lambda: captions(input_ids=IDS.int()), r"Captions.input_ids: dtype torch.int32"),
    "negative id": (lambda: captions(input_ids=with_value(IDS, (0, 1), -1)), r"Captions.input_ids: negative"),
    "caption without word": (lambda: captions(mask=with_value(MASK, (0,), False)), r"Captions: row 0 has no valid"),
    "caption mask of integers": (lambda: captions(mask=MASK.long()), r"Captions.mask: .*expected .*torch.bool"),
    "caption mask of three dimensions": (
        lambda: Captions(IDS[..., None], MASK[..., None]),
        r"Captions.mask: .*expected two dimensions",
    ),
    "edge to padded word": (
        lambda: captions(graph=words(edge_index=torch.tensor([[0, 1, 0], [2, 0, 2]]))),
        r"edge 2 joins nodes \[0, 2\] of row 1",
    ),
    "predicate at a padded word": (
        lambda: captions(graph=words(predicate=torch.tensor([2, -1, 1]))),
        r"Captions.graph: edge 2 has its predicate at token 1 of row 1, which has 1 tokens",
    ),
    "predicate beyond": (
        lambda: captions(graph=words(predicate=torch.tensor([3, -1, 0]))),
        r"Captions.graph: edge 0 has its predicate at token 3 of row 0",
    ),
    "predicate below": (
        lambda: captions(graph=words(predicate=torch.tensor([2, -2, 0]))),
        r"Captions.graph: edge 1 has its predicate at token -2 of row 0",
    ),
    "fragments NaN": (lambda: Fragments(with_value(features(), (0, 0, 0), NAN), MASK), r"Fragments.features: NaN"),
    "fragments without real": (lambda: Fragments(features(), MASK & False), r"Fragments: row 0 has no valid"),
    "pooled of other rows": (
        lambda: Fragments(features(), MASK, torch.zeros(3, 4)),
        r"Fragments.pooled: shape \(3, 4\)",
    ),
    "pooled of three dimensions": (
        lambda: Fragments(features(), MASK, torch.zeros(2, 4, 1)),
        r"Fragments.pooled: shape",
    ),
    "pooled a scalar": (lambda: Fragments(features(), MASK, torch.tensor(0.0)), r"Fragments.pooled: shape \(\)"),
    "pooled of integers": (lambda: Fragments(features(), MASK, torch.zeros(2, 4).long()), r"Fragments.pooled: dtype"),
    "pooled NaN": (
        lambda: Fragments(features(), MASK, torch.full((2, 4), NAN)),
        r"Fragments.pooled: NaN or inf at row 0",
    ),
    "images without index": (lambda: batch(image_index=None), r"Batch.image_index goes with its data"),
    "index without images": (lambda: batch(regions=None), r"Batch.image_index goes with its data"),
    "captions without index": (lambda: batch(caption_index=None), r"Batch.caption_index goes with"),
    "captions without image": (lambda: batch(caption_image=None), r"Batch.caption_image goes with"),
    "image_index too long": (
        lambda: batch(image_index=torch.arange(3)),
        r"Batch.image_index: shape \(3,\), expected \(2,\)",
    ),
    "caption_index of int32": (lambda: batch(caption_index=torch.arange(2).int()), r"Batch.caption_index: dtype"),
    "caption_image of floats": (lambda: batch(caption_image=torch.zeros(2)), r"Batch.caption_image: dtype"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("garbage", [NAN, INF, -INF])
def test_padded_places_are_not_read(garbage):
    dirty = with_value(features(), (1, 2, 0), garbage)
    boxes = with_value(BOXES, (1, 1, 3), garbage)
    assert regions(features=dirty, boxes=boxes).features is dirty
    assert Fragments(dirty, MASK).features is dirty
    assert captions(input_ids=with_value(IDS, (1, 2), -100)).input_ids[1, 2] == -100


def test_a_sum_that_overflows_is_no_error():
    huge = torch.full((1, 2, 2), 3e38)
    assert not torch.isfinite(huge.sum())
    Fragments(huge, torch.ones(1, 2, dtype=torch.bool))
    Fragments(torch.full((1, 2, 2), 6e4, dtype=torch.float16), torch.ones(1, 2, dtype=torch.bool))
    opposite = torch.tensor([[[INF, -INF]]])
    with pytest.raises(ValueError, match="row 0, place 0"):
        Fragments(opposite, torch.ones(1, 1, dtype=torch.bool))


def test_a_graph_may_have_no_edges():
    empty = SceneGraph(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 2)
    assert len(regions(graph=empty).graph) == 2


def test_lengths():
    assert (len(graph()), len(regions()), len(captions()), len(Fragments(features(), MASK))) == (2, 2, 2, 2)


def leaves(data, path=""):
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if dataclasses.is_dataclass(value):
            yield f"{path}{field.name}", type(value)
            yield from leaves(value, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", value


EXAMPLES = {
    "full": batch,
    "images": lambda: Batch(regions=regions(boxes=None, labels=None, graph=None), image_index=torch.arange(2)),
    "captions": lambda: batch(regions=None, image_index=None),
    "fragments": lambda: Fragments(features(), MASK, torch.ones(2, 4)),
    "fragments without pooled": lambda: Fragments(features(), MASK),
    "untyped graph": lambda: graph(predicate=None, confidence=None),
}
MOVES = {"to": lambda data: data.to("cpu"), "cpu": lambda data: data.cpu(), "detach": lambda data: data.detach()}
if torch.cuda.is_available():
    MOVES["pin_memory"] = lambda data: data.pin_memory()
    MOVES["cuda"] = lambda data: data.to("cuda", non_blocking=True).cpu()


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("move", MOVES)
def test_moving_keeps_types_and_none(name, move):
    data = EXAMPLES[name]()
    moved = MOVES[move](data)
    assert type(moved) is type(data)
    assert moved is not data
    for (path, found), (_, expected) in zip(leaves(moved), leaves(data), strict=True):
        if isinstance(expected, torch.Tensor):
            assert found.dtype == expected.dtype, path
            assert torch.equal(found, expected), path
        else:
            assert found == expected, path


def test_to_really_moves():
    moved = batch().to("meta")
    tensors = [value for _, value in leaves(moved) if isinstance(value, torch.Tensor)]
    assert len(tensors) == 4 + 4 + 2 + 4 + 3
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.regions.graph.num_rows == 2


def test_detach_cuts_the_graph():
    attached = Fragments(features().requires_grad_(), MASK, torch.ones(2, 4, requires_grad=True))
    assert not attached.detach().features.requires_grad
    assert not attached.detach().pooled.requires_grad
    assert attached.features.requires_grad


@pytest.mark.parametrize("make", [graph, regions, captions, batch, EXAMPLES["fragments"]])
def test_lightning_may_convert_what_is_inside(make):
    """As its plugins for bf16-true and FSDP do with whole batches; frozen dataclasses they refuse."""
    from lightning.fabric.utilities.apply_func import apply_to_collection

    data = make()
    halved = apply_to_collection(data, torch.Tensor, lambda x: x.half() if x.is_floating_point() else x)
    assert type(halved) is type(data)
    assert halved is not data

    def values(of):
        for field in dataclasses.fields(of):
            value = getattr(of, field.name)
            if dataclasses.is_dataclass(value):
                yield from values(value)
            elif isinstance(value, torch.Tensor):
                yield value

    for before, after in zip(values(data), values(halved), strict=True):
        assert after.dtype == (torch.float16 if before.is_floating_point() else before.dtype)


def test_rows():
    fragments = Fragments(features(), MASK, torch.tensor([[1.0] * 4, [2.0] * 4]))
    for rows in (slice(1, 2), torch.tensor([1]), torch.tensor([False, True])):
        row = fragments[rows]
        assert torch.equal(row.features, features()[1:])
        assert torch.equal(row.mask, MASK[1:])
        assert row.pooled.tolist() == [[2.0] * 4]
    assert Fragments(features(), MASK)[:1].pooled is None
    assert fragments[torch.tensor([1, 0, 1])].features[:, 0, 0].tolist() == [12.0, 0.0, 12.0]


def test_cat_pads_to_the_longest():
    short = Fragments(torch.ones(1, 1, 4, requires_grad=True), torch.ones(1, 1, dtype=torch.bool))
    whole = Fragments.cat([short, Fragments(features(), MASK), short])
    assert whole.mask.tolist() == [[True, False, False], *MASK.tolist(), [True, False, False]]
    assert torch.equal(whole.features[1:3], features())
    assert whole.features[0].tolist() == [[1.0] * 4, [0.0] * 4, [0.0] * 4]
    assert whole.pooled is None
    whole.features.sum().backward()
    assert short.features.grad.eq(2).all()  # the gradient passes through


def test_cat_of_pooled():
    part = Fragments(features(), MASK, torch.tensor([[1.0] * 4, [2.0] * 4]))
    assert Fragments.cat([part, part[:1]]).pooled[:, 0].tolist() == [1, 2, 1]
    with pytest.raises(ValueError, match="some parts have pooled and some have none"):
        Fragments.cat([part, Fragments(features(), MASK)])
    with pytest.raises(ValueError, match="no parts"):
        Fragments.cat([])


def test_a_mask_that_is_left_out_says_that_all_is_real():
    for data in (Fragments(features()), Regions(features()), Captions(torch.ones(2, 3, dtype=torch.int64))):
        assert data.mask.tolist() == [[True] * 3] * 2
    with pytest.raises(ValueError, match="three dimensions"):
        Fragments(torch.zeros(2, 3))


def test_repr_shows_shapes():
    assert repr(Fragments(features(), MASK)) == "Fragments(features (2, 3, 4) float32, mask (2, 3) bool)"
    graph = SceneGraph(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 2)
    shown = "graph=SceneGraph(edge_index (2, 0) int64, row (0,) int64, num_rows=2)"
    assert repr(Regions(features(), graph=graph)).endswith(f"mask (2, 3) bool, {shown})")


def test_to_a_dtype_changes_floating_point_numbers_alone():
    graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 2, confidence=torch.tensor([0.5]))
    regions = Regions(features(), MASK, labels=torch.zeros(2, 3, dtype=torch.int64), graph=graph).to(
        dtype=torch.float64
    )
    assert regions.features.dtype == regions.graph.confidence.dtype == torch.float64
    assert regions.mask.dtype == torch.bool
    assert regions.labels.dtype == regions.graph.row.dtype == torch.int64


def with_relations():
    mask = torch.tensor([[True, True, True, False], [True, True, True, True], [False, True, False, False]])
    relation = torch.tensor([[False, False, True, True], [True, False, True, False], [False, False, False, True]])
    return Fragments(torch.arange(24.0).view(3, 4, 2), mask, torch.ones(3, 2), relation)


def test_objects_and_relations_apart():
    fragments = with_relations()
    objects, relations = fragments.objects(), fragments.relations()
    assert torch.equal(objects.mask, fragments.mask & ~fragments.is_relation)
    assert torch.equal(relations.mask, fragments.mask & fragments.is_relation)
    assert [row[mask][:, 0].tolist() for row, mask in zip(objects.features, objects.mask, strict=True)] == [
        [0, 2],
        [10, 14],
        [18],
    ]
    assert [row[mask][:, 0].tolist() for row, mask in zip(relations.features, relations.mask, strict=True)] == [
        [4],
        [8, 12],
        [],
    ]
    assert objects.is_relation is None
    assert relations.is_relation is None
    plain = Fragments(features(), MASK)
    assert plain.objects() is plain
    assert plain.relations() is None


def test_relations_go_where_the_fragments_go():
    fragments = with_relations()
    assert torch.equal(fragments[1:].is_relation, fragments.is_relation[1:])
    short = fragments[:1]._map(lambda value: value[:, :3] if value.shape[:2] == (1, 4) else value)
    both = Fragments.cat([short, fragments])
    assert both.is_relation.shape == both.mask.shape == (4, 4)
    assert torch.equal(both[1:].is_relation, fragments.is_relation)
    with pytest.raises(ValueError, match="some parts have is_relation and some have none"):
        Fragments.cat([fragments, Fragments(torch.ones(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2))])


def test_relations_of_nothing():
    relation = torch.tensor([[False, True, True], [True, True, False]])
    with pytest.raises(ValueError, match="row 1 has relations and nothing that they join"):
        Fragments(features(), torch.tensor([[True, True, True], [True, True, False]]), None, relation)
    with pytest.raises(ValueError, match=r"is_relation: shape \(1, 3\), expected \(2, 3\)"):
        Fragments(features(), MASK, None, relation[:1])


def test_positives():
    pairs = batch(
        captions=Captions(torch.ones(3, 2, dtype=torch.int64), torch.ones(3, 2, dtype=torch.bool)),
        caption_index=torch.arange(3),
        caption_image=torch.tensor([9, 7, 9]),
    )
    assert pairs.positives().tolist() == [[False, True, False], [True, False, True]]
    with pytest.raises(ValueError, match="needs both"):
        EXAMPLES["captions"]().positives()
    with pytest.raises(ValueError, match="needs both"):
        EXAMPLES["images"]().positives()


@pytest.mark.parametrize("optional", [False, True])
def test_rows_of_a_graph(optional):
    """Edges of the rows, which are counted anew; the rows may stand in any order among the edges."""
    values = {"predicate": torch.tensor([5, 6, 7, 8]), "confidence": torch.tensor([0.1, 0.2, 0.3, 0.4])}
    whole = SceneGraph(
        torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]), torch.tensor([2, 0, 3, 2]), 5, **(values if optional else {})
    )
    part = whole[2:4]
    assert part.edge_index.tolist() == [[0, 2, 3], [4, 6, 7]]
    assert part.row.tolist() == [0, 1, 0]
    assert len(part) == 2
    if optional:
        assert part.predicate.tolist() == [5, 7, 8]
        assert part.confidence.tolist() == pytest.approx([0.1, 0.3, 0.4])
    else:
        assert part.predicate is None
        assert part.confidence is None
    assert len(whole[4:]) == 1
    assert whole[4:].row.tolist() == []
    assert len(whole[5:9]) == 0
    for rows in (slice(None, None, 2), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="expected a slice of consecutive ones"):
            whole[rows]


def test_rows_of_regions_and_captions():
    part = regions()[1:]
    assert len(part) == 1
    assert part.graph.edge_index.tolist() == [[0], [0]]
    assert part.labels.tolist() == [[4, -1, -1]]
    assert regions(graph=None)[torch.tensor([1, 0])].labels[:, 0].tolist() == [4, 1]
