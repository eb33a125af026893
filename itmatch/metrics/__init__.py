"""Ranks, recalls, twin accuracy and benchmark protocols. In percent; ranks are exact, ties count against the model."""

from itmatch.metrics.bootstrap import BootstrapResult, paired_bootstrap
from itmatch.metrics.coco_annotations import Cxc, EccvCaption, PlausibleMatch
from itmatch.metrics.protocols import Coco1K, Coco5K, EvaluationProtocol, Flickr30K, ScoredSplit
from itmatch.metrics.published import PublishedResult, published_results
from itmatch.metrics.ranks import RetrievalRanks, retrieval_ranks, streamed_ranks
from itmatch.metrics.relevance import Relevance, RetrievedHits, streamed_hits
from itmatch.metrics.retrieval import RetrievalMetrics, retrieval_metrics
from itmatch.metrics.table import recall_table, results_table
from itmatch.metrics.twins import twin_accuracy

__all__ = [
    "BootstrapResult",
    "Coco1K",
    "Coco5K",
    "Cxc",
    "EccvCaption",
    "EvaluationProtocol",
    "Flickr30K",
    "PlausibleMatch",
    "PublishedResult",
    "Relevance",
    "RetrievalMetrics",
    "RetrievalRanks",
    "RetrievedHits",
    "ScoredSplit",
    "paired_bootstrap",
    "published_results",
    "recall_table",
    "results_table",
    "retrieval_metrics",
    "retrieval_ranks",
    "streamed_hits",
    "streamed_ranks",
    "twin_accuracy",
]
