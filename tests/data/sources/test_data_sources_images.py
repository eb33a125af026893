import json
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import torch

from itmatch.data import ImageFolder, PatchFeatures, PhotoPatches

Image = pytest.importorskip("PIL.Image")


def write(path, width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return values


def stored(paths, image_size, patch_size, **options):
    return PatchFeatures(paths, PhotoPatches(image_size=image_size, patch_size=patch_size, **options))


@pytest.mark.parametrize("mode", ["RGBA", "L", "CMYK", "P", "I;16"])
def test_an_image_of_any_kind_is_made_what_its_file_would_be(mode, tmp_path):
    write(tmp_path / "rgb.png", 16, 16)
    image = Image.open(tmp_path / "rgb.png")
    image = Image.fromarray(np.full((16, 16), 300, np.uint16)) if mode == "I;16" else image.convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    patches = PhotoPatches(image_size=16, patch_size=8)
    expected = patches([path]).features
    assert torch.equal(patches([Image.open(path)]).features, expected)
    assert np.array_equal(patches.patches(Image.open(path)), expected[0])


def test_pixels_of_a_photo_that_fits_are_its_own(tmp_path):
    values = write(tmp_path / "a.png", 16, 16)
    store = stored([tmp_path / "a.png"], 16, 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert (len(store), store.num_regions, store.feature_dim) == (1, 4, 192)
    patches = store[0].reshape(2, 2, 3, 8, 8)  # row, column, colour, y, x
    expected = (values / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(patches[1, 0, 2], expected[8:, :8, 2], rtol=1e-5, atol=1e-6)


def test_the_middle_is_cut_out_or_the_whole_is_squeezed(tmp_path):
    values = write(tmp_path / "wide.png", 32, 16)
    crop = stored([tmp_path / "wide.png"], 16, 16, mean=(0, 0, 0), std=(1, 1, 1))[0]
    np.testing.assert_allclose(crop.reshape(3, 16, 16), values[:, 8:24].transpose(2, 0, 1) / 255, rtol=1e-5)
    squeezed = stored([tmp_path / "wide.png"], 16, 16, fit="stretch", mean=(0, 0, 0), std=(1, 1, 1))[0]
    assert squeezed.shape == (1, 768)
    assert abs(squeezed.mean() - values.mean() / 255) < 0.02
    assert not np.allclose(squeezed, crop)


def colours(path):
    """(H, W, 3) values in 0..255 of a photo that fits."""
    pixels = stored([path], 16, 16, mean=(0, 0, 0), std=(1, 1, 1))[0]
    return np.rint(pixels.reshape(3, 16, 16).transpose(1, 2, 0) * 255).astype(int)


def half(mode, left, right):
    """Of 16 x 16 pixels, the left and the right half of one colour each."""
    image = Image.new(mode, (16, 16), left)
    image.paste(right, (8, 0, 16, 16))
    return image


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_become_8(tmp_path, ending):
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    values[0, 0] = 128  # less than half a step
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    found = colours(tmp_path / f"deep.{ending}")
    np.testing.assert_array_equal(found, np.arange(256).reshape(16, 16, 1).repeat(3, 2))


def test_16_bits_of_a_pillow_that_calls_them_32(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5 16 16 65535\n" + np.full((16, 16), 128 * 257, ">u2").tobytes())
    with Image.open(tmp_path / "deep.pgm") as file:
        assert file.mode == "I"
    assert (colours(tmp_path / "deep.pgm") == 128).all()


@pytest.mark.parametrize(("mode", "value"), [("I", 70_000), ("F", 0.5)])
def test_32_bits_are_refused(tmp_path, mode, value):
    Image.new(mode, (16, 16), value).save(tmp_path / "deep.tif")
    with pytest.raises(ValueError, match=rf"deep\.tif: no image that can be read \(pixels of 32 bits, mode {mode};"):
        colours(tmp_path / "deep.tif")


SEEN = {
    "1.png": (half("1", 0, 1), 0, 255),
    "L.png": (half("L", 100, 200), 100, 200),
    "LA.png": (half("LA", (100, 255), (100, 0)), 100, 255),
    "RGBA.png": (half("RGBA", (0, 0, 0, 0), (0, 0, 0, 51)), 255, 204),
    "CMYK.tif": (half("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), 255, 0),
    "PA.tif": (half("PA", (0, 255), (0, 0)), 0, 255),
}


@pytest.mark.parametrize("name", SEEN)
def test_other_modes_look_as_they_do_in_a_viewer(tmp_path, name):
    image, left, right = SEEN[name]
    image.save(tmp_path / name)
    with Image.open(tmp_path / name) as file:
        assert file.mode == name.split(".")[0]
    found = colours(tmp_path / name)
    assert (abs(found[:, :8] - left) <= 1).all()
    assert (abs(found[:, 8:] - right) <= 1).all()


def test_palettes_with_something_transparent(tmp_path):
    image = half("P", 0, 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert colours(tmp_path / "opaque.png")[0, [0, 15]].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert colours(tmp_path / "clear.png")[0, [0, 15]].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_photos_are_turned_as_their_exif_says(tmp_path, ending):
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: left is up
    half("RGB", (0, 0, 0), (255, 255, 255)).save(tmp_path / f"x.{ending}", exif=turned)
    found = colours(tmp_path / f"x.{ending}")
    assert (found[:8] < 5).all()
    assert (found[8:] > 250).all()


def test_an_image_that_pillow_cannot_convert(tmp_path, monkeypatch):
    write(tmp_path / "a.png", 16, 16)
    monkeypatch.setattr(
        Image.Image, "convert", lambda *_: (_ for _ in ()).throw(ValueError("conversion not supported"))
    )
    with pytest.raises(ValueError, match=r"a\.png: no image that can be read \(conversion not supported\)"):
        colours(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": (1, 1, 0)}, r"std: \[1, 1, 0\], expected three positive numbers"),
        ({"std": (1, 1, float("nan"))}, "expected three positive numbers"),
        ({"mean": (0.5,)}, r"mean: \[0\.5\], expected three finite numbers"),
        ({"mean": (0, 0, float("inf"))}, "expected three finite numbers"),
    ],
)
def test_means_of_colours(options, message):
    with pytest.raises(ValueError, match=message):
        stored([], 16, 8, **options)


def test_a_folder_of_photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        write(tmp_path / "photos" / f"{i}.png", 20, 30, i)
    (tmp_path / "dev_ids.txt").write_text("0.png \r\n1.png\r\n2.png")
    (tmp_path / "dev_caps.txt").write_text("".join(f"caption {i}\n" for i in range(6)))
    data = ImageFolder(tmp_path, tmp_path / "photos", extractor=PhotoPatches(image_size=16, patch_size=8)).split("val")
    assert (data.num_images, data.num_captions, data.image_ids[2]) == (3, 6, "2.png")
    assert data.caption_image.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.image(2).features.shape == (4, 192)


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    (tmp_path / "test_ids.txt").write_text("0.png\n1.png\n")
    (tmp_path / "test_caps.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"test_ids\.txt: 3 captions for 2 ids, expected as many"):
        ImageFolder(tmp_path).split("test")
    with pytest.raises(FileNotFoundError, match=r"train_ids\.txt"):
        ImageFolder(tmp_path).split("train")
    with pytest.raises(ValueError, match="no stage 'dev'"):
        ImageFolder(tmp_path).split("dev")
    with pytest.raises(ValueError, match="expected a multiple of patch_size 7"):
        stored([], 16, 7)
    with pytest.raises(ValueError, match="fit: 'pad'"):
        stored([], 16, 8, fit="pad")
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        stored([tmp_path / "gone.png"], 16, 8)[0]
    with pytest.raises(ValueError, match=r"test_ids\.txt: no image that can be read"):
        stored([tmp_path / "test_ids.txt"], 16, 8)[0]
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"itmatch\[images\]"):
        stored([], 16, 8)


def test_damaged_and_harmful_pictures_are_named(tmp_path):
    write(tmp_path / "a.png", 20, 20)
    good = (tmp_path / "a.png").read_bytes()
    huge = struct.pack(">4sIIBBBBB", b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0)
    for name, content in {
        "cut.png": good[: len(good) // 2],
        "bomb.png": good[:12] + huge + struct.pack(">I", zlib.crc32(huge)) + good[33:],
        "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",  # for Ghostscript
        "noise.tiff": b"II*\0\x08\0\0\0" + b"\x01" * 300,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: no image that can be read \(.+\)$"):
            stored([tmp_path / name], 16, 8)[0]


def test_a_very_long_picture_is_read_in_little_memory(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20_000, 1, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "long.png")
    Image.fromarray(values[9968:10032]).save(tmp_path / "middle.png")
    tracemalloc.start()
    long, middle = (stored([tmp_path / name], 64, 32)[0] for name in ("long.png", "middle.png"))
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(long, middle)
    assert largest < 50 << 20
    sizes = []
    resize = Image.Image.resize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", lambda self, size, *more: sizes.append(size) or resize(self, size, *more))
        _ = stored([tmp_path / "long.png"], 64, 32)[0]
    assert sizes == [(64, 4096)]  # and not (64, 1280000)


@pytest.mark.parametrize("size", [(640, 480), (375, 500), (17, 900), (1000, 33)])
def test_ordinary_photos_are_read_as_they_always_were(tmp_path, size):
    write(tmp_path / "a.png", *size)
    image = Image.open(tmp_path / "a.png").convert("RGB")
    scale = 64 / min(size)
    width, height = (max(64, int(side * scale)) for side in size)
    left, top = (width - 64) // 2, (height - 64) // 2
    expected = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 64, top + 64))
    found = stored([tmp_path / "a.png"], 64, 64, mean=(0, 0, 0), std=(1, 1, 1))[0].reshape(3, 64, 64)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), np.asarray(expected, np.float32) / 255)


def test_a_list_of_files_with_something_else_in_it(tmp_path):
    (tmp_path / "dev_ids.txt").write_text("0.png\n" + "9" * 5000 + "\n")
    (tmp_path / "dev_caps.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"dev_ids\.txt:2: '9+\.\.\.9+', expected the name of a file"):
        ImageFolder(tmp_path).split("val")


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("photos", ["images", "flickr30k-images"])
def test_the_layout_of_vse_infinity_and_laps(tmp_path, photos, repeated):
    """Ids stand for files of ``id_mapping.json``, once an image or once a caption."""
    (tmp_path / "precomp").mkdir()
    (tmp_path / photos / "val2014").mkdir(parents=True)
    names = {"7": "val2014/seven.png", "9": "val2014/nine.png"}
    (tmp_path / "id_mapping.json").write_text(json.dumps(names))
    values = [write(tmp_path / photos / names[name], 16, 16, seed) for seed, name in enumerate("97")]
    owners = ["9", "9", "7", "7"]
    lines = owners if repeated else ["9", "7"]
    (tmp_path / "precomp/test_ids.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "precomp/test_caps.txt").write_text("".join(f"{i} of {name}\n" for i, name in enumerate(owners)))
    split = ImageFolder(
        tmp_path, extractor=PhotoPatches(image_size=16, patch_size=16, mean=[0, 0, 0], std=[1, 1, 1])
    ).split("test")
    assert (split.image_ids, split.caption_image.tolist()) == (["9", "7"], [0, 0, 1, 1])
    for image, pixels in enumerate(values):
        found = split.image(image).features.numpy().reshape(3, 16, 16)
        np.testing.assert_allclose(found, pixels.transpose(2, 0, 1) / 255, rtol=1e-5)
    (tmp_path / "precomp/test_ids.txt").write_text("9\n8\n")
    with pytest.raises(ValueError, match=r"id_mapping\.json: no id '8', which the lists have"):
        ImageFolder(tmp_path).split("test")
    (tmp_path / "id_mapping.json").write_text('{"9": 3}')
    with pytest.raises(ValueError, match=r"id_mapping\.json: '9' is 3, expected the name of a file"):
        ImageFolder(tmp_path).split("test")


def test_ids_of_captions_allow_any_number_of_captions(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png", 16, 16)
    (tmp_path / "train_ids.txt").write_text("a.png\na.png\nb.png\n")
    (tmp_path / "train_caps.txt").write_text("one\ntwo\nthree\n")
    split = ImageFolder(tmp_path, extractor=PhotoPatches(image_size=16, patch_size=16)).split("train")
    assert (split.image_ids, split.caption_image.tolist()) == (["a.png", "b.png"], [0, 0, 1])


def test_the_split_to_report_may_have_another_name(tmp_path):
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    for split, count in (("test", 1), ("testall", 3)):
        (tmp_path / f"{split}_ids.txt").write_text("".join(f"{number}.png\n" for number in range(count)))
        (tmp_path / f"{split}_caps.txt").write_text("a dog\n" * count)
    assert ImageFolder(tmp_path).split("test").num_images == 1
    assert ImageFolder(tmp_path, test="testall").split("test").num_images == 3
