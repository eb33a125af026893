"""Evaluations of a part: the first images with all their captions, never some images and captions of others."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from itmatch.data import ImageTextSplit

Evaluated = Literal["val", "test"]


def fast_dev_batches(trainer: Trainer) -> int:
    """How many batches a ``fast_dev_run`` of Lightning takes; 0 = it is none."""
    flags: Any = trainer
    return int(flags.fast_dev_run)


def overfits(trainer: Trainer) -> bool:
    """Whether Lightning's ``overfit_batches`` is on."""
    flags: Any = trainer
    return bool(flags.overfit_batches > 0)


def number_of_batches(images: int, captions: int, batch_size: int, processes: int) -> int:
    """Batches of the longer of the two loaders, images or captions, on one process.

    Example:
        >>> number_of_batches(100, 500, batch_size=128, processes=2)
        2
    """
    share = -(-max(images, captions) // processes)
    return -(-share // batch_size)


def captions_of_first(dataset: ImageTextSplit, images: int) -> list[int]:
    """Places of all captions of the first images."""
    chosen: list[int] = (dataset.caption_image < images).nonzero()[0].tolist()
    return chosen


def check_limit(trainer: Trainer, stage: Evaluated, batches: int) -> None:
    """Refuse ``limit_val_batches`` and ``limit_test_batches`` where they would cut captions from their images.

    ``overfit_batches`` and ``fast_dev_run``, from which Lightning makes such limits too, do not: what is evaluated is
    then for the data to choose, and the trainer's limit is lifted.

    Args:
        trainer: whose limit it is.
        stage: "val" or "test".
        batches: that the whole evaluation has, of images or of captions, whichever are more.

    Raises:
        ValueError: the limit leaves some batches out. Of a fit, a limit of 0 for "val", which switches the validation
            off, is fine.
    """
    name = f"limit_{stage}_batches"
    fitted = stage == "val" and trainer.state.fn == "fit"
    if fast_dev_batches(trainer) or (fitted and overfits(trainer)):
        setattr(trainer, name, 1.0)
    limit = getattr(trainer, name)
    if (isinstance(limit, float) and limit == 1) or (isinstance(limit, int) and limit >= batches):
        return
    if limit == 0 and fitted:
        return
    if limit == 0:
        raise ValueError(f"trainer.{name}: 0 leaves nothing to evaluate")
    raise ValueError(
        f"trainer.{name}: {limit} of {batches} batches would rank images against captions of others; "
        f"data.{stage}_images N takes the first N images with all their captions"
    )


def check_whole(trainer: Trainer, stage: Evaluated) -> None:
    """See that Lightning will run all batches of the loaders that it has: what a data module of ours always gets.

    Raises:
        ValueError: it will not. A warning after ``fast_dev_run`` or ``overfit_batches``.
    """
    loaders: Any = trainer.val_dataloaders if stage == "val" else trainer.test_dataloaders
    counts = trainer.num_val_batches if stage == "val" else trainer.num_test_batches
    loaders = loaders if isinstance(loaders, (list, tuple)) else [loaders]
    for loader, count in zip(loaders, counts, strict=False):
        if hasattr(loader, "__len__") and count < len(loader):
            message = f"{count} of {len(loader)} {stage} batches would rank images against captions of others"
            if not fast_dev_batches(trainer) and not overfits(trainer):
                raise ValueError(f"trainer.limit_{stage}_batches: {message}; give a loader of what is to be evaluated")
            rank_zero_warn(f"{message}; the {stage} figures mean nothing")


def tell_of_accumulation(trainer: Trainer) -> None:
    """Say that accumulated gradients are not those of one large batch."""
    batches = trainer.accumulate_grad_batches
    if batches > 1:
        rank_zero_warn(
            f"trainer.accumulate_grad_batches is {batches}: the negatives of a caption are those of its own batch, not "
            f"of {batches} batches; for those of a large batch in little memory take a data.batch_size {batches} times "
            "as large, with model.encode_chunk"
        )
