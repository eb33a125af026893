import weakref

import pytest
import torch
import torch.distributed as dist
from helpers_processes import run_processes

from itmatch.ops import collectives
from itmatch.ops.collectives import all_gather_ragged, all_reduce_sum

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool]


def test_one_process():
    assert not collectives.is_distributed()
    assert (collectives.world_size(), collectives.rank()) == (1, 0)
    tensor = torch.randn(3, 2, requires_grad=True)
    gathered = all_gather_ragged(tensor, dim=1)
    assert gathered is tensor
    assert all_reduce_sum(tensor) is tensor
    with pytest.raises(ValueError, match="without dimensions"):
        all_gather_ragged(torch.tensor(1.0))


def _values(length, dtype, start):
    return (
        torch.arange(start, start + length * 6).reshape(length, 3, 2) % 5 > 1
        if dtype == torch.bool
        else torch.arange(start, start + length * 6).reshape(length, 3, 2)
    ).to(dtype)


def _process(process, _, folder):
    assert collectives.is_distributed()
    assert (collectives.world_size(), collectives.rank()) == (2, process)
    _check_gathers(process)
    collectives._PIECE_BYTES = 50  # two rows of 24 bytes
    _check_gathers(process)
    group = weakref.ref(collectives._group())
    assert group() is not None
    dist.destroy_process_group()
    assert group() is None  # and with it its threads; one of them living on while Python ends can abort the process
    dist.init_process_group("gloo", init_method=f"file://{folder}/again", rank=process, world_size=2)
    _check_gathers(process)


def _check_gathers(process):
    for dtype in DTYPES:
        for lengths in ((4, 2), (0, 3), (2, 0), (0, 0)):
            parts = [_values(length, dtype, 7 * i) for i, length in enumerate(lengths)]
            for dim in (0, 1, -1):
                gathered = all_gather_ragged(parts[process].movedim(0, dim), dim=dim)
                assert gathered.dtype == dtype
                assert torch.equal(gathered, torch.cat(parts).movedim(0, dim))
    one_dimension = all_gather_ragged(torch.full((process + 1,), float(process)))
    assert one_dimension.tolist() == [0.0, 1.0, 1.0]
    column = torch.arange(6.0).view(3, 2)[:, :1]  # strides 2, 1; and one of a single number
    for part in (column, column[:1], column[:1].T):
        assert all_gather_ragged(part).tolist() == [*part.tolist(), *part.tolist()]
    _check_gradients(process)
    for dtype in (torch.float64, torch.int64):
        total = all_reduce_sum(torch.tensor([[1, process]], dtype=dtype))
        assert total.dtype == dtype
        assert total.tolist() == [[2, 1]]
    assert all_gather_ragged(torch.zeros(2, 0)).shape == (4, 0)
    with pytest.raises(ValueError, match=r"process 1 has torch\.float32 with other sizes"):
        all_gather_ragged(torch.zeros(2, 3 + process))
    with pytest.raises(ValueError, match=r"process 1 has torch\.float64"):
        all_gather_ragged(torch.zeros(2, dtype=torch.float64 if process else torch.float32))


def _check_gradients(process):
    """The gradient of what a process gave is the sum of the gradients of all processes."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for lengths in ((4, 2), (0, 3), (0, 0)):
            for dim in (0, 1):
                own = torch.ones(lengths[process], 3, 2, dtype=dtype).movedim(0, dim).requires_grad_()
                gathered = all_gather_ragged(own, dim=dim).movedim(dim, 0)
                places = torch.arange(sum(lengths), dtype=dtype)[:, None, None]
                weights = places + torch.arange(6, dtype=dtype).view(3, 2)
                incoming = (weights * (process + 1)).mT.contiguous().mT  # not contiguous
                gathered.backward(incoming)
                start = sum(lengths[:process])
                assert own.grad.dtype == dtype
                assert torch.equal(own.grad.movedim(dim, 0), 3 * weights[start : start + lengths[process]])


def test_two_processes(tmp_path):
    run_processes(_process, 2, tmp_path, tmp_path)
