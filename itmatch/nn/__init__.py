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
from itmatch.nn.similarity import (
    AligningSimilarity,
    CosineSimilarity,
    HardAligningSimilarity,
    Similarity,
    SoftAligningSimilarity,
)

__all__ = [
    "AligningSimilarity",
    "Block",
    "CosineSimilarity",
    "GRUTextEncoder",
    "GeneralizedPooling",
    "HardAligningSimilarity",
    "LogSumExpPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "RegionEncoder",
    "Similarity",
    "SoftAligningSimilarity",
    "SoftmaxPooling",
    "SumPooling",
    "TransformerTextEncoder",
]
