"""The blocks that a model is put together from."""

from itmatch.nn.block import Block
from itmatch.nn.encoders import GRUTextEncoder, RegionEncoder, TransformerTextEncoder
from itmatch.nn.pooling import (
    GeneralizedPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    SoftmaxPooling,
    SumPooling,
)
from itmatch.nn.relations import ImplicitRelationAttention, Relation, SpatialSemanticGCN
from itmatch.nn.similarity import (
    AligningSimilarity,
    CosineSimilarity,
    CrossAttentionSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    Similarity,
    SoftAligningSimilarity,
)

__all__ = [
    "AligningSimilarity",
    "Block",
    "CosineSimilarity",
    "CrossAttentionSimilarity",
    "GRUTextEncoder",
    "GeneralizedPooling",
    "HardAligningSimilarity",
    "ImplicitRelationAttention",
    "InteractiveSimilarity",
    "LogSumExpPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "RegionEncoder",
    "Relation",
    "Similarity",
    "SoftAligningSimilarity",
    "SoftmaxPooling",
    "SpatialSemanticGCN",
    "SumPooling",
    "TransformerTextEncoder",
]
