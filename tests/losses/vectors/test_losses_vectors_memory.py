import pytest
import torch

from itmatch.losses import EmbeddingLoss, OffBatchHardestLoss, off_batch_hardest_loss
from itmatch.ops.masking import l2_normalize
from itmatch.spec import build


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def naive(image, text, groups, queue, margin, queue_margin, reduction="sum"):
    """The formula, one pair at a time; the queue is a list of (image, text, group)."""
    total = 0.0
    for n in range(len(image)):
        own = cosine(image[n], text[n])
        batch = [k for k in range(len(image)) if groups[k] != groups[n]]
        past = [(v, t) for v, t, group in queue if group != groups[n]]
        for m, negatives in (
            (margin, [cosine(image[n], text[k]) for k in batch]),
            (margin, [cosine(image[k], text[n]) for k in batch]),
            (queue_margin, [cosine(image[n], t) for _, t in past]),
            (queue_margin, [cosine(v, text[n]) for v, _ in past]),
        ):
            total += max((max(m + s - own, 0) for s in negatives), default=0)
    return total / (len(image) if reduction == "mean" else 1)


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
    loss = off_batch_hardest_loss(*batch, *past, margin=0.3, queue_margin=0.1, reduction=reduction)
    queue = list(zip(*past, strict=True))
    assert loss.item() == pytest.approx(naive(*batch, queue, 0.3, 0.1, reduction), rel=1e-10)
    assert loss > naive(*batch, [], 0.3, 0.1, reduction)  # the queue has its part in it


def test_an_empty_queue():
    batch, past = random_pairs(0, BATCH), random_pairs(1, PAST)
    loss = off_batch_hardest_loss(*batch, *(part[:0] for part in past), margin=0.3)
    assert loss.item() == pytest.approx(naive(*batch, [], 0.3, 0.0), rel=1e-10)


def test_gradient_and_none_for_the_queue():
    image, text, groups = random_pairs(0, BATCH)
    past_image, past_text, past_groups = random_pairs(50, PAST)
    for part in (image, text, past_image, past_text):
        part.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v, t: off_batch_hardest_loss(v, t, groups, past_image, past_text, past_groups, queue_margin=0.1),
        (image, text),
    )
    off_batch_hardest_loss(image, text, groups, past_image, past_text, past_groups).backward()
    assert image.grad.abs().sum() > 0
    assert past_image.grad is None
    assert past_text.grad is None


