"""The training loop of every system: a LightningModule around a MatchingModel and an objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import IO, Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from typing_extensions import Self

from itmatch.batch import Batch, Fragments
from itmatch.data import Tokenizer
from itmatch.evaluation import EvaluationProtocol
from itmatch.evaluation.evaluator import Evaluator
from itmatch.losses import HardNegativeTripletLoss, Loss
from itmatch.models import MatchingModel
from itmatch.models.bounds import bounded_by
from itmatch.nn import ImageEncoder, Similarity, TextEncoder
from itmatch.ops.checks import check_kind
from itmatch.ops.seeding import seed_step
from itmatch.spec import build
from itmatch.training.checkpoint_io import use_atomic_checkpoints
from itmatch.training.checkpoints import built_settings, keep_own_paths, optimizer_of, read_checkpoint
from itmatch.training.data import MatchingData
from itmatch.training.divergence import GradientWatch, divergence, told_as_divergence
from itmatch.training.limits import check_whole
from itmatch.training.optimizers import make_optimizer, replaced_settings
from itmatch.training.step import StepResult, compute_loss, score_statistics

FRAGMENT_DTYPES = {None: None, "float16": torch.float16}

COLLAPSE_STEPS, COLLAPSE_EVERY = 50, 5


def default_optimizer(params: Any) -> Optimizer:
    """AdamW with the family's learning rate, 5e-4."""
    return AdamW(params, lr=5e-4)


