"""The blocks that a model is put together from."""

from itmatch.nn.attention_pooling import GlobalAttentionPooling
from itmatch.nn.block import Block
from itmatch.nn.class_embedding import ClassEmbedding
from itmatch.nn.encoders import GRUTextEncoder, RegionEncoder, TransformerTextEncoder
from itmatch.nn.pooling import (
    GeneralizedPooling,
    LastPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    SoftmaxPooling,
    SumPooling,
)
from itmatch.nn.relations import (
    ContextualOrder,
    ImplicitRelationAttention,
    Related,
    Relation,
    SpatialSemanticGCN,
    TextualRelationGraph,
    VisualRelationGraph,
)
from itmatch.nn.similarity import (
    AligningSimilarity,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    Similarity,
    SimilarityFiltration,
    SimilarityHead,
    SimilarityReasoning,
    SoftAligningSimilarity,
    TiledSimilarity,
    VectorSimilarity,
)

__all__ = [
    "AligningSimilarity",
    "Block",
    "ClassEmbedding",
    "ContextualOrder",
    "CosineSimilarity",
    "CrossAttentionSimilarity",
    "GRUTextEncoder",
    "GeneralizedPooling",
    "GlobalAttentionPooling",
    "GraphMatchingSimilarity",
    "HardAligningSimilarity",
    "ImplicitRelationAttention",
    "InteractiveSimilarity",
    "LastPooling",
    "LogSumExpPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "RegionEncoder",
    "Related",
    "Relation",
    "Similarity",
    "SimilarityFiltration",
    "SimilarityHead",
    "SimilarityReasoning",
    "SoftAligningSimilarity",
    "SoftmaxPooling",
    "SpatialSemanticGCN",
    "SumPooling",
    "TextualRelationGraph",
    "TiledSimilarity",
    "TransformerTextEncoder",
    "VectorSimilarity",
    "VisualRelationGraph",
]