@pytest.mark.parametrize("size", [3, 5, 7, 20])
def test_the_queue_holds_the_last_pairs(size):
    """Batches of several sizes, some larger than the queue, against a list."""
    loss = OffBatchHardestLoss(4, size=size, margin=0.3, queue_margin=0.1).double()
    queue = []
    for step, number in enumerate((2, 3, 4, 6, 1, 2)):
        batch = random_pairs(step, [10 * step + n // 2 for n in range(number)])
        assert loss(*batch).item() == pytest.approx(naive(*batch, queue, 0.3, 0.1), rel=1e-10)
        queue = [*queue, *zip(*batch, strict=True)][-size:]
    assert loss.seen == 18
    held = sorted(loss.queue_groups[: len(queue)].tolist())
    assert held == sorted(int(group) for _, _, group in queue)


def test_the_same_image_in_the_queue_is_no_negative():
    vectors, groups = torch.eye(3), torch.tensor([40, 41, 42])
    loss = OffBatchHardestLoss(3, size=8, queue_margin=0.5)
    assert loss(vectors, vectors, groups) == 0
    assert loss(vectors, vectors, groups) == 0  # met again
    assert loss(vectors, vectors, groups + 100).item() == pytest.approx(3 * 2 * 0.5)  # as good, of other images


def test_only_training_fills_the_queue():
    loss = OffBatchHardestLoss(4, size=8).double().eval()
    loss(*random_pairs(0, BATCH))
    assert loss.seen == 0
    loss.train()(*random_pairs(0, BATCH))
    assert loss.seen == 5


def test_backward_after_the_queue_has_changed():
    loss = OffBatchHardestLoss(4, size=6, queue_margin=0.2).double()
    loss(*random_pairs(0, BATCH))
    image, text, groups = random_pairs(1, [20, 21, 22, 23])
    queue = [part[:5].clone() for part in (loss.queue_image, loss.queue_text, loss.queue_groups)]
    mine = image.clone().requires_grad_()
    loss(mine, text, groups).backward()  # the queue has taken these pairs in
    expected = image.clone().requires_grad_()
    off_batch_hardest_loss(expected, text, groups, *queue, queue_margin=0.2).backward()
    assert torch.equal(mine.grad, expected.grad)
    assert not loss.queue_image.requires_grad


def test_the_queue_is_part_of_the_state():
    first, second = (OffBatchHardestLoss(4, size=6, queue_margin=0.2) for _ in range(2))
    for step in range(3):
        first(*random_pairs(step, BATCH, torch.float32))
    second.load_state_dict(first.state_dict())
    batch = random_pairs(9, [30, 31], torch.float32)
    assert second(*batch).item() == first(*batch).item()
    assert torch.equal(second.queue_image, first.queue_image)


@pytest.mark.parametrize("past", [False, True])
def test_equal_vectors_have_finite_gradients(past):
    loss = OffBatchHardestLoss(4, size=6, margin=0.2, queue_margin=0.1)
    image, text = torch.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    if past:
        loss(image, text, torch.tensor([7, 8, 9]))
    value = loss(image, text, torch.arange(3))
    value.backward()
    assert value.item() == pytest.approx(6 * 0.2 + past * 6 * 0.1, rel=1e-5)
    assert torch.isfinite(image.grad).all()


def test_zero_vectors_have_finite_gradients():
    image = torch.zeros(3, 4, requires_grad=True)
    OffBatchHardestLoss(4)(image, torch.zeros(3, 4), torch.arange(3)).backward()
    assert torch.equal(image.grad, torch.zeros(3, 4))


def test_one_pair():
    loss = OffBatchHardestLoss(2, size=2, queue_margin=0.1)
    image = torch.tensor([[1.0, 0.0]], requires_grad=True)
    value = loss(image, image, torch.tensor([3]))
    value.backward()
    assert value == 0
    assert torch.equal(image.grad, torch.zeros(1, 2))
    assert loss(image.detach(), -image.detach(), torch.tensor([4])).item() == pytest.approx(2.1 + 0.1)


def test_zero_at_perfect_separation():
    loss = OffBatchHardestLoss(4, size=2)
    loss(torch.eye(4)[:2], torch.eye(4)[:2], torch.arange(2))
    assert loss(torch.eye(4)[2:], torch.eye(4)[2:], torch.arange(2, 4)) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    losses = [OffBatchHardestLoss(4, size=6, queue_margin=0.2) for _ in range(2)]
    for step in range(2):
        image, text, groups = random_pairs(step, [10 * step + n for n in range(5)], torch.float32)
        image, text = image.to(dtype).requires_grad_(), text.to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = losses[0](image, text, groups)
        value.backward()
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(losses[1](image.detach().float(), text.float(), groups).item(), rel=1e-6)
    assert losses[0].queue_image.dtype == torch.float32


def test_lengths_do_not_matter():
    batch, past = random_pairs(0, BATCH), random_pairs(1, PAST)
    expected = off_batch_hardest_loss(*batch, *past).item()
    scaled = off_batch_hardest_loss(3 * batch[0], l2_normalize(batch[1]), batch[2], 5 * past[0], past[1], past[2])
    assert scaled.item() == pytest.approx(expected, rel=1e-10)


def test_defaults_of_class_and_function_are_the_same():
    loss, past = OffBatchHardestLoss(4, size=6).double(), random_pairs(1, PAST)
    loss(*past)
    batch = random_pairs(0, BATCH)
    assert loss(*batch) == off_batch_hardest_loss(*batch, *past)


def test_settings_are_recorded():
    loss = OffBatchHardestLoss(8, 16, 0.1, queue_margin=0.05, reduction="mean")
    again = build(loss.spec, EmbeddingLoss)
    assert again.spec == loss.spec
    assert again.queue_text.shape == (16, 8)
    assert "embed_dim=8, size=16, margin=0.1, queue_margin=0.05, reduction='mean'" in repr(again)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": 0}, "embed_dim: 0, expected a whole number, 1 or more"),
        ({"size": 0}, "size: 0, expected a whole number, 1 or more"),
        ({"margin": -1}, "margin: -1"),
        ({"queue_margin": float("inf")}, "queue_margin: inf"),
        ({"reduction": "half"}, "reduction: 'half'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        OffBatchHardestLoss(**({"embed_dim": 4} | settings))


def test_bad_inputs():
    with pytest.raises(ValueError, match="groups: None, expected the number of each pair's image"):
        OffBatchHardestLoss(2)(torch.eye(2), torch.eye(2))
    with pytest.raises(ValueError, match=r"image: shape \(2, 2\), expected vectors of embed_dim=3"):
        OffBatchHardestLoss(3)(torch.eye(2), torch.eye(2), torch.arange(2))
