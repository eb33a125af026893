import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from itmatch.losses import EmbeddingLoss, ProbabilisticMatchingLoss, probabilistic_matching_loss, sampled_distances
from itmatch.losses.vectors.probabilistic import _with_pseudo_positives
from itmatch.spec import build


def halves(vector, normalize):
    mean, log_variance = vector[: len(vector) // 2], vector[len(vector) // 2 :]
    if normalize:
        length = math.sqrt(sum(x * x for x in mean))
        mean = [x / length for x in mean]
    return mean, log_variance


def naive_distance(v, t, normalize):
    (mean_v, log_v), (mean_t, log_t) = halves(v, normalize), halves(t, normalize)
    means = sum((a - b) ** 2 for a, b in zip(mean_v, mean_t, strict=True))
    return means + sum(math.exp(a) + math.exp(b) for a, b in zip(log_v, log_t, strict=True))


def naive(image, text, groups, scale, bias, pseudo, prior, normalize):
    """The formula, one pair at a time."""
    image, text, count = image.tolist(), text.tolist(), len(image)
    logit = [[bias - scale * naive_distance(v, t, normalize) for t in text] for v in image]

    def cross_entropy(right):
        total = 0.0
        for n in range(count):
            for k in range(count):
                p = 1 / (1 + math.exp(-logit[n][k]))
                total -= math.log(p if right(n, k) else 1 - p)
        return total / count**2

    def same(n, k):
        return groups[n] == groups[k]

    def divergence(vectors):
        terms = []
        for vector in vectors:
            for mu, log_variance in zip(*halves(vector, normalize), strict=True):
                terms.append((mu * mu + math.exp(log_variance) - log_variance - 1) / 2)
        return sum(terms) / len(terms)

    captions = cross_entropy(lambda n, k: same(n, k) or logit[n][k] >= logit[n][n])
    images = cross_entropy(lambda n, k: same(n, k) or logit[n][k] >= logit[k][k])
    return cross_entropy(same) + pseudo * (captions + images) / 2 + prior * (divergence(image) + divergence(text)) / 2


def random_case(seed, groups=(3, 3, 0, 1, 8, 0), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(groups), 4)
    parts = [0.5 * torch.randn(shape, generator=generator, dtype=dtype) - shift for shift in (0, 2, 0, 1)]
    return torch.cat(parts[:2], 1), torch.cat(parts[2:], 1), torch.tensor(groups)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("pseudo", "prior"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(seed, pseudo, prior, normalize):
    image, text, groups = random_case(seed)
    loss = probabilistic_matching_loss(
        image, text, groups, temperature=1 / 1.5, bias=2.0, pseudo_positives=pseudo, prior=prior, normalize=normalize
    )
    expected = naive(image, text, groups.tolist(), 1.5, 2.0, pseudo, prior, normalize)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_distance_is_that_of_samples():
    """E |x - y|^2 of the two Gaussians, by drawing."""
    image, text, _ = random_case(0)
    generator = torch.Generator().manual_seed(0)
    draws = []
    for vectors in (image[0], text[1]):
        mean, log_variance = vectors.chunk(2)
        noise = torch.randn(200_000, 4, generator=generator, dtype=torch.float64)
        draws.append(mean + (log_variance / 2).exp() * noise)
    expected = (draws[0] - draws[1]).square().sum(1).mean()
    assert sampled_distances(image, text, normalize=False)[0, 1].item() == pytest.approx(expected.item(), rel=0.01)


def test_distance_takes_uneven_numbers():
    image, text, _ = random_case(0)
    distances = sampled_distances(image[:2], text)
    assert distances.shape == (2, 6)
    expected = naive_distance(image[1].tolist(), text[4].tolist(), normalize=True)
    assert distances[1, 4].item() == pytest.approx(expected)


def test_without_groups_every_pair_is_of_another_image():
    image, text, _ = random_case(0)
    loss = probabilistic_matching_loss(image, text, temperature=1 / 1.5, bias=2.0)
    assert loss.item() == pytest.approx(naive(image, text, range(6), 1.5, 2.0, 0.1, 1e-4, True), rel=1e-10)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradient(normalize):
    image, text, groups = random_case(1)
    temperature, bias = torch.tensor(0.7, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    for part in (image, text, temperature, bias):
        part.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, t, a, b: probabilistic_matching_loss(
            v, t, groups, temperature=a, bias=b, pseudo_positives=0.3, prior=0.1, normalize=normalize
        ),
        (image, text, temperature, bias),
    )


def test_least_at_perfect_separation():
    sure = torch.full((4, 4), -12.0)
    right = torch.cat((torch.eye(4), sure), 1).requires_grad_()
    loss = ProbabilisticMatchingLoss(temperature=0.02, bias=40.0, prior=0.0)
    value = loss(right, right)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert right.grad.abs().max() < 1e-6
    wrong = right.detach().roll(1, 0)
    unsure = torch.cat((torch.eye(4), sure + 12), 1)
    assert loss(right.detach(), wrong) > 5
    assert loss(unsure, unsure) > 5  # variance costs the positives


def test_pairs_of_one_image_are_right():
    vectors = torch.cat((torch.eye(2)[[0, 0, 1]], torch.full((3, 2), -12.0)), 1)
    loss = ProbabilisticMatchingLoss(temperature=0.02, bias=40.0, pseudo_positives=0.0, prior=0.0)
    assert loss(vectors, vectors, torch.tensor([5, 5, 6])).item() == pytest.approx(0, abs=1e-6)
    assert loss(vectors, vectors) > 5


def test_pseudo_positives():
    """They are what stands no lower than the own caption; where there are none the term repeats the first."""
    image = torch.cat((torch.eye(3), torch.full((3, 3), -6.0)), 1)
    plain, half = (
        ProbabilisticMatchingLoss(temperature=1.0, bias=0.5, pseudo_positives=weight, prior=0.0)
        for weight in (0.0, 0.5)
    )
    assert half(image, image).item() == pytest.approx(1.5 * plain(image, image).item())
    text = image[[0, 0, 2]]  # caption 1, of image 1, is as near to image 0 as caption 0
    logits = 0.5 - sampled_distances(image, text)
    # i2t: image 0 with caption 1, and image 1 with caption 0 and 2; t2i: caption 1 with images 0 and 2
    captions, images = (0, 1, 1), (0, 2)
    gain = logits[captions, (1, 0, 2)].sum() + logits[images, (1, 1)].sum()  # -log p instead of -log(1 - p)
    expected = 1.5 * plain(image, text) - 0.25 * gain / 9
    assert half(image, text).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_prior_keeps_variances_up():
    image, text, groups = random_case(0)
    tiny = torch.cat((image[:, :4], torch.full_like(image[:, :4], -9.0)), 1).requires_grad_()
    with_prior, without = (
        torch.autograd.grad(probabilistic_matching_loss(tiny, text, groups, pseudo_positives=0.0, prior=prior), tiny)[0]
        for prior in (1.0, 0.0)
    )
    assert (with_prior[:, 4:] < without[:, 4:]).all()
    standard = torch.cat((torch.zeros(2, 3), torch.zeros(2, 3)), 1)
    assert probabilistic_matching_loss(standard, standard, prior=1.0, normalize=False).item() == pytest.approx(
        probabilistic_matching_loss(standard, standard, prior=0.0, normalize=False).item()
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
def test_equal_vectors_have_finite_gradients(value, normalize):
    image, text = torch.full((3, 8), value, requires_grad=True), torch.full((3, 8), value, requires_grad=True)
    loss = ProbabilisticMatchingLoss(normalize=normalize)
    loss(image, text).backward()
    for part in (image, text, loss.log_scale, loss.bias):
        assert torch.isfinite(part.grad).all()


def test_one_pair():
    vectors = torch.tensor([[1.0, 0.0, -9.0, -9.0]], requires_grad=True)
    loss = ProbabilisticMatchingLoss(temperature=1.0, bias=3.0, pseudo_positives=0.0, prior=0.0)(vectors, vectors)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-(3 - 4 * math.exp(-9))))), rel=1e-5)
    assert torch.isfinite(vectors.grad).all()


