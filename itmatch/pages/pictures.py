"""Photos and drawings, small enough to be put into a page."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

from itmatch.formats.messages import reason
from itmatch.formats.photos import open_photo, photo_size

_SIZE = re.compile(r'<svg\b[^>]*?\bviewBox="0 0 (\d{1,5}) (\d{1,5})"')


@dataclass(frozen=True)
class Picture:
    """A picture as pages show it.

    Args:
        source: a ``data:`` URI, or nothing where there is no picture.
        width: of the picture; a side of the square where there is none.
        height: likewise.
        problem: why there is no picture.
    """

    source: str
    width: int
    height: int
    problem: str = ""


def is_drawing(picture: str) -> bool:
    """Whether a picture is a drawing, SVG as text; otherwise it is the path of a photo."""
    return picture.startswith("<svg")


def embedded(picture: str | None, side: int = 640) -> Picture:
    """A photo, made small, or a drawing as a ``data:`` URI: scripts in a drawing do not run there.

    Args:
        picture: the path of a photo, or SVG; None = a square without anything.
        side: pixels of the longer side of a photo.
    """
    if picture is None:
        return Picture("", 480, 480)
    if is_drawing(picture):
        return Picture(f"data:image/svg+xml;base64,{_base64(picture.encode())}", *size_of(picture))
    try:
        content, size = small_jpeg(Path(picture), side)
    except (OSError, ValueError, ImportError) as error:
        return Picture("", 480, 480, reason(error))
    return Picture(f"data:image/jpeg;base64,{_base64(content)}", *size)


def small_jpeg(path: Path, side: int) -> tuple[bytes, tuple[int, int]]:
    """A photo written anew with a longer side of at most ``side``, nothing but its pixels; and its width and height.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no photo that can be read.
        ImportError: there is no Pillow.
    """
    photo = open_photo(path, enough=side)
    photo.thumbnail((side, side))
    photo.info.clear()  # comments, for example
    with io.BytesIO() as content:
        photo.save(content, "JPEG", quality=82)
        return content.getvalue(), photo.size


def size_of(picture: str | None) -> tuple[int, int]:
    """Width and height of a picture, of which no more is read than it takes; a square where there is none."""
    if picture is not None and is_drawing(picture):
        found = _SIZE.match(picture)
        width, height = (max(1, int(size)) for size in found.groups()) if found else (480, 480)
        return width, height
    try:
        return (480, 480) if picture is None else photo_size(Path(picture))
    except (OSError, ValueError, ImportError):
        return 480, 480


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
