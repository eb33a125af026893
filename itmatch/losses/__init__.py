"""Losses: functions of a score matrix or of paired vectors. They know no model and no process group."""

from itmatch.losses.base import EmbeddingLoss, Loss, ScoreLoss
from itmatch.losses.checks import check_scores, check_vectors, paired
from itmatch.losses.contrastive.circle import CircleLoss, circle_loss
from itmatch.losses.contrastive.distillation import DistillationLoss, distillation_loss
from itmatch.losses.contrastive.hubness_aware import HubnessAwareLoss, hubness_aware_loss
from itmatch.losses.contrastive.info_nce import InfoNCELoss, info_nce_loss
from itmatch.losses.contrastive.sigmoid import SigmoidLoss, sigmoid_loss
from itmatch.losses.contrastive.similarity_distribution import (
    SimilarityDistributionLoss,
    similarity_distribution_loss,
)
from itmatch.losses.contrastive.triplet_alignment import TripletAlignmentLoss, triplet_alignment_loss
from itmatch.losses.hinge.anchored_margin import AnchoredMarginLoss, anchored_margin_loss
from itmatch.losses.hinge.negatives import DistanceWeightedNegatives, Negatives, SelectiveNegatives
from itmatch.losses.hinge.polynomial import PolynomialLoss, polynomial_loss
from itmatch.losses.hinge.positive_negative_margin import PositiveNegativeMarginLoss, positive_negative_margin_loss
from itmatch.losses.hinge.triplet import HardNegativeTripletLoss, hard_negative_triplet_loss
from itmatch.losses.matches import Matches
from itmatch.losses.memory import MemoryLoss, memory_hinge
from itmatch.losses.noisy.complementary import ComplementaryLoss, complementary_loss
from itmatch.losses.noisy.mixture import clean_probability
from itmatch.losses.noisy.soft_margin import SoftMarginTripletLoss, soft_margin_triplet_loss
from itmatch.losses.objective import Objective
from itmatch.losses.relevance.adaptive_margin import AdaptiveMarginTripletLoss, adaptive_margin_triplet_loss
from itmatch.losses.relevance.base import RelevanceLoss
from itmatch.losses.relevance.ladder import LadderLoss, ladder_loss
from itmatch.losses.relevance.smooth_ndcg import SmoothNDCGLoss, smooth_ndcg_loss
from itmatch.losses.sets.discrepancy import DiscrepancyLoss, discrepancy_loss
from itmatch.losses.sets.diversity import (
    SetDiversityLoss,
    SetUniformityLoss,
    set_diversity_loss,
    set_uniformity_loss,
)
from itmatch.losses.sets.redundancy import ViewRedundancyLoss, view_redundancy_loss
from itmatch.losses.vectors.batch_relation import BatchRelationLoss
from itmatch.losses.vectors.center_hinge import CenterHingeLoss, center_hinge_loss
from itmatch.losses.vectors.probabilistic import ProbabilisticMatchingLoss, probabilistic_matching_loss
from itmatch.losses.vectors.projection import CrossModalProjectionLoss, cross_modal_projection_loss
from itmatch.ops.distances import sampled_distances

__all__ = [
    "AdaptiveMarginTripletLoss",
    "AnchoredMarginLoss",
    "BatchRelationLoss",
    "CenterHingeLoss",
    "CircleLoss",
    "ComplementaryLoss",
    "CrossModalProjectionLoss",
    "DiscrepancyLoss",
    "DistanceWeightedNegatives",
    "DistillationLoss",
    "EmbeddingLoss",
    "HardNegativeTripletLoss",
    "HubnessAwareLoss",
    "InfoNCELoss",
    "LadderLoss",
    "Loss",
    "Matches",
    "MemoryLoss",
    "Negatives",
    "Objective",
    "PolynomialLoss",
    "PositiveNegativeMarginLoss",
    "ProbabilisticMatchingLoss",
    "RelevanceLoss",
    "ScoreLoss",
    "SelectiveNegatives",
    "SetDiversityLoss",
    "SetUniformityLoss",
    "SigmoidLoss",
    "SimilarityDistributionLoss",
    "SmoothNDCGLoss",
    "SoftMarginTripletLoss",
    "TripletAlignmentLoss",
    "ViewRedundancyLoss",
    "adaptive_margin_triplet_loss",
    "anchored_margin_loss",
    "center_hinge_loss",
    "check_scores",
    "check_vectors",
    "circle_loss",
    "clean_probability",
    "complementary_loss",
    "cross_modal_projection_loss",
    "discrepancy_loss",
    "distillation_loss",
    "hard_negative_triplet_loss",
    "hubness_aware_loss",
    "info_nce_loss",
    "ladder_loss",
    "memory_hinge",
    "paired",
    "polynomial_loss",
    "positive_negative_margin_loss",
    "probabilistic_matching_loss",
    "sampled_distances",
    "set_diversity_loss",
    "set_uniformity_loss",
    "sigmoid_loss",
    "similarity_distribution_loss",
    "smooth_ndcg_loss",
    "soft_margin_triplet_loss",
    "triplet_alignment_loss",
    "view_redundancy_loss",
]
