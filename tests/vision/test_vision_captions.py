"""Captions of photos: which file names which photo, and what is no good."""

import json

import pytest
from helpers_detectors import photos

from itmatch.vision.captions import with_captions
from itmatch.vision.photos import find_photos


def coco(captions):
    """As in captions_val2017.json."""
    images = [{"id": 7, "file_name": "z.png", "height": 4}, {"id": 8, "file_name": "gone.png"}]
    return {
        "info": {},
        "images": images,
        "annotations": [
            {"id": 100 + number, "image_id": image, "caption": text} for number, (image, text) in enumerate(captions)
        ],
    }


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    photos()[0].save(root / "z.png")
    photos()[1].save(root / "b" / "a.PNG")
    return root


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.TXT", "z.png\tone\nz\ttwo\n"),
        ("captions", {"z.png": ["one"], "z": "two"}),
        ("c.json", [{"file": "z.png", "captions": ["one", "two"]}]),
        ("c.json", {"z.png": ["one", "two"], "other.png": "three"}),
        ("c.json", {"images": [{"filename": "z.png", "sentences": [{"raw": "one"}, {"raw": "two"}]}]}),
        ("c.json", [{"image": "z", "caption": "one"}, {"image": "z", "caption": " two "}]),
        ("c.txt", "z.png\tone\nz.png\ttwo\n\n"),
        ("c.json", [{"id": 7, "file_path": "z.png", "captions": ["one", "two"], "split": "train"}]),  # of CUHK-PEDES
        ("c.json", [{"id": 7, "img_path": "z.png", "captions": ["one", "two"]}]),  # of RSTPReid
        ("c.json", coco([(7, "one"), (8, "three"), (7, "two")])),
    ],
)
def test_captions(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = with_captions(find_photos(folder), folder / name)
    assert [photo.name for photo in found.photos] == ["z.png"]
    assert found.texts == {"z.png": ["one", "two"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", "[3]", r"c\.json: record 0 is 3, expected a file and captions"),
        ("c.json", '[{"file": "z.png", "captions": [3]}]', "record 0 is .*, expected a file and captions"),
        ("c.json", '{"gone.png": "x"}', r"captions of none of the 2 photos; it names 'gone\.png', the first photo is"),
        (
            "c.json",
            '{"z.png": [], "b/a.PNG": []}',
            r"c\.json: the lists of captions of the 2 photos .* empty, as of 'z\.png'",
        ),
        ("c.json", "", r"c\.json: empty, expected a \.json, \.jsonl, \.csv, \.txt or \.tsv with photos"),
        ("c.json", "[]", r"c\.json: empty, expected"),
        ("c.tsv", " \n", r"c\.tsv: empty, expected"),
        ("c.csv", "z.png,one\n", r"c\.csv:1: 'z\.png,one', expected the names of columns, such as file and caption"),
        ("c.json", json.dumps(coco([(7, "one"), (9, "two")])), r"annotations\[1\] is .*, expected a caption, and the"),
        ("c.json", '{"annotations": [{"image_id": [], "caption": "a"}]}', r"annotations\[0\] is "),
        ("c.txt", "z.png one\n", r"c\.txt:1: 'z\.png one', expected a file and a caption with a tab"),
    ],
)
def test_captions_that_are_no_good(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        with_captions(find_photos(folder), folder / name)


def test_a_name_that_fits_several_photos(tmp_path):
    for name in ("a/0.png", "b/0.png", "1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photos()[0].save(tmp_path / name)
    found, file = find_photos(tmp_path), tmp_path / "c.json"
    for name in ("0.png", "0", "1"):
        file.write_text(json.dumps({name: ["one"]}))
        with pytest.raises(
            ValueError, match=rf"c\.json: '{name}' fits 2 photos, such as '.*' and '.*'; expected the path"
        ):
            with_captions(found, file)
    file.write_text(json.dumps({"1.png": "one", "a/0.png": "two", f"{tmp_path}/b/0.png": "three"}))
    assert with_captions(found, file).texts == {"1.png": ["one"], "a/0.png": ["two"], "b/0.png": ["three"]}


def test_the_path_of_a_photo_from_here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.json"
    file.write_text(
        json.dumps([{"file": "photos/z.png", "caption": "one"}, {"file": f"{folder}/z.png", "text": "two"}])
    )
    assert with_captions(find_photos(folder), file).texts == {"z.png": ["one", "two"]}


def test_names_that_no_photo_has(folder):
    (folder / "c.txt").write_text("z.png\tone\ngone.png\ttwo\ngone.png\tthree\nb/other.png\tfour\n")
    found = with_captions(find_photos(folder), folder / "c.txt")
    assert found.strangers == ["gone.png", "b/other.png"]