class MatchingTask(LightningModule):
    """Trains, validates, tests and predicts with any image encoder, text encoder, similarity and objective.

    Logs ``train/loss``, ``train/positive`` and ``train/hardest_negative`` (mean scores), ``train/grad_norm`` (before
    clipping), ``train/lr`` (the largest of the groups), ``train/loss_<name>`` for each term of an objective of several,
    before weighting, and the recalls as ``val/i2t_r1`` ... ``val/rsum``. A loss, a gradient or an encoding that is NaN
    or infinite stops the run (FloatingPointError, with the step and the learning rate); a loss that sits at the value
    of a collapsed model is warned of. An objective of vectors alone has no scores to log.

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
        gather_negatives: on several processes, take the loss of all their batches together; the gradient is that of one
            process with the whole batch (:func:`itmatch.training.step.compute_loss`). False: each its own.
        encode_chunk: images, and captions, that are encoded at a time, in less memory, at the price of encoding twice
            (gradient caching, :func:`itmatch.training.step.encode`). None: the whole batch at once.
        fragment_dtype: what the fragments of an evaluation are kept in until they are scored, in float32 at least;
            None: as the encoders make them.
        decay_one_dimensional: let weight decay act on parameters of one dimension too: biases, norms, ``log_scale``,
            ``gamma_*``. They are left out by default, since decay pulls them to 0 without making the model any simpler.

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
    ) -> None:
        super().__init__()
        if scheduler_interval not in ("epoch", "step"):
            raise ValueError(f"scheduler_interval: {scheduler_interval!r}, expected 'epoch' or 'step'")
        if encode_chunk is not None and encode_chunk < 1:
            raise ValueError(f"encode_chunk: {encode_chunk}, expected at least 1, or None")
        if fragment_dtype not in FRAGMENT_DTYPES:
            raise ValueError(f"fragment_dtype: {fragment_dtype!r}, expected 'float16' or None")
        self.model = MatchingModel(image_encoder, text_encoder, similarity, tokenizer)
        if encode_chunk is not None:
            _check_rows_apart(self.model.image_encoder, "image_encoder")
            _check_rows_apart(self.model.text_encoder, "text_encoder")
        self.objective: Loss = check_kind(
            "objective", HardNegativeTripletLoss() if objective is None else objective, Loss
        )
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.lr_scale = dict(lr_scale or {})
        self.gather_negatives = gather_negatives
        self.encode_chunk = encode_chunk
        self.fragment_dtype = fragment_dtype
        self.decay_one_dimensional = decay_one_dimensional
        self.protocol: EvaluationProtocol | None = None
        self._others: tuple[MatchingModel, ...] = ()
        self.evaluator = self._new_evaluator()
        self.run_seed: int | None = None
        self._steps_at_collapse = 0
        self._gradients = GradientWatch()
        self._specification()  # a part that cannot be recorded is told of now, not at the first checkpoint

    @classmethod
    def from_model(cls, model: MatchingModel, **kwargs: Any) -> MatchingTask:
        """A task around a finished model; ``kwargs`` are the other arguments of the class."""
        return cls(model.image_encoder, model.text_encoder, model.similarity, tokenizer=model.tokenizer, **kwargs)

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
        checkpoint = read_checkpoint(checkpoint_path, map_location or "cpu")
        where = checkpoint_path if isinstance(checkpoint_path, (str, Path)) else "checkpoint"
        accepted = cls.recorded_arguments()
        unknown = sorted(set(kwargs) - set(signature(cls).parameters))
        if unknown:
            raise TypeError(f"load_from_checkpoint: {cls.__name__} takes no argument {unknown[0]!r}")
        given = {name: value for name, value in checkpoint["hyper_parameters"].items() if name not in kwargs}
        with bounded_by([weight.numel() for weight in checkpoint["state_dict"].values()], str(where)):
            settings = built_settings(given, accepted, str(where), trusted_modules) | kwargs
            settings.setdefault("optimizer", partial(_optimizer_instead, optimizer_of(checkpoint)))
            with _named(where):
                task = cls(**settings)
        with _named(where):
            task.on_load_checkpoint(checkpoint)
        try:
            task.load_state_dict(checkpoint["state_dict"], strict=strict is not False)
        except RuntimeError as error:
            raise ValueError(f"{where}: its weights do not fit ({' '.join(str(error).split())[:300]})") from error
        return task.to(next((weight.device for weight in checkpoint["state_dict"].values()), torch.device("cpu")))

    @classmethod
    def recorded_arguments(cls) -> list[str]:
        """What a checkpoint may set: the arguments of the constructor that are written into one."""
        return [name for name in signature(cls).parameters if name not in ("optimizer", "scheduler")]

    def evaluate_with(self, *models: MatchingModel) -> None:
        """Evaluate as an ensemble with other models: the score of a pair is the mean of all their scores.

        The others are not trained and not written into checkpoints. Without any: this model alone again.

        Raises:
            ValueError: a model has another tokenizer than this one: one batch of captions is for all.
        """
        self._others = tuple(model.eval() for model in models)  # a tuple registers no modules
        self._check_others()
        self.evaluator = self._new_evaluator()

    def _new_evaluator(self) -> Evaluator:
        """For the models and settings as they are now, which somebody may have replaced since the last evaluation."""
        return Evaluator([self.model, *self._others], FRAGMENT_DTYPES[self.fragment_dtype])

    def _check_others(self) -> None:
        own = self.model.tokenizer
        for number, model in enumerate(self._others):
            other = model.tokenizer
            if own is not None and other is not None and own.fingerprint != other.fingerprint:
                raise ValueError(
                    f"model {number} of the ensemble: its tokenizer ({_describe(other)}) is not that of the first "
                    f"({_describe(own)})"
                )

    def _specification(self) -> dict[str, Any]:
        return {
            **self.model.spec,
            "objective": self.objective.spec,
            "scheduler_interval": self.scheduler_interval,
            "lr_scale": self.lr_scale,
            "gather_negatives": self.gather_negatives,
            "encode_chunk": self.encode_chunk,
            "fragment_dtype": self.fragment_dtype,
            "decay_one_dimensional": self.decay_one_dimensional,
        }

    # ------------------------------------------------------------------------------------------------- training

    def setup(self, stage: str) -> None:
        """Take the tokenizer over from the data, or check that the two agree; write checkpoints whole or not at all."""
        use_atomic_checkpoints(self.trainer)
        tokenizer = getattr(getattr(self.trainer, "datamodule", None), "tokenizer", None)
        if self.model.tokenizer is None:
            self.model.tokenizer = tokenizer
        elif tokenizer is not None and tokenizer.fingerprint != self.model.tokenizer.fingerprint:
            raise ValueError(
                f"the data's tokenizer ({_describe(tokenizer)}) does not fit the model's "
                f"({_describe(self.model.tokenizer)}); build the data with tokenizer=model.tokenizer"
            )
        if stage == "fit" and "relevance" in self.objective.needs and self._relevance is None:
            names = [type(part).__name__ for part in self.objective.parts.values() if "relevance" in part.needs]
            raise ValueError(
                f"objective: {names[0]} needs to know how well captions fit images, and the data does not say; give it "
                "MatchingData(relevance=...), --data.relevance itmatch.data.CaptionOverlap for one"
            )
        self._check_others()  # now that this model has a tokenizer
        if self.run_seed is None:
            self.run_seed = self.trainer.strategy.broadcast(torch.initial_seed() % 2**31)

    @property
    def _relevance(self) -> Any:
        """How well captions fit images, where the data says so."""
        return getattr(getattr(self._trainer, "datamodule", None), "relevance", None)

    def on_fit_start(self) -> None:
        """Keep torch's random state, which the seeding of every step replaces."""
        self._random_state = torch.get_rng_state()
        self._gradients = GradientWatch()

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
        with told_as_divergence(self):
            result = compute_loss(
                self.model,
                self.objective,
                batch,
                relevance=self._relevance,
                gather_negatives=self.gather_negatives,
                encode_chunk=self.encode_chunk,
            )
        loss, scores, positives = result.loss, result.matches.scores, result.matches.positives
        assert positives is not None
        if not bool(torch.isfinite(loss)):
            raise divergence(self, f"the loss is {loss.item()}")
        self._check_gradients()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(positives))
        statistics = {f"train/loss_{name}": value.detach() for name, value in result.terms.items() if name}
        if scores is not None:
            if batch_idx % COLLAPSE_EVERY == 0:
                self._watch_collapse(result)
            statistics |= score_statistics(scores.detach(), positives)
        self.log_dict(statistics, batch_size=len(positives))
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the norm of the gradient, before it is clipped, and the learning rate."""
        self.log("train/lr", max(group["lr"] for group in optimizer.param_groups))
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self._gradients.norm = torch.nn.utils.get_total_norm(gradients)
        self.log("train/grad_norm", self._gradients.norm)

    def on_train_end(self) -> None:
        """Look at the gradients of the last step, which no other follows."""
        self._check_gradients()

    def _check_gradients(self) -> None:
        problem = self._gradients.problem(self._trainer)
        if problem is not None:
            raise divergence(self, problem)

    def _watch_collapse(self, result: StepResult) -> None:
        """Of an objective of several terms, those are watched that have a value at equal scores."""
        found = {name: self.objective.parts[name].collapse_value(result.matches) for name in result.terms}
        values = {name: value for name, value in found.items() if value is not None}
        value = sum(values.values())
        near = bool(values) and all(abs(float(result.terms[k].detach()) - v) <= 1e-3 * v for k, v in values.items())
        self._steps_at_collapse = self._steps_at_collapse + COLLAPSE_EVERY if near else 0
        if self._steps_at_collapse == COLLAPSE_STEPS:
            rank_zero_warn(
                f"the loss has been {value:.4g} for {COLLAPSE_STEPS} steps, the value for equal scores of all pairs: "
                "the model has collapsed; begin with all negatives (warmup_epochs), or use a smaller learning rate"
            )

    def configure_optimizers(self) -> Any:
        """Parameter groups by ``lr_scale`` and weight decay; the schedule acts on all of them."""
        optimizer, self._parameter_groups = make_optimizer(
            self.optimizer,
            self.named_parameters(),
            self.lr_scale,
            decay_one_dimensional=self.decay_one_dimensional,
        )
        if self.scheduler is None:
            return optimizer
        schedule: dict[str, Any] = {"scheduler": self.scheduler(optimizer), "interval": self.scheduler_interval}
        if isinstance(schedule["scheduler"], ReduceLROnPlateau):
            schedule["monitor"] = schedule["scheduler"].monitor
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # ----------------------------------------------------------------------------------------------- evaluation

    def on_validation_epoch_start(self) -> None:
        """Begin anew, and see that what is asked for can be measured."""
        self.evaluator = self._new_evaluator()
        state = self.trainer.state.fn
        stage: Literal["val", "test"] = "test" if state == "test" else "val"
        check_whole(self.trainer, stage)
        dataset = self._dataset(stage)
        if self.protocol is not None and dataset is not None and state in ("test", "validate"):
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            images = data.evaluated_images(stage) if isinstance(data, MatchingData) else dataset.num_images
            caption_image = torch.as_tensor(dataset.caption_image)
            self.protocol.check(caption_image[caption_image < images], images)
        for model in self._others:
            model.to(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode a batch of images or of captions, each once."""
        models = (self.model, *self._others)
        with told_as_divergence(self):
            if batch.regions is not None and batch.image_index is not None:
                self.evaluator.add_images([model.image_encoder(batch.regions) for model in models], batch.image_index)
            if batch.captions is not None and batch.caption_index is not None and batch.caption_image is not None:
                encoded = [model.text_encoder(batch.captions) for model in models]
                self.evaluator.add_captions(encoded, batch.caption_index, batch.caption_image)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Rank all images and captions, and log the recalls."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Rank all images and captions, and log the recalls."""
        self._log_metrics("test")

    def _dataset(self, prefix: str) -> Any:
        return getattr(getattr(self.trainer, "datamodule", None), "datasets", {}).get(prefix)

    def _log_metrics(self, prefix: str) -> None:
        if self.trainer.sanity_checking:
            return  # a few batches of each loader hold no complete set to rank
        dataset = self._dataset(prefix)
        asked = prefix == "test" or self.trainer.state.fn == "validate"  # not between epochs
        with told_as_divergence(self):
            metrics = self.evaluator.compute(dataset, self.protocol if asked else None)
        for name, value in metrics.items():  # all processes have the same; Lightning wants to be told how they agree
            self.log(f"{prefix}/{name}", value, prog_bar=name == "rsum", sync_dist=True, reduce_fx="max")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Fragments, Tensor]:
        """Fragments of a batch of images or of captions, and their places in the dataset.

        Raises:
            ValueError: the batch holds both, or neither.
        """
        with told_as_divergence(self):
            if batch.image_index is not None and batch.captions is None:
                return self.model.image_encoder(batch.regions).detach(), batch.image_index
            if batch.caption_index is not None and batch.regions is None:
                return self.model.text_encoder(batch.captions).detach(), batch.caption_index
        found = "both" if batch.regions is not None else "neither"
        raise ValueError(f"a batch to predict holds images or captions, this one {found}")

    # ---------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record how the parts were built, so that the checkpoint reloads without the YAML; none is of a divergence."""
        self._check_gradients()
        checkpoint["hyper_parameters"] = self._specification()
        checkpoint["run_seed"] = self.run_seed
        optimizers = getattr(self._trainer, "optimizers", None)
        if optimizers:  # for those who train on; its state alone does not say what it is
            checkpoint["optimizer"] = f"{type(optimizers[0]).__module__}.{type(optimizers[0]).__qualname__}"

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the seed of the run over; check that the weights fit before Lightning tries to load them."""
        self.run_seed = checkpoint.get("run_seed")
        path = None if self._trainer is None else self._trainer.ckpt_path
        if self._trainer is not None:  # else no callback reads them
            keep_own_paths(checkpoint, None if path is None or "://" in str(path) else Path(path).absolute().parent)
        with _named(path):
            check_weights_fit(self, checkpoint)
        own = self.model.tokenizer
        saved = None
        if own is not None:
            saved = build(checkpoint.get("hyper_parameters", {}).get("tokenizer"), Tokenizer, "tokenizer")
        if saved is not None and own is not None and saved.fingerprint != own.fingerprint:
            raise ValueError(
                f"the vocabulary does not fit the checkpoint: {_describe(own)} here, {_describe(saved)} there"
            )


@contextmanager
def _named(where: Any) -> Iterator[None]:
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
    for name, value in checkpoint.get("state_dict", {}).items():
        if name in own and own[name].shape != value.shape:
            hint = ": the vocabulary does not fit the checkpoint" if "embed" in name else ""
            raise ValueError(
                f"{name} has shape {tuple(own[name].shape)}, the checkpoint has {tuple(value.shape)}{hint}"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{name} holds a NaN or an infinity in the checkpoint")
    missing = sorted(set(own) ^ set(checkpoint.get("state_dict", own)))
    if missing:
        rank_zero_info(f"weights on one side only: {missing[:5]}{' ...' if len(missing) > 5 else ''}")


def _check_rows_apart(encoder: nn.Module, name: str) -> None:
    """Raise if an encoder makes what it makes of an image from the others in the batch too."""
    for path, module in encoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"encode_chunk: {name}.{path} normalises over the batch, and would do so over each chunk; leave "
                "encode_chunk out"
            )


def _describe(tokenizer: Tokenizer) -> str:
    return f"{type(tokenizer).__name__} of {tokenizer.vocab_size} tokens"
