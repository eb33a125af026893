import pytest
import torch
from helpers_robust_losses import close, reference

from itmatch.losses import clean_probability


@pytest.mark.parametrize("name", ["a", "b"])
def test_agrees_with_the_public_code(name):
    close(clean_probability(reference(f"mixture.losses_{name}")), reference(f"mixture.clean_probability_{name}"))


def test_the_split_agrees_with_the_public_code():
    found = clean_probability(reference("mixture.losses_a")) > 0.5
    assert torch.equal(found, reference("mixture.split_a"))
    assert 0 < found.sum() < len(found)


def test_separates_what_was_mixed():
    generator = torch.Generator().manual_seed(0)
    wrong = torch.arange(500) % 5 == 0
    losses = torch.where(wrong, 2.0, 0.3) + 0.2 * torch.randn(500, generator=generator)
    assert torch.equal(clean_probability(losses) > 0.5, ~wrong)


def test_order_and_scale_do_not_matter():
    losses = torch.rand(60, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    expected = clean_probability(losses)
    assert torch.allclose(clean_probability(losses[order]), expected[order], atol=1e-6)
    assert torch.allclose(clean_probability(7 * losses + 3), expected, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_equal_losses_are_clean(count):
    assert clean_probability(torch.full((count,), 0.7)).tolist() == [1.0] * count


@pytest.mark.parametrize("losses", [torch.tensor([1.0, torch.nan]), torch.tensor([torch.inf, 0.0]), torch.zeros(2, 2)])
def test_bad_losses(losses):
    with pytest.raises(ValueError, match=r"losses: shape .* one dimension of finite numbers"):
        clean_probability(losses)
