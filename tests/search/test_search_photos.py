"""Photos in an index: folders, lists of paths, what cannot be read, and searching with photos."""

import os
import sys
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_photo_folder import save_hub
from helpers_photos import COLOURS, Halves, a_photo, halves_model, small_clip, write_photos

from itmatch.data import ImageTextSplit
from itmatch.errors import PhotoError
from itmatch.search import Index
from itmatch.vision import RegionExtractor
from itmatch.vision.relations import BOX_PREDICATES

Image = pytest.importorskip("PIL.Image")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "vision"))

from helpers_detectors import save_detector  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """Three photos, one in a folder below."""
    root = tmp_path / "photos"
    (root / "below").mkdir(parents=True)
    for colour, place in zip(COLOURS, ("", "", "below"), strict=True):
        (root / place / f"{colour}.jpg").write_bytes(a_photo(colour))
    (root / "notes.txt").write_text("no photo")
    return root


NAMES = ["below/blue.jpg", "green.jpg", "red.jpg"]


def write_copy(photo, path):
    """Another file with the same photo."""
    path.write_bytes(photo.read_bytes())
    return path


def paths_in(folder):
    return [folder / name for name in NAMES]


def test_a_folder_is_indexed_as_its_features_would_be(folder, tmp_path):
    model = halves_model()
    index = Index.build(model, folder, tmp_path / "index")
    assert index.images.ids == NAMES
    assert index.images.pictures == list(map(str, paths_in(folder)))
    assert len(index.captions) == 0
    regions = Halves()([Image.open(path) for path in paths_in(folder)])
    split = ImageTextSplit(regions.features.numpy(), [], np.zeros(0, np.int64), image_ids=NAMES)
    other = Index.build(model, split, tmp_path / "other")
    found, expected = (one.search(["a red photo", "blue"], 3) for one in (index, other))
    assert found.ids == expected.ids
    torch.testing.assert_close(found.scores, expected.scores)
    assert found.scores.std() > 0
    assert torch.equal(index.images.boxes(1), regions.boxes[1])
    assert index.images.labels(1).tolist() == [0, 1]
    assert index.images.names.label(1) == "right"
    assert index.images.scores(1) is None
    assert found[0][0].picture == str(folder / found[0][0].id)


def test_it_opens_again_and_takes_more(folder, tmp_path):
    Index.build(halves_model(), str(folder), tmp_path / "index")
    index = Index.open(tmp_path / "index")
    assert isinstance(index.model.extractor, Halves)
    more = tmp_path / "more"
    more.mkdir()
    (more / "white.jpg").write_bytes(a_photo("white"))
    assert index.add(more, batch_size=1) == 1
    assert index.images.ids == [*NAMES, "white.jpg"]
    index.delete(["green.jpg"])
    index.compact()
    assert index.images.labels(1).tolist() == [0, 1]
    assert len(Index.open(tmp_path / "index").search("red", 9)[0]) == 3


def test_photos_find_captions(folder, tmp_path):
    model = halves_model()
    paths = paths_in(folder)
    split = ImageTextSplit(
        Halves()([Image.open(path) for path in paths]).features.numpy(),
        ["a blue photo", "a green photo", "a red photo"],
        np.arange(3),
        image_ids=NAMES,
    )
    index = Index.build(model, split, tmp_path / "index")
    expected = index.search(split.features[:], 3)
    for photos in (paths, [Image.open(path) for path in paths]):
        found = index.search(photos, 3)
        assert (found.kind, found.ids) == ("captions", expected.ids)
        torch.testing.assert_close(found.scores, expected.scores)
    for one in (paths[1], Image.open(paths[1])):
        assert index.search(one, 3).ids == [expected.ids[1]]
    with pytest.raises(TypeError, match=r"texts\[0\]: '.*green.jpg' is a photo, expected a text"):
        index.search(str(paths[1]), 1)  # a string is a text


def test_a_list_and_a_tar_file(folder, tmp_path):
    model = halves_model()
    expected = Index.build(model, folder, tmp_path / "index")
    (tmp_path / "photos/list.txt").write_text("red.jpg\nbelow/blue.jpg\n")
    listed = Index.build(model, folder / "list.txt", tmp_path / "listed")
    assert listed.images.ids == ["red.jpg", "below/blue.jpg"]
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in NAMES:
            tar.add(folder / name, name)
    packed = Index.build(model, tmp_path / "photos.tar", tmp_path / "packed")
    assert packed.images.ids == NAMES
    assert packed.images.pictures in (None, [None] * 3)  # a page could not open them
    torch.testing.assert_close(packed.search("red", 3).scores, expected.search("red", 3).scores)


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_a_folder_of_datasets(folder, tmp_path, ending):
    pytest.importorskip("pyarrow")
    rows = [{"image": {"bytes": path.read_bytes(), "path": path.name}} for path in paths_in(folder)]
    save_hub(tmp_path / f"hub/data.{ending}", rows)
    packed = Index.build(halves_model(), tmp_path / "hub", tmp_path / "packed")
    assert packed.images.ids == ["blue.jpg", "green.jpg", "red.jpg"]
    assert packed.images.pictures in (None, [None] * 3)  # the file is no picture


