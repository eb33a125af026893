"""Relations: the fragments of one image or caption take from each other, before they meet the other side."""

from itmatch.nn.relations.base import Related, Relation
from itmatch.nn.relations.context import ContextualOrder
from itmatch.nn.relations.implicit import ImplicitRelationAttention
from itmatch.nn.relations.spatial_semantic import SpatialSemanticGCN
from itmatch.nn.relations.textual_graph import TextualRelationGraph
from itmatch.nn.relations.visual_graph import VisualRelationGraph

__all__ = [
    "ContextualOrder",
    "ImplicitRelationAttention",
    "Related",
    "Relation",
    "SpatialSemanticGCN",
    "TextualRelationGraph",
    "VisualRelationGraph",
]
