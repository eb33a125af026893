import math

import pytest
import torch
from helpers_sets import close, leaf, reference

from itmatch.batch import Fragments
from itmatch.losses import DiscrepancyLoss, Matches, discrepancy_loss


def naive(image, text, temperature, *, mean):
    total = 0.0
    for first, second, factor in ((image, image, 1), (image, text, -2), (text, text, 1)):
        kernels = [math.exp(-(x - y).norm().item() / temperature) for x in first for y in second]
        total += factor * sum(kernels) / (len(kernels) if mean else 1)
    return total


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equals_the_formula(reduction):
    torch.manual_seed(0)
    image, text = torch.randn(3, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    value = discrepancy_loss(image, text, temperature=0.7, reduction=reduction)
    assert value.item() == pytest.approx(naive(image, text, 0.7, mean=reduction == "mean"), rel=1e-9)


def test_agrees_with_the_public_code():
    image, text = leaf("sets.npz", "loss.image_sets"), leaf("sets.npz", "loss.text_sets")
    value = DiscrepancyLoss().of(Matches(fragments=(Fragments(image), Fragments(text))))
    value.backward()
    close(value, reference("sets.npz", "mmd.gamma0.5"))
    close(image.grad, reference("sets.npz", "mmd.gamma0.5.grad.image"))
    close(text.grad, reference("sets.npz", "mmd.gamma0.5.grad.text"))
    flat = image.flatten(0, 1), text.flatten(0, 1)
    close(discrepancy_loss(*flat, temperature=24.0), reference("sets.npz", "mmd.default"))
    close(discrepancy_loss(*flat, reduction="sum"), reference("sets.npz", "mmd.gamma0.5_sum"))


def test_gradcheck_also_where_vectors_are_equal():
    torch.manual_seed(0)
    image, text = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(discrepancy_loss, (image.requires_grad_(), text.requires_grad_()))
    same = torch.ones(2, 3, requires_grad=True)
    value = discrepancy_loss(same, same.detach())
    value.backward()
    assert value == 0
    assert same.grad.isfinite().all()


def test_padding_order_and_half_precision():
    torch.manual_seed(0)
    features, mask = torch.randn(3, 4, 5), torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    text = Fragments(torch.randn(2, 3, 5))
    loss = DiscrepancyLoss()
    dirty = Fragments.unchecked(features.masked_fill(~mask[..., None], torch.nan), mask)
    value = loss.of(Matches(fragments=(dirty, text)))
    torch.testing.assert_close(value, discrepancy_loss(features[mask], text.features.flatten(0, 1)))
    torch.testing.assert_close(loss.of(Matches(fragments=(text, dirty[torch.tensor([2, 0, 1])]))), value)
    half = [features[mask].half(), text.features.flatten(0, 1).half()]
    with torch.autocast("cpu", torch.bfloat16):
        found = discrepancy_loss(*half)
    torch.testing.assert_close(found, discrepancy_loss(*(side.float() for side in half)))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"text: shape \(2, 4\), expected \(vectors, size\), of one size"):
        discrepancy_loss(torch.ones(2, 3), torch.ones(2, 4))
    assert torch.isnan(discrepancy_loss(torch.full((2, 2), torch.nan), torch.eye(2)))
