"""``itmatch fit | validate | test | predict``: a thin LightningCLI."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Union, get_args, get_origin

from jsonargparse import ArgumentError, Namespace, get_loader, set_loader, set_parsing_settings
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelSummary, RichModelSummary
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from yaml import YAMLError

from itmatch.cli.errors import plain_errors, told_warnings, warn
from itmatch.cli.running.checkpoint import (
    IN_FEATURES,
    VOCABULARY,
    GivenCheckpoint,
    GivenStart,
    read_model,
    tell_of_tokenizer,
)
from itmatch.cli.running.configs import PROTOCOLS
from itmatch.cli.running.devices import check_accelerator
from itmatch.cli.running.help import short_help, takes_all
from itmatch.cli.running.kept import checkpoints_of, told_where_to_go_on, warn_of_no_best
from itmatch.cli.running.mistakes import first_mistake
from itmatch.cli.running.saving import SaveConfig, leave_report
from itmatch.errors import UsageError
from itmatch.evaluation import EvaluationProtocol, SeveralProtocols
from itmatch.evaluation.memory import byte_count
from itmatch.formats.configs import limited_yaml
from itmatch.formats.files import user_path
from itmatch.training import MatchingData, MatchingTask
from itmatch.training.checkpoints.writing import BestCheckpoint
from itmatch.training.limits import fast_dev_batches
from itmatch.training.output.fragments import FragmentWriter
from itmatch.training.output.report import EpochLines, PartSizes, RecallReport
from itmatch.training.processes import OwnSignals, Processes

_RUNS = "runs"  # the folder of all runs, where none is named
CHECKPOINT_WORDS = ("best", "last", "hpc", "registry")  # what Lightning takes after --ckpt_path instead of a file
NOISE = (
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
    ".*does not have many workers.*",
    ".*Using `DistributedSampler` with the dataloaders.*",  # the images it repeats are ranked once
    ".*Total length of `DataLoader` across ranks is zero.*",  # a gallery has no captions
    ".*could not find the monitored key in the returned metrics.*",  # without a validation, which we tell of
)
OF_RESUMING = (".*The dirpath has changed from.*",)  # says nothing to those who only test a run that was moved
set_loader("yaml", limited_yaml(get_loader("yaml")), (YAMLError,))  # for the files, too, that a file names


OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("test_after_fit", bool, True, "Test the best checkpoint after fit."),
    ("html_report", bool, True, "Write report.html, a page about the run, into its folder at the end of fit."),
    ("init_from", str | None, None, "A checkpoint or model folder with whose weights fit begins; see --ckpt_path."),
    ("protocol", EvaluationProtocol | list[EvaluationProtocol] | None, None,
     f"What a test measures, one or several at once: {', '.join(PROTOCOLS)}, or a class."),
    ("top", PositiveInt | None, None, "How many of the best candidates of each query a test or a prediction writes."),
    ("evaluation.memory", str, "1GiB", "What scoring may take beside the encoded images and captions."),
    ("trust", list[str] | str, [], "Modules that a checkpoint or a model folder may have imported."),
    ("ensemble", list[str] | str, [], "Checkpoints or model folders whose scores are averaged in."),
)  # fmt: skip


class MatchingCLI(LightningCLI):
    """LightningCLI whose parts know one another.

    The text encoder gets its vocabulary, and the image encoder its feature size, from the data; a checkpoint brings its
    own vocabulary. ``fit`` ends with a test of the best checkpoint.
    """

    checkpoint: GivenCheckpoint | None = None
    start: GivenStart | None = None

    def __init__(self, command: str, processes: Processes, *, whole_help: bool, **kwargs: Any) -> None:
        self.command, self.processes, self.whole_help = command, processes, whole_help
        super().__init__(MatchingTask, MatchingData, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is called; building the parsers of the others would take a third of a second."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links, callbacks and defaults."""
        for key in (*VOCABULARY, *IN_FEATURES):
            made = self._vocabulary if key in VOCABULARY else self._feature_dim
            parser.link_arguments("data", f"model.{key}", compute_fn=made, apply_on="instantiate")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RecallReport, "report")
        parser.add_lightning_class_args(FragmentWriter, "fragments")
        for name, kind, default, text in OPTIONS:
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/rsum",
                "checkpoint.mode": "max",
                "checkpoint.save_last": True,
                "checkpoint.filename": "best",
            }
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        _take_integers_first(parser)
        if not self.whole_help:
            parser.format_help = partial(short_help, parser, subcommand)  # type: ignore[method-assign]
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # the recall table says it
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, which are not always those of the process."""
        try:
            self.config = parser.parse_args(args)  # super's warns when the process has some too
        except ArgumentError as error:
            later = [f"model.{key}" for key in (*VOCABULARY, *IN_FEATURES)]
            mistake = first_mistake(self._subcommand_parsers[self.command], args[1:], later)
            raise (error if mistake is None else UsageError(mistake)) from error.__cause__

    def _parse_ckpt_path(self) -> None:
        """Take over how the model of a checkpoint was built."""
        given = self.config[self.command]
        path = given.get("ckpt_path")
        if path is None or str(path).partition(":")[0] in CHECKPOINT_WORDS:
            if path is None and self.command != "fit":
                warn(f"{self.command} without --ckpt_path: the weights are random, or pretrained")
            return
        if given.get("weights_only") is False:
            raise ValueError("--weights_only false: a checkpoint would run what it says; it is read as weights alone")
        self.checkpoint = GivenCheckpoint(str(path))
        if self.checkpoint.is_folder:
            given["ckpt_path"] = None

    def _vocabulary(self, data: MatchingData) -> Any:
        if self.checkpoint is not None and self.checkpoint.tokenizer is not None:
            data.offer_tokenizer(self.checkpoint.tokenizer)
        if self.start is not None:
            self.start.give_words(data)
        return data.vocabulary

    def _feature_dim(self, data: MatchingData) -> int:
        size = data.dataset(data.splits_of(str(self.subcommand))[0]).feature_dim  # not of a split that may not exist
        model = self.checkpoint or self.start
        if model is not None and model.feature_dim not in (None, size):
            there = f"{model.option}: its model takes {model.feature_dim} numbers per region"
            raise ValueError(f"{there}, the data have {size}")
        return size

    def before_instantiate_classes(self) -> None:
        """Say to loggers what ``~`` is, which not all of them know."""
        given, root = (self._get(self.config, f"trainer.{name}") for name in ("logger", "default_root_dir"))
        if root is not None and isinstance(given, Namespace) and given["init_args"].get("save_dir") == _RUNS:
            given["init_args"]["save_dir"] = str(root)
        for logger in given if isinstance(given, list) else [given]:
            arguments = logger.get("init_args") if isinstance(logger, Namespace) else None
            if arguments is not None and arguments.get("save_dir"):
                arguments["save_dir"] = str(user_path(arguments["save_dir"]))

    def instantiate_classes(self) -> None:
        """Also load the weights of a model folder, and set up how the model is tested."""
        given = self.config[self.command]
        trusted = _listed(given["trust"])
        if self.checkpoint is not None:
            self.checkpoint.build_into(given["model"], trusted)
        elif given["init_from"] is not None and self.command == "fit":  # what is resumed has started already
            self.start = GivenStart(given["init_from"], trusted)
        super().instantiate_classes()
        if self.checkpoint is not None:
            self.checkpoint.load_into(self.model.model)
        if self.start is not None:
            self.start.load_into(self.model.model, self.datamodule.tokenizer, given["model"])
            self.start = None  # its weights are twice in memory
        protocol = self._get(self.config_init, "protocol")
        self.model.protocol = SeveralProtocols(protocol) if isinstance(protocol, list) else protocol
        self.model.top = self._get(self.config, "top")
        try:
            self.model.memory = byte_count("memory", self._get(self.config, "evaluation.memory"))
        except ValueError as error:
            raise ValueError(f"--evaluation.{error}") from None
        others = _listed(self._get(self.config, "ensemble"))
        if others:
            models = [read_model(path, trusted) for path in others]
            for path, model in zip(others, models, strict=True):
                tell_of_tokenizer(f"--ensemble {path}", model.tokenizer)
            self.model.evaluate_with(*models)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, and see to the processes that it starts and the folder that it makes."""
        check_accelerator(self._get(self.config, "trainer.accelerator"))
        trainer = super().instantiate_trainer(**kwargs)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveConfig):
                callback.note(trainer)
        trainer.callbacks = [PartSizes() if _is_default_summary(one) else one for one in trainer.callbacks]  # type: ignore[attr-defined]
        self.processes.follow(trainer)
        return trainer

    def before_fit(self) -> None:
        """Open the test split now: after the training would be a bad time to learn that it cannot be measured."""
        if self.checkpoint is not None:
            self.checkpoint.tell_of_resuming(self.datamodule)
        if self._get(self.config, "test_after_fit") and not fast_dev_batches(self.trainer):
            try:
                self.datamodule.check_limit("test", self.trainer)
            except (OSError, ValueError) as error:
                hint = "needed for the test after fit, which --test_after_fit false leaves out"
                raise ValueError(f"{error} ({hint})") from error  # some errors cannot be made from a message alone

    def after_fit(self) -> None:
        """Test the best checkpoint, or the last weights if there is none, and write a page about the run."""
        if fast_dev_batches(self.trainer):  # which keeps no checkpoints
            return
        self._test_best()
        if self._get(self.config, "html_report"):
            leave_report(self.trainer, self.model.model, self.datamodule)

    def _test_best(self) -> None:
        """Test, and say which weights."""
        kept = checkpoints_of(self.trainer)
        best = kept[0].best_model_path if kept else ""
        tested = self._get(self.config, "test_after_fit")
        if not best:
            warn_of_no_best(self.trainer, kept, tested=tested)
        if not tested:
            return
        if best:
            rank_zero_only(print)(f"best checkpoint: {best}")
        self._get(self.config_init, "report").last_weights = not best
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best or None, verbose=False)


