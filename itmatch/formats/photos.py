"""Reading photos: turned and coloured as people see them, or one line that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.files import existing_file
from itmatch.formats.messages import reason

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # all others have readers that nobody needs here
_ORIENTATION = 0x0112  # of EXIF; from 5 to 8 width and height have changed places


def image_module() -> Any:
    """Pillow's module of images.

    Raises:
        ImportError: Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading photos needs Pillow: pip install "itmatch[images]"') from error
    return Image


def open_photo(file: str | Path | bytes, enough: int | None = None, *, name: str | Path | None = None) -> Any:
    """A photo as people see it, an image of Pillow with 8 bits for each of red, green and blue.

    It is turned as its EXIF data say. 16 bits a value become 8, what is transparent becomes white, and other colour
    spaces RGB. Of an animation the first picture is taken.

    Args:
        file: path of the photo, or its bytes.
        enough: pixels of a side that are enough: a large JPEG is decoded to a part of its size, which is quicker.
        name: what error messages call it; None = the path.

    Raises:
        FileNotFoundError: no such file.
        OSError: the system does not give the file: no permission, an error of the disk.
        ValueError: no photo, a damaged one, one with more pixels than Pillow takes for harmless, or pixels of 32 bits,
            because no file says which of their values is white.
        ImportError: there is no Pillow.
    """
    with _photo_file(file, name) as opened:
        if enough is not None:
            opened.draft("RGB", (enough, enough))
        return _as_rgb(opened)


def read_photo(photo: Any, name: str) -> Any:
    """A photo as :func:`open_photo` gives it, from its path or from an image of Pillow.

    Args:
        photo: the path, or the image; it is left as it is.
        name: what error messages call an image.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as of :func:`open_photo`.
        ImportError: there is no Pillow.
    """
    if isinstance(photo, (str, Path)):
        return open_photo(photo)
    try:
        return _as_rgb(photo)
    except Exception as error:  # of a file that is read only now
        raise ValueError(f"{name}: no image that can be read ({reason(error)})") from error


def photo_size(path: Path) -> tuple[int, int]:
    """Width and height of a photo as people see it; nothing but the head of the file is read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no photo.
        ImportError: there is no Pillow.
    """
    with _photo_file(path) as file:
        width, height = file.size
        lies = file.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (height, width) if lies else (width, height)


@contextmanager
def _photo_file(file: str | Path | bytes, name: str | Path | None = None) -> Iterator[Any]:
    """An open photo of Pillow; whatever is wrong with it becomes one error that names the file.

    What is wrong with the disk stays an OSError. Those of Pillow about a damaged photo have no number.
    """
    module = image_module()
    source = BytesIO(file) if isinstance(file, bytes) else existing_file(file)  # a pipe would be waited for
    where = name if name is not None else "photo" if isinstance(source, BytesIO) else source
    try:
        with module.open(source, formats=_FORMATS) as opened:
            yield opened
    except Exception as error:  # its readers of damaged files raise what comes
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(where)) from error
        raise ValueError(f"{where}: no image that can be read ({reason(error)})") from error


def _as_rgb(image: Any) -> Any:
    """An image of Pillow as people see it, with 8 bits for each of red, green and blue."""
    from PIL import Image, ImageOps

    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))  # I: older Pillow
    if image.mode in ("I", "F") and not deep:
        raise ValueError(f"pixels of 32 bits, mode {image.mode}; save it with 8 or 16 bits")
    see_through = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    image = ImageOps.exif_transpose(image)
    if deep:
        values = np.asarray(image).astype(np.float32) / 257  # 65535 is 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if see_through:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
