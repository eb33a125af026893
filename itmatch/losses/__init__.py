"""Objectives: functions of a score matrix or of paired vectors. They know no model and no process group."""

from itmatch.losses.base import EmbeddingLoss, ScoreLoss, check_scores
from itmatch.losses.infonce import InfoNCELoss, info_nce_loss
from itmatch.losses.triplet import HardNegativeTripletLoss, hard_negative_triplet_loss

__all__ = [
    "EmbeddingLoss",
    "HardNegativeTripletLoss",
    "InfoNCELoss",
    "ScoreLoss",
    "check_scores",
    "hard_negative_triplet_loss",
    "info_nce_loss",
]
