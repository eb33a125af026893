"""``itmatch fit | validate | test | predict``: a thin LightningCLI."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, Namespace, get_loader, set_loader, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from yaml import YAMLError

from itmatch.data import Tokenizer
from itmatch.errors import UsageError
from itmatch.evaluation import EvaluationProtocol
from itmatch.formats.configs import limited_yaml
from itmatch.formats.files import user_path, write_text
from itmatch.models import MatchingModel
from itmatch.models.bounds import bounded_by
from itmatch.models.folders import WEIGHTS_NAME, read_model_folder
from itmatch.models.weights import load_weights
from itmatch.spec import Configurable, is_spec
from itmatch.stopping import Stopped
from itmatch.training import MatchingData, MatchingTask
from itmatch.training.callbacks import BestCheckpoint, FragmentWriter, RecallReport, run_folder
from itmatch.training.checkpoints.reading import built_settings, read_checkpoint
from itmatch.training.limits import fast_dev_batches
from itmatch.training.processes import OwnSignals, Processes, trouble
from itmatch.trust import import_class

VOCABULARY, IN_FEATURES = "text_encoder.init_args.vocabulary", "image_encoder.init_args.in_features"
CHECKPOINT_WORDS = ("best", "last", "hpc", "registry")  # what Lightning takes after --ckpt_path instead of a file
NOISE = (
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
    ".*does not have many workers.*",
    ".*Using `DistributedSampler` with the dataloaders.*",  # the images it repeats are ranked once
    ".*could not find the monitored key in the returned metrics.*",  # without a validation, which we tell of
)
set_loader("yaml", limited_yaml(get_loader("yaml")), (YAMLError,))  # for the files, too, that a file names


class SaveConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the folder of the run, whole or not at all; nothing without a logger."""

    _folder: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes, and write."""
        self._folder = run_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the configuration."""
        if self._folder is not None:
            config = self.config.clone()
            config["model"] = _settings_as_parsed(vars(config["model"]))
            write_text(Path(self._folder) / self.config_filename, self.parser.dump(config, skip_none=False))


