"""Models take photos: by their extractor, or by themselves."""

import json
import os
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from helpers_photos import Halves, a_photo, halves_model, small_clip, write_photos

from itmatch.batch import Regions
from itmatch.data import PhotoPatches
from itmatch.extractor import Extractor
from itmatch.models import MatchingModel
from itmatch.models.fingerprint import fingerprint
from itmatch.vision import RegionExtractor

Image = pytest.importorskip("PIL.Image")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "vision"))

from helpers_detectors import save_detector  # noqa: E402


@pytest.fixture
def paths(tmp_path):
    """Five photos of different colours, each left half darker."""
    found = []
    for number, colour in enumerate(["red", "green", "blue", "white", "orange"]):
        image = Image.new("RGB", (40 + number, 30), colour)
        image.paste("black", (0, 0, 20, 20))
        image.save(tmp_path / f"{number}.png")
        found.append(tmp_path / f"{number}.png")
    return found


def same(first, second):
    return torch.equal(first.features, second.features) and torch.equal(first.mask, second.mask)


def test_paths_images_and_regions_are_the_same(paths):
    model = halves_model()
    images = [Image.open(path) for path in paths]
    regions = Halves()(images)
    expected = model.encode_images(regions)
    assert expected.features.shape == (5, 2, 8)
    assert expected.features.std() > 0.1
    for given in (paths, list(map(str, paths)), tuple(paths), images, [paths[0], *images[1:]]):
        assert same(model.encode_images(given), expected)
    assert same(model.encode_images(regions.features.numpy()), expected)
    for one in (paths[2], str(paths[2]), images[2], [paths[2]]):
        assert same(model.encode_images(one), expected[2])


def test_photos_come_a_few_at_a_time(paths):
    model = halves_model()
    model.encode_images(paths, batch_size=2)
    assert [len(batch) for batch in model.extractor.seen] == [2, 2, 1]
    model.extractor.seen.clear()
    model.encode_images(paths * 8)
    assert [len(batch) for batch in model.extractor.seen] == [16, 16, 8]


def test_few_photos_are_in_memory(tmp_path):
    Image.new("RGB", (1000, 1000), "red").save(tmp_path / "a.png")
    model = halves_model()
    model.encode_images(tmp_path / "a.png")
    seen = []
    model.extractor.__class__ = type("Counting", (Halves,), {"__call__": lambda self, photos: count(self, photos)})

    def count(self, photos):
        seen.append(len([one for one in photos if one.size == (1000, 1000)]))
        return Halves.__call__(self, photos)

    tracemalloc.start()
    model.encode_images([tmp_path / "a.png"] * 40, batch_size=4)
    assert seen == [4] * 10
    tracemalloc.stop()


def test_scores_and_alignments_of_photos(paths):
    model = halves_model()
    images = model.encode_images(paths)
    texts = model.encode_texts(["a red photo", "blue"])
    assert torch.equal(model.score(paths, ["a red photo", "blue"]), model.score(images, texts))
    torch.testing.assert_close(model.score(paths[1], "blue"), model.score(images[1], texts[1]))
    assert model.align(paths[1], "a red photo").shape == (2, 5)
    assert model.score(torch.zeros(3, 2, 3), "blue").shape == (3, 1)  # one string is one caption
    assert same(model.encode_texts("blue"), model.encode_texts(["blue"]))


def test_without_an_extractor_one_line_tells_what_to_do(paths):
    model = halves_model(extractor=False)
    expected = (
        "this model reads region features of 3 numbers, not photos: set model.extractor = RegionExtractor"
        r"\(\.\.\.\)"
    )
    for call in (
        lambda: model.encode_images(paths),
        lambda: model.score(str(paths[0]), "red"),
        lambda: model.align(Image.open(paths[0]), "red"),
    ):
        with pytest.raises(ValueError, match=expected):
            call()
    model.extractor = Halves()
    assert model.score(paths, "red").shape == (5, 1)


def test_the_sizes_are_compared(paths):
    model = halves_model(size=5)
    expected = "extractor: Halves makes region features of 3 numbers, and RegionEncoder reads 5"
    with pytest.raises(ValueError, match=expected):
        model.encode_images(paths)


class Wrong(Extractor):
    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, photos):
        return Regions(torch.zeros(1, 2, 3)) if self.what == "rows" else [1, 2]


