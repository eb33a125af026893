"""The training loop of every system: a LightningModule around a MatchingModel and an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import IO, Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import Self

from itmatch.batch import Batch
from itmatch.data import Tokenizer
from itmatch.extractor import Extractor
from itmatch.losses import HardNegativeTripletLoss, Loss
from itmatch.models import MatchingModel
from itmatch.nn import ImageEncoder, Similarity, TextEncoder
from itmatch.ops.checks import check_choice, check_kind, check_whole_or_none
from itmatch.ops.seeding import seed_step
from itmatch.training.anchors import Anchors
from itmatch.training.checkpoints.restoring import (
    check_vocabulary,
    check_weights_fit,
    leave_other_runs_alone,
    naming,
    restored,
)
from itmatch.training.checkpoints.writing import use_atomic_checkpoints
from itmatch.training.compiling import compile_encoders
from itmatch.training.divergence import COLLAPSE_EVERY, CollapseWatch, FiniteWatch, check_gradient, told_as_divergence
from itmatch.training.evaluating import EvaluatedModule
from itmatch.training.limits import tell_of_accumulation
from itmatch.training.optimizers import default_optimizer, make_optimizer, replaced_settings
from itmatch.training.output.loggers import is_logged, is_shown
from itmatch.training.schedules import scheduled
from itmatch.training.step import check_relevance_known, check_rows_apart, compute_loss, step_statistics


class MatchingTask(EvaluatedModule):
    """Trains, validates, tests and predicts with any image encoder, text encoder, similarity and objective.

    Logs ``train/loss`` (of a sum the part of one pair, so that it does not depend on the size of the batch),
    ``train/positive`` and ``train/hardest_negative`` (mean scores), ``train/grad_norm`` (before clipping), ``train/lr``
    (the largest of the groups), ``train/loss_<name>`` for each term of an objective of several, before weighting, and
    the recalls as ``val/i2t_r1`` ... ``val/rsum``; of training, all but the loss only in steps that go into the log. A
    loss, a gradient or an encoding that is NaN or infinite stops the run (FloatingPointError, with the step and the
    learning rate; on a GPU one step later); a loss that sits at the value of a collapsed model is warned of. An
    objective of vectors alone has no scores to log.

    Every batch draws its random numbers (dropout) from the seed of the run, the epoch and the number of the batch, so a
    run that was killed and resumed ends with the weights of one that was not.

    Args:
        image_encoder: Regions -> Fragments.
        text_encoder: Captions -> Fragments.
        similarity: two Fragments -> scores (I, T).
        objective: of the scores (I, T), of one vector an image and a caption, or an :class:`itmatch.losses.Objective`
            of several such terms. Vectors are ``Fragments.pooled``: both encoders then need ``pooling``.
        optimizer: makes the optimizer from parameter groups.
        scheduler: makes the learning rate schedule from the optimizer; None keeps the rate constant.
        scheduler_interval: whether the schedule counts epochs or steps.
        lr_scale: factor on the learning rate of a part, by the beginning of its parameters' names, such as
            ``{"text_encoder.transformer": 0.1}``. The longest beginning that fits counts. Schedules that set rates of
            their own, such as OneCycleLR, undo it.
        tokenizer: of the text encoder. Left out, the data's is taken over when the trainer starts; checkpoints hold it.
        extractor: makes regions of photos, for use after training; checkpoints hold it without its weights.
        gather_negatives: on several processes, take the loss of all their batches together; the gradient is that of one
            process with the whole batch (:func:`itmatch.training.step.compute_loss`). False: each its own.
        encode_chunk: images, and captions, that are encoded at a time, in less memory, at the price of encoding twice
            (gradient caching, :func:`itmatch.training.step.encode`). None: the whole batch at once.
        fragment_dtype: what the fragments of an evaluation are kept in until they are scored, in float32 at least;
            None: as the encoders make them.
        anchors: finished models, checkpoints or folders of models, whose scores the objective compares with those of
            this one (:class:`itmatch.losses.AnchoredMarginLoss`); no part of the model, nor of its checkpoints.
        decay_one_dimensional: let weight decay act on parameters of one dimension too: biases, norms, ``log_scale``,
            ``gamma_*``. They are left out by default, since decay pulls them to 0 without making the model any simpler.
        compile: have ``torch.compile`` take the encoders without a recurrent network. It pays on a GPU and for long
            trainings alone, since the first steps wait for the compiler. Weights keep their names.

    Attributes:
        protocol: what a test, or a validation that is asked for, measures; None: recalls of the whole split.

    Example:
        >>> from itmatch.models import chan_gru
        >>> task = MatchingTask.from_model(chan_gru(vocabulary=100, region_dim=16, embed_dim=8))
        >>> type(task.objective).__name__
        'HardNegativeTripletLoss'
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        similarity: Similarity,
        objective: Loss | None = None,
        optimizer: OptimizerCallable = default_optimizer,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        lr_scale: dict[str, float] | None = None,
        tokenizer: Tokenizer | None = None,
        gather_negatives: bool = True,  # noqa: FBT001, FBT002 - Lightning modules are called by keyword
        encode_chunk: int | None = None,
        fragment_dtype: Literal["float16"] | None = None,
        decay_one_dimensional: bool = False,  # noqa: FBT001, FBT002
        extractor: Extractor | None = None,
        anchors: list[str] | None = None,
        compile: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__(MatchingModel(image_encoder, text_encoder, similarity, tokenizer, extractor), fragment_dtype)
        if check_whole_or_none("encode_chunk", encode_chunk) is not None:
            check_rows_apart(self.model.image_encoder, "image_encoder")
            check_rows_apart(self.model.text_encoder, "text_encoder")
        self.objective: Loss = check_kind(
            "objective", HardNegativeTripletLoss() if objective is None else objective, Loss
        )
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = check_choice("scheduler_interval", scheduler_interval, "epoch", "step")
        self.lr_scale = dict(lr_scale or {})
        self.gather_negatives, self.encode_chunk = gather_negatives, encode_chunk
        self.decay_one_dimensional, self.compiled = decay_one_dimensional, compile
        self.anchors = Anchors(anchors)
        self.run_seed: int | None = None
        self._collapse = CollapseWatch()
        self._specification()  # a part that cannot be recorded is told of now, not at the first checkpoint

    @classmethod
    def from_model(cls, model: MatchingModel, **kwargs: Any) -> MatchingTask:
        """A task around a finished model; ``kwargs`` are the other arguments of the class."""
        return cls(**{name: getattr(model, name) for name in model.spec}, **kwargs)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,  # noqa: FBT001 - the signature of LightningModule
        weights_only: bool | None = None,  # noqa: FBT001
        *,
        trusted_modules: Sequence[str] = (),
        **kwargs: Any,
    ) -> Self:
        """The task of a checkpoint, with its weights.

        A checkpoint from elsewhere runs no code of its own: it is read as tensors and plain values, only classes of
        this library are built of it, those of modules that are imported already, and those of ``trusted_modules``; and
        no more is allocated than its weights can fill. Optimizer and schedule are not in it: give them to train on.

        Args:
            checkpoint_path: a file, a URL of fsspec, or an open binary file.
            map_location: where the weights go (``torch.load``); None: the CPU.
            hparams_file: refused; the settings are in the checkpoint.
            strict: whether the weights have to be exactly those of the model; None: they have to.
            weights_only: it is always True; False is refused.
            trusted_modules: modules that may be imported because the checkpoint names them, such as one of your own.
            kwargs: arguments of the class that are used in place of those of the checkpoint.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no checkpoint, settings that we never write, classes that are not admitted, weights that do not
                fit.
        """
        if weights_only is False or hparams_file is not None:
            raise ValueError("load_from_checkpoint: weights_only is always True, and settings come from the checkpoint")
        accepted, strictly = cls.recorded_arguments(), strict is not False
        return restored(cls, accepted, checkpoint_path, map_location, kwargs, trusted_modules, strict=strictly)

    @classmethod
    def recorded_arguments(cls) -> list[str]:
        """What a checkpoint may set: the arguments of the constructor that are written into one."""
        return [name for name in signature(cls).parameters if name not in ("optimizer", "scheduler", "anchors")]

    def _specification(self) -> dict[str, Any]:
        named = ("scheduler_interval", "lr_scale", "gather_negatives", "encode_chunk", "fragment_dtype")
        settings = {name: getattr(self, name) for name in (*named, "decay_one_dimensional")}
        return {**self.model.spec, "objective": self.objective.spec, **settings, "compile": self.compiled}

    # ------------------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Take over what the data has to say, or check that it agrees; write checkpoints whole or not at all."""
        use_atomic_checkpoints(self.trainer)
        super().setup(stage)
        if self.compiled:
            compile_encoders(self.model)
        if stage == "fit":
            self.anchors.read(type(self), self.objective, self.model.tokenizer)
            check_relevance_known(self.objective, self._relevance)
        if self.run_seed is None:
            self.run_seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**31)

    @property
    def _relevance(self) -> Any:
        """How well captions fit images, where the data says so."""
        return getattr(getattr(self._trainer, "datamodule", None), "relevance", None)

    def on_fit_start(self) -> None:
        """Keep torch's random state, which the seeding of every step replaces; say what negatives there are."""
        tell_of_accumulation(self.trainer)
        self.anchors.to(self.device)
        self._random_state = torch.get_rng_state()
        self._finite = FiniteWatch()

    def on_fit_end(self) -> None:
        """Go on with the random numbers of before the training."""
        torch.set_rng_state(self._random_state)

    def on_train_start(self) -> None:
        """Say which settings of the optimizer a checkpoint has replaced."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        changed = replaced_settings(optimizer, self._parameter_groups)
        if changed:
            rank_zero_warn(f"the checkpoint's optimizer wins over the one given: {'; '.join(changed)}")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell the objective which epoch it is, and seed this step."""
        self.objective.set_epoch(self.current_epoch)  # a run resumed in mid-epoch has no start of the epoch
        assert self.run_seed is not None  # set in setup
        seed_step(self.run_seed, self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of pairs."""
        with told_as_divergence(self, self._finite):
            result = compute_loss(
                self.model,
                self.objective,
                batch,
                relevance=self._relevance,
                anchors=self.anchors.models,
                gather_negatives=self.gather_negatives,
                encode_chunk=self.encode_chunk,
            )
        loss = result.loss
        check_gradient(self, result)
        self._finite.see_loss(self, loss)
        if result.matches.scores is not None and batch_idx % COLLAPSE_EVERY == 0:
            self._collapse.look(self.objective, result)
        if is_shown(self._trainer, loss):
            per_pair, statistics = step_statistics(self.objective, result, logged=is_logged(self._trainer))
            images = len(result.matches.get("positives", self))
            shown = per_pair.cpu()  # Lightning reads it again in every step until it is another one
            self.log("train/loss", shown, prog_bar=True, batch_size=images)
            self.log_dict(statistics, batch_size=images)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the norm of the gradient, before it is clipped, and the learning rate."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        self._finite.see_norm(self, norm)
        if is_logged(self._trainer):
            self.log("train/lr", torch.tensor(max(float(group["lr"]) for group in optimizer.param_groups)))
            self.log("train/grad_norm", norm)

    def on_train_end(self) -> None:
        """Look at the last step, which no other follows."""
        self._finite.check(self)

    def configure_optimizers(self) -> Any:
        """Parameter groups by ``lr_scale`` and weight decay; the schedule acts on all of them."""
        optimizer, self._parameter_groups = make_optimizer(
            self.optimizer, self.named_parameters(), self.lr_scale, decay_one_dimensional=self.decay_one_dimensional
        )
        if self.scheduler is None:
            return optimizer
        schedule = scheduled(self.scheduler(optimizer), self.scheduler_interval, self._trainer)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # ---------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record how the parts were built, so that the checkpoint reloads without the YAML; none is of a divergence."""
        self._finite.check(self)
        checkpoint["hyper_parameters"] = self._specification()
        checkpoint |= {"run_seed": self.run_seed, "anchors": self.anchors.paths}
        if self._trainer is not None:  # so that a training that goes on knows whether it was finished
            checkpoint |= {"max_epochs": self._trainer.max_epochs, "max_steps": self._trainer.max_steps}
        optimizers = getattr(self._trainer, "optimizers", None)
        if optimizers:  # for those who train on; its state alone does not say what it is
            checkpoint["optimizer"] = f"{type(optimizers[0]).__module__}.{type(optimizers[0]).__qualname__}"

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the seed of the run over; check that the weights fit before Lightning tries to load them."""
        self.run_seed = checkpoint.get("run_seed")
        path = None if self._trainer is None else self._trainer.ckpt_path
        if self._trainer is not None:  # else no callback reads them
            leave_other_runs_alone(checkpoint, self._trainer)
            self.anchors.tell_of_others(checkpoint, self._trainer)
        with naming(path):
            check_weights_fit(self, checkpoint)
        check_vocabulary(self.model.tokenizer, checkpoint)
