"""A model that gives all pairs the same score: seen by the loss, which then stays where it is."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from itmatch.losses import Loss
from itmatch.training.step import StepResult

COLLAPSE_STEPS, COLLAPSE_EVERY = 50, 5


class CollapseWatch:
    """Warns once when the loss has been that of equal scores for ``COLLAPSE_STEPS`` steps."""

    def __init__(self) -> None:
        self._steps = 0

    def look(self, objective: Loss, result: StepResult) -> None:
        """Compare the loss of one of every ``COLLAPSE_EVERY`` steps; of several terms those that have such a value."""
        found = {name: objective.parts[name].collapse_value(result.matches) for name in result.terms}
        values = {name: value for name, value in found.items() if value is not None}
        near = bool(values) and all(abs(float(result.terms[k].detach()) - v) <= 1e-3 * v for k, v in values.items())
        self._steps = self._steps + COLLAPSE_EVERY if near else 0
        if self._steps == COLLAPSE_STEPS:
            rank_zero_warn(
                f"the loss has been {sum(values.values()):.4g} for {COLLAPSE_STEPS} steps, the value for equal scores "
                "of all pairs: the model has collapsed; begin with all negatives (warmup_epochs), or use a smaller "
                "learning rate"
            )
