import numpy as np
import pytest

from itmatch.formats.photos import open_photo

Image = pytest.importorskip("PIL.Image")


def test_cmyk_of_a_camera(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    found = open_photo(tmp_path / "red.jpg")
    red, green, blue = found.getpixel((8, 8))
    assert found.mode == "RGB"
    assert red > 240
    assert max(green, blue) < 15


def test_the_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_photo(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif"])
def test_a_photo_that_is_cut_off(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(values).save(path)
    data = path.read_bytes()
    assert open_photo(data).size == (64, 64)
    with pytest.raises(ValueError, match=rf"^b/a\.{ending}: no image that can be read \(.+\)$"):
        open_photo(data[: len(data) // 2], name=f"b/a.{ending}")


def test_too_many_pixels(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ValueError, match=r"a\.png: no image that can be read \(Image size \(10000 pixels\) exceeds"):
        open_photo(tmp_path / "a.png")


def test_no_photo(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        open_photo(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"^photo: no image that can be read"):
        open_photo(b"text")
