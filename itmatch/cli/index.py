"""``itmatch index``: an index of the images and captions of a split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from itmatch.errors import UsageError

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
        raise FileNotFoundError(f"{source}: no such folder, expected one of a run or of precomputed features")
    is_run = (source / "config.yaml").is_file()
    if model is None and not is_run:
        raise UsageError(
            f"{source}: no run (no config.yaml), so --model is needed: a run, a checkpoint or a model folder"
        )
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
        return PrecompFolder(folder, test="dev" if name == "val" else name).split("test")
    return ImageFolder(folder, **photo_settings(model)).split(_stage(name))


def _stage(name: str) -> Stage:
    if name not in ("train", "val", "test"):
        raise UsageError(f"--split: {name!r}, expected train, val or test")
    return name  # type: ignore[return-value] # one of the three
