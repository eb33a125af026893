"""Recurrent networks over rows of different lengths."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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
    packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=values.shape[1])[0]
