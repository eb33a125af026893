"""Folders of Hugging Face ``datasets`` (.arrow, .parquet) with photos and captions: made a folder of photos."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from itmatch.data.batching import validation
from itmatch.formats.files import write_text, written_together
from itmatch.formats.hub.photos import hub_files, hub_photos
from itmatch.formats.messages import counted, shown
from itmatch.formats.temporaries import make_temporary

_ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"GI": ".gif", b"BM": ".bmp"}


def is_hub_folder(path: Path) -> bool:
    """Whether a folder holds a data set of ``datasets``, saved by ``save_to_disk`` or downloaded."""
    return path.is_dir() and bool(hub_files(path))


def convert_hub_folder(path: Path, out: Path) -> list[str]:
    """Write the photos as they are into ``out/images``, and ids and captions of each split beside it.

    A split is what the column ``split`` says, or else what the file or its folder is called.

    Args:
        path: folder of .arrow or .parquet files, whose rows have an ``image`` and a ``caption``, a text or several.
        out: the folder; :class:`itmatch.data.ImageFolder` reads it.

    Raises:
        ImportError: pyarrow is missing.
        FileExistsError: there are photos already.
        ValueError: a row is no photo with captions, or names a file that is none.
    """
    images = out / "images"
    if images.exists():
        raise FileExistsError(f"{images}: there is one already; take another folder")
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        room = make_temporary(out)
        stack.callback(_remove, room)
        (room / "images").mkdir()
        ids: dict[str, list[str]] = {}
        captions: dict[str, list[list[str]]] = {}
        seen: set[str] = set()
        for photo in (photo for file in hub_files(path) for photo in hub_photos(file, described=True)):
            content = photo.read()
            name = photo.name if Path(photo.name).suffix else photo.name + _ENDINGS.get(content[:2], ".jpg")
            if name in seen:
                raise ValueError(f"{photo.file}: row {photo.row}: photo {shown(name)} is there already")
            seen.add(name)
            (room / "images" / name).write_bytes(content)
            ids.setdefault(photo.split, []).append(name)
            captions.setdefault(photo.split, []).append(list(photo.captions))
        with written_together():
            for split in ids:
                _save_lists(out / split, ids[split], captions[split])
            os.replace(room / "images", images)
    texts = {split: counted(sum(map(len, captions[split])), "captions") for split in ids}
    return [f"{split}: {counted(len(ids[split]), 'photos')}, {texts[split]}, in {images}" for split in ids]


def _save_lists(where: Path, ids: list[str], captions: list[list[str]]) -> None:
    uniform = len({len(texts) for texts in captions}) == 1
    lines = ids if uniform else [one for one, texts in zip(ids, captions, strict=True) for _ in texts]
    texts = [text for group in captions for text in group]
    for problem in validation.caption_problems(texts, f"{where}_caps.txt"):
        raise ValueError(problem)
    write_text(f"{where}_ids.txt", "".join(f"{line}\n" for line in lines))
    write_text(f"{where}_caps.txt", "".join(f"{text}\n" for text in texts))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
