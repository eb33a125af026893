"""From fragments of images and captions to scores."""

from itmatch.nn.similarity.aligning import AligningSimilarity
from itmatch.nn.similarity.base import Similarity
from itmatch.nn.similarity.cosine import CosineSimilarity
from itmatch.nn.similarity.cross_attention import CrossAttentionSimilarity
from itmatch.nn.similarity.graph_matching import GraphMatchingSimilarity
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.nn.similarity.interactive import InteractiveSimilarity
from itmatch.nn.similarity.soft_aligning import SoftAligningSimilarity

__all__ = [
    "AligningSimilarity",
    "CosineSimilarity",
    "CrossAttentionSimilarity",
    "GraphMatchingSimilarity",
    "HardAligningSimilarity",
    "InteractiveSimilarity",
    "Similarity",
    "SoftAligningSimilarity",
]
