"""Pictures of an index for a browser: drawings that cannot run anything, and photos that are small and nothing else."""

from __future__ import annotations

import os
import stat
import threading
from functools import lru_cache
from pathlib import Path

from itmatch.formats.photos import photo_size
from itmatch.pages.pictures import is_drawing, small_jpeg
from itmatch.pages.server.answers import DRAWING_POLICY, Answer, Refused

_SIDE = 800  # pixels of the longer one, of what is sent
_LARGEST_FILE = 200 * 2**20  # bytes
_MOST_PIXELS = 100 * 10**6
_DECODING = threading.Semaphore(2)  # photos at a time


def picture_answer(picture: str) -> Answer:
    """The picture of an image as an index has it: a drawing, or the path of a photo.

    A photo is decoded and written anew, so that a path to something else, whoever wrote it into the index, shows none
    of it.

    Raises:
        Refused: it is no picture, or cannot be read.
    """
    if is_drawing(picture):
        policy = {"Content-Security-Policy": DRAWING_POLICY}
        return Answer(picture.encode(), "image/svg+xml; charset=utf-8", headers=policy)
    try:
        status = os.stat(picture)
    except (OSError, ValueError):
        raise Refused(404, "the photo is not where the index says") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
        raise Refused(404, "the photo cannot be read")
    return Answer(_photo(picture, status.st_mtime_ns, status.st_size), "image/jpeg")


def check_pixels(path: Path) -> None:
    """Refuse a photo that would take much memory, before it is decoded.

    Raises:
        ValueError: it has more pixels than are decoded, or is no photo.
    """
    width, height = photo_size(path)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{path}: {width} x {height} pixels, expected {_MOST_PIXELS // 10**6} million at most")


@lru_cache(maxsize=256)
def _photo(path: str, changed: int, size: int) -> bytes:
    """A photo for the page; the time of its change and its size tell whether it is still the same."""
    with _DECODING:
        try:
            check_pixels(Path(path))
            return small_jpeg(Path(path), _SIDE)[0]
        except ImportError as error:
            raise Refused(501, str(error)) from error
        except (OSError, ValueError) as error:
            raise Refused(404, "the photo cannot be read") from error
