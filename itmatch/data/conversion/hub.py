"""Folders of Hugging Face ``datasets`` (.arrow, .parquet) with photos and captions: made a folder of photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from itmatch.data.batching import validation
from itmatch.data.conversion.lists import SPLITS
from itmatch.formats.files import write_text, written_together
from itmatch.formats.messages import reason, shown, shown_keys
from itmatch.formats.temporaries import make_temporary

_CAPTIONS = ("caption", "captions", "sentences", "raw", "text", "alt_text")
_NAMES = ("filename", "file_name", "image_id", "img_id", "cocoid")
_ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"GI": ".gif", b"BM": ".bmp"}
_SAME = {"validation": "dev", "val": "dev", "valid": "dev"}
_ROWS = 64  # a batch


def is_hub_folder(path: Path) -> bool:
    """Whether a folder holds a data set of ``datasets``, saved by ``save_to_disk`` or downloaded."""
    return path.is_dir() and bool(_files(path))


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
        for file in _files(path):
            for number, row in enumerate(_rows(file)):
                where = f"{file}: row {number}"
                split = _split_of(row, file)
                name, content = _photo(row, where)
                if name in seen:
                    raise ValueError(f"{where}: photo {shown(name)} is there already")
                seen.add(name)
                (room / "images" / name).write_bytes(content)
                ids.setdefault(split, []).append(name)
                captions.setdefault(split, []).append(_texts(row, where))
        with written_together():
            for split in ids:
                _save_lists(out / split, ids[split], captions[split])
            os.replace(room / "images", images)
    return [
        f"{split}: {len(ids[split])} photos, {sum(map(len, captions[split]))} captions, in {images}" for split in ids
    ]


def _save_lists(where: Path, ids: list[str], captions: list[list[str]]) -> None:
    uniform = len({len(texts) for texts in captions}) == 1
    lines = ids if uniform else [one for one, texts in zip(ids, captions, strict=True) for _ in texts]
    texts = [text for group in captions for text in group]
    for problem in validation.caption_problems(texts, f"{where}_caps.txt"):
        raise ValueError(problem)
    write_text(f"{where}_ids.txt", "".join(f"{line}\n" for line in lines))
    write_text(f"{where}_caps.txt", "".join(f"{text}\n" for text in texts))


def _files(path: Path) -> list[Path]:
    found = [file for ending in ("arrow", "parquet") for file in path.rglob(f"*.{ending}")]
    return sorted(file for file in found if not file.name.startswith("cache-"))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, a batch at a time."""
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise ImportError('reading folders of datasets needs pyarrow: pip install "itmatch[arrow]"') from error
    try:
        if file.suffix == ".parquet":
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=_ROWS):
                yield from batch.to_pylist()
            return
        with pyarrow.memory_map(str(file)) as source:
            for batch in ipc.open_stream(source):
                for start in range(0, batch.num_rows, _ROWS):
                    yield from batch.slice(start, _ROWS).to_pylist()
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
        raise ValueError(f"{file}: no file of datasets that can be read ({reason(error)})") from None


def _split_of(row: dict[str, Any], file: Path) -> str:
    given = row.get("split")
    name = given if isinstance(given, str) else file.name.partition("-")[0]
    name = file.parent.name if name in ("data", "") else name  # data-00000-of-00002.arrow
    name = _SAME.get(name, next((split for split, parts in SPLITS.items() if name in parts), name))
    if not name.replace("_", "").isalnum():
        raise ValueError(f"{file}: a split called {shown(name)}, expected letters and digits")
    return name


def _photo(row: dict[str, Any], where: str) -> tuple[str, bytes]:
    """Name and content of the file of a photo."""
    image = row.get("image")
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise ValueError(f"{where}: no photo under 'image'; columns there: {shown_keys(row)}")
    given = next((row[key] for key in _NAMES if row.get(key) is not None), None)
    given = given if given is not None else image.get("path") if isinstance(image, dict) else None
    name = str(given) if given is not None else ""
    if not name or name != Path(name).name or name.startswith(".") or len(name) > 200 or not name.isprintable():
        raise ValueError(f"{where}: photo {shown(given)}, expected the name of a file under one of {', '.join(_NAMES)}")
    return (name if Path(name).suffix else name + _ENDINGS.get(content[:2], ".jpg")), content


def _texts(row: dict[str, Any], where: str) -> list[str]:
    found = next((row[key] for key in _CAPTIONS if row.get(key) is not None), None)
    found = found if found is not None else [row[key] for key in sorted(row) if key.startswith("caption_")]
    texts = [" ".join(text.split()) for text in ([found] if isinstance(found, str) else found) if isinstance(text, str)]
    if not texts:
        raise ValueError(f"{where}: no text under any of {', '.join(_CAPTIONS)}; columns there: {shown_keys(row)}")
    return texts


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
