"""A training that goes wrong: one that diverges, and one whose model gives all pairs the same score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from itmatch.errors import NonFiniteError
from itmatch.losses import Loss
from itmatch.training.step import StepResult

COLLAPSE_STEPS, COLLAPSE_EVERY = 50, 5
LOWEST_SCALE = 1.0  # below it gradients are infinite in float16 even where they are not made larger
_ADVICE = "try a smaller learning rate, a warm-up, trainer.gradient_clip_val, or trainer.precision 32-true"


@contextmanager
def told_as_divergence(task: LightningModule) -> Iterator[None]:
    """A number that is not finite, met within, is told of as what it is.

    Raises:
        FloatingPointError: see :func:`divergence`.
    """
    try:
        yield
    except NonFiniteError as error:
        raise divergence(task, str(error)) from error


def divergence(task: LightningModule, found: str) -> FloatingPointError:
    """The error that says what was found, with the step and the learning rate of a training, or the weights at fault.

    Args:
        task: in training, or in an evaluation.
        found: such as "the loss is nan".
    """
    trainer: Trainer | None = task._trainer  # task.trainer raises where there is none
    weights = next((name for name, value in task.named_parameters() if not bool(torch.isfinite(value).all())), None)
    if trainer is None or trainer.state.fn != "fit" or trainer.sanity_checking:
        reason = f"; {weights} holds NaN or inf: these weights come from a training that diverged"
        return FloatingPointError(found if weights is None else found + reason)
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    at = f"step {trainer.global_step} (epoch {trainer.current_epoch})"
    return FloatingPointError(
        f"the training diverged at {at} with a learning rate of {max(rates, default=0.0):g}: {found}; {_ADVICE}"
    )


class GradientWatch:
    """Looks whether the gradients of the step before were finite, at a time when the loss is waited for anyway.

    Under a gradient scaler single steps with infinite gradients are left out, and the scale is halved; what tells of a
    divergence there is a scale that falls below 1.
    """

    def __init__(self) -> None:
        self.norm: Tensor | None = None

    def problem(self, trainer: Trainer | None) -> str | None:
        """What is wrong, or None."""
        scaler: Any = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
        if scaler is not None:
            scale = scaler.get_scale()
            small = scaler.is_enabled() and scale < LOWEST_SCALE
            return f"the gradients are infinite in float16 even at a scale of {scale:g}" if small else None
        norm = self.norm
        if norm is None or bool(torch.isfinite(norm)):
            return None
        return f"the norm of the gradient is {norm.item()}"


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
