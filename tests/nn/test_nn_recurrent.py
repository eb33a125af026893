"""Rows of one length take another way than rows of several; both say the same."""

import pytest
import torch
from torch import nn

from itmatch.nn.recurrent import recurrent_states


@pytest.mark.parametrize("layers", [1, 2])
def test_rows_of_one_length_are_as_among_others(layers):
    torch.manual_seed(0)
    rnn = nn.GRU(3, 4, layers, batch_first=True, bidirectional=True).double()
    values = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 8, dtype=torch.float64)
    among_others = recurrent_states(rnn, values, torch.tensor([5, 5, 5, 2]))[:3]
    alone = recurrent_states(rnn, values[:3], torch.tensor([5, 5, 5]))
    torch.testing.assert_close(alone, among_others, atol=1e-12, rtol=1e-12)
    leaves = [values, *rnn.parameters()]
    for a, b in zip(
        torch.autograd.grad((alone * weight).sum(), leaves),
        torch.autograd.grad((among_others * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_each_row_is_as_by_itself():
    torch.manual_seed(0)
    rnn, values = nn.GRU(3, 4, batch_first=True, bidirectional=True), torch.randn(3, 5, 3)
    found = recurrent_states(rnn, values, torch.tensor([2, 5, 3]))
    for row, length in enumerate((2, 5, 3)):
        torch.testing.assert_close(found[row, :length], rnn(values[row, :length][None])[0][0])
        assert not found[row, length:].any()
