"""What a loss is: of a score matrix, of one vector per image and caption, or of whatever else a batch gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from itmatch.losses.matches import Matches
from itmatch.spec import Configurable


class Loss(Configurable, nn.Module, ABC):
    """What all losses have in common. Subclass :class:`ScoreLoss` or :class:`EmbeddingLoss` to write your own.

    A loss of something else subclasses this class, names in ``needs`` the fields of :class:`Matches` that it reads, and
    implements :meth:`of`.

    Attributes:
        needs: names of the fields of :class:`Matches` that the loss cannot do without.
        uses: names of others that it reads where there are some.
        level_free: the loss of equal scores is the same whatever the scores are, so that it tells of a model that has
            collapsed; then training asks for it now and then (:meth:`collapse_value`).

    Example:
        >>> class Lengths(Loss):
        ...     needs = frozenset({"fragments"})
        ...
        ...     def of(self, matches: Matches) -> Tensor:
        ...         return sum(side.features.square().sum() for side in matches.fragments)
    """

    needs: frozenset[str] = frozenset()
    uses: frozenset[str] = frozenset()
    level_free: bool = False

    @abstractmethod
    def of(self, matches: Matches) -> Tensor:
        """The loss of a batch, a scalar."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of the fields of :class:`Matches`, given in their order or by name."""
        return self.of(Matches(*args, **kwargs))

    def call(self, function: Any, *args: Any, **given: Any) -> Tensor:
        """A loss function of some tensors; of its keyword arguments, those not given are this loss's settings."""
        settings = {name: getattr(self, name) for name in function.__kwdefaults__ if name not in given}
        loss: Tensor = function(*args, **given, **settings)
        return loss

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; a loss without a schedule ignores it."""

    @property
    def parts(self) -> dict[str, Loss]:
        """The losses that this one is the sum of, by name; one that is no sum has itself, under the name ""."""
        return {"": self}

    @property
    def current_weights(self) -> dict[str, float]:
        """The weight of each part in this epoch, of those that count."""
        return {"": 1.0}

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum over the pairs of a batch, and so grows with the batch."""
        return getattr(self, "reduction", None) == "sum"

    def per_pair(self, values: dict[str, Tensor], pairs: Tensor) -> dict[str, Tensor]:
        """What :meth:`values` gave, sums divided by the number of pairs: batches of any size can be compared."""
        return {name: value / pairs if self.parts[name].is_sum else value for name, value in values.items()}

    def values(self, matches: Matches) -> dict[str, Tensor]:
        """Each part that counts in this epoch, before weighting."""
        return {name: self.parts[name].of(matches) for name in self.current_weights}

    def total(self, values: dict[str, Tensor]) -> Tensor:
        """The weighted sum of what :meth:`values` gave in the same epoch."""
        weights = self.current_weights
        parts = [weights[name] * value for name, value in values.items()]
        return sum(parts[1:], start=parts[0])

    @torch.no_grad()
    def collapse_value(self, matches: Matches) -> float | None:
        """The loss of a model that gives all pairs the same score; a training whose loss stays there learns nothing.

        None where the loss depends on what that score is, or is 0.

        Example:
            >>> from itmatch.losses import HardNegativeTripletLoss, SigmoidLoss
            >>> round(HardNegativeTripletLoss(margin=0.2).collapse_value(Matches(torch.rand(3, 3))), 4)
            1.2
            >>> SigmoidLoss().collapse_value(Matches(torch.rand(3, 3)))
        """
        level = self.collapse_level(matches)
        return None if level is None else level.item() or None

    @torch.no_grad()
    def collapse_level(self, matches: Matches) -> Tensor | None:
        """:meth:`collapse_value` as a scalar where the scores are, which may be 0; nothing waits for a GPU."""
        if not self.level_free or matches.scores is None or ("relevance" in self.needs and matches.relevance is None):
            return None
        return self.of(replace(matches, scores=torch.zeros_like(matches.scores)))


class ScoreLoss(Loss):
    """A loss of a matrix of image-caption scores. Subclass it to write your own.

    A subclass defines ``forward`` and, if its arguments are plain values, nothing else. It never sees the model.
    Scores may be of any floating dtype; :func:`check_scores` gives them in at least float32. Scores that are NaN or
    infinite are not looked for (looking would make a GPU wait); they make the loss NaN or infinite, which
    :class:`itmatch.training.MatchingTask` refuses.

    Shape:
        - scores: (I, T), row = image, column = caption
        - positives: (I, T) bool, True where the caption describes the image; None = the diagonal, then I = T
        - result: scalar

    Example:
        >>> from itmatch.losses import check_scores
        >>> class Softplus(ScoreLoss):
        ...     def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        ...         scores, positives = check_scores(scores, positives)
        ...         return torch.where(positives, -scores, scores).exp().log1p().mean()
        >>> round(Softplus()(torch.eye(2)).item(), 4)
        0.5032
    """

    needs = frozenset({"scores", "positives"})

    @abstractmethod
    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Loss of a score matrix."""

    def of(self, matches: Matches) -> Tensor:
        """Loss of the scores and positives of a batch."""
        loss: Tensor = self(matches.get("scores", self), matches.positives)
        return loss


class EmbeddingLoss(Loss):
    """A loss of one vector per image and one per caption. Subclass it to write your own.

    :func:`check_vectors` gives the vectors in at least float32; :func:`paired` makes pairs from I images and T
    captions. :class:`itmatch.training.MatchingTask` takes the vectors from ``Fragments.pooled``, so both encoders need
    ``pooling=``, and gives as ``groups`` the position of the image in the dataset.

    Shape:
        - image: (N, D), the image of each pair
        - text: (N, D), the caption of each pair
        - groups: (N,) int64, pairs with the same number are of the same image; None = all differ
        - result: scalar
    """

    needs = frozenset({"image", "text", "groups"})

    @abstractmethod
    def forward(self, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of paired vectors."""

    def of(self, matches: Matches) -> Tensor:
        """Loss of the vectors of a batch."""
        loss: Tensor = self(matches.get("image", self), matches.get("text", self), matches.groups)
        return loss
