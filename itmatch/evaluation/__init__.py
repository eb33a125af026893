"""Ranks, recalls, twin accuracy and benchmark protocols. In percent; ranks are exact, ties count against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from itmatch.evaluation.agreement import Agreement, KendallTau, kendall_tau, measure_agreement
from itmatch.evaluation.bootstrap import BootstrapResult, PairResult, holm, paired_bootstrap, pairwise_bootstrap
from itmatch.evaluation.choices import ChoiceFigure, choice_table
from itmatch.evaluation.coco.protocols import Cxc, EccvCaption, PlausibleMatch
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.identity import IdentityRetrieval, MeanRecall
from itmatch.evaluation.protocols import Coco1K, Coco5K, EvaluationProtocol, Flickr30K, ScoredSplit, SeveralProtocols
from itmatch.evaluation.ranks import RetrievalRanks, retrieval_ranks, streamed_ranks
from itmatch.evaluation.recalls.figures import retrieval_metrics
from itmatch.evaluation.relevance import Relevance, RetrievedHits, streamed_hits
from itmatch.evaluation.results.figures import Spread, spread_over
from itmatch.evaluation.results.forms import ResultGroup, ResultRow
from itmatch.evaluation.results.published import PublishedResult, bibtex, published_results
from itmatch.evaluation.results.table import grouped_table, recall_table, results_table
from itmatch.evaluation.scores import FragmentScores, rank_fragments
from itmatch.evaluation.top_k import TopK, top_k
from itmatch.evaluation.twins import twin_accuracy

if TYPE_CHECKING:
    from itmatch.evaluation.recalls.metric import RetrievalMetrics

__all__ = [
    "Agreement",
    "BootstrapResult",
    "ChoiceFigure",
    "Coco1K",
    "Coco5K",
    "Cxc",
    "EccvCaption",
    "EvaluationProtocol",
    "Evaluator",
    "Flickr30K",
    "FragmentScores",
    "IdentityRetrieval",
    "KendallTau",
    "MeanRecall",
    "PairResult",
    "PlausibleMatch",
    "PublishedResult",
    "Relevance",
    "ResultGroup",
    "ResultRow",
    "RetrievalMetrics",
    "RetrievalRanks",
    "RetrievedHits",
    "ScoredSplit",
    "SeveralProtocols",
    "Spread",
    "TopK",
    "bibtex",
    "choice_table",
    "grouped_table",
    "holm",
    "kendall_tau",
    "measure_agreement",
    "paired_bootstrap",
    "pairwise_bootstrap",
    "published_results",
    "rank_fragments",
    "recall_table",
    "results_table",
    "retrieval_metrics",
    "retrieval_ranks",
    "spread_over",
    "streamed_hits",
    "streamed_ranks",
    "top_k",
    "twin_accuracy",
]


def __getattr__(name: str) -> Any:
    if name == "RetrievalMetrics":  # torchmetrics imports much
        from itmatch.evaluation.recalls.metric import RetrievalMetrics

        return RetrievalMetrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
