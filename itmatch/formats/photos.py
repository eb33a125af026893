"""Reading photos: turned and coloured as people see them, or one line that says why not."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from itmatch.formats.messages import reason

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # all others have readers that nobody needs here


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


def read_photo(file: str | Path | bytes, name: str | Path | None = None) -> Any:
    """A photo as an RGB image of Pillow, with 8 bits for each colour.

    It is turned as its EXIF data say. 16 bits a value become 8, what is transparent becomes white, and other colour
    spaces RGB. Of an animation the first picture is taken.

    Args:
        file: path of the photo, or its bytes.
        name: what error messages call it; None = the path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no photo, a damaged one, one with more pixels than Pillow takes for harmless, or pixels of 32 bits,
            because no file says which of their values is white.
    """
    module = image_module()
    where = name if name is not None else "photo" if isinstance(file, bytes) else file
    try:
        with module.open(BytesIO(file) if isinstance(file, bytes) else file, formats=_FORMATS) as opened:
            return _as_rgb(opened)
    except FileNotFoundError:
        raise FileNotFoundError(f"{where}: no such file") from None
    except Exception as error:  # its readers of damaged files raise what comes
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
