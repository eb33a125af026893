"""What a run was made with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "numpy", "lightning", "torchmetrics", "transformers", "torch_geometric", "jsonargparse")


def environment() -> dict[str, str]:
    """Versions and machine, as plain texts.

    Example:
        >>> list(environment())[:3]
        ['itmatch', 'Python', 'system']
    """
    import torch

    from itmatch._version import __version__

    found = {
        "itmatch": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processors": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["accelerator"] = ", ".join(names)
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
