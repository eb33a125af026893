"""A training that goes wrong: it diverges, nothing has a gradient, or the model gives all pairs the same score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from itmatch.errors import NonFiniteError
from itmatch.losses import Loss
from itmatch.tensordata import readable
from itmatch.training.step import StepResult

COLLAPSE_STEPS, COLLAPSE_EVERY = 50, 5
LOWEST_SCALE = 1.0  # below it gradients are infinite in float16 even where they are not made larger
_ADVICE = "try a smaller learning rate, a warm-up, trainer.gradient_clip_val, or trainer.precision 32-true"


@contextmanager
def told_as_divergence(task: LightningModule, watch: FiniteWatch | None = None) -> Iterator[None]:
    """A number that is not finite, met within, is told of as what it is; what the watch took before comes first.

    Raises:
        FloatingPointError: see :func:`divergence`.
    """
    try:
        yield
    except NonFiniteError as error:
        if watch is not None:
            watch.check(task)
        raise divergence(task, str(error)) from error


def divergence(task: LightningModule, found: str, where: str | None = None) -> FloatingPointError:
    """The error that says what was found, with the step and the learning rate of a training, or the weights at fault.

    Args:
        task: in training, or in an evaluation.
        found: such as "the loss is nan".
        where: the step that it was found of (:func:`place`); None: the one that is being taken.
    """
    trainer: Trainer | None = task._trainer  # task.trainer raises where there is none
    if trainer is None or trainer.state.fn != "fit" or trainer.sanity_checking:
        named = task.named_parameters()
        weights = next((name for name, value in named if not bool(torch.isfinite(value).all())), None)
        reason = f"; {weights} holds NaN or inf: these weights come from a training that diverged"
        return FloatingPointError(found if weights is None else found + reason)
    return FloatingPointError(f"the training diverged at {where or place(trainer)}: {found}; {_ADVICE}")


def check_gradient(task: LightningModule, result: StepResult) -> None:
    """Raise if a loss has no gradient, though some parameter wants one: torch would not say whose mistake that is."""
    terms = result.terms.values()  # the loss has more in it; before the first of them starts there is none
    if not terms or any(term.requires_grad for term in terms):
        return
    if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in task.parameters()):
        return
    scores = result.matches.scores
    if scores is None:
        lacks, cuts = "the loss has", "an encoder or the objective"
    elif scores.requires_grad:
        lacks, cuts = "the loss has", "the objective"
    else:
        lacks, cuts = "the scores have", "an encoder or the similarity"
    raise ValueError(
        f"{lacks} no gradient, so nothing can be trained: {cuts} cuts it off, such as by detach or no_grad"
    )


def place(trainer: Trainer) -> str:
    """The step that is being taken, in words, with its learning rate."""
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    at = f"step {trainer.global_step} (epoch {trainer.current_epoch})"
    return f"{at} with a learning rate of {max(rates, default=0.0):g}"


class _Later:
    """A number on its way from a device to host memory, which nobody waits for until it is read."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._event = value.detach(), None
        if value.device.type not in ("cpu", "mps"):  # a copy from MPS may not be there yet when it says so
            self._value = self._value.to("cpu", non_blocking=True)
            self._event = torch.get_device_module(value.device).Event()
            self._event.record()

    def read(self) -> float:
        if self._event is not None:
            self._event.synchronize()
        return self._value.item()


class FiniteWatch:
    """Looks whether losses and gradients are finite.

    A loss on the CPU is looked at at once. On a device that would wait for it: its number is sent to host memory, as is
    the norm of every gradient, and looked at in the next step, at the end, and before a checkpoint is written.

    Under a gradient scaler single steps with infinite gradients are left out, and the scale is halved; what tells of a
    divergence there is a scale that falls below 1.
    """

    def __init__(self) -> None:
        self._loss: tuple[_Later, str | None] | None = None
        self._norm: tuple[_Later, str | None] | None = None

    def see_loss(self, task: LightningModule, loss: Tensor) -> None:
        """Take the loss of a step.

        Raises:
            FloatingPointError: it is not finite, or something of the step before was not.
        """
        self.check(task)  # a gradient that was not finite is why this loss is not
        if readable(loss) and not math.isfinite(loss.item()):
            raise divergence(task, f"the loss is {loss.item()}")
        if not readable(loss):
            self._loss = _Later(loss), _place(task)

    def see_norm(self, task: LightningModule, norm: Tensor) -> None:
        """Take the norm of the gradient of a step."""
        self._norm = _Later(norm), _place(task)

    def check(self, task: LightningModule) -> None:
        """Look at what has been taken and not been looked at.

        Raises:
            FloatingPointError: it is not finite.
        """
        loss, self._loss = self._loss, None
        if loss is not None and not math.isfinite(value := loss[0].read()):
            raise divergence(task, f"the loss is {value}", loss[1])
        problem = self._problem(task._trainer)
        if problem is not None:
            raise divergence(task, *problem)

    def _problem(self, trainer: Trainer | None) -> tuple[str, str | None] | None:
        """What is wrong with the gradients, and of which step; or None."""
        scaler: Any = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
        if scaler is not None:
            scale = scaler.get_scale()
            small = scaler.is_enabled() and scale < LOWEST_SCALE
            return (f"the gradients are infinite in float16 even at a scale of {scale:g}", None) if small else None
        if self._norm is None or math.isfinite(norm := self._norm[0].read()):
            return None
        return f"the norm of the gradient is {norm}", self._norm[1]


def _place(task: LightningModule) -> str | None:
    return None if task._trainer is None else place(task._trainer)


class CollapseWatch:
    """Warns once when the loss has been that of equal scores for ``COLLAPSE_STEPS`` steps."""

    def __init__(self) -> None:
        self._steps = 0
        self._seen: tuple[_Later, _Later] | None = None

    def look(self, objective: Loss, result: StepResult) -> None:
        """Compare the loss of one of every ``COLLAPSE_EVERY`` steps; of several terms those that have such a value.

        On a device what is found is looked at the next time, so that nothing waits for it.
        """
        levels = {name: objective.parts[name].collapse_level(result.matches) for name in result.terms}
        pairs = [(result.terms[name].detach(), level) for name, level in levels.items() if level is not None]
        if not pairs:
            return
        losses, known = (torch.stack([side.float() for side in sides]) for sides in zip(*pairs, strict=True))
        gaps = (losses - known).abs() - 1e-3 * known
        near = gaps.where(known != 0, -torch.inf).amax() <= 0  # a term that cannot lose anything says nothing
        before, self._seen = self._seen, (_Later(near & (known != 0).any()), _Later(known.sum()))
        if readable(near):
            before, self._seen = self._seen, None
        if before is not None:
            self._count(near=bool(before[0].read()), value=before[1])

    def _count(self, *, near: bool, value: _Later) -> None:
        self._steps = self._steps + COLLAPSE_EVERY if near else 0
        if self._steps == COLLAPSE_STEPS:
            rank_zero_warn(
                f"the loss has been {value.read():.4g} for {COLLAPSE_STEPS} steps, the value for equal scores "
                "of all pairs: the model has collapsed; begin with all negatives (warmup_epochs), or use a smaller "
                "learning rate"
            )