class MatchingCLI(LightningCLI):
    """LightningCLI whose parts know one another.

    The text encoder gets its vocabulary, and the image encoder its feature size, from the data; a checkpoint brings its
    own vocabulary. ``fit`` ends with a test of the best checkpoint.
    """

    _settings: dict[str, Any] = {}  # noqa: RUF012 - of the checkpoint, as plain data
    _sizes: list[int] = []  # noqa: RUF012 - of its weights
    _tokenizer: Tokenizer | None = None  # of the checkpoint
    _feature_dim_there: int | None = None  # of the checkpoint
    _model_folder: Path | None = None  # of save_pretrained, given as the checkpoint

    def __init__(self, command: str, processes: Processes, **kwargs: Any) -> None:
        self.command, self.processes = command, processes
        super().__init__(MatchingTask, MatchingData, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is called; building the parsers of the others would take a third of a second."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links, callbacks and defaults."""
        parser.link_arguments("data", f"model.{VOCABULARY}", compute_fn=self._vocabulary, apply_on="instantiate")
        parser.link_arguments("data", f"model.{IN_FEATURES}", compute_fn=self._feature_dim, apply_on="instantiate")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RecallReport, "report")
        parser.add_lightning_class_args(FragmentWriter, "fragments")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.add_argument(
            "--protocol",
            type=EvaluationProtocol | None,
            default=None,
            help="What a test measures: Coco1K, EccvCaption.",
        )
        parser.add_argument(
            "--trust",
            type=list[str] | str,
            default=[],
            help="Modules that may be imported because a checkpoint or a model folder names them.",
        )
        parser.add_argument(
            "--ensemble",
            type=list[str] | str,
            default=[],
            help="Checkpoints or model folders whose scores are averaged in.",
        )
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
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # the recall table says it
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, which are not always those of the process."""
        self.config = parser.parse_args(args)  # super's warns when the process has some too

    def _parse_ckpt_path(self) -> None:
        """Take over how the model of a checkpoint was built; nothing of it goes through jsonargparse."""
        command = self.config["subcommand"]
        given = self.config[command]
        path = given.get("ckpt_path")
        if path is None or str(path).partition(":")[0] in CHECKPOINT_WORDS:
            if path is None and command != "fit":
                _warn(f"{command} without --ckpt_path: the weights are random")
            return
        if given.get("weights_only") is False:
            raise ValueError("--weights_only false: a checkpoint would run what it says; it is read as weights alone")
        is_folder = user_path(path).is_dir()
        read = read_model_folder if is_folder else _settings_of_checkpoint
        self._settings, self._sizes = read(str(path))
        if is_folder:
            _tell_of_tokenizer(f"--ckpt_path {path}", self._settings.get("tokenizer"))
            self._model_folder, given["ckpt_path"] = user_path(path), None

    def _build_checkpoint(self) -> None:
        """Build the parts of the checkpoint, and put them into the configuration in the place of those given."""
        given = self.config[self.command]
        where = f"--ckpt_path {self._model_folder or given['ckpt_path']}"
        with bounded_by(self._sizes, where):
            built = built_settings(
                self._settings, MatchingTask.recorded_arguments(), where, trusted_modules=_listed(given["trust"])
            )
        self._tokenizer = built.pop("tokenizer", None)  # not of the configuration: the data may bring its own
        self._feature_dim_there = built["image_encoder"].spec["init_args"].get("in_features")
        changed = _differences(_flat(given["model"]), _flat(_settings_as_parsed(built)))
        if changed:
            _warn(f"the checkpoint's settings win over those given: {'; '.join(changed)}")
        for name, value in built.items():
            given["model"][name] = value

    def _vocabulary(self, data: MatchingData) -> Any:
        if self._tokenizer is not None:
            data.offer_tokenizer(self._tokenizer)
        return data.vocabulary

    def _feature_dim(self, data: MatchingData) -> int:
        size = data.dataset(data.splits_of(str(self.subcommand))[0]).feature_dim  # not of a split that may not exist
        if self._feature_dim_there not in (None, size):
            raise ValueError(
                f"the checkpoint's model takes features of size {self._feature_dim_there}, the data has {size}"
            )
        return size

    def before_instantiate_classes(self) -> None:
        """Say to loggers what ``~`` is, which not all of them know."""
        given = self._get(self.config, "trainer.logger")
        for logger in given if isinstance(given, list) else [given]:
            arguments = logger.get("init_args") if isinstance(logger, Namespace) else None
            if arguments is not None and arguments.get("save_dir"):
                arguments["save_dir"] = str(user_path(arguments["save_dir"]))

    def instantiate_classes(self) -> None:
        """Also load the weights of a model folder, and set up how the model is tested."""
        if self._settings:
            self._build_checkpoint()
        super().instantiate_classes()
        if self._tokenizer is not None:
            self.model.model.tokenizer = self._tokenizer
        if self._model_folder is not None:
            load_weights(self.model.model, self._model_folder / WEIGHTS_NAME)
        self.model.protocol = self._get(self.config_init, "protocol")
        others = _listed(self._get(self.config, "ensemble"))
        if others:
            models = [_read_model(path, _listed(self._get(self.config, "trust"))) for path in others]
            for path, model in zip(others, models, strict=True):
                _tell_of_tokenizer(f"--ensemble {path}", model.tokenizer)
            self.model.evaluate_with(*models)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, and see to the processes that it starts."""
        trainer = super().instantiate_trainer(**kwargs)
        self.processes.follow(trainer)
        return trainer

    def before_fit(self) -> None:
        """Open the test split now: after the training would be a bad time to learn that it cannot be measured."""
        if self._get(self.config, "test_after_fit") and not fast_dev_batches(self.trainer):
            try:
                self.datamodule.check_limit("test", self.trainer)
            except (OSError, ValueError) as error:
                hint = "needed for the test after fit, which --test_after_fit false leaves out"
                raise ValueError(f"{error} ({hint})") from error  # some errors cannot be made from a message alone

    def after_fit(self) -> None:
        """Test the best checkpoint, or the last weights if there is none, and say so."""
        if fast_dev_batches(self.trainer):  # which keeps no checkpoints
            return
        kept = _checkpoints(self.trainer)
        best = kept[0].best_model_path if kept else ""
        tested = self._get(self.config, "test_after_fit")
        if not best:
            _warn_of_no_best(self.trainer, kept, tested=tested)
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
    processes = Processes()
    with warnings.catch_warnings(), _plain_errors(), _told_where_to_go_on(args[0], processes), processes:
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        return MatchingCLI(
            args[0],
            processes,
            args=list(args),
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"exit_on_error": False, "prog": "itmatch", args[0]: {"exit_on_error": False}},
            trainer_defaults={
                "gradient_clip_val": 2.0,
                "logger": {"class_path": "itmatch.training.SafeCSVLogger", "init_args": {"save_dir": "runs"}},
                "log_every_n_steps": 10,
                "callbacks": [OwnSignals()],
            },
        )


