"""Schedules of the learning rate that are as long as the training."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR


class RunSchedule(LRScheduler, ABC):
    """A schedule that is as long as the training, whether it counts epochs or steps.

    :class:`itmatch.training.MatchingTask` says how long that is. A training that goes on from a checkpoint follows its
    own length, not that of the checkpoint.
    """

    total: int | None = None
    _settings: tuple[str, ...] = ()  # what follows from the length
    _otherwise = False  # whether the rates of before were those of another length

    def follow(self, total: int) -> None:
        """Take the length of the training, unless there is one that was given."""
        if self.total is None:
            self.total = total
            self._stretch(total)

    @abstractmethod
    def _stretch(self, total: int) -> None:
        """Let the settings follow from the length."""

    def get_lr(self) -> list[Any]:
        """The next rates.

        Raises:
            ValueError: nobody has said how long the training is.
        """
        if self.total is None and self.last_epoch > 0:
            raise ValueError(f"{type(self).__name__}: total is None, expected the epochs, or steps, of the training")
        rates: list[Any] = self._get_closed_form_lr() if self._otherwise else super().get_lr()  # type: ignore[attr-defined]
        return rates

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another schedule was, at the rates of this one."""
        own = {name: getattr(self, name) for name in ("total", *self._settings)}
        otherwise = any(state_dict.get(name, own[name]) != own[name] for name in self._settings)
        super().load_state_dict(state_dict)
        self.__dict__.update(own)
        if otherwise or self._otherwise:
            self._otherwise = True
            for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
                group["lr"] = rate


class CosineSchedule(RunSchedule, CosineAnnealingLR):
    r"""From the full learning rate to ``eta_min`` at the end of the training, along half a cosine.

    Args:
        optimizer: whose rates are set.
        eta_min: the rate at the end.
        total: epochs, or steps, until then; None: those of the training.

    Formula:
        .. math::
            \eta_t = \eta_{\min} + (\eta_0 - \eta_{\min}) \, (1 + \cos(\pi t / \text{total})) / 2

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = CosineSchedule(optimizer, total=2)
        >>> optimizer.step(), schedule.step()
        (None, None)
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.5
    """

    _settings = ("T_max",)

    def __init__(self, optimizer: Optimizer, eta_min: float = 0.0, total: int | None = None) -> None:
        self.total = total
        super().__init__(optimizer, T_max=total or 1, eta_min=eta_min)

    def _stretch(self, total: int) -> None:
        self.T_max = total


class MilestoneSchedule(RunSchedule, MultiStepLR):
    """The learning rate times ``gamma`` at each of some shares of the training.

    Args:
        optimizer: whose rates are set.
        milestones: shares between 0 and 1, such as 0.6; rounded to whole epochs, or steps, and at least 1.
        gamma: the factor.
        total: epochs, or steps, of which they are shares; None: those of the training.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> sorted(MilestoneSchedule(optimizer, [0.6], total=25).milestones)
        [15]
    """

    _settings = ("milestones",)

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[float], gamma: float = 0.1, total: int | None = None
    ) -> None:
        for share in milestones:
            if not 0 < share < 1:
                raise ValueError(f"MilestoneSchedule.milestones: {share}, expected shares between 0 and 1")
        self.total, self.shares = total, list(milestones)
        super().__init__(optimizer, [], gamma)
        if total is not None:
            self._stretch(total)

    def _stretch(self, total: int) -> None:
        self.milestones = Counter(max(1, round(share * total)) for share in self.shares)


def scheduled(scheduler: Any, interval: str, trainer: Trainer | None) -> dict[str, Any]:
    """A schedule in the form that Lightning takes, as long as the training.

    Args:
        scheduler: of torch, of Lightning or one of ours.
        interval: what it counts: "epoch" or "step".
        trainer: of the training; None where there is none yet.

    Raises:
        ValueError: the training has no end.
    """
    if isinstance(scheduler, RunSchedule) and trainer is not None:
        scheduler.follow(length_of_training(trainer, interval))
    monitor = {"monitor": scheduler.monitor} if isinstance(scheduler, ReduceLROnPlateau) else {}
    return {"scheduler": scheduler, "interval": interval, **monitor}


def length_of_training(trainer: Trainer, interval: str) -> int:
    """How many epochs, or steps of the optimizer, a training has.

    Args:
        trainer: of the training.
        interval: "epoch" or "step".

    Raises:
        ValueError: it has no end.
    """
    epochs = trainer.max_epochs or -1
    if interval == "epoch" and trainer.max_steps == -1 and epochs > 0:
        return epochs
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < math.inf:
        raise ValueError("scheduler: it is as long as the training, which has no end: give max_epochs, or total")
    if interval == "step":
        return int(steps)
    trainer.fit_loop.setup_data()  # not read yet where max_epochs is -1
    return math.ceil(steps / math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