def test_extreme_distances_stay_finite():
    vectors = 1e4 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    vectors[:, 3:] = -1e4
    vectors.requires_grad_()
    loss = ProbabilisticMatchingLoss(normalize=False, prior=0.0)(vectors, vectors.roll(1, 0))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors.grad).all()


def test_temperature_and_bias_are_learned():
    loss = ProbabilisticMatchingLoss(temperature=0.25, bias=3.0)
    assert loss.log_scale.exp().item() == pytest.approx(4.0)
    assert loss.bias.item() == 3.0
    image, text, groups = random_case(0, dtype=torch.float32)
    loss(image, text, groups).backward()
    assert loss.log_scale.grad != 0
    assert loss.bias.grad != 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    image, text, groups = random_case(0, dtype=torch.float32)
    image, text = image.to(dtype).requires_grad_(), text.to(dtype)
    loss = ProbabilisticMatchingLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(image, text, groups)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(image.detach().float(), text.float(), groups).item(), rel=1e-6)


def test_defaults_of_class_and_function_are_the_same():
    batch = random_case(0)
    expected = probabilistic_matching_loss(*batch).item()
    assert ProbabilisticMatchingLoss()(*batch).item() == pytest.approx(expected, rel=1e-6)


def test_settings_are_recorded():
    loss = ProbabilisticMatchingLoss(0.25, 3.0, 0.2, 0.01, normalize=False)
    again = build(loss.spec, EmbeddingLoss)
    assert again.spec == loss.spec
    assert torch.equal(again.log_scale, loss.log_scale)
    assert "pseudo_positives=0.2, prior=0.01, normalize=False" in repr(again)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0.0"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"bias": float("nan")}, "bias: nan"),
        ({"pseudo_positives": -0.1}, "pseudo_positives: -0.1"),
        ({"prior": float("inf")}, "prior: inf"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ProbabilisticMatchingLoss(**settings)


def test_vectors_without_two_halves():
    with pytest.raises(ValueError, match=r"image: shape \(3, 3\), expected \(pairs, 2 D\)"):
        ProbabilisticMatchingLoss()(torch.eye(3), torch.eye(3))


# --------------------------------------------------------------------------------------------- the public code

PUBLIC = {
    "plain": {},
    "vib": {"prior": 1e-4},
    "vib_large": {"prior": 0.1},
    "pseudo": {"pseudo_positives": 0.1},
    "published": {"prior": 1e-4, "pseudo_positives": 0.1},
    "wasserstein": {"distance": "wasserstein"},
    "shift2_scale3": {"bias": 2.0, "scale": 3.0},
}


@cache
def arrays():
    with np.load(Path(__file__).parents[2] / "reference" / "pcmepp.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(found, expected):
    assert (found.detach() - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("kind", ["diagonal", "same_image", "mixed"])
@pytest.mark.parametrize("setting", PUBLIC)
def test_agrees_with_the_public_code(setting, kind):
    data, name = arrays(), f"{setting}.{kind}"
    if f"{name}.loss" not in data:
        assert kind == "mixed"
        return
    settings = {"prior": 0.0, "pseudo_positives": 0.0, "bias": 5.0, "scale": 5.0} | PUBLIC[setting]
    scale, bias = (torch.tensor(settings.pop(key), requires_grad=True) for key in ("scale", "bias"))
    sides = [
        torch.cat((data[f"{side}.mean"], data[f"{side}.log_variance"]), 1).requires_grad_()
        for side in ("image", "text")
    ]
    settings |= {"temperature": 1 / scale, "bias": bias, "normalize": False, "matched": data[f"matched.{kind}"]}
    value = 2 * probabilistic_matching_loss(*sides, **settings)
    value.backward()
    close(value, data[f"{name}.loss"])
    for side, vectors in zip(("image", "text"), sides, strict=True):
        for part, gradient in zip(("mean", "log_variance"), vectors.grad.chunk(2, 1), strict=True):
            close(gradient, data[f"{name}.grad.{side}.{part}"])
    close(bias.grad, data[f"{name}.grad.shift"])
    distances = sampled_distances(*sides, normalize=False, distance=settings.get("distance", "sampled"))
    close(bias - scale * distances, data[f"{name}.logits"])
    assert abs(scale.grad.abs() - data[f"{name}.grad.negative_scale"].abs()) < 1e-5 * max(1, scale.grad.abs())


@pytest.mark.parametrize("setting", ["plain", "vib", "pseudo", "published", "wasserstein"])
def test_groups_give_the_same_as_the_matrix_of_the_public_code(setting):
    """But for pseudo-positives where an image has several captions: as near as the first of them, or as the own."""
    data = arrays()
    sides = [torch.cat((data[f"{side}.mean"], data[f"{side}.log_variance"]), 1) for side in ("image", "text")]
    settings = {"prior": 0.0, "pseudo_positives": 0.0} | PUBLIC[setting]
    for kind, groups in (("diagonal", None), ("same_image", data["image_ids"])):
        value = 2 * probabilistic_matching_loss(*sides, groups, normalize=False, **settings)
        expected = data[f"{setting}.{kind}.loss"]
        if settings["pseudo_positives"] and groups is not None:
            assert abs(value - expected) > 1e-4  # other pseudo-positives
        else:
            close(value, expected)
        close(ProbabilisticMatchingLoss(normalize=False, **settings)(*sides, groups), value / 2)


def test_pseudo_positives_agree_with_the_public_code():
    data = arrays()
    for kind in ("diagonal", "same_image", "mixed"):
        logits, matched = data[f"pseudo.{kind}.logits"], data[f"matched.{kind}"]
        found = _with_pseudo_positives(logits, matched, None), _with_pseudo_positives(logits.T, matched.T, None)
        for setting in ("pseudo", "published"):
            assert torch.equal(found[0], data[f"{setting}.{kind}.pseudo_targets.image"])
            assert torch.equal(found[1], data[f"{setting}.{kind}.pseudo_targets.text"])
            best = (torch.nn.functional.one_hot(side.argmax(1), 10).float() for side in (matched, matched.T))
            count = sum(
                _with_pseudo_positives(z, own, None).sum() for z, own in zip((logits, logits.T), best, strict=True)
            )
            assert count - 2 * len(logits) == data[f"{setting}.{kind}.n_pseudo"]


def test_the_prior_agrees_with_the_public_code():
    data = arrays()
    sides = [torch.cat((data[f"{side}.mean"], data[f"{side}.log_variance"]), 1) for side in ("image", "text")]
    with_prior, without = (
        probabilistic_matching_loss(*sides, prior=prior, pseudo_positives=0.0, normalize=False) for prior in (1.0, 0.0)
    )
    names = [name for name in data if name.endswith(".vib")]
    assert len(names) == 7
    for name in names:
        close(2 * (with_prior - without), data[name])


def test_what_is_no_matching():
    image, text, _ = random_case(0)
    with pytest.raises(ValueError, match="relevance: 2 at"):
        probabilistic_matching_loss(image, text, matched=torch.full((6, 6), 2.0))
    with pytest.raises(ValueError, match="distance: 'far', expected 'sampled' or 'wasserstein'"):
        ProbabilisticMatchingLoss(distance="far")