@contextmanager
def _told_where_to_go_on(command: str, processes: Processes) -> Iterator[None]:
    """A run that is stopped says which checkpoint holds it."""
    try:
        yield
    except Stopped as stop:
        if command == "fit" and stop.message is not None:
            kept = [] if processes.trainer is None else _checkpoints(processes.trainer)
            last = next((one.written for one in kept if one.written), None)
            found = "no last.ckpt was written" if last is None else f"--ckpt_path {last} goes on from there"
            raise Stopped(f"{stop.message}; {found}", stop.status) from stop
        raise


def _checkpoints(trainer: Trainer) -> list[BestCheckpoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)]


def _warn_of_no_best(trainer: Trainer, kept: Sequence[BestCheckpoint], *, tested: bool) -> None:
    """Say why there is no best checkpoint, and what there is."""
    reason = "no validation took place" if trainer.global_step else "no training step was made"
    if kept and kept[0].monitor in trainer.callback_metrics:
        reason = "no checkpoint of a validation was kept"
    last = kept[0].written if kept else ""
    found = f"{last} holds the last weights" if last else "no file holds the last weights"
    _warn(f"{reason}, so there is no best checkpoint; {found}{', which are tested' if tested else ''}")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What jsonargparse, Lightning and torch's loaders wrap or word at length becomes a plain error of one line."""
    try:
        yield
    except (ArgumentError, MisconfigurationException) as error:
        message = _readable(error)
        if "arguments are required: model." in message:
            message += " (give --config; `itmatch presets` lists those that come with the package)"
        raise (UsageError if isinstance(error, ArgumentError) else ValueError)(message) from error
    except Exception as error:
        if str(error).startswith("Call to compute_fn of link") and error.__cause__ is not None:
            raise error.__cause__ from None
        if str(error).startswith("Caught ") and "Original Traceback" in str(error):  # in a loading process
            found = re.findall(r"^\w[\w.]*: (.*)$", str(error), re.MULTILINE)
            raise type(error)(found[-1] if found else str(error)) from error
        if isinstance(error, RuntimeError) and (meaning := trouble(error)) is not None:
            raise OSError(meaning) from error
        if "Problem with given class_path" in str(error):
            raise ValueError(_readable(error)) from error
        raise


def _readable(error: Exception) -> str:
    """One line of what jsonargparse says in many: of all forms that a value may take, the one that was meant."""
    lines = [line.strip().removeprefix("- ") for line in str(error).splitlines() if line.strip()]
    meant = any(line.startswith("Problem with given class_path") for line in lines)
    union = not meant and any(line.startswith("Subtypes:") for line in lines)
    dropped = ["Does not validate against", "Errors:", "Given value type:", "tip:"]
    dropped += ["Subtypes:", "Given value:"] if meant else []
    kept = []
    for line in lines:
        alternative = line.startswith("Expected a ") and "Got value" not in line
        if line.startswith(tuple(dropped)) or (alternative and (meant or union)):
            continue
        line = re.sub(r"^(?:Parser key|Problem with given class_path) ['\"](.*?)['\"]:", r"\1:", line)
        line = re.sub(r"^Subtypes: \[(.*)\]$", r"expected one of \1;", line)
        line = re.sub(r"^Given value: ", "got ", line)
        line = re.sub(r"\b(?:fit|validate|test|predict)\.(?=model\.|data\.)", "", line)
        kept.append(re.sub(r"<class '(.*?)'>", r"\1", line).replace("NoneType", "None"))
    if len(kept) > 1:
        kept = [line for line in kept if not line.startswith("Expected a path but")]  # an object may come from a file
    return re.sub(r"([:;]); ", r"\1 ", "; ".join(kept))


