"""Whether the machine has the device that a run asks for."""

from __future__ import annotations

from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

_GPUS = {"gpu": (CUDAAccelerator, MPSAccelerator), "cuda": (CUDAAccelerator,), "mps": (MPSAccelerator,)}


def check_accelerator(name: object) -> None:
    """Refuse a GPU where there is none: Lightning does not say which option asks for it.

    Args:
        name: as it is given; any other than that of a kind of GPU is left to Lightning.

    Raises:
        ValueError: this machine has none of that kind.
    """
    kinds = _GPUS.get(name, ()) if isinstance(name, str) else ()
    if kinds and not any(kind.is_available() for kind in kinds):
        raise ValueError(f"--trainer.accelerator {name}: PyTorch finds none on this machine; auto takes what there is")
