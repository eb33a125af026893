"""Relations: fragments of one row look at each other before they are compared with the other side."""

from itmatch.nn.relations.base import Relation
from itmatch.nn.relations.implicit import ImplicitRelationAttention
from itmatch.nn.relations.spatial_semantic import SpatialSemanticGCN

__all__ = ["ImplicitRelationAttention", "Relation", "SpatialSemanticGCN"]
