"""Pure functions on tensors, the lowest layer of the library."""

from itmatch.ops.alignment import hard_alignment, soft_alignment
from itmatch.ops.geometry import box_area, box_iou, polar_geometry, relative_geometry
from itmatch.ops.masking import (
    l2_normalize,
    lengths_to_mask,
    mask_to_lengths,
    masked_logsumexp,
    masked_max,
    masked_mean,
    masked_softmax,
    masked_sum,
)

__all__ = [
    "box_area",
    "box_iou",
    "hard_alignment",
    "l2_normalize",
    "lengths_to_mask",
    "mask_to_lengths",
    "masked_logsumexp",
    "masked_max",
    "masked_mean",
    "masked_softmax",
    "masked_sum",
    "polar_geometry",
    "relative_geometry",
    "soft_alignment",
]
