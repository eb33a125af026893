"""One training step without its bookkeeping: from a batch to the loss."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from itmatch.batch import Batch, Fragments
from itmatch.losses import EmbeddingLoss, Loss, Objective, ScoreLoss, paired
from itmatch.models import MatchingModel


@dataclass(frozen=True)
class StepResult:
    """What one batch gave.

    Args:
        loss: scalar.
        positives: (I, T) bool.
        scores: (I, T), or None when the objective reads vectors alone.
        terms: of an :class:`itmatch.losses.Objective`, those that count in this epoch, before weighting.
    """

    loss: Tensor
    positives: Tensor
    scores: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)


def compute_loss(model: MatchingModel, objective: Loss, batch: Batch) -> StepResult:
    """Encode both sides of a batch, score them if the objective reads scores, and take the loss.

    Raises:
        ValueError: the objective reads vectors and an encoder makes none.
    """
    assert batch.regions is not None
    assert batch.captions is not None
    image: Fragments = model.image_encoder(batch.regions)
    text: Fragments = model.text_encoder(batch.captions)
    positives = batch.positives()
    scores = model.similarity(image, text) if objective.needs_scores else None
    first, second = _paired_vectors(image, text, positives, objective) if objective.needs_vectors else (None, None)
    if isinstance(objective, Objective):
        terms = objective.values(scores, positives, first, second, batch.caption_image)
        return StepResult(objective.total(terms), positives, scores, terms)
    if isinstance(objective, EmbeddingLoss):
        return StepResult(objective(first, second, batch.caption_image), positives)
    return StepResult(objective(scores, positives), positives, scores)


def _paired_vectors(image: Fragments, text: Fragments, positives: Tensor, objective: Loss) -> tuple[Tensor, Tensor]:
    if image.pooled is None or text.pooled is None:
        terms = objective.terms.items() if isinstance(objective, Objective) else [("", objective)]
        name, loss = next((name, term) for name, term in terms if isinstance(term, EmbeddingLoss))
        parts = [f"{side}_encoder" for side, x in (("image", image), ("text", text)) if x.pooled is None]
        raise ValueError(
            f"objective{name and f', term {name!r}'}: {type(loss).__name__} takes one vector an image and one a "
            f"caption, and none comes from {' and '.join(parts)}; both encoders need `pooling=`"
        )
    return paired(image.pooled, text.pooled, positives)[:2]


def known_kind(objective: Loss) -> Loss:
    """The objective itself, if it is of a kind that :func:`compute_loss` can call.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(objective, (ScoreLoss, EmbeddingLoss, Objective)):
        raise ValueError(
            f"objective: a {type(objective).__name__}, expected a ScoreLoss, an EmbeddingLoss or an Objective"
        )
    return objective


def score_statistics(scores: Tensor, positives: Tensor) -> dict[str, Tensor]:
    """Mean score of the positives, and mean over the images of the highest score of a negative."""
    statistics = {"train/positive": scores[positives].float().mean()}
    has_negative = (~positives).any(1)
    if bool(has_negative.any()):
        hardest = scores[has_negative].masked_fill(positives[has_negative], -torch.inf).amax(1)
        statistics["train/hardest_negative"] = hardest.float().mean()
    return statistics
