"""Pure functions on tensors, the lowest layer of the library."""

from itmatch.ops.geometry import box_area, box_iou, edge_geometry
from itmatch.ops.graphs import Edges, nearest_boxes, semantic_graph, spatial_graph, strongest_edges
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
from itmatch.ops.pairs.alignment import hard_alignment
from itmatch.ops.pairs.attention import cross_attention, soft_alignment
from itmatch.ops.pairs.over_pairs import over_pairs
from itmatch.ops.pairs.tiles import PairTile

__all__ = [
    "Edges",
    "PairTile",
    "box_area",
    "box_iou",
    "cross_attention",
    "edge_geometry",
    "hard_alignment",
    "l2_normalize",
    "lengths_to_mask",
    "mask_to_lengths",
    "masked_logsumexp",
    "masked_max",
    "masked_mean",
    "masked_softmax",
    "masked_sum",
    "nearest_boxes",
    "over_pairs",
    "semantic_graph",
    "soft_alignment",
    "spatial_graph",
    "strongest_edges",
]
