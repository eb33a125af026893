import torch

from itmatch.ops.seeding import mix_seed, seed_step


def test_near_numbers_give_unrelated_seeds_in_range():
    seeds = {mix_seed(run, step, rank) for run in range(5) for step in range(20) for rank in range(3)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix_seed(1, 23) != mix_seed(12, 3)


def test_a_step_draws_the_same_whatever_was_drawn_before():
    seed_step(7, 1, 3, 0)
    first = torch.rand(4)
    torch.rand(100)
    seed_step(7, 1, 3, 0)
    assert torch.equal(first, torch.rand(4))
    seed_step(7, 1, 3, 1)
    assert not torch.equal(first, torch.rand(4))