def _listed(value: str | list[str]) -> list[str]:
    """An option that takes several values, and one as it is."""
    return [value] if isinstance(value, str) else value


@rank_zero_only
def _warn(message: str) -> None:
    print(f"itmatch: warning: {message}", file=sys.stderr)


def _tell_of_tokenizer(option: str, tokenizer: Any) -> None:
    if tokenizer is None:
        _warn(f"{option}: no tokenizer in it; that of the configuration has to have the same ids")


def _read_model(path: str, trusted_modules: Sequence[str]) -> MatchingModel:
    """The model of a checkpoint, or of a folder of ``save_pretrained``."""
    if user_path(path).is_dir():
        return MatchingModel.from_pretrained(Path(path), trusted_modules=trusted_modules)
    return MatchingTask.load_from_checkpoint(path, trusted_modules=trusted_modules).model


def _settings_of_checkpoint(path: str) -> tuple[dict[str, Any], list[int]]:
    """How the model of a checkpoint was built, and the sizes of its weights."""
    checkpoint = read_checkpoint(path, mmap=True)
    return dict(checkpoint["hyper_parameters"]), [weight.numel() for weight in checkpoint["state_dict"].values()]


def _settings_as_parsed(settings: Mapping[str, Any]) -> Namespace:
    """Settings, objects as they are recorded, in the form that jsonargparse gives to those of a YAML file."""
    recorded = {name: value.spec if isinstance(value, Configurable) else value for name, value in settings.items()}
    return Namespace(**_namespace(recorded))  # type: ignore[no-untyped-call]


def _namespace(value: Any) -> Any:
    if isinstance(value, list):
        return [_namespace(item) for item in value]
    if not isinstance(value, dict):
        return value
    inside = {name: _namespace(item) for name, item in value.items()}
    if is_spec(value):
        arguments = Namespace(**(inside.get("init_args") or {}))  # type: ignore[no-untyped-call]
        return Namespace(class_path=value["class_path"], init_args=arguments)  # type: ignore[no-untyped-call]
    return inside


def _flat(settings: Namespace) -> dict[str, Any]:
    """Settings by their dotted names, those of parts in a dict of parts too."""
    flat: dict[str, Any] = {}
    for key, value in settings.as_flat().__dict__.items():
        if isinstance(value, dict) and value and all(isinstance(part, Namespace) for part in value.values()):
            flat |= {f"{key}.{name}.{k}": v for name, part in value.items() for k, v in _flat(part).items()}
        else:
            flat[key] = value
    return flat


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Settings that were given and that the checkpoint has otherwise; of parts of another class, only the class."""
    changed: dict[str, str] = {}
    for key in sorted(before, key=lambda key: (key.count("."), not key.endswith("class_path"), key)):
        if key in (VOCABULARY, IN_FEATURES) or before[key] is None or key not in after:
            continue
        if _comparable(key, before[key]) != _comparable(key, after[key]):
            part = key.removesuffix("class_path")
            if not any(name.endswith("class_path") and part.startswith(name[: -len("class_path")]) for name in changed):
                changed[key] = f"model.{key} is {after[key]!r}, not {before[key]!r}"
    return list(changed.values())


def _comparable(key: str, value: Any) -> Any:
    if key.endswith("class_path") and isinstance(value, str):
        return import_class(value, key)  # one class may have several names
    if isinstance(value, Namespace):
        return {name: _comparable(name, item) for name, item in _flat(value).items()}
    if isinstance(value, (list, tuple)):
        return [_comparable("", item) for item in value]
    return str(value) if isinstance(value, Path) else value
