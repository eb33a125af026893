"""Several losses in one: a weighted sum of named terms, each with its own start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from itmatch.losses.base import EmbeddingLoss, Loss, ScoreLoss
from itmatch.ops.checks import check_not_negative, check_whole


class Objective(Loss):
    r"""Weighted sum of named losses of scores and losses of vectors.

    Formula:
        In epoch :math:`e`, counted from 0, the loss is :math:`\sum_k w_k(e)\, L_k` with

        .. math:: w_k(e) = w_k \cdot \min\Big(1, \frac{e - s_k + 1}{r_k + 1}\Big) \text{ for } e \ge s_k,
            \quad 0 \text{ before},

        where :math:`s_k` is the ``start`` of a term and :math:`r_k` its ``ramp``. A term of weight 0 is not computed.

    Args:
        terms: losses by name. A name is a Python name; training logs each as ``train/loss_<name>``.
        weights: by name; 1 where none is given.
        start: by name, the first epoch in which a term counts; 0 where none is given.
        ramp: by name, the number of epochs, from ``start`` on, in which its weight is still below the full one and
            rises in equal steps; 0 where none is given.

    Shape:
        - scores: (I, T), or None when all terms are of vectors
        - positives: (I, T) bool, or None for the diagonal
        - image, text: (N, D), the two sides of each pair, or None when no term is of vectors
        - groups: (N,) int64, pairs with the same number are of the same image
        - result: scalar

    Example:
        >>> import torch
        >>> from itmatch.losses import CenterHingeLoss, HardNegativeTripletLoss
        >>> loss = Objective(
        ...     {"triplet": HardNegativeTripletLoss(margin=0.2), "center": CenterHingeLoss(margin=0.2)},
        ...     weights={"center": 0.5},
        ...     start={"center": 1},
        ... )
        >>> image, text = torch.eye(2), torch.eye(2).flip(0)
        >>> loss(image @ text.T, image=image, text=text)  # 4 x 1.2
        tensor(4.8000)
        >>> loss.set_epoch(1)
        >>> loss(image @ text.T, image=image, text=text)  # + 0.5 x 4 x 0.2
        tensor(5.2000)
    """

    def __init__(
        self,
        terms: dict[str, Loss],
        weights: dict[str, float] | None = None,
        start: dict[str, int] | None = None,
        ramp: dict[str, int] | None = None,
    ) -> None:
        super().__init__()
        _check_terms(terms)
        self.weights = dict.fromkeys(terms, 1.0) | _settings("weights", weights, terms)
        self.start = dict.fromkeys(terms, 0) | _settings("start", start, terms)
        self.ramp = dict.fromkeys(terms, 0) | _settings("ramp", ramp, terms)
        if not any(weight > 0 and self.start[name] == 0 for name, weight in self.weights.items()):
            raise ValueError(f"no term counts in epoch 0 (weights {self.weights}, start {self.start})")
        self.terms = nn.ModuleDict(terms)
        self.needs_scores = any(isinstance(term, ScoreLoss) for term in terms.values())
        self.needs_vectors = any(isinstance(term, EmbeddingLoss) for term in terms.values())
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell all terms which epoch begins, counted from 0; before the first call it is epoch 0."""
        self.epoch = epoch
        for term in self.terms.values():
            assert isinstance(term, Loss)
            term.set_epoch(epoch)

    @property
    def current_weights(self) -> dict[str, float]:
        """The weights of this epoch, of the terms that count."""
        weights = {}
        for name, weight in self.weights.items():
            epochs = self.epoch - self.start[name] + 1
            if weight > 0 and epochs > 0:
                weights[name] = weight * min(1.0, epochs / (self.ramp[name] + 1))
        return weights

    def forward(
        self,
        scores: Tensor | None,
        positives: Tensor | None = None,
        image: Tensor | None = None,
        text: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:
        """The weighted sum."""
        return self.total(self.values(scores, positives, image, text, groups))

    def values(
        self,
        scores: Tensor | None,
        positives: Tensor | None = None,
        image: Tensor | None = None,
        text: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Each term that counts in this epoch, before weighting.

        Raises:
            ValueError: scores or vectors are not given and a term takes them.
        """
        values = {}
        for name in self.current_weights:
            term = self.terms[name]
            if isinstance(term, ScoreLoss):
                if scores is None:
                    raise ValueError(f"scores: None, but term {name!r} ({type(term).__name__}) is a loss of scores")
                values[name] = term(scores, positives)
            else:
                if image is None or text is None:
                    raise ValueError(
                        f"image, text: None, but term {name!r} ({type(term).__name__}) is a loss of one vector an "
                        "image and one a caption; both encoders need `pooling=` to make them"
                    )
                values[name] = term(image, text, groups)
        return values

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of what :meth:`values` gave in the same epoch."""
        weights = self.current_weights
        parts = [weights[name] * value for name, value in values.items()]
        return sum(parts[1:], start=parts[0])

    def collapse_value(self, num_images: int, num_captions: int, *, positives: Tensor | None = None) -> float | None:
        """The weighted sum of the terms' values, or None where one of those that count has none."""
        values = self.collapse_values(num_images, num_captions, positives=positives)
        weights = self.current_weights
        return sum(weights[name] * values[name] for name in weights) if len(values) == len(weights) else None

    def collapse_values(
        self, num_images: int, num_captions: int, *, positives: Tensor | None = None
    ) -> dict[str, float]:
        """The values of the terms that count in this epoch and have one, before weighting."""
        found = {}
        for name in self.current_weights:
            term = self.terms[name]
            assert isinstance(term, Loss)
            value = term.collapse_value(num_images, num_captions, positives=positives)
            if value is not None:
                found[name] = value
        return found

    def extra_repr(self) -> str:
        """The settings."""
        return f"weights={self.weights}, start={self.start}, ramp={self.ramp}"


def _check_terms(terms: Mapping[str, Loss]) -> None:
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"terms: {terms!r}, expected losses by name, at least one")
    for name, term in terms.items():
        if not isinstance(name, str) or not name.isidentifier() or hasattr(nn.ModuleDict(), name):
            raise ValueError(f"terms: name {name!r}, expected a Python name that torch.nn.ModuleDict leaves free")
        if not isinstance(term, (ScoreLoss, EmbeddingLoss)):
            raise ValueError(f"terms: {name!r} is a {type(term).__name__}, expected a ScoreLoss or an EmbeddingLoss")


def _settings(setting: str, given: Mapping[str, float] | None, terms: Mapping[str, Loss]) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{setting}: {given!r}, expected numbers by the names of the terms")
    for name, value in (given or {}).items():
        if name not in terms:
            raise ValueError(f"{setting}: no term is named {name!r}; there are {sorted(terms)}")
        if setting == "weights":
            check_not_negative(f"{setting}[{name!r}]", value)
        else:
            check_whole(f"{setting}[{name!r}]", value, 0)
    return dict(given or {})