def test_what_cannot_be_read_is_told_of_and_left_out(folder, tmp_path):
    for number in range(5):
        (folder / f"bad{number}.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="could not be read") as told:
        index = Index.build(halves_model(), folder, tmp_path / "index", batch_size=2)
    messages = [str(one.message) for one in told]
    assert index.images.ids == NAMES
    assert len(messages) == 4
    assert messages[0].startswith(f"{folder}/bad0.png: no image that can be read (")
    assert messages[3] == "5 of 8 photos could not be read and are left out, of which 3 are named above"
    assert all("\n" not in message for message in messages)
    (folder / "late.jpg").write_bytes(a_photo("white"))
    with pytest.warns(UserWarning, match=r"gone.jpg: no such file|1 of 2 photos could not be read"):
        assert index.add([str(folder / "gone.jpg"), str(folder / "late.jpg")]) == 1
    assert len(index.images) == 4
    before = index.images.ids
    with pytest.raises(ValueError, match=r"none of the 1 photos could be read; .*gone2.jpg: no such file"):
        index.add([folder / "gone2.jpg"])
    assert Index.open(tmp_path / "index").images.ids == before


class Picky(Halves):
    """Of green photos nothing can be made."""

    def __call__(self, photos):
        if any(photo.getpixel((60, 40))[1] > 90 for photo in photos):
            raise PhotoError("it is green")
        return super().__call__(photos)


def test_a_photo_of_which_nothing_can_be_made_takes_no_others_with_it(folder, tmp_path):
    model = halves_model()
    expected = Index.build(model, folder, tmp_path / "all").search("red", 3)
    model.extractor = Picky()
    with pytest.warns(UserWarning, match=r"green.jpg: it is green|1 of 3 photos"):
        index = Index.build(model, folder, tmp_path / "index")
    assert index.images.ids == [NAMES[0], NAMES[2]]
    scores = dict(zip(expected.ids[0], expected.scores[0].tolist(), strict=True))
    found = index.search("red", 3)
    assert found.scores[0].tolist() == pytest.approx([scores[name] for name in found.ids[0]])


def test_photos_come_a_few_at_a_time(folder, tmp_path):
    model = halves_model()
    paths = []
    for number in range(40):
        (folder / f"{number:02d}.jpg").write_bytes(a_photo())
        paths.append(folder / f"{number:02d}.jpg")
    Index.build(model, paths, tmp_path / "index")
    assert [len(batch) for batch in model.extractor.seen] == [16, 16, 8]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("gone", FileNotFoundError, "gone: no such file"),
        ("empty", ValueError, "empty: no photos, expected files such as"),
        ([], ValueError, "photos: none"),
        (["a.jpg", "a.jpg"], ValueError, "photos: 'a.jpg' is there twice"),
        ([Path("a.jpg"), torch.zeros(2, 3)], TypeError, r"photos\[1\]: a Tensor, expected a path"),
        (torch.zeros(2, 3, 3), TypeError, "source: a Tensor, expected an ImageTextSplit"),
        (None, TypeError, "source: a NoneType"),
    ],
)
def test_what_is_no_source(tmp_path, monkeypatch, source, error, message):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(error, match=message):
        Index.build(halves_model(), source, "index")
    assert not Path("index").exists()


def test_a_model_of_features_says_so(folder, tmp_path):
    with pytest.raises(ValueError, match=r"reads region features of 3 numbers, not photos: set model.extractor"):
        Index.build(halves_model(extractor=False), folder, tmp_path / "index")
    with pytest.raises(ValueError, match="Halves makes region features of 3 numbers, and RegionEncoder reads 5"):
        Index.build(halves_model(size=5), folder, tmp_path / "index")
    with pytest.raises(FileNotFoundError, match="no index in it"):
        Index.open(tmp_path / "index")


def test_clip_needs_no_extractor(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    write_photos(folder)
    model = small_clip()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = Index.build(model, folder, tmp_path / "index")
    assert index.images.ids == ["blue.jpg", "green.jpg", "red.jpg"]
    assert index.images.boxes(0).shape == (4, 4)
    scores = model.score(sorted(folder.glob("*.jpg")), "a red photo")[:, 0]
    found = index.search("a red photo", 3)
    torch.testing.assert_close(found.scores[0], scores.sort(descending=True).values, atol=2e-3, rtol=0)


def test_a_detector_end_to_end(folder, tmp_path):
    detector = save_detector("detr", tmp_path / "detr")
    model = halves_model(extractor=False, size=16)
    model.extractor = RegionExtractor(detector, regions=4, device="cpu", relations=2)
    index = Index.build(model, folder, tmp_path / "index")
    regions = model.extractor(paths_in(folder))
    assert torch.equal(index.images.scores(2), regions.scores[2])
    assert torch.equal(index.images.labels(2), regions.labels[2])
    assert index.images.names.label(0) == "dog"
    assert {one[1] for one in index.images.relations(0)} <= set(BOX_PREDICATES)
    again = Index.open(tmp_path / "index")
    torch.testing.assert_close(again.search("red", 3).scores, index.search("red", 3).scores)
    again.add(write_copy(folder / "red.jpg", tmp_path / "copy.jpg"))
    torch.testing.assert_close(again.images.boxes(3), again.images.boxes(2))
