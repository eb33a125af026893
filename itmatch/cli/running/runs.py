"""The folder of a run: its model and its data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itmatch.errors import UsageError
from itmatch.formats.configs import read_config
from itmatch.formats.files import user_path
from itmatch.formats.messages import close_to, shown

if TYPE_CHECKING:
    from itmatch.data import DataSource
    from itmatch.models import MatchingModel

_OF_FILES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".yaml", ".yml", ".json")


def source_of_run(run: Path, trusted: list[str]) -> DataSource:
    """Where the data of a run come from, as its configuration says; no code of a stranger's runs.

    Raises:
        FileNotFoundError: the run has no configuration.
        ValueError: the configuration names no data, or a class that is not admitted.
    """
    from itmatch.data import DataSource
    from itmatch.spec import build

    config = run / "config.yaml"
    settings = read_config(config).get("data")
    spec = settings.get("source") if isinstance(settings, dict) else None
    found = build(spec, DataSource, f"{config}: data.source", trusted_modules=trusted)
    if not isinstance(found, DataSource):
        raise ValueError(f"{config}: data.source is {shown(spec)}, expected a class_path and its init_args")
    return found


def any_model(name: Path, trusted: list[str], *, align: bool = False) -> MatchingModel:
    """A model as a user names it: a run, a checkpoint, a model folder, or a CLIP or SigLIP of ``transformers``.

    Where nothing is on this machine, OWNER/NAME is a model on the Hugging Face Hub.

    Args:
        name: of the model.
        trusted: modules that it may name.
        align: match patches with words, by hard alignment, where it is a model of ``transformers``.

    Raises:
        FileNotFoundError: there is none.
        UsageError: ``align`` is asked of another model, whose similarity is its own.
        ValueError: it is broken, or names a class that is not admitted.
    """
    from itmatch.cli.running.checkpoint import read_model
    from itmatch.models import MatchingModel
    from itmatch.models.systems.clip import clip_dual_encoder, is_clip_model
    from itmatch.nn import HardAligningSimilarity, MeanPooling

    is_run = (name / "config.yaml").is_file()
    on_the_hub = not name.exists() and name.suffix.lower() not in _OF_FILES and str(name).count("/") == 1
    if not name.exists() and not on_the_hub:
        raise FileNotFoundError(_no_model(name))
    if not is_run and (on_the_hub or name.is_dir()) and is_clip_model(name):
        similarity = HardAligningSimilarity(pooling=MeanPooling()) if align else None
        return clip_dual_encoder(str(name), similarity, trainable=False).eval()
    if align:
        raise UsageError(f"--align: {name} is no CLIP or SigLIP of transformers, and scores as it was trained to")
    if is_run:
        return model_of_run(name, trusted)
    if on_the_hub:
        return MatchingModel.from_pretrained(str(name), trusted_modules=trusted)
    return read_model(str(name), trusted)


def _no_model(name: Path) -> str:
    """What is said of a model that is not there: one beside it that may be meant, or what a model is named by."""
    beside = [path.name for path in name.parent.iterdir()] if name.parent.is_dir() else []
    close = close_to(name.name, beside)
    if close is not None:
        return f"{name}: no such file or folder; did you mean {name.parent / close}?"
    known = "a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP by its folder or its name on the Hub"
    return f"{name}: no such file or folder; expected {known}, such as openai/clip-vit-base-patch32"


def model_of_run(run: Path, trusted: list[str]) -> MatchingModel:
    """The model of a run with the best weights, or the last ones where it kept no best; of a test the one it tested.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        ValueError: it is no checkpoint of ours, or names a class that is not admitted.
    """
    from itmatch.cli.running.checkpoint import read_model

    places = [run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
    config = run / "config.yaml"
    tested = read_config(config).get("ckpt_path") if config.is_file() else None
    if isinstance(tested, str):
        places.append(user_path(tested))
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise FileNotFoundError(f"{places[0]}: no such file; the run kept no checkpoint")
    return read_model(str(found), trusted)
