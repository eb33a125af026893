"""Recurrent networks over rows of different lengths."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from itmatch.hostcopies import sent


def recurrent_states(rnn: nn.GRU, values: Tensor, lengths: Tensor) -> Tensor:
    """The states of a recurrent network at each real step.

    Args:
        rnn: with ``batch_first=True``.
        values: (N, L, I), real steps first.
        lengths: (N,) number of real steps, at least 1, on the CPU.

    Returns:
        (N, L, hidden size times directions); 0 behind the real steps.
    """
    if values.shape[0] == 0:  # not every backend takes that; so the parameters still have a gradient, of 0
        one: Tensor = rnn(values.new_zeros(1, 1, values.shape[2]))[0]
        return one[:0].expand(0, values.shape[1], -1)
    if bool((lengths == values.shape[1]).all()):
        # packed, the backward pass on a CPU writes a gradient of full size for each step
        states: Tensor = rnn(values)[0]
        return states
    order = lengths.argsort(descending=True, stable=True)  # in place of PyTorch's sorting, which waits for a GPU
    packed = pack_padded_sequence(values.index_select(0, sent(order, values.device)), lengths[order], batch_first=True)
    states = pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=values.shape[1])[0]
    return states.index_select(0, sent(order.argsort(), values.device))
