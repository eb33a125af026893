import pytest
import torch

from itmatch.losses import (
    HardNegativeTripletLoss,
    InfoNCELoss,
    LadderLoss,
    Loss,
    Matches,
    MemoryLoss,
    SelectiveNegatives,
    SigmoidLoss,
    memory_hinge,
)
from itmatch.ops.masking import l2_normalize
from itmatch.spec import build


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def naive(image, text, groups, past, margin, reduction="sum"):
    """The formula, one pair at a time; ``past`` is a list of (image, text, group)."""
    total = 0.0
    for n in range(len(image)):
        own = cosine(image[n], text[n])
        others = [(v, t) for v, t, group in past if group != groups[n]]
        for negatives in ([cosine(image[n], t) for _, t in others], [cosine(v, text[n]) for v, _ in others]):
            total += max((max(margin + s - own, 0) for s in negatives), default=0)
    return total / (len(image) if reduction == "mean" else 1)


def naive_batch(image, text, groups, margin):
    """The triplet of the cosines of a batch, one pair at a time."""
    total = 0.0
    for n in range(len(image)):
        own, others = cosine(image[n], text[n]), [k for k in range(len(image)) if groups[k] != groups[n]]
        total += max((max(margin + cosine(image[n], text[k]) - own, 0) for k in others), default=0)
        total += max((max(margin + cosine(image[k], text[n]) - own, 0) for k in others), default=0)
    return total


def matches(image, text, groups=None):
    return Matches(image=image, text=text, groups=groups)


class Nothing(Loss):
    def of(self, matches):
        return torch.zeros(())


def random_pairs(seed, groups, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(groups), 4)
    image, text = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    return image, text, torch.tensor(groups)


BATCH = (0, 0, 1, 2, 5)
PAST = (0, 1, 7, 8, 1, 9)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_formula(reduction, seed):
    batch, past = random_pairs(seed, BATCH), random_pairs(seed + 50, PAST)
    loss = memory_hinge(*batch, *past, margin=0.1, reduction=reduction)
    assert loss.item() == pytest.approx(naive(*batch, list(zip(*past, strict=True)), 0.1, reduction), rel=1e-10)
    assert loss > 0
    each = memory_hinge(*batch, *past, margin=0.1, reduction="none")
    assert each.shape == (5,)
    assert each.sum().item() == pytest.approx(memory_hinge(*batch, *past, margin=0.1).item())


def test_other_rules():
    batch, past = random_pairs(0, BATCH), random_pairs(50, PAST)
    hardest, everything = (memory_hinge(*batch, *past, negatives=rule) for rule in ("hardest", "all"))
    assert everything > hardest
    always = memory_hinge(*batch, *past, negatives=SelectiveNegatives(0.0))
    assert always.item() == pytest.approx(hardest.item())


def test_an_empty_memory():
    batch, past = random_pairs(0, BATCH), random_pairs(1, PAST)
    assert memory_hinge(*batch, *(part[:0] for part in past), margin=0.3) == 0


def test_gradient_and_none_for_the_queue():
    image, text, groups = random_pairs(0, BATCH)
    past_image, past_text, past_groups = random_pairs(50, PAST)
    for part in (image, text, past_image, past_text):
        part.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, t: memory_hinge(v, t, groups, past_image, past_text, past_groups, margin=0.1),
        (image, text),
    )
    memory_hinge(image, text, groups, past_image, past_text, past_groups).backward()
    assert image.grad.abs().sum() > 0
    assert past_image.grad is None
    assert past_text.grad is None


