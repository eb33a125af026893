"""What every loss with a relevance is."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from itmatch.losses.base import ScoreLoss
from itmatch.losses.matches import Matches


class RelevanceLoss(ScoreLoss):
    """A loss of scores that is told how well each caption fits each image. Subclass it to write your own.

    In training the relevance comes from the data: ``MatchingData(relevance=...)``.

    Shape:
        - scores: (I, T)
        - positives: (I, T) bool, or None for the diagonal
        - relevance: (I, T) from 0 to 1, or None
        - result: scalar
    """

    needs = ScoreLoss.needs | {"relevance"}

    @abstractmethod
    def forward(self, scores: Tensor, positives: Tensor | None = None, *, relevance: Tensor | None = None) -> Tensor:
        """Loss of a score matrix."""

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores, the positives and the relevance of a batch."""
        relevance = matches.get("relevance", self) if "relevance" in self.needs else matches.relevance
        loss: Tensor = self(matches.get("scores", self), matches.positives, relevance=relevance)
        return loss
