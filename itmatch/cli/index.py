"""``itmatch index``: an index of the images and captions of a split."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from itmatch.errors import UsageError
from itmatch.formats.nearby import near

if TYPE_CHECKING:
    from itmatch.data import ImageTextSplit, Stage
    from itmatch.models import MatchingModel


def index(
    source: Path,
    *,
    out: Path,
    model: Path | None = None,
    split: str = "test",
    trust: list[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Encode the images and captions of SOURCE and write them as an index, for itmatch search and itmatch serve.

    Args:
        source: folder of a run, whose data and best checkpoint are taken; or, with --model, a folder of precomputed
            features, or of photos (ImageFolder) for CLIP and SigLIP.
        out: folder of the index.
        model: a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP of transformers (folder or name).
        split: train, val or test; of a folder without a run also another name that it has, testall for example.
        trust: modules of your own that the model, or the configuration of a run, may name.
        overwrite: build an index anew that is there.
    """
    from itmatch.cli.running.runs import any_model, source_of_run
    from itmatch.search import Index
    from itmatch.search.store.manifest import NAME

    if not source.is_dir():
        there = "a file" if source.exists() else "no such folder"
        told = near(source, "one of a run", "config.yaml")
        raise FileNotFoundError(f"{source}: {there}, expected a folder of a run or of precomputed features{told}")
    is_run = (source / "config.yaml").is_file()
    if model is None and not is_run:
        told = near(source, "one", "config.yaml")
        needed = f"so --model is needed: a run, a checkpoint or a model folder{told}"
        raise UsageError(f"{source}: no run (no config.yaml), {needed}")
    if (out / NAME).exists() and not overwrite:
        raise FileExistsError(f"{out}: there is an index already; --overwrite builds it anew")
    found = any_model(model or source, trust or [])
    images = (
        source_of_run(source, trust or []).split(_stage(split)) if is_run else _split_of_folder(source, split, found)
    )
    wanted = getattr(found.image_encoder, "in_features", images.feature_dim)
    if images.feature_dim != wanted:
        raise ValueError(f"{images.name}: {images.feature_dim} numbers per region, the model takes {wanted}")
    built = Index.build(found, images, out, overwrite=overwrite)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    counts = f"{len(built.images)} images and {len(built.captions)} captions"
    print(f"{out}: {counts} of {images.name}, {size / 2**20:.1f} MiB")


def _split_of_folder(folder: Path, name: str, model: MatchingModel) -> ImageTextSplit:
    """The split of a folder in the precomputed layout, of features or of photos."""
    from itmatch.data import ImageFolder, PrecompFolder
    from itmatch.pages.photos import photo_settings, takes_photos

    if not takes_photos(model):
        _check_features(folder)
        return PrecompFolder(folder, test="dev" if name == "val" else name).split("test")
    return ImageFolder(folder, **photo_settings(model)).split(_stage(name))


def _check_features(folder: Path) -> None:
    """Raise where there are photos, and the model takes features."""
    from itmatch.formats.photos import PHOTO_ENDINGS

    names = [path.name for path in folder.iterdir()]
    photos = next((name for name in names if name.lower().endswith(PHOTO_ENDINGS)), None)
    if photos is not None and not any(name.endswith(("_ims.npy", ".h5", ".tsv", ".npz")) for name in names):
        told = f"this model takes features of regions, not photos such as {photos}"
        raise ValueError(f"{folder}: {told}; itmatch extract {quote(str(folder))} --out FOLDER makes some")


def _stage(name: str) -> Stage:
    if name not in ("train", "val", "test"):
        raise UsageError(f"--split: {name!r}, expected train, val or test")
    return name  # type: ignore[return-value] # one of the three
