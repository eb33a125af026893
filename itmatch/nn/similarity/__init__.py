"""Similarities: fragments of images and captions in, scores of all pairs out."""

from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.nn.similarity.base import Similarity
from itmatch.nn.similarity.cosine import CosineSimilarity
from itmatch.nn.similarity.cross_attention import CrossAttentionSimilarity
from itmatch.nn.similarity.graph_matching import GraphMatchingSimilarity
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.nn.similarity.heads import SimilarityFiltration, SimilarityHead, SimilarityReasoning
from itmatch.nn.similarity.interactive import InteractiveSimilarity
from itmatch.nn.similarity.soft_aligning import SoftAligningSimilarity
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.nn.similarity.vector import VectorSimilarity

__all__ = [
    "AligningSimilarity",
    "CosineSimilarity",
    "CrossAttentionSimilarity",
    "GraphMatchingSimilarity",
    "HardAligningSimilarity",
    "InteractiveSimilarity",
    "Similarity",
    "SimilarityFiltration",
    "SimilarityHead",
    "SimilarityReasoning",
    "SoftAligningSimilarity",
    "TiledSimilarity",
    "VectorSimilarity",
]
