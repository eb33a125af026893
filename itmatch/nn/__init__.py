"""The blocks that a model is put together from."""

from itmatch.nn.attention_pooling import GlobalAttentionPooling
from itmatch.nn.block import Block
from itmatch.nn.class_embedding import ClassEmbedding
from itmatch.nn.encoders._patches import patches_of, pixels_of
from itmatch.nn.encoders.base import ImageEncoder, TextEncoder
from itmatch.nn.encoders.clip import ClipImageEncoder, ClipTextEncoder
from itmatch.nn.encoders.gru import GRUTextEncoder
from itmatch.nn.encoders.lora import Lora
from itmatch.nn.encoders.region import RegionEncoder
from itmatch.nn.encoders.slots import SlotImageEncoder, SlotTextEncoder
from itmatch.nn.encoders.transformer import TransformerTextEncoder
from itmatch.nn.encoders.views import RegionViewEncoder, ViewEncoder
from itmatch.nn.encoders.vision import TransformerImageEncoder
from itmatch.nn.gaussian_pooling import GaussianPooling
from itmatch.nn.pooling import (
    GeneralizedPooling,
    LastPooling,
    LayerNormPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    SoftmaxPooling,
    SumPooling,
    TopKPooling,
)
from itmatch.nn.relations.base import Related, Relation
from itmatch.nn.relations.context import ContextualOrder
from itmatch.nn.relations.implicit import ImplicitRelationAttention
from itmatch.nn.relations.spatial_semantic import SpatialSemanticGCN
from itmatch.nn.relations.textual_graph import TextualRelationGraph
from itmatch.nn.relations.visual_graph import VisualRelationGraph
from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.nn.similarity.base import Similarity
from itmatch.nn.similarity.blocks import BlockSimilarity
from itmatch.nn.similarity.cosine import CosineSimilarity, GaussianSimilarity
from itmatch.nn.similarity.cross_attention import CrossAttentionSimilarity
from itmatch.nn.similarity.graph_matching import GraphMatchingSimilarity
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.nn.similarity.heads import SimilarityFiltration, SimilarityHead, SimilarityReasoning
from itmatch.nn.similarity.interactive import InteractiveSimilarity
from itmatch.nn.similarity.sets import SetSimilarity
from itmatch.nn.similarity.slimming import PatchSlimmingSimilarity
from itmatch.nn.similarity.soft_aligning import SoftAligningSimilarity
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.nn.similarity.vector import VectorSimilarity
from itmatch.nn.slots import SlotPooling
from itmatch.nn.transformer_pooling import TransformerPooling

__all__ = [
    "AligningSimilarity",
    "Block",
    "BlockSimilarity",
    "ClassEmbedding",
    "ClipImageEncoder",
    "ClipTextEncoder",
    "ContextualOrder",
    "CosineSimilarity",
    "CrossAttentionSimilarity",
    "GRUTextEncoder",
    "GaussianPooling",
    "GaussianSimilarity",
    "GeneralizedPooling",
    "GlobalAttentionPooling",
    "GraphMatchingSimilarity",
    "HardAligningSimilarity",
    "ImageEncoder",
    "ImplicitRelationAttention",
    "InteractiveSimilarity",
    "LastPooling",
    "LayerNormPooling",
    "LogSumExpPooling",
    "Lora",
    "MaxPooling",
    "MeanPooling",
    "PatchSlimmingSimilarity",
    "Pooling",
    "RegionEncoder",
    "RegionViewEncoder",
    "Related",
    "Relation",
    "SetSimilarity",
    "Similarity",
    "SimilarityFiltration",
    "SimilarityHead",
    "SimilarityReasoning",
    "SlotImageEncoder",
    "SlotPooling",
    "SlotTextEncoder",
    "SoftAligningSimilarity",
    "SoftmaxPooling",
    "SpatialSemanticGCN",
    "SumPooling",
    "TextEncoder",
    "TextualRelationGraph",
    "TiledSimilarity",
    "TopKPooling",
    "TransformerImageEncoder",
    "TransformerPooling",
    "TransformerTextEncoder",
    "VectorSimilarity",
    "ViewEncoder",
    "VisualRelationGraph",
    "patches_of",
    "pixels_of",
]