def run(args: Sequence[str]) -> MatchingCLI:
    """Parse arguments and run their subcommand.

    Raises:
        UsageError: the arguments cannot be understood.
        Stopped: a signal came, or another process of the run failed.
    """
    set_parsing_settings(instantiate_subclass_spec_in_any=False)  # what is annotated as plain data stays plain data
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    arguments, whole_help = takes_all(args)
    strict = {"exit_on_error": False, "allow_abbrev": False}
    processes = Processes()
    with told_warnings(), plain_errors(args), told_where_to_go_on(args[0], processes), processes:
        for message in NOISE if args[0] == "fit" else NOISE + OF_RESUMING:
            warnings.filterwarnings("ignore", message)
        return MatchingCLI(
            args[0],
            processes,
            whole_help=whole_help,
            args=arguments,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={**strict, "prog": "itmatch", args[0]: strict},
            trainer_defaults={
                "gradient_clip_val": 2.0,
                "logger": {"class_path": "itmatch.training.SafeCSVLogger", "init_args": {"save_dir": _RUNS}},
                "log_every_n_steps": 10,
                "callbacks": [OwnSignals(), EpochLines()],
            },
        )


def _take_integers_first(parser: LightningArgumentParser) -> None:
    """Let 1 be one batch for a limit of the trainer that is a number of batches or a share of them, as 1.0 is all.

    Lightning asks for ``Optional[Union[int, float]]``, but `typing` gives what it made before of ``Union[float, int]``
    for another library, and the first that takes a text has it.
    """
    for action in parser._actions:
        hint = getattr(action, "_typehint", None)
        kinds = list(get_args(hint))
        if get_origin(hint) is not Union or not {int, float} <= set(kinds) or not action.dest.startswith("trainer."):
            continue
        if kinds.index(float) < kinds.index(int):
            kinds.remove(int)
            kinds.insert(kinds.index(float), int)
            action._typehint = Union[tuple(kinds)]  # type: ignore[attr-defined]  # noqa: UP007


def _listed(value: str | list[str]) -> list[str]:
    """An option that takes several values, and one as it is."""
    return [value] if isinstance(value, str) else value


def _is_default_summary(callback: Callback) -> bool:
    """Whether it is the table that Lightning makes by itself, of the model as a whole and its FLOPs, which are 0."""
    return type(callback) in (ModelSummary, RichModelSummary) and getattr(callback, "_max_depth", None) == 1
