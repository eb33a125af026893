"""Other packages for the sum over the words of each word's best region ("MaxSim"), if they are installed.

Captions are the queries and images the documents there. Only what is timed happens in the functions that are returned;
turning the fragments into the package's own form is done before.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from itmatch.batch import Fragments

Make = Callable[[Fragments, Fragments], Callable[[], Tensor]]


def find_packages(device: torch.device) -> dict[str, Make]:
    """Those that are installed and run on a device, by name."""
    found: dict[str, Make] = {}
    if device.type == "cpu" and find_spec("maxsim_cpu"):
        # its threads; counted when it is first used
        os.environ.setdefault("RAYON_NUM_THREADS", str(torch.get_num_threads()))
        found["maxsim-cpu"] = maxsim_cpu
    if find_spec("late_interaction_kernels"):
        found["late-interaction-kernels"] = late_interaction_kernels
    if device.type == "cuda" and find_spec("flash_maxsim"):
        found["flash-maxsim (float16)"] = flash_maxsim
    return found


def maxsim_cpu(image: Fragments, text: Fragments) -> Callable[[], Tensor]:
    """One call a caption, of its real words."""
    import maxsim_cpu as package
    import numpy as np

    regions = image.features.detach().numpy()
    captions = [words[mask].detach().numpy() for words, mask in zip(text.features, text.mask, strict=True)]
    return lambda: torch.from_numpy(np.stack([package.maxsim_scores(words, regions) for words in captions], 1))


def late_interaction_kernels(image: Fragments, text: Fragments) -> Callable[[], Tensor]:
    """Triton kernels on a GPU, plain PyTorch elsewhere."""
    from late_interaction_kernels import MaxSimScorer

    scorer: Any = MaxSimScorer(normalize=False)

    def score() -> Tensor:
        with torch.no_grad():
            return scorer(text.features, image.features, q_mask=text.mask, d_mask=image.mask).T

    return score


def flash_maxsim(image: Fragments, text: Fragments) -> Callable[[], Tensor]:
    """Triton kernels, in half precision; every image has all its regions here."""
    from flash_maxsim import flash_maxsim_batched

    words, regions = text.features.detach().half(), image.features.detach().half()
    lengths = text.mask.sum(1)
    return lambda: flash_maxsim_batched(words, regions, query_lengths=lengths, shared_docs=True).T
