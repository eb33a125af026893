import sys

import numpy as np
import pytest

from itmatch.data import ImageFolder, PatchFeatures

Image = pytest.importorskip("PIL.Image")


def write(path, width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return values


def test_pixels_of_a_photo_that_fits_are_its_own(tmp_path):
    values = write(tmp_path / "a.png", 16, 16)
    store = PatchFeatures([tmp_path / "a.png"], 16, 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert (len(store), store.num_regions, store.feature_dim) == (1, 4, 192)
    patches = store[0].reshape(2, 2, 3, 8, 8)  # row, column, colour, y, x
    expected = (values / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    np.testing.assert_allclose(patches[1, 0, 2], expected[8:, :8, 2], rtol=1e-5, atol=1e-6)


def test_the_middle_is_cut_out_or_the_whole_is_squeezed(tmp_path):
    values = write(tmp_path / "wide.png", 32, 16)
    crop = PatchFeatures([tmp_path / "wide.png"], 16, 16, mean=(0, 0, 0), std=(1, 1, 1))[0]
    np.testing.assert_allclose(crop.reshape(3, 16, 16), values[:, 8:24].transpose(2, 0, 1) / 255, rtol=1e-5)
    squeezed = PatchFeatures([tmp_path / "wide.png"], 16, 16, fit="stretch", mean=(0, 0, 0), std=(1, 1, 1))[0]
    assert squeezed.shape == (1, 768)
    assert abs(squeezed.mean() - values.mean() / 255) < 0.02
    assert not np.allclose(squeezed, crop)


def test_a_folder_of_photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(3):
        write(tmp_path / "photos" / f"{i}.png", 20, 30, i)
    (tmp_path / "dev_ids.txt").write_text("0.png\n1.png\n2.png\n")
    (tmp_path / "dev_caps.txt").write_text("".join(f"caption {i}\n" for i in range(6)))
    data = ImageFolder(tmp_path, tmp_path / "photos", image_size=16, patch_size=8).split("val")
    assert (data.num_images, data.num_captions, data.image_ids[2]) == (3, 6, "2.png")
    assert data.caption_image.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.image(2).features.shape == (4, 192)


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    (tmp_path / "test_ids.txt").write_text("0.png\n1.png\n")
    (tmp_path / "test_caps.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"3 captions in test_caps\.txt for 2 images"):
        ImageFolder(tmp_path).split("test")
    with pytest.raises(FileNotFoundError, match=r"train_ids\.txt"):
        ImageFolder(tmp_path).split("train")
    with pytest.raises(ValueError, match="no stage 'dev'"):
        ImageFolder(tmp_path).split("dev")
    with pytest.raises(ValueError, match="expected a multiple of patch_size 7"):
        PatchFeatures([], 16, 7)
    with pytest.raises(ValueError, match="fit: 'pad'"):
        PatchFeatures([], 16, 8, fit="pad")
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        PatchFeatures([tmp_path / "gone.png"], 16, 8)[0]
    with pytest.raises(ValueError, match=r"test_ids\.txt: no image that can be read"):
        PatchFeatures([tmp_path / "test_ids.txt"], 16, 8)[0]
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"itmatch\[images\]"):
        PatchFeatures([], 16, 8)
