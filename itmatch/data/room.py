"""Whether the features of a split fit into memory, or onto a device, before anything is read."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")  # what a container may take
_SHARED = Path("/dev/shm")


def check_room(
    what: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, shared: bool = False
) -> None:
    """Raise where numbers do not fit into the memory that is free; pass where that is not known.

    Args:
        what: names them, for the message.
        shape: of the numbers.
        dtype: of each.
        device: where they are to lie.
        shared: in memory that several processes see.

    Raises:
        ValueError: says how many bytes are needed and how many are free.
    """
    needed, free = math.prod(shape) * dtype.itemsize, free_bytes(device, shared=shared)
    if free is None or needed <= free:
        return
    where = f"{_SHARED}, which processes that load share" if shared else "memory" if device.type == "cpu" else device
    kind = str(dtype).removeprefix("torch.")
    raise ValueError(
        f"{what}: {' x '.join(map(str, shape))} numbers of {kind} need {needed} bytes ({needed / 1e9:.3g} GB), and "
        f"{free} ({free / 1e9:.3g} GB) are free in {where}"
    )


def free_bytes(device: torch.device, *, shared: bool = False) -> int | None:
    """Memory that may still be taken; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    found = [_available(), _left_in_group()]
    if shared and _SHARED.is_dir():
        found.append(shutil.disk_usage(_SHARED).free)
    return min((free for free in found if free is not None), default=None)


def _available() -> int | None:
    """What the system can give without swapping; Linux only."""
    try:
        return 1024 * _numbers(_MEMORY, ":")["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return None


def _left_in_group() -> int | None:
    """What the limit of a container leaves; what it keeps of files can be given up."""
    try:
        limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        return limit - used + _numbers(_GROUP / "memory.stat", " ")["file"]
    except (OSError, KeyError, ValueError):  # "max" is no number: no limit
        return None


def _numbers(path: Path, behind: str) -> dict[str, int]:
    """The lines of a file of the system: a name, and a number."""
    parts = (line.partition(behind) for line in path.read_text().splitlines())
    return {name: int(value.split()[0]) for name, _, value in parts}
