"""A checkpoint or a model folder that is named on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from itmatch.cli.errors import warn
from itmatch.data import Tokenizer
from itmatch.extractor import Extractor
from itmatch.formats.files import user_path
from itmatch.formats.messages import shown
from itmatch.models import MatchingModel
from itmatch.models.bounds import bounded_by
from itmatch.models.folders import WEIGHTS_NAME, read_model_folder
from itmatch.models.starting import start_from
from itmatch.models.weights import load_weights
from itmatch.spec import Configurable, is_spec
from itmatch.training import MatchingData, MatchingTask
from itmatch.training.checkpoints.reading import built_settings, read_checkpoint, training_of
from itmatch.trust import import_class

_WITHIN = ("init_args", "init_args.encoder.init_args")  # of an encoder, and of one around another
VOCABULARY, IN_FEATURES = (
    [f"{part}.{within}.{name}" for within in _WITHIN]
    for part, name in (("text_encoder", "vocabulary"), ("image_encoder", "in_features"))
)


class GivenCheckpoint:
    """How the model of ``--ckpt_path`` was built; nothing of it goes through jsonargparse.

    Args:
        path: a checkpoint, or a folder of ``save_pretrained``.

    Attributes:
        option: that names it, for messages.
        is_folder: whether it is a folder, which Lightning does not read.
        tokenizer: its own, or None; known when it is built.
        extractor: likewise.
        feature_dim: size of the features that its model takes, or None; known when it is built.
    """

    def __init__(self, path: str) -> None:
        self.path, self.is_folder = user_path(path), user_path(path).is_dir()
        self.option = f"--ckpt_path {self.path}"
        self._training: dict[str, Any] = {}
        if self.is_folder:
            self._settings, self._sizes = read_model_folder(path)
        else:
            checkpoint = read_checkpoint(path, mmap=True)
            self._settings = dict(checkpoint["hyper_parameters"])
            self._sizes = [weight.numel() for weight in checkpoint["state_dict"].values()]
            self._training = training_of(checkpoint)
        self.tokenizer: Tokenizer | None = None
        self.extractor: Extractor | None = None
        self.feature_dim: int | None = None
        if self.is_folder:
            tell_of_tokenizer(self.option, self._settings.get("tokenizer"))

    def build_into(self, model: Namespace, trusted_modules: Sequence[str]) -> None:
        """Build the parts, and put them into the settings of ``model`` in the place of those given."""
        with bounded_by(self._sizes, self.option):
            built = built_settings(
                self._settings, MatchingTask.recorded_arguments(), self.option, trusted_modules=trusted_modules
            )
        self.tokenizer = built.pop("tokenizer", None)  # not of the configuration: the data may bring its own
        self.extractor = built.pop("extractor", None)  # likewise
        self.feature_dim = _feature_dim(built["image_encoder"])
        changed = _differences(_flat(model), _flat(settings_as_parsed(built)))
        if changed:
            warn(f"the checkpoint's settings win over those given: {'; '.join(changed)}")
        for name, value in built.items():
            model[name] = value

    def load_into(self, model: MatchingModel) -> None:
        """Give a model what Lightning does not: the tokenizer, the extractor, and the weights of a folder."""
        if self.tokenizer is not None:
            model.tokenizer = self.tokenizer
        if self.extractor is not None:
            model.extractor = self.extractor
        if self.is_folder:
            load_weights(model, self.path / WEIGHTS_NAME)

    def tell_of_resuming(self, data: MatchingData) -> None:
        """Say that a training goes on, and what else there is where that may not be meant."""
        done = self._training
        if not done:
            return
        rank_zero_only(print)(
            f"{self.option}: goes on with its training at epoch {done['epochs']}, step {done['steps']}"
        )
        doubts = []
        for stage, there in done["data"].items():
            if there != (here := data.content(stage)):
                what = "trained" if stage == "train" else "validated"
                doubts.append(f"{what} on other data ({shown(there)}; here '{here}')")
        kept = "its optimizer and schedule" if doubts else "its optimizer, schedule and best figure"
        doubts += ["finished"] * done["finished"]
        if doubts:
            warn(
                f"{self.option} was {' and '.join(doubts)}; {kept} go on from there; "
                f"--init_from {self.path} starts a new training with its weights"
            )


class GivenStart:
    """The model of ``--init_from``, whose weights a training starts with; the configuration says how it is built.

    Args:
        path: a checkpoint, or a folder of ``save_pretrained``.
        trusted_modules: see :func:`itmatch.trust.import_class`.
    """

    def __init__(self, path: str, trusted_modules: Sequence[str]) -> None:
        self.option = f"--init_from {path}"
        self.model = read_model(path, trusted_modules)
        tell_of_tokenizer(self.option, self.model.tokenizer)
        self.feature_dim: int | None = _feature_dim(self.model.image_encoder)

    def give_words(self, data: MatchingData) -> None:
        """Let the data's vocabulary begin with the words that the model knows."""
        if self.model.tokenizer is not None and self.model.tokenizer.vocabulary is not None:
            data.know_words(self.model.tokenizer.vocabulary.words)

    def load_into(self, model: MatchingModel, tokenizer: Tokenizer, given: Namespace) -> None:
        """Give a model its weights, and tell what is new in it and what is built otherwise."""
        model.tokenizer = tokenizer
        new = start_from(model, self.model, self.option)
        there = settings_as_parsed({name: part for name, part in self.model.spec.items() if name != "tokenizer"})
        if changed := _differences(_flat(given), _flat(there)):
            warn(f"{self.option}: its model was built otherwise, and the configuration counts: {'; '.join(changed)}")
        report = f"{self.option}: starts with its weights, and with a new optimizer"
        if tokenizer.vocabulary is not None and self.model.tokenizer is not None:
            some = f" ({', '.join(new[:5])}{', ...' if len(new) > 5 else ''}), which start as in a new model" * bool(
                new
            )
            report += f"; {len(new)} of {tokenizer.vocab_size} words are new to it{some}"
        rank_zero_only(print)(report)


