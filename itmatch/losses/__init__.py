"""Objectives: functions of a score matrix or of paired vectors. They know no model and no process group."""

from itmatch.losses.adaptive_margin import AdaptiveMarginTripletLoss, adaptive_margin_triplet_loss
from itmatch.losses.base import EmbeddingLoss, Loss, ScoreLoss, check_scores, check_vectors, paired
from itmatch.losses.center_hinge import CenterHingeLoss, center_hinge_loss
from itmatch.losses.circle import CircleLoss, circle_loss
from itmatch.losses.distance_weighted import DistanceWeightedTripletLoss, distance_weighted_triplet_loss
from itmatch.losses.hal import HubnessAwareLoss, hubness_aware_loss
from itmatch.losses.infonce import InfoNCELoss, info_nce_loss
from itmatch.losses.ladder import LadderLoss, ladder_loss
from itmatch.losses.objective import Objective
from itmatch.losses.polynomial import PolynomialLoss, polynomial_loss
from itmatch.losses.positive_negative_margin import PositiveNegativeMarginLoss, positive_negative_margin_loss
from itmatch.losses.probabilistic import ProbabilisticMatchingLoss, probabilistic_matching_loss, sampled_distances
from itmatch.losses.queue import OffBatchHardestLoss, off_batch_hardest_loss
from itmatch.losses.selective import SelectiveHardNegativeLoss, selective_hard_negative_loss
from itmatch.losses.sigmoid import SigmoidLoss, sigmoid_loss
from itmatch.losses.smooth_ndcg import SmoothNDCGLoss, smooth_ndcg_loss
from itmatch.losses.triplet import HardNegativeTripletLoss, hard_negative_triplet_loss

__all__ = [
    "AdaptiveMarginTripletLoss",
    "CenterHingeLoss",
    "CircleLoss",
    "DistanceWeightedTripletLoss",
    "EmbeddingLoss",
    "HardNegativeTripletLoss",
    "HubnessAwareLoss",
    "InfoNCELoss",
    "LadderLoss",
    "Loss",
    "Objective",
    "OffBatchHardestLoss",
    "PolynomialLoss",
    "PositiveNegativeMarginLoss",
    "ProbabilisticMatchingLoss",
    "ScoreLoss",
    "SelectiveHardNegativeLoss",
    "SigmoidLoss",
    "SmoothNDCGLoss",
    "adaptive_margin_triplet_loss",
    "center_hinge_loss",
    "check_scores",
    "check_vectors",
    "circle_loss",
    "distance_weighted_triplet_loss",
    "hard_negative_triplet_loss",
    "hubness_aware_loss",
    "info_nce_loss",
    "ladder_loss",
    "off_batch_hardest_loss",
    "paired",
    "polynomial_loss",
    "positive_negative_margin_loss",
    "probabilistic_matching_loss",
    "sampled_distances",
    "selective_hard_negative_loss",
    "sigmoid_loss",
    "smooth_ndcg_loss",
]
