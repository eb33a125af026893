import math

import pytest
import torch

from itmatch.losses import CenterHingeLoss, EmbeddingLoss, center_hinge_loss
from itmatch.spec import build

VARIANTS = ["separation", "compactness"]
DISTANCES = ["euclidean", "squared", "cosine"]


def unit(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def distance_of(a, b, kind):
    if kind == "cosine":
        return 1 - sum(x * y for x, y in zip(a, b, strict=True))
    square = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return square if kind == "squared" else math.sqrt(square)


def naive(image, text, groups, margin, variant, distance, reduction):
    """The formula, one instance and one member at a time; the rows of a group hold the same image."""
    members = {}
    for v, t, group in zip(image.tolist(), text.tolist(), groups, strict=True):
        members.setdefault(group, [unit(v)]).append(unit(t))
    centres = {
        group: unit([sum(column) for column in zip(*vectors, strict=True)]) for group, vectors in members.items()
    }
    terms = []
    for group, vectors in members.items():
        for x in vectors:
            own = distance_of(x, centres[group], distance)
            others = [distance_of(x, centre, distance) for other, centre in centres.items() if other != group]
            if variant == "compactness":
                terms.append(max(own - margin, 0))
            else:
                terms.append(max(own + margin - min(others), 0) if others else 0)
    return sum(terms) / (len(terms) if reduction == "mean" else 1)


def random_case(seed, groups=(4, 4, 7, 1, 7, 7, 9), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(len(groups), 5, generator=generator, dtype=dtype)
    of_group = torch.randn(max(groups) + 1, 5, generator=generator, dtype=dtype)
    groups = torch.tensor(groups)
    return of_group[groups], text, groups


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(variant, distance, reduction, seed):
    image, text, groups = random_case(seed)
    options = {"margin": 0.3, "variant": variant, "distance": distance, "reduction": reduction}
    loss = center_hinge_loss(image, text, groups, **options)
    assert loss.item() == pytest.approx(naive(image, text, groups.tolist(), *options.values()), rel=1e-10)
    assert loss > 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_groups_every_pair_is_an_instance(variant):
    image, text, _ = random_case(0)
    loss = center_hinge_loss(image, text, variant=variant)
    assert loss.item() == center_hinge_loss(image, text, torch.arange(10, 17), variant=variant).item()
    assert loss.item() == pytest.approx(naive(image, text, range(7), 0.2, variant, "euclidean", "sum"), rel=1e-10)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient(variant, distance):
    image, text, groups = random_case(1)
    image.requires_grad_()
    text.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, t: center_hinge_loss(v, t, groups, margin=0.3, variant=variant, distance=distance), (image, text)
    )


def test_an_image_counts_once_however_many_pairs_it_is_in():
    image, text, groups = random_case(2, groups=(0, 1))
    more = torch.tensor([0, 0, 0, 1])
    rows = torch.tensor([0, 0, 0, 1])
    loss = center_hinge_loss(image[rows], text[rows], more, variant="compactness", margin=0.0, distance="squared")
    vectors = [unit(v) for v in (image[0].tolist(), *[text[0].tolist()] * 3)]
    centre = unit([sum(column) for column in zip(*vectors, strict=True)])
    first = sum(distance_of(x, centre, "squared") for x in vectors)
    alone = naive(image, text, [0, 1], 0.0, "compactness", "squared", "sum") - naive(
        image[:1], text[:1], [0], 0.0, "compactness", "squared", "sum"
    )
    assert loss.item() == pytest.approx(first + alone, rel=1e-10)
    assert groups.tolist() == [0, 1]


def test_rows_of_one_image_that_differ_are_averaged():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    loss = center_hinge_loss(image, text, torch.tensor([3, 3]), variant="compactness", margin=0.0, distance="cosine")
    assert loss.item() == pytest.approx(1 - math.sqrt(0.5), abs=1e-6)  # two halves of one image, the captions at 0


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_at_perfect_separation(variant, distance):
    image = torch.eye(4)[[0, 0, 1, 2]].requires_grad_()
    groups = torch.tensor([5, 5, 6, 7])
    loss = center_hinge_loss(image, image, groups, variant=variant, distance=distance)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(image.grad, torch.zeros(4, 4))


def test_captions_of_the_same_image_are_one_instance():
    image, text, _ = random_case(0, groups=(0, 0))
    assert center_hinge_loss(image, text, torch.tensor([0, 0])) == 0  # no other centre
    assert center_hinge_loss(image, text) > 0


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_equal_and_zero_vectors_have_finite_gradients(variant, distance, value):
    image = torch.full((3, 4), value, requires_grad=True)
    text = torch.full((3, 4), value, requires_grad=True)
    loss = center_hinge_loss(image, text, margin=0.3, variant=variant, distance=distance)
    loss.backward()
    assert torch.isfinite(image.grad).all()
    assert torch.isfinite(text.grad).all()
    if variant == "separation":
        assert loss.item() == pytest.approx(6 * 0.3, abs=1e-5)  # every member as near to one centre as to another
    elif value:
        assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_pair(variant):
    image, text = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = center_hinge_loss(image, text, variant=variant, margin=0.1)
    loss.backward()
    expected = 0 if variant == "separation" else 2 * (math.sqrt(2 - math.sqrt(2)) - 0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(image.grad).all()


def test_length_and_order_do_not_matter():
    image, text, groups = random_case(3)
    expected = center_hinge_loss(image, text, groups).item()
    assert center_hinge_loss(3 * image, 0.2 * text, groups).item() == pytest.approx(expected, rel=1e-10)
    order = torch.randperm(7)
    assert center_hinge_loss(image[order], text[order], groups[order]).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    image, text, groups = random_case(0, dtype=torch.float32)
    image, text = image.to(dtype).requires_grad_(), text.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CenterHingeLoss()(image, text, groups)
    loss.backward()
    assert loss.dtype == torch.float32
    assert image.grad.dtype == dtype
    assert loss.item() == pytest.approx(
        CenterHingeLoss()(image.detach().float(), text.float(), groups).item(), rel=1e-6
    )


def test_defaults_of_class_and_function_are_the_same():
    batch = random_case(0)
    assert CenterHingeLoss()(*batch) == center_hinge_loss(*batch)


def test_settings_are_recorded():
    loss = CenterHingeLoss(0.1, "compactness", "squared", "mean")
    again = build(loss.spec, EmbeddingLoss)
    assert again.spec == loss.spec
    assert "margin=0.1, variant='compactness', distance='squared', reduction='mean'" in repr(again)
    image, text, groups = random_case(0)
    expected = naive(image, text, groups.tolist(), 0.1, "compactness", "squared", "mean")
    assert again(image, text, groups).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": -0.1}, "margin: -0.1"),
        ({"margin": float("nan")}, "margin: nan"),
        ({"variant": "both"}, "variant: 'both', expected 'separation' or 'compactness'"),
        ({"distance": "l1"}, "distance: 'l1', expected 'euclidean'"),
        ({"reduction": "half"}, "reduction: 'half'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        CenterHingeLoss(**settings)
    with pytest.raises(ValueError, match=message):
        center_hinge_loss(torch.eye(2), torch.eye(2), **settings)


def test_without_a_reduction_there_is_a_number_per_member():
    image, text = torch.randn(4, 3), torch.randn(4, 3)
    each = center_hinge_loss(image, text, reduction="none")
    assert each.shape == (8,)
    assert each.sum().item() == pytest.approx(center_hinge_loss(image, text).item())