@pytest.mark.parametrize("size", [3, 5, 7, 20])
def test_the_queue_holds_the_last_pairs(size):
    """Batches of several sizes, some larger than the queue, against a list."""
    loss = MemoryLoss(HardNegativeTripletLoss(0.3), 4, size=size, memory_margin=0.1).double()
    queue = []
    for step, number in enumerate((2, 3, 4, 6, 1, 2)):
        image, text, groups = random_pairs(step, [10 * step + n // 2 for n in range(number)])
        batch = image[[n - n % 2 for n in range(number)]], text, groups  # two captions of each image
        expected = naive_batch(*batch, 0.3) + naive(*batch, queue, 0.1)
        assert loss.of(matches(*batch)).item() == pytest.approx(expected, rel=1e-10)
        queue = [*queue, *zip(*batch, strict=True)][-size:]
    assert loss.seen == 18
    held = sorted(loss.queue_groups[: len(queue)].tolist())
    assert held == sorted(int(group) for _, _, group in queue)


def test_the_same_image_in_the_queue_is_no_negative():
    vectors, groups = torch.eye(3), torch.tensor([40, 41, 42])
    loss = MemoryLoss(Nothing(), 3, size=8, memory_margin=0.5)
    assert loss.of(matches(vectors, vectors, groups)) == 0
    assert loss.of(matches(vectors, vectors, groups)) == 0  # met again
    other = loss.of(matches(vectors, vectors, groups + 100))  # as good, of other images
    assert other.item() == pytest.approx(3 * 2 * 0.5)


def test_only_training_fills_the_queue():
    loss = MemoryLoss(Nothing(), 4, size=8).double().eval()
    loss.of(matches(*random_pairs(0, BATCH)))
    assert loss.seen == 0
    loss.train().of(matches(*random_pairs(0, BATCH)))
    assert loss.seen == 5


def test_backward_after_the_queue_has_changed():
    loss = MemoryLoss(Nothing(), 4, size=6, memory_margin=0.2).double()
    loss.of(matches(*random_pairs(0, BATCH)))
    image, text, groups = random_pairs(1, [20, 21, 22, 23])
    queue = [part[:5].clone() for part in (loss.queue_image, loss.queue_text, loss.queue_groups)]
    mine = image.clone().requires_grad_()
    loss.of(matches(mine, text, groups)).backward()  # the queue has taken these pairs in
    expected = image.clone().requires_grad_()
    memory_hinge(expected, text, groups, *queue, margin=0.2).backward()
    assert torch.equal(mine.grad, expected.grad)
    assert not loss.queue_image.requires_grad


def test_the_queue_is_part_of_the_state():
    first, second = (MemoryLoss(Nothing(), 4, size=6, memory_margin=0.2) for _ in range(2))
    for step in range(3):
        first.of(matches(*random_pairs(step, BATCH, torch.float32)))
    second.load_state_dict(first.state_dict())
    batch = random_pairs(9, [30, 31], torch.float32)
    assert second.of(matches(*batch)).item() == first.of(matches(*batch)).item()
    assert torch.equal(second.queue_image, first.queue_image)


@pytest.mark.parametrize("past", [False, True])
def test_equal_vectors_have_finite_gradients(past):
    loss = MemoryLoss(HardNegativeTripletLoss(0.2), 4, size=6, memory_margin=0.1)
    image, text = torch.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    if past:
        loss.of(matches(image, text, torch.tensor([7, 8, 9])))
    value = loss.of(matches(image, text, torch.arange(3)))
    value.backward()
    assert value.item() == pytest.approx(6 * 0.2 + past * 6 * 0.1, rel=1e-5)
    assert torch.isfinite(image.grad).all()


def test_zero_vectors_have_finite_gradients():
    image, past = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4)
    memory_hinge(image, torch.zeros(3, 4), torch.arange(3), past, past, torch.arange(3) + 9).backward()
    assert torch.equal(image.grad, torch.zeros(3, 4))


def test_what_it_wraps_is_asked():
    loss = MemoryLoss(HardNegativeTripletLoss(warmup_epochs=1), 4)
    assert loss.needs == {"image", "text", "groups"}
    assert MemoryLoss(LadderLoss(), 4).needs == {"image", "text", "groups", "relevance"}
    assert loss.loss.current_negatives == "all"
    loss.set_epoch(1)
    assert loss.loss.current_negatives == "hardest"
    assert [name for name, _ in MemoryLoss(SigmoidLoss(), 4).named_parameters()] == ["loss.log_scale", "loss.shift"]


def test_a_relevance_goes_with_the_images():
    """The rows of a batch may be in another order than the captions; those of the cosines are in theirs."""
    image, text, groups = random_pairs(0, [3, 4, 3])
    image, rows = image[[0, 1, 0]], torch.tensor([4, 3])
    relevance = torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = Matches(None, rows[:, None] == groups, image, text, groups, relevance)
    loss = LadderLoss(margins=[0.2, 0.3])
    cosines = l2_normalize(image[:2]) @ l2_normalize(text).T
    expected = loss(cosines, groups[:2, None] == groups, relevance=relevance.flip(0))
    assert MemoryLoss(loss, 4).double().of(given) == expected
    assert expected != loss(cosines, groups[:2, None] == groups, relevance=relevance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    losses = [MemoryLoss(Nothing(), 4, size=6, memory_margin=0.2) for _ in range(2)]
    for step in range(2):
        image, text, groups = random_pairs(step, [10 * step + n for n in range(5)], torch.float32)
        image, text = image.to(dtype).requires_grad_(), text.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = losses[0].of(matches(image, text, groups))
        if step:  # the memory is empty before
            value.backward()
        assert value.dtype == torch.float32
        expected = losses[1].of(matches(image.detach().float(), text.float(), groups))
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses[0].queue_image.dtype == torch.float32


def test_lengths_do_not_matter():
    batch, past = random_pairs(0, BATCH), random_pairs(1, PAST)
    expected = memory_hinge(*batch, *past).item()
    scaled = memory_hinge(3 * batch[0], l2_normalize(batch[1]), batch[2], 5 * past[0], past[1], past[2])
    assert scaled.item() == pytest.approx(expected, rel=1e-10)


def test_settings_are_recorded():
    loss = MemoryLoss(InfoNCELoss(0.1), 8, 16, 0.05, SelectiveNegatives(0.1), "mean")
    again = build(loss.spec, Loss)
    assert again.spec == loss.spec
    assert again.queue_text.shape == (16, 8)
    assert "embed_dim=8, size=16, memory_margin=0.05, negatives=SelectiveNegatives(epsilon=0.1)" in repr(again)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": 0}, "embed_dim: 0, expected a whole number, 1 or more"),
        ({"size": 0}, "size: 0, expected a whole number, 1 or more"),
        ({"memory_margin": -1}, "memory_margin: -1"),
        ({"memory_margin": float("inf")}, "memory_margin: inf"),
        ({"negatives": "some"}, "negatives: 'some'"),
        ({"reduction": "half"}, "reduction: 'half'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MemoryLoss(Nothing(), **({"embed_dim": 4} | settings))


def test_bad_inputs():
    with pytest.raises(ValueError, match="groups: None, but MemoryLoss reads it"):
        MemoryLoss(Nothing(), 2).of(matches(torch.eye(2), torch.eye(2)))
    with pytest.raises(ValueError, match=r"image: shape \(2, 2\), expected vectors of embed_dim=3"):
        MemoryLoss(Nothing(), 3).of(matches(torch.eye(2), torch.eye(2), torch.arange(2)))
    with pytest.raises(TypeError, match="loss: a Linear, expected an itmatch"):
        MemoryLoss(torch.nn.Linear(2, 2), 2)
