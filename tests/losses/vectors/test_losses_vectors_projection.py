import math

import pytest
import torch
from helpers_robust_losses import close, reference

from itmatch.losses import CrossModalProjectionLoss, EmbeddingLoss, cross_modal_projection_loss
from itmatch.spec import build


def naive(image, text, groups, epsilon, *, by_length):
    total = 0.0
    for anchors, others in ((image.tolist(), text.tolist()), (text.tolist(), image.tolist())):
        for anchor, group in zip(anchors, groups, strict=True):
            projections = [sum(map(math.prod, zip(anchor, x, strict=True))) / math.hypot(*x) for x in others]
            weights = [math.exp(z) for z in projections]
            same = [group == other for other in groups]
            share = 1 / math.sqrt(sum(same)) if by_length else 1 / sum(same)
            for weight, own in zip(weights, same, strict=True):
                p = weight / sum(weights)
                total += p * (math.log(p) - math.log(share * own + epsilon)) / len(groups)
    return total


def random_case(seed, groups=(4, 4, 7, 1, 7, 7, 9), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    image, text = (3 * torch.randn(len(groups), 5, generator=generator, dtype=dtype) for _ in range(2))
    return image, text, torch.tensor(groups)


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(seed, by_length):
    image, text, groups = random_case(seed)
    value = cross_modal_projection_loss(image, text, groups, epsilon=1e-4, divided_by_length=by_length)
    assert value.item() == pytest.approx(naive(image, text, groups.tolist(), 1e-4, by_length=by_length), rel=1e-10)


def test_agrees_with_the_public_code_of_irra():
    image, text = (reference(f"irra.{side}").clone().requires_grad_() for side in ("image", "text"))
    ids = reference("irra.ids")
    value = CrossModalProjectionLoss(divided_by_length=True)(image, text, ids)
    value.backward()
    close(value, reference("irra.cmpm.loss"))
    close(image.grad, reference("irra.cmpm.grad.image"))
    close(text.grad, reference("irra.cmpm.grad.text"))
    assert len(set(ids.tolist())) < len(ids)


def test_without_groups_every_pair_is_of_its_own_image():
    image, text, _ = random_case(0)
    value = cross_modal_projection_loss(image, text)
    assert value == cross_modal_projection_loss(image, text, torch.arange(10, 17))
    assert value == cross_modal_projection_loss(image, text, divided_by_length=True)


@pytest.mark.parametrize("by_length", [False, True])
def test_gradcheck(by_length):
    image, text, groups = random_case(1)
    assert torch.autograd.gradcheck(
        lambda v, t: cross_modal_projection_loss(v, t, groups, divided_by_length=by_length, epsilon=1e-3),
        (image.requires_grad_(), text.requires_grad_()),
    )


def test_pairs_of_one_image_attract_each_other():
    image, text, groups = random_case(2)
    text.requires_grad_()
    cross_modal_projection_loss(image, text, groups).backward()
    apart = text.grad.clone()
    text.grad = None
    cross_modal_projection_loss(image, text).backward()
    assert not torch.allclose(apart, text.grad)
    even = 20 * torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]]
    assert cross_modal_projection_loss(even, even, torch.tensor([0, 0, 1, 2])).item() == pytest.approx(0, abs=1e-5)
    assert cross_modal_projection_loss(even, even) > 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_and_zero_vectors_have_finite_gradients(value):
    image, text = (torch.full((3, 4), value, requires_grad=True) for _ in range(2))
    loss = cross_modal_projection_loss(image, text)
    loss.backward()
    assert loss.isfinite()
    assert image.grad.isfinite().all()
    assert text.grad.isfinite().all()


def test_one_pair():
    image, text, _ = random_case(0, groups=(3,))
    image.requires_grad_()
    value = cross_modal_projection_loss(image, text)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-7)
    assert not image.grad.any()


def test_order_does_not_matter():
    image, text, groups = random_case(3)
    order = torch.randperm(7)
    shuffled = cross_modal_projection_loss(image[order], text[order], groups[order])
    assert shuffled.item() == pytest.approx(cross_modal_projection_loss(image, text, groups).item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    image, text, groups = random_case(4, dtype=torch.float32)
    half = [side.to(dtype).requires_grad_() for side in (image, text)]
    with torch.autocast("cpu", torch.bfloat16):
        value = CrossModalProjectionLoss()(*half, groups)
    value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, cross_modal_projection_loss(*(side.float() for side in half), groups))
    assert half[0].grad.dtype == dtype


def test_settings_and_what_does_not_fit():
    loss = CrossModalProjectionLoss(1e-4, divided_by_length=True)
    assert build(loss.spec, EmbeddingLoss).spec == loss.spec
    with pytest.raises(ValueError, match="epsilon"):
        CrossModalProjectionLoss(0)
    with pytest.raises(ValueError, match="text: shape"):
        loss(torch.ones(2, 3), torch.ones(3, 3))
    assert torch.isnan(loss(torch.full((2, 2), torch.nan), torch.eye(2)))
