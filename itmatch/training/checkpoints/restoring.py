"""A task from a checkpoint: its parts, then its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.optim import Optimizer

from itmatch.data import Tokenizer
from itmatch.losses.noisy.memory import PairMemory
from itmatch.models.bounds import bounded_by
from itmatch.spec import build
from itmatch.training.checkpoints.reading import (
    built_settings,
    keep_own_paths,
    optimizer_of,
    read_checkpoint,
    training_of,
)
from itmatch.training.data import MatchingData
from itmatch.training.evaluating import described
from itmatch.training.optimizers import default_optimizer

Task = TypeVar("Task", bound=LightningModule)


def restored(
    make: type[Task],
    accepted: Sequence[str],
    path: str | Path | IO[bytes],
    map_location: Any,
    replaced: Mapping[str, Any],
    trusted_modules: Sequence[str],
    *,
    strict: bool,
) -> Task:
    """The task of a checkpoint, with its weights.

    Args:
        make: the class of the task.
        accepted: the settings that we write into checkpoints; any other is refused.
        path: a file, a URL of fsspec, or an open binary file.
        map_location: where the weights go (``torch.load``); None: the CPU.
        replaced: arguments that are used in place of those of the checkpoint.
        trusted_modules: modules that may be imported because the checkpoint names them.
        strict: whether the weights have to be exactly those of the model.
    """
    unknown = sorted(set(replaced) - set(signature(make).parameters))
    if unknown:
        raise TypeError(f"load_from_checkpoint: {make.__name__} takes no argument {unknown[0]!r}")
    checkpoint = read_checkpoint(path, map_location or "cpu")
    where = path if isinstance(path, (str, Path)) else "checkpoint"
    weights = checkpoint["state_dict"]
    given = {name: value for name, value in checkpoint["hyper_parameters"].items() if name not in replaced}
    with bounded_by([weight.numel() for weight in weights.values()], str(where)):
        settings = {**built_settings(given, accepted, str(where), trusted_modules), **replaced}
        settings.setdefault("optimizer", partial(_optimizer_instead, optimizer_of(checkpoint)))
        with naming(where):
            task = make(**settings)
    with naming(where):
        task.on_load_checkpoint(checkpoint)
    try:
        task.load_state_dict(weights, strict=strict)
    except RuntimeError as error:
        raise ValueError(f"{where}: its weights do not fit ({' '.join(str(error).split())[:300]})") from error
    return task.to(next((weight.device for weight in weights.values()), torch.device("cpu")))


@contextmanager
def naming(where: Any) -> Iterator[None]:
    """Errors of what a checkpoint says name its file, where that is known."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if where is None or str(error).startswith(f"{where}: "):
            raise
        raise ValueError(f"{where}: {error}") from error


def _optimizer_instead(trained_with: str, params: Any) -> Optimizer:
    rank_zero_warn(
        f"the checkpoint was trained with {trained_with}, which it cannot rebuild: training goes on with the default, "
        "AdamW (lr 0.0005), and no schedule; give load_from_checkpoint(..., optimizer=..., scheduler=...)"
    )
    return default_optimizer(params)


def check_weights_fit(task: LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Raise one clear line when a weight of the checkpoint has another shape than the model's, or is not finite.

    Raises:
        ValueError: naming the first such weight; for an embedding, that the vocabulary does not fit.
    """
    own = task.state_dict()
    growing = {f"{name}.values" for name, module in task.named_modules() if isinstance(module, PairMemory)}
    for name, value in checkpoint.get("state_dict", {}).items():
        if name in own and own[name].shape != value.shape and name not in growing:
            hint = ": the vocabulary does not fit the checkpoint" if "embed" in name else ""
            raise ValueError(
                f"{name} has shape {tuple(own[name].shape)}, the checkpoint has {tuple(value.shape)}{hint}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} holds a NaN or an infinity in the checkpoint")
    missing = sorted(set(own) ^ set(checkpoint.get("state_dict", own)))
    if missing:
        rank_zero_info(f"weights on one side only: {missing[:5]}{' ...' if len(missing) > 5 else ''}")


def leave_other_runs_alone(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Forget the files of other runs that callbacks have in a checkpoint, and their best figure if it is of other data.

    Args:
        checkpoint: changed in place.
        trainer: that reads it.
    """
    path, data = trainer.ckpt_path, getattr(trainer, "datamodule", None)
    keep_own_paths(checkpoint, None if path is None or "://" in str(path) else Path(path).absolute().parent)
    if isinstance(data, MatchingData) and trainer.state.fn == "fit":
        _forget_other_best(checkpoint, data.content)


def _forget_other_best(checkpoint: Mapping[str, Any], content: Callable[[Any], str]) -> None:
    """Forget the best figure of a checkpoint of other data, so that the search for the best begins anew.

    Nothing can be said of a figure on other data. The file that has it is then no file of this run, so it is neither
    replaced nor tested in the end.

    Args:
        checkpoint: changed in place.
        content: what a stage of this run has, in words.
    """
    done = training_of(checkpoint)["data"]
    callbacks = checkpoint.get("callbacks")
    if not isinstance(callbacks, dict) or all(content(stage) == there for stage, there in done.items()):
        return
    of_the_best = {
        name: state
        for name, state in callbacks.items()
        if isinstance(state, dict) and ("best_model_path" in state or "best_score" in state)
    }
    for name in of_the_best:
        del callbacks[name]
    kept = [str(state["best_model_path"]) for state in of_the_best.values() if state.get("best_model_path")]
    left = f", and {', '.join(kept)} stays as it is" if kept else ""
    rank_zero_warn(f"the best figure of the checkpoint is of other data: the best begins anew{left}")


def check_vocabulary(own: Tokenizer | None, checkpoint: Mapping[str, Any]) -> None:
    """Raise if a checkpoint was made with another tokenizer than this one, where there are two.

    Raises:
        ValueError: describes both.
    """
    recorded = checkpoint.get("hyper_parameters", {}).get("tokenizer")
    saved = None if own is None else build(recorded, Tokenizer, "tokenizer")
    if saved is not None and own is not None and saved.fingerprint != own.fingerprint:
        raise ValueError(f"the vocabulary does not fit the checkpoint: {described(own)} here, {described(saved)} there")