@pytest.mark.parametrize(("what", "message"), [("rows", "makes 1 rows of 5 photos"), ("list", "makes a list of 5")])
def test_an_extractor_that_makes_something_else(paths, what, message):
    model = halves_model()
    model.extractor = Wrong(what)
    with pytest.raises(ValueError, match=f"extractor: Wrong {message}"):
        model.encode_images(paths)


def test_what_is_no_extractor():
    model = halves_model()
    for value in ("facebook/detr", lambda photos: None, RegionExtractor):
        with pytest.raises(TypeError, match=r"extractor: (a|the class) \w+, expected an itmatch"):
            model.extractor = value
    assert isinstance(model.extractor, Halves)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda good: [good, torch.zeros(2, 3)], TypeError, r"images\[1\]: a Tensor among photos"),
        (lambda good: [good, "gone.jpg"], FileNotFoundError, "gone.jpg: no such file"),
        (lambda good: [good, good.parent], FileNotFoundError, "a folder, expected a file"),
        (lambda good: b"bytes", TypeError, "images: a bytes, expected Regions, features, photos"),
    ],
)
def test_what_is_no_photo(paths, given, error, message):
    with pytest.raises(error, match=message):
        halves_model().encode_images(given(paths[0]))


def test_it_is_recorded_and_saved_without_weights(paths, tmp_path):
    model = halves_model()
    model.extractor = Halves(0.5)
    expected = model.score(paths, "red")
    assert model.spec["extractor"] == {"class_path": "helpers_photos.Halves", "init_args": {"scale": 0.5}}
    assert MatchingModel.from_spec(model.spec).spec == model.spec
    model.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model/config.json").read_text())["extractor"] == model.spec["extractor"]
    again = MatchingModel.from_pretrained(tmp_path / "model")
    assert torch.equal(again.score(paths, "red"), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model)).score(paths, "red"), expected)


class Network(torch.nn.Module, Extractor):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def __call__(self, photos):
        return Halves()(photos)


def test_an_extractor_with_weights_is_no_part_of_the_modules(paths):
    model = halves_model(extractor=False)
    before = list(model.state_dict())
    model.extractor = Network()
    assert list(model.state_dict()) == before
    assert model.spec["extractor"]["class_path"].endswith("Network")
    assert model.score(paths, "red").shape == (5, 1)


def test_a_folder_of_before_still_loads(paths, tmp_path):
    model = halves_model(extractor=False)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("extractor") is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert MatchingModel.from_pretrained(tmp_path).extractor is None


def test_the_fingerprint_is_that_of_before():
    model = halves_model(extractor=False)
    before = fingerprint(model)
    model.extractor = Halves()
    assert fingerprint(model) == before


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        ({"class_path": "itmatch.nn.RegionEncoder", "init_args": {"in_features": 3}}, "RegionEncoder is no itmatch"),
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "no class|is no"),
        ({"class_path": "itmatch.vision.Backbone"}, "Backbone is no itmatch.extractor.Extractor"),
        ({"class_path": "itmatch.vision.RegionExtractor", "init_args": {"regions": -1}}, "cannot be built"),
        ({"class_path": "itmatch.vision.RegionExtractor", "init_args": {"evil": 1}}, "cannot be built"),
        ({"class_path": "itmatch.vision.RegionExtractor", "init_args": {"backbone": {"class_path": "os.path"}}}, "os"),
        (
            {
                "class_path": "itmatch.vision.RegionExtractor",
                "init_args": {"backbone": {"class_path": "itmatch.nn.Linear"}},
            },
            "no class|is no",
        ),
        (
            {
                "class_path": "itmatch.vision.RegionExtractor",
                "init_args": {"backbone": {"class_path": "itmatch.data.CharacterTokenizer"}},
            },
            "CharacterTokenizer is no itmatch",
        ),
        ("itmatch.vision.RegionExtractor", "extractor: a str, expected an itmatch"),
        (["x"], "extractor: a list, expected an itmatch"),
    ],
)
def test_a_file_names_extractors_alone(extractor, message):
    spec = halves_model(extractor=False).spec | {"extractor": extractor}
    with pytest.raises(ValueError, match=f"config.json: .*({message})"):
        MatchingModel.from_spec(spec, "config.json")


