"""ImplicitRelationAttention: loops over heads and pairs, and what padding and order may not do."""

import copy
import math
import pickle

import pytest
import torch
from helpers_relations import LENGTHS, MASK, SIZE, WIDTH, geometry, moved, random_boxes, random_features, scene_graph

from itmatch.nn import ImplicitRelationAttention, Relation
from itmatch.spec import build

VARIANTS = [
    {},
    {"feedforward_dim": 0},
    {"feedforward_dim": 5, "num_layers": 2},
    {"geometry": True},
    {"geometry": True, "num_layers": 2, "feedforward_dim": 0},
]


def relation(**kwargs):
    torch.manual_seed(0)
    return moved(ImplicitRelationAttention(SIZE, 2, **kwargs).double())


def run(module, features=None, boxes=None, mask=MASK):
    features = random_features() if features is None else features
    boxes = random_boxes() if boxes is None else boxes
    return module(features, mask, boxes if module.geometry else None)


def layer_in_loops(layer, x, boxes):
    """One layer on the real fragments (L, D) of a row."""
    query, key, value = layer.projection(layer.norm(x)).split(SIZE, 1)
    attended, half = torch.zeros_like(x), SIZE // 2
    for head in range(2):
        part = slice(head * half, (head + 1) * half)
        for i in range(len(x)):
            logits = []
            for j in range(len(x)):
                logits.append(query[i, part] @ key[j, part] / math.sqrt(half))
                if layer.bias is not None:
                    numbers = geometry(boxes[i], boxes[j]) if i != j else torch.tensor([0.0] * 6 + [1, 0]).double()
                    logits[-1] = logits[-1] + layer.bias.output(layer.bias.hidden(numbers).relu())[head]
            weights = torch.stack(logits).softmax(0)
            attended[i, part] = sum(weights[j] * value[j, part] for j in range(len(x)))
    x = x + layer.output(attended)
    if layer.feedforward is None:
        return x
    norm, first, _, _, second, _ = layer.feedforward
    return x + second(first(norm(x)).relu())


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_equals_loops(kwargs):
    module, features, boxes = relation(**kwargs), random_features(), random_boxes()
    found = run(module)
    for row, length in enumerate(LENGTHS):
        expected = features[row, :length]
        for layer in module.layers:
            expected = layer_in_loops(layer, expected, boxes[row])
        torch.testing.assert_close(found[row, :length], expected)
        assert found[row, length:].eq(0).all()


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_identity_at_the_start_and_able_to_leave_it(kwargs):
    torch.manual_seed(0)
    module = ImplicitRelationAttention(SIZE, 2, **kwargs).double()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    start = {name: value.clone() for name, value in module.named_parameters()}
    for step in range(4):  # output first, then the bias of the geometry, then what that is made of
        output = run(module)
        assert step or torch.equal(output[MASK], random_features()[MASK])
        optimizer.zero_grad()
        (output * random_features(seed=1)).sum().backward()
        optimizer.step()
    assert [name for name, value in module.named_parameters() if torch.equal(value, start[name])] == []


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_gradcheck(kwargs):
    module = relation(**kwargs)
    assert torch.autograd.gradcheck(lambda features: run(module, features), random_features().requires_grad_())


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_nan_in_padded_places_changes_nothing(kwargs):
    module, results, padding = relation(**kwargs), [], ~MASK[..., None]
    for value in (0.0, math.nan, math.inf):
        module.zero_grad()
        features = random_features().masked_fill(padding, value).requires_grad_()
        output = run(module, features, random_boxes().masked_fill(padding, value))
        output.pow(3).sum().backward()
        assert features.grad[~MASK].eq(0).all()
        results.append([output, features.grad, *(parameter.grad for parameter in module.parameters())])
        assert all(value.isfinite().all() for value in results[-1])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_more_padding_and_other_rows_change_nothing(kwargs):
    module = relation(**kwargs)
    expected = run(module)
    pad = lambda values: torch.nn.functional.pad(values, (0, 0, 0, 3), value=math.nan)  # noqa: E731
    found = run(module, pad(random_features()), pad(random_boxes()), torch.nn.functional.pad(MASK, (0, 3)))
    torch.testing.assert_close(found[:, :WIDTH], expected)
    for row, length in enumerate(LENGTHS):
        part = slice(row, row + 1), slice(0, length)
        found = run(module, random_features()[part], random_boxes()[part], torch.ones(1, length, dtype=torch.bool))
        torch.testing.assert_close(found[0], expected[row, :length])


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_order_of_regions_is_kept(kwargs):
    module, order = relation(**kwargs), torch.tensor([3, 5, 0, 4, 2, 1])
    found = run(module, random_features()[:, order], random_boxes()[:, order], MASK[:, order])
    torch.testing.assert_close(found, run(module)[:, order])


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_a_row_of_padding_alone_is_zero(kwargs):
    module, mask = relation(**kwargs), MASK.clone()
    mask[2] = False
    features = random_features().masked_fill(~mask[..., None], math.nan).requires_grad_()
    output = run(module, features, mask=mask)
    output.sum().backward()
    assert output[2].eq(0).all()
    assert features.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_which_box_is_left_shows_with_geometry():
    mirrored = random_boxes()[..., [2, 1, 0, 3]]
    mirrored[..., [0, 2]] = 1 - mirrored[..., [0, 2]]
    module = relation(geometry=True)
    assert (run(module, boxes=mirrored) - run(module)).abs().max() > 1e-3


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_bf16_autocast_and_half_precision(kwargs):
    module, features, boxes = relation(**kwargs).float(), random_features(torch.float32), random_boxes(torch.float32)
    expected = run(module, features, boxes)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(module, features, boxes)
    found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    low = run(copy.deepcopy(module).bfloat16(), features.bfloat16(), boxes)
    assert low.dtype is torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_nothing_waits_for_a_device(kwargs):
    """Tensors on "meta" have no values: whatever would look at one fails."""
    found = run(relation(**kwargs).to("meta"), random_features().to("meta"), random_boxes().to("meta"), MASK.to("meta"))
    assert found.shape == (*MASK.shape, SIZE)


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_rebuilt_from_spec_and_copied(kwargs):
    module = relation(**kwargs)
    again = build(module.spec, Relation).double()
    again.load_state_dict(module.state_dict())
    assert again.spec == module.spec
    for other in (again, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(run(other), run(module))


@pytest.mark.parametrize("kwargs", VARIANTS, ids=str)
def test_dropout_acts_in_training_only(kwargs):
    module = relation(dropout=0.5, **kwargs)
    assert not torch.equal(run(module), run(module))
    assert torch.equal(run(module.eval()), run(module))
    torch.testing.assert_close(run(module), run(relation(**kwargs)))


def test_the_graph_is_not_looked_at():
    module = relation()
    assert torch.equal(module(random_features(), MASK, random_boxes(), scene_graph()), run(module))


def test_errors():
    with pytest.raises(ValueError, match="ImplicitRelationAttention: embed_dim 8 is not divisible by num_heads 3"):
        ImplicitRelationAttention(8, 3)
    with pytest.raises(
        ValueError, match=r"ImplicitRelationAttention.num_layers: 0, expected a whole number, 1 or more"
    ):
        ImplicitRelationAttention(8, num_layers=0)
    with pytest.raises(ValueError, match=r"feedforward_dim: -1, expected a whole number, 0 or more"):
        ImplicitRelationAttention(8, feedforward_dim=-1)
    with pytest.raises(ValueError, match="no boxes, expected some for geometry=True"):
        relation(geometry=True)(random_features(), MASK)
    with pytest.raises(ValueError, match="ImplicitRelationAttention: fragments of size 7, expected its embed_dim 8"):
        relation()(random_features()[..., :7], MASK)