def _feature_dim(encoder: Configurable) -> int | None:
    """Size of the region features that an encoder, or the one within it, was built for."""
    arguments = encoder.spec["init_args"]
    while "in_features" not in arguments and is_spec(arguments.get("encoder")):
        arguments = arguments["encoder"].get("init_args", {})
    size: int | None = arguments.get("in_features")
    return size


def tell_of_tokenizer(option: str, tokenizer: Any) -> None:
    """Warn of a model without a tokenizer of its own."""
    if tokenizer is None:
        warn(f"{option}: no tokenizer in it; that of the configuration has to have the same ids")


def read_model(path: str, trusted_modules: Sequence[str]) -> MatchingModel:
    """The model of a checkpoint, or of a folder of ``save_pretrained``."""
    if user_path(path).is_dir():
        return MatchingModel.from_pretrained(Path(path), trusted_modules=trusted_modules)
    return MatchingTask.load_from_checkpoint(path, trusted_modules=trusted_modules).model


def settings_as_parsed(settings: Mapping[str, Any]) -> Namespace:
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
        if key not in (*VOCABULARY, *IN_FEATURES) and key in after and not _agree(key, before[key], after[key]):
            part = key.removesuffix("class_path")
            if not any(name.endswith("class_path") and part.startswith(name[: -len("class_path")]) for name in changed):
                changed[key] = f"model.{key} is {after[key]!r}, not {before[key]!r}"
    return list(changed.values())


def _agree(key: str, given: Any, recorded: Any) -> bool:
    """Whether a checkpoint has a setting as it was given, as far as it records it.

    Word vectors are in the weights; of words and names of classes a checkpoint has the number, and of the settings of a
    transformer all, where some were given.
    """
    name = key.rpartition(".")[2]
    if given is None or name == "vectors" or (name in ("vocabulary", "classes") and not isinstance(given, int)):
        return True
    if name == "class_path" and isinstance(given, str):
        return import_class(given, key) is import_class(recorded, key)  # one class may have several names
    if isinstance(given, Namespace) and isinstance(recorded, Namespace):
        inside = _flat(recorded)
        return all(_agree(name, value, inside[name]) for name, value in _flat(given).items() if name in inside)
    if isinstance(given, (list, tuple)) and isinstance(recorded, (list, tuple)):
        return len(given) == len(recorded) and all(map(_agree, [""] * len(given), given, recorded))
    if name == "config" and isinstance(given, dict) and isinstance(recorded, dict):
        return given.items() <= {name: recorded.get(name) for name in given}.items()
    return bool((str(given) if isinstance(given, Path) else given) == recorded)
