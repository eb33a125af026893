import torch

from itmatch.losses.noisy.memory import PairMemory


def test_numbers_outlive_and_the_rest_is_the_start():
    memory = PairMemory(0.5)
    memory.write(torch.tensor([4, 1]), torch.tensor([0.25, 2.0], dtype=torch.float64))
    memory.write(torch.tensor([4]), torch.tensor([3.0]))
    assert memory.read(torch.tensor([0, 1, 4, 40])).tolist() == [0.5, 2.0, 3.0, 0.5]
    assert memory.read(torch.tensor([], dtype=torch.int64)).tolist() == []


def test_state_of_any_length_is_taken_over():
    memory, other = PairMemory(1.0), PairMemory(1.0)
    memory.write(torch.tensor([9]), torch.tensor([0.0]))
    other.write(torch.tensor([2]), torch.tensor([7.0]))
    other.load_state_dict(memory.state_dict())
    assert other.read(torch.tensor([2, 9, 20])).tolist() == [1.0, 0.0, 1.0]
    memory.load_state_dict(PairMemory(1.0).state_dict())
    assert memory.read(torch.tensor([9])).tolist() == [1.0]


def test_growing_by_one_does_not_copy_each_time():
    memory = PairMemory(0.0)
    memory.read(torch.tensor([99]))
    memory.read(torch.tensor([100]))
    assert len(memory.values) == 200
