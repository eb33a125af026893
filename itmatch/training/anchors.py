"""Finished models whose scores a loss compares those of the model in training with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from itmatch.data import Tokenizer
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.losses import Loss
from itmatch.models import MatchingModel
from itmatch.ops.checks import check_several
from itmatch.training.evaluating import check_same_tokenizer

if TYPE_CHECKING:
    from itmatch.training.task import MatchingTask


class Anchors:
    """Models beside which another one is trained: frozen, and neither modules of its task nor in its checkpoints.

    Args:
        paths: checkpoints, or folders that ``save_pretrained`` has written; read when a training starts.
    """

    def __init__(self, paths: Sequence[str | Path] | None) -> None:
        self.paths = [str(path) for path in check_several("anchors", paths or [])]
        self.models: tuple[MatchingModel, ...] = ()

    def read(self, task: type[MatchingTask], objective: Loss, tokenizer: Tokenizer | None) -> None:
        """Read the models, for a training with this objective and tokenizer.

        Raises:
            FileNotFoundError: no such file or folder.
            ValueError: no loss reads them; a model has another tokenizer than the one in training.
        """
        if self.paths and "anchors" not in objective.needs | objective.uses:
            raise ValueError(
                f"anchors: {len(self.paths)} given, but {type(objective).__name__} reads none; "
                "itmatch.losses.AnchoredMarginLoss and DistillationLoss do"
            )
        if len(self.models) != len(self.paths):
            self.models = tuple(_model(path, task) for path in self.paths)
        for path, model in zip(self.paths, self.models, strict=True):
            check_same_tokenizer(f"anchors: {shown(path)}", model.tokenizer, tokenizer, "the model in training")

    def tell_of_others(self, checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
        """Warn where a training goes on with other anchors than its checkpoint was trained with."""
        recorded = checkpoint.get("anchors")
        if trainer.state.fn == "fit" and isinstance(recorded, list) and recorded != self.paths:
            rank_zero_warn(f"the checkpoint was trained with the anchors {shown(recorded)}, not {shown(self.paths)}")

    def to(self, device: torch.device) -> None:
        """Move the models."""
        for model in self.models:
            model.to(device)


def _model(path: str, task: type[MatchingTask]) -> MatchingModel:
    place = user_path(path)
    if not place.exists():
        raise FileNotFoundError(f"anchors: {shown(path)}: no such checkpoint or folder of a model")
    model = MatchingModel.from_pretrained(place) if place.is_dir() else task.load_from_checkpoint(place).model
    return model.eval().requires_grad_(requires_grad=False)
