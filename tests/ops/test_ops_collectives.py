import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from itmatch.ops import collectives
from itmatch.ops.collectives import all_gather_ragged

DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.bool]


def test_one_process():
    assert not collectives.is_distributed()
    assert (collectives.world_size(), collectives.rank()) == (1, 0)
    tensor = torch.randn(3, 2, requires_grad=True)
    gathered = all_gather_ragged(tensor, dim=1)
    assert torch.equal(gathered, tensor)
    assert not gathered.requires_grad
    with pytest.raises(ValueError, match="without dimensions"):
        all_gather_ragged(torch.tensor(1.0))


def _values(length, dtype, start):
    return (
        torch.arange(start, start + length * 6).reshape(length, 3, 2) % 5 > 1
        if dtype == torch.bool
        else torch.arange(start, start + length * 6).reshape(length, 3, 2)
    ).to(dtype)


def _process(process, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=process, world_size=2)
    assert collectives.is_distributed()
    assert (collectives.world_size(), collectives.rank()) == (2, process)
    for dtype in DTYPES:
        for lengths in ((4, 2), (0, 3), (2, 0), (0, 0)):
            parts = [_values(length, dtype, 7 * i) for i, length in enumerate(lengths)]
            for dim in (0, 1, -1):
                gathered = all_gather_ragged(parts[process].movedim(0, dim), dim=dim)
                assert gathered.dtype == dtype
                assert torch.equal(gathered, torch.cat(parts).movedim(0, dim))
    one_dimension = all_gather_ragged(torch.full((process + 1,), float(process), requires_grad=True))
    assert one_dimension.tolist() == [0.0, 1.0, 1.0]
    assert not one_dimension.requires_grad
    assert all_gather_ragged(torch.zeros(2, 0)).shape == (4, 0)
    with pytest.raises(ValueError, match=r"process 1 has torch\.float32 with other sizes"):
        all_gather_ragged(torch.zeros(2, 3 + process))
    with pytest.raises(ValueError, match=r"process 1 has torch\.float64"):
        all_gather_ragged(torch.zeros(2, dtype=torch.float64 if process else torch.float32))
    dist.destroy_process_group()


def test_two_processes(tmp_path):
    mp.spawn(_process, args=(tmp_path,), nprocs=2)
