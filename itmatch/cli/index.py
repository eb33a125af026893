"""``itmatch index``: an index of the images and captions of a split."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from itmatch.errors import UsageError
from itmatch.formats.messages import counted
from itmatch.formats.nearby import near

if TYPE_CHECKING:
    from itmatch.data import ImageTextSplit, PhotoPatches, Stage
    from itmatch.models import MatchingModel


def index(
    source: list[Path],
    *,
    out: Path,
    model: Path | None = None,
    captions: Path | None = None,
    split: str = "test",
    align: bool = False,
    trust: list[str] | None = None,
    overwrite: bool = False,
    keep_regions: bool = False,
) -> None:
    """Encode the images and captions of SOURCE and write them as an index, for itmatch search and itmatch serve.

    Args:
        source: folder of a run, whose data and best checkpoint are taken; or, with --model, a folder of precomputed
            features; or photos, for models that take them (CLIP, SigLIP, and those with an extractor): a folder with
            all below it, a text file with a path per line, a .tar file, or one photo or several.
        out: folder of the index.
        model: a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP of transformers (folder or name).
        captions: of photos, so that photos find them: a json, jsonl or csv of files and captions, or a text file of
            lines FILE, tab, CAPTION. Those in .tar files and datasets are found by themselves.
        split: train, val or test; of a folder without a run also another name that it has, testall for example.
        align: of a CLIP or SigLIP of transformers, match patches with words, each word with the patch that fits it best
            (hard alignment), and not whole vectors. It shows which part of a photo a word met, and takes more room.
        trust: modules of your own that the model, or the configuration of a run, may name.
        overwrite: build an index anew that is there.
        keep_regions: keep the features of the regions, too, with which the page of itmatch serve says what each
            relation of an image adds to a score (CMSEI, Hire, ReSG). It takes more room.
    """
    from itmatch.cli.errors import told_warnings
    from itmatch.cli.running.runs import any_model, source_of_run
    from itmatch.data import ImageTextSplit
    from itmatch.search import Index
    from itmatch.search.store.manifest import NAME

    sources = [source] if isinstance(source, Path) else source
    first = sources[0]
    is_run = _is_run(first, model)
    if (out / NAME).exists() and not overwrite:
        raise FileExistsError(f"{out}: there is an index already; --overwrite builds it anew")
    found = any_model(model or first, trust or [], align=align)
    images: ImageTextSplit | Path | list[Path] = first
    if len(sources) > 1:
        images = _several(sources, found)
    elif is_run:
        images = source_of_run(first, trust or []).split(_stage(split))
    elif not _are_photos(first, found):
        images = split_of_folder(first, split, found)
    if captions is not None and isinstance(images, ImageTextSplit):
        raise UsageError(f"--captions: are for photos alone, and {images.name} is a split, whose files hold its own")
    wanted = getattr(found.image_encoder, "in_features", None)
    if isinstance(images, ImageTextSplit) and wanted not in (None, images.feature_dim):
        raise ValueError(f"{images.name}: {images.feature_dim} numbers per region, the model takes {wanted}")
    with told_warnings():
        built = Index.build(found, images, out, captions=captions, overwrite=overwrite, keep_regions=keep_regions)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    counts = f"{counted(len(built.images), 'images')} and {counted(len(built.captions), 'captions')}"
    name = images.name if isinstance(images, ImageTextSplit) else " ".join(map(str, sources[:3])) + _more(sources)
    print(f"{out}: {counts} of {name}, {size / 2**20:.1f} MiB")


def _several(sources: list[Path], model: MatchingModel) -> list[Path]:
    """Several photos, as a shell makes them of ``photos/*.jpg``.

    Raises:
        UsageError: one of them is none.
        ValueError: the model takes no photos.
    """
    from itmatch.formats.photos import PHOTO_ENDINGS

    other = next((path for path in sources if path.is_dir() or path.suffix.lower() not in PHOTO_ENDINGS), None)
    if other is not None:
        told = "a folder" if other.is_dir() else "no photo"
        raise UsageError(f"{other}: {told} among {len(sources)} sources; give one source, or several photos")
    if not model.takes_photos:
        raise ValueError(f"{sources[0]}: a photo; this model takes features of regions, not photos")
    return sources


def _more(sources: list[Path]) -> str:
    return f" ... ({len(sources)} photos)" if len(sources) > 3 else ""


def _is_run(source: Path, model: Path | None) -> bool:
    """Whether SOURCE is a run.

    Raises:
        FileNotFoundError: it is not there.
        UsageError: it is none, and no model is given.
    """
    if not source.exists() or (model is None and not source.is_dir()):
        found = "a file" if source.exists() else "no such folder"
        told = near(source, "one of a run", "config.yaml")
        raise FileNotFoundError(
            f"{source}: {found}, expected a folder of a run, of precomputed features or of photos{told}"
        )
    is_run = (source / "config.yaml").is_file()
    if model is None and not is_run:
        told = near(source, "one", "config.yaml")
        needed = f"so --model is needed: a run, a checkpoint or a model folder{told}"
        raise UsageError(f"{source}: no run (no config.yaml), {needed}")
    return is_run


def _are_photos(source: Path, model: MatchingModel) -> bool:
    """Whether SOURCE holds photos, and nothing else that the model reads.

    Raises:
        ValueError: it does, and the model reads features.
    """
    from itmatch.data.sources.layout import lists_in

    if not model.takes_photos:
        _check_features(source)
        return False
    listed = source.is_dir() and _patches(model) is not None and any(lists_in(source).glob("*_ids.txt"))
    return not listed and not any(source.glob("*_ims.npy"))


def split_of_folder(folder: Path, name: str, model: MatchingModel) -> ImageTextSplit:
    """The split of a folder in the precomputed layout, of features or, for CLIP and SigLIP, of photos."""
    from itmatch.data import ImageFolder, PrecompFolder

    patches = _patches(model)
    if patches is None:
        return PrecompFolder(folder, test="dev" if name == "val" else name).split("test")
    return ImageFolder(folder, extractor=patches).split(_stage(name))


def _patches(model: MatchingModel) -> PhotoPatches | None:
    """How a model that reads patches of pixels wants photos; None of other models."""
    from itmatch.data import PhotoPatches
    from itmatch.models.photos import extractor_of

    found = extractor_of(model.image_encoder, model.extractor) if model.takes_photos else None
    return found if isinstance(found, PhotoPatches) else None


def _check_features(folder: Path) -> None:
    """Raise where there are photos, and the model takes features."""
    from itmatch.formats.photos import PHOTO_ENDINGS

    if folder.is_file():
        raise ValueError(f"{folder}: a file, expected a folder of features; this model takes no photos")
    names = [path.name for path in folder.iterdir()]
    photos = next((name for name in names if name.lower().endswith(PHOTO_ENDINGS)), None)
    if photos is not None and not any(name.endswith(("_ims.npy", ".h5", ".tsv", ".npz")) for name in names):
        told = f"this model takes features of regions, not photos such as {photos}"
        raise ValueError(f"{folder}: {told}; itmatch extract {quote(str(folder))} --out FOLDER makes some")


def _stage(name: str) -> Stage:
    if name not in ("train", "val", "test"):
        raise UsageError(f"--split: {name!r}, expected train, val or test")
    return name  # type: ignore[return-value] # one of the three
