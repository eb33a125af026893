import pytest
import torch

from itmatch.ops import (
    l2_normalize,
    lengths_to_mask,
    mask_to_lengths,
    masked_logsumexp,
    masked_max,
    masked_mean,
    masked_softmax,
    masked_sum,
)

REDUCTIONS = {
    masked_sum: lambda x: x.sum(),
    masked_mean: lambda x: x.mean(),
    masked_max: lambda x: x.max(),
    masked_logsumexp: lambda x: x.logsumexp(0),
}


def test_lengths_and_masks_are_inverse():
    lengths = torch.tensor([0, 3, 1])
    mask = lengths_to_mask(lengths, 5)
    assert mask.shape == (3, 5)
    assert torch.equal(mask_to_lengths(mask), lengths)
    assert lengths_to_mask(lengths).shape == (3, 3)
    assert torch.equal(mask[1], torch.tensor([True, True, True, False, False]))


def test_lengths_must_be_integers():
    with pytest.raises(TypeError, match="integers"):
        lengths_to_mask(torch.tensor([1.0]))


@pytest.mark.parametrize("function", REDUCTIONS)
def test_equals_loop_and_ignores_garbage(function):
    torch.manual_seed(0)
    values = torch.randn(4, 5, 3, dtype=torch.double)
    mask = torch.rand(4, 5) > 0.4
    mask[0] = False
    dirty = values.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    result = function(dirty, mask[..., None], dim=1)
    for n in range(4):
        for d in range(3):
            real = values[n, mask[n], d]
            expected = REDUCTIONS[function](real) if len(real) else torch.tensor(0.0, dtype=torch.double)
            torch.testing.assert_close(result[n, d], expected)
    result.sum().backward()
    assert torch.isfinite(dirty.grad).all()
    assert (dirty.grad[~mask] == 0).all()
    assert (dirty.grad[mask] != 0).any()


@pytest.mark.parametrize("function", [*REDUCTIONS, masked_softmax])
def test_without_a_mask_all_is_real(function):
    values = torch.randn(3, 4, 2)
    found = function(values, None, 1)
    assert torch.equal(found, function(values, torch.ones(3, 4, 1, dtype=torch.bool), 1))


def test_softmax():
    values = torch.tensor([[1.0, 2.0, torch.nan], [torch.nan] * 3], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False] * 3])
    weights = masked_softmax(values, mask, dim=-1)
    torch.testing.assert_close(weights[0, :2], torch.tensor([1.0, 2.0]).softmax(0))
    assert weights[0, 2] == 0
    assert (weights[1] == 0).all()
    weights[:, 0].sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("function", [*REDUCTIONS, masked_softmax])
def test_gradcheck(function):
    torch.manual_seed(0)
    values = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    mask = lengths_to_mask(torch.tensor([4, 2, 0]), 4)
    assert torch.autograd.gradcheck(lambda x: function(x, mask, dim=1), values)


def test_statistics_are_wide_in_half_precision():
    values = torch.full((4096,), 0.001, dtype=torch.bfloat16)
    result = masked_logsumexp(values, torch.ones(4096, dtype=torch.bool), dim=0)
    assert result.dtype == torch.bfloat16
    assert abs(result.item() - 8.3188) < 0.04


def test_l2_normalize_at_zero():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit = l2_normalize(x)
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    unit.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[1] == 0).all()


def test_l2_normalize_gradcheck_and_dim():
    torch.manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: l2_normalize(v, dim=0), x)
    torch.testing.assert_close(l2_normalize(x, dim=0).norm(dim=0), torch.ones(4, dtype=torch.double))


@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan, 1e30, -1e30])
def test_logsumexp_of_odd_numbers_is_that_of_torch(odd):
    values = torch.tensor([[0.5, -3.0, odd], [odd, odd, odd], [-200.0, -201.0, -500.0], [90.0, 89.0, -90.0]])
    mask = torch.ones(4, 3, dtype=torch.bool)
    torch.testing.assert_close(masked_logsumexp(values, mask, 1), values.logsumexp(1), equal_nan=True)


def test_logsumexp_has_the_gradient_of_a_softmax():
    values = torch.tensor([[0.5, -3.0, 7.0], [-100.0, 100.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    masked_logsumexp(values, mask, 1).sum().backward()
    expected = values.detach().masked_fill(~mask, -torch.inf).softmax(1)
    torch.testing.assert_close(values.grad, expected)


@pytest.mark.parametrize("mask", [None, torch.ones(2, 0, dtype=torch.bool)])
def test_logsumexp_of_nothing_is_0(mask):
    values = torch.zeros(2, 0, requires_grad=True)
    found = masked_logsumexp(values, mask, 1)
    assert found.tolist() == [0, 0]
    found.sum().backward()
    assert values.grad.shape == (2, 0)


@pytest.mark.parametrize("reduce", [masked_sum, masked_mean, masked_max, masked_softmax, masked_logsumexp])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_a_mask_of_numbers_is_refused_by_its_type(reduce, dtype):
    with pytest.raises(TypeError, match=rf"^mask: {dtype}, expected torch.bool, True where something is real$"):
        reduce(torch.randn(2, 3), torch.ones(2, 3, dtype=dtype), -1)
