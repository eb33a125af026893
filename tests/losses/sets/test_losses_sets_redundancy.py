import pytest
import torch
from helpers_sets import close, leaf, reference

from itmatch.batch import Fragments
from itmatch.losses import HardNegativeTripletLoss, Matches, Objective, ViewRedundancyLoss, view_redundancy_loss
from itmatch.nn import BlockSimilarity


def naive(first, second, weight):
    total = 0.0
    for i in range(first.shape[1]):
        for j in range(second.shape[1]):
            product = (first[:, i] @ second[:, j] / (first[:, i].norm() * second[:, j].norm())).item()
            total += (product - 1) ** 2 if i == j else weight * product**2
    return total


def test_equals_the_formula():
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 4, dtype=torch.float64)
    value = view_redundancy_loss(first, second, off_diagonal_weight=0.3)
    assert value.item() == pytest.approx(naive(first, second, 0.3), rel=1e-9)


@pytest.mark.parametrize("case", ["loss", "loss_wide"])
def test_agrees_with_the_public_code(case):
    image = leaf("avse.npz", f"{case}.image")
    value = view_redundancy_loss(*image.chunk(2, 1), divided_twice=True)
    value.backward()
    close(value, reference("avse.npz", f"{case}.regulariser"))
    close(image.grad, reference("avse.npz", f"{case}.regulariser.grad.image"))
    off = view_redundancy_loss(*image.chunk(2, 1), divided_twice=True, off_diagonal_weight=1.0051) - value
    close(off, reference("avse.npz", f"{case}.regulariser.off_diagonal").float())


@pytest.mark.parametrize(("name", "negatives"), [("hardest", "hardest"), ("sum", "all")])
@pytest.mark.parametrize("case", ["loss", "loss_wide"])
def test_the_whole_objective_agrees_with_the_public_code(case, name, negatives):
    image, text = leaf("avse.npz", f"{case}.image"), leaf("avse.npz", f"{case}.text")
    views = Fragments.unchecked(image.view(len(image), 2, -1), torch.ones(len(image), 2, dtype=torch.bool))
    words = Fragments.unchecked(text[:, None], torch.ones(len(text), 1, dtype=torch.bool), text)
    block = int(reference("avse.npz", f"{case}.blocks")[0])
    triplet = HardNegativeTripletLoss(0.2, negatives)
    objective = Objective({"triplet": triplet, "redundancy": ViewRedundancyLoss(divided_twice=True)})
    matches = Matches(BlockSimilarity(block)(views, words), fragments=(views, words))
    close(triplet.of(matches), reference("avse.npz", f"{case}.{name}.triplet"))
    value = objective.of(matches)
    value.backward()
    close(value, reference("avse.npz", f"{case}.{name}.total"))
    close(image.grad, reference("avse.npz", f"{case}.{name}.grad.image"))
    close(text.grad, reference("avse.npz", f"{case}.{name}.grad.text"))


def test_the_right_form_can_be_0_and_the_published_one_cannot():
    view = torch.eye(6)
    assert view_redundancy_loss(view, 3 * view).item() == pytest.approx(0.0, abs=1e-6)
    assert view_redundancy_loss(view, view, divided_twice=True).item() == pytest.approx(6 * (5 / 6) ** 2)


@pytest.mark.parametrize("divided_twice", [True, False])
def test_gradcheck(divided_twice):
    views = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: view_redundancy_loss(*x, divided_twice=divided_twice), views)


def test_views_of_a_batch():
    torch.manual_seed(0)
    features = torch.randn(5, 3, 4)
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[2, 1] = False
    sides = Fragments.unchecked(features.masked_fill(~mask[..., None], torch.nan), mask), None
    expected = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        kept = mask[:, first] & mask[:, second]
        expected.append(view_redundancy_loss(features[kept, first], features[kept, second]))
    torch.testing.assert_close(ViewRedundancyLoss().of(Matches(fragments=sides)), torch.stack(expected).mean())


def test_one_image_zero_features_and_half_precision():
    one = torch.randn(1, 4).requires_grad_()
    view_redundancy_loss(one, one).backward()
    assert one.grad.isfinite().all()
    empty = torch.zeros(3, 4, requires_grad=True)
    value = view_redundancy_loss(empty, torch.randn(3, 4))
    value.backward()
    assert value.item() == pytest.approx(4.0)
    assert empty.grad.isfinite().all()
    half = torch.randn(2, 6, 4).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = view_redundancy_loss(*half)
    torch.testing.assert_close(found, view_redundancy_loss(*half.float()))
    assert torch.isnan(view_redundancy_loss(torch.full((2, 2), torch.nan), torch.eye(2)))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"first, second: shapes \(2, 3\) and \(2, 4\), expected"):
        view_redundancy_loss(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="ViewRedundancyLoss: images of one fragment, expected views"):
        ViewRedundancyLoss().of(Matches(fragments=(Fragments(torch.ones(2, 1, 3)), None)))
    with pytest.raises(ValueError, match="fragments: None, but ViewRedundancyLoss reads them"):
        ViewRedundancyLoss().of(Matches())