def test_a_detector_end_to_end(paths, tmp_path, monkeypatch):
    made = RegionExtractor(save_detector("detr", tmp_path / "detr"), regions=4, device="cpu")
    model = halves_model(extractor=False, size=16)
    model.extractor = made
    expected = model.encode_images(paths)
    assert same(model.encode_images(made(paths)), expected)
    model.save_pretrained(tmp_path / "model")
    assert len((tmp_path / "model/model.safetensors").read_bytes()) < 20_000  # nothing of the detector
    with monkeypatch.context() as patch:
        patch.setattr("itmatch.vision.extractor.load_detector", None)  # none is loaded with the model
        again = MatchingModel.from_pretrained(tmp_path / "model")
    assert again.extractor.device is None  # the device is of a machine, not of a model
    assert same(again.encode_images(paths), expected)
    again.extractor = RegionExtractor(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"gone.*no such folder here"):
        again.encode_images(paths)


def test_clip_reads_photos_itself(paths):
    model = small_clip()
    assert model.extractor is None
    found = model.encode_images(paths)
    patches = PhotoPatches(image_size=16, patch_size=8)([Image.open(path) for path in paths])
    assert same(found, model.encode_images(patches))
    assert patches.boxes.shape == (5, 4, 4)
    assert same(model.encode_images(Image.open(paths[0])), found[0])


def test_the_colours_of_the_models_own_processor(paths):
    model = small_clip()
    before = model.encode_images(paths)
    model.extractor = PhotoPatches(image_size=16, patch_size=8, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    assert not torch.allclose(model.encode_images(paths).features, before.features)


# ------------------------------------------------------------------------------------------ files of every kind


def halves(size, left, right, mode="RGB"):
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def regions_of(given):
    """The two colours that the extractor is shown."""
    seen = []

    class Noting(Halves):
        def __call__(self, photos):
            seen.append(super().__call__(photos))
            return seen[-1]

    model = halves_model()
    model.extractor = Noting()
    model.encode_images(given)
    return (seen[0].features[0] * 255).round().int().tolist()


def test_exif_turns_a_photo(tmp_path):
    image = halves((40, 20), "red", "blue").transpose(Image.Transpose.ROTATE_90)  # blue is above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    for given in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg")):
        left, right = regions_of(given)
        assert left[0] > 200 > 60 > left[2]
        assert right[2] > 200 > 60 > right[0]


def test_16_bits_cmyk_palettes_and_what_is_transparent(tmp_path):
    deep = np.zeros((8, 16), np.uint16)
    deep[:, 8:] = 0x8080
    Image.fromarray(deep).save(tmp_path / "deep.png")
    halves((16, 8), (0, 255, 255, 0), (255, 255, 0, 0), "CMYK").save(tmp_path / "a.jpg", quality=100)
    halves((16, 8), "red", "blue").quantize(4).save(tmp_path / "a.gif")
    halves((16, 8), (255, 0, 0, 0), (0, 0, 255, 255), "RGBA").save(tmp_path / "clear.png")
    for name, expected in {
        "deep.png": [[0] * 3, [0x80] * 3],
        "a.jpg": [[255, 0, 0], [0, 0, 255]],
        "a.gif": [[255, 0, 0], [0, 0, 255]],
        "clear.png": [[255, 255, 255], [0, 0, 255]],
    }.items():
        for given in (tmp_path / name, Image.open(tmp_path / name)):
            np.testing.assert_allclose(regions_of(given), expected, atol=6, err_msg=name)


def test_what_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "cut.jpg").write_bytes(a_photo(size=(200, 150))[:-100])
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.jpg", "text.jpg", "empty.png"):
        with pytest.raises(ValueError, match=rf"^.*{name}: no image that can be read \([^\n]*\)$"):
            halves_model().encode_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"^images\[1\]: no image that can be read \([^\n]*\)$"):
        halves_model().encode_images([Image.new("RGB", (4, 4)), Image.open(tmp_path / "cut.jpg")])
    Image.new("RGB", (60, 60)).save(tmp_path / "huge.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"huge.png: no image that can be read \([^\n]*exceeds limit"):
        halves_model().encode_images(tmp_path / "huge.png")


def test_a_photo_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path)
    model = halves_model()
    photos = [tmp_path / "red.jpg", tmp_path / "green.jpg"]
    for texts, told in (
        (photos, r"texts\[0\]: '.*red.jpg' is a photo, expected a text; images come first, and texts second"),
        (["a photo", "green.jpg"], r"texts\[1\]: 'green.jpg' is a photo"),
        ("red.jpg", r"texts\[0\]: 'red.jpg' is a photo"),
        (Image.open("red.jpg"), r"texts\[0\]: a JpegImageFile is a photo"),
    ):
        with pytest.raises(TypeError, match=told):
            model.score(photos, texts)
    assert model.score(photos, "white.jpg").shape == (2, 1)  # there is no such file: words like others
