"""Several losses in one: a weighted sum of named terms, each with its own start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from itmatch.losses.base import Loss
from itmatch.losses.matches import Matches
from itmatch.ops.checks import check_kind, check_not_negative, check_whole


class Objective(Loss):
    r"""Weighted sum of named losses.

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

    Example:
        >>> import torch
        >>> from itmatch.losses import CenterHingeLoss, HardNegativeTripletLoss, Matches
        >>> loss = Objective(
        ...     {"triplet": HardNegativeTripletLoss(margin=0.2), "center": CenterHingeLoss(margin=0.2)},
        ...     weights={"center": 0.5},
        ...     start={"center": 1},
        ... )
        >>> image, text = torch.eye(2), torch.eye(2).flip(0)
        >>> matches = Matches(image @ text.T, image=image, text=text)
        >>> loss.of(matches)  # 4 x 1.2
        tensor(4.8000)
        >>> loss.set_epoch(1)
        >>> loss.of(matches)  # + 0.5 x 4 x 0.2
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
        self.epoch = 0

    @property
    def parts(self) -> dict[str, Loss]:
        """The terms by name."""
        return dict(self.terms.items())  # type: ignore[arg-type]

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What the terms need, all together."""
        return frozenset().union(*(term.needs for term in self.parts.values()))

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        """What the terms read where there is some, all together."""
        return frozenset().union(*(term.uses for term in self.parts.values()))

    @property
    def level_free(self) -> bool:  # type: ignore[override]
        """Whether all terms are."""
        return all(term.level_free for term in self.parts.values())

    def set_epoch(self, epoch: int) -> None:
        """Tell all terms which epoch begins, counted from 0; before the first call it is epoch 0."""
        self.epoch = epoch
        for term in self.parts.values():
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

    def of(self, matches: Matches) -> Tensor:
        """The weighted sum of the terms."""
        return self.total(self.values(matches))


def _check_terms(terms: Mapping[str, Loss]) -> None:
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"terms: {terms!r}, expected losses by name, at least one")
    for name, term in terms.items():
        if not isinstance(name, str) or not name.isidentifier() or hasattr(nn.ModuleDict(), name):
            raise ValueError(f"terms: name {name!r}, expected a Python name that torch.nn.ModuleDict leaves free")
        check_kind(f"terms: {name!r}", term, Loss)


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
