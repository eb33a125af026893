"""Ranks, recalls and twin accuracy. Everything in percent; ranks are exact and ties count against the model."""

from itmatch.metrics.ranks import RetrievalRanks, retrieval_ranks, streamed_ranks
from itmatch.metrics.retrieval import RetrievalMetrics, retrieval_metrics
from itmatch.metrics.table import recall_table
from itmatch.metrics.twins import twin_accuracy

__all__ = [
    "RetrievalMetrics",
    "RetrievalRanks",
    "recall_table",
    "retrieval_metrics",
    "retrieval_ranks",
    "streamed_ranks",
    "twin_accuracy",
]
