"""Text files of captions as the data sets of this field have them, made lists that readers take."""

import json

import numpy as np
import pytest

from itmatch.cli.data.convert import convert_data
from itmatch.data import ImageFolder, PrecompFolder, check_path
from itmatch.data.conversion.captions import is_caption_file
from itmatch.errors import UsageError

PHOTOS = ["1000092795.jpg", "10002456.jpg", "1000268201.jpg"]


def lines(path, texts, end="\n"):
    path.write_text("".join(f"{text}{end}" for text in texts), "utf-8", newline="")
    return path


def numbered(path, *, ending=".jpg", language="", between="\t", text="caption {} of {}"):
    """Two captions of every photo."""
    found = [
        f"{photo.removesuffix('.jpg')}{ending}#{language}{number}{between}{text.format(number, photo)}"
        for photo in PHOTOS
        for number in range(2)
    ]
    return lines(path, found)


def lists(folder, split):
    return [(folder / f"{split}_{what}.txt").read_text().splitlines() for what in ("ids", "caps")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("results_20130124.token", {}),  # Flickr30K
        ("Flickr8k.token.txt", {}),
        ("flickr30kzhc.caption.txt", {"language": "zhc#", "between": " "}),  # Flickr30K-CN
        ("imageid.human-written-caption.txt", {"ending": "", "language": "zhm#"}),  # COCO-CN
    ],
)
@pytest.mark.parametrize("listed", ["{}.jpg", "{}", "{}.jpg#0"])
def test_numbered_captions(tmp_path, name, options, listed):
    source = numbered(tmp_path / name, **options)
    stems = [photo.removesuffix(".jpg") for photo in PHOTOS]
    train = lines(tmp_path / "a.txt", [listed.format(stem) for stem in (stems[2], stems[0])])
    dev = lines(tmp_path / "b.txt", [listed.format(stems[1])], "\r\n")
    convert_data([source], out=tmp_path / "out", split=[f"train={train}", f"dev={dev}"])
    ids, captions = lists(tmp_path / "out", "train")
    ending = "" if listed == "{}" and options.get("ending") == "" else ".jpg"
    assert ids == [f"{stems[2]}{ending}", f"{stems[0]}{ending}"]
    assert captions == [f"caption {number} of {photo}" for photo in (PHOTOS[2], PHOTOS[0]) for number in range(2)]
    assert lists(tmp_path / "out", "dev")[0] == [f"{stems[1]}{ending}"]


def test_a_check_says_how_lists_are_made(tmp_path):
    source = numbered(tmp_path / "a.token")
    report = check_path(source)
    assert report.found == ["6 captions of 3 photos"]
    assert report.not_ready == f"`itmatch data convert {source} --split NAME=FILE --out FOLDER` makes lists of them"
    source.write_text(source.read_text() + f"{PHOTOS[0]}#2\t\nnothing\n")
    assert check_path(source).problems == [f"{source}:8: 'nothing', expected PHOTO#NUMBER, a tab and a caption"]
    source.write_text(source.read_text().removesuffix("nothing\n"))
    assert check_path(source).warnings == [f"{source}: 1 blank caption"]


def test_splits_of_a_karpathy_json(tmp_path):
    """Chinese captions of Flickr30K on the splits that all use."""
    entries = [
        {"filename": photo, "split": split, "sentences": [{"raw": "a"}]}
        for photo, split in zip(PHOTOS, ("val", "train", "train"), strict=True)
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": entries}))
    source = numbered(tmp_path / "zh.txt", language="zhc#", between=" ", text="第 {} 句 {}")
    convert_data([source], out=tmp_path / "out", karpathy=tmp_path / "dataset.json", captions_per_image=1)
    assert lists(tmp_path / "out", "train") == [PHOTOS[1:], [f"第 0 句 {photo}" for photo in PHOTOS[1:]]]
    assert lists(tmp_path / "out", "dev") == [PHOTOS[:1], [f"第 0 句 {PHOTOS[0]}"]]
    convert_data([source], out=tmp_path / "one", karpathy=tmp_path / "dataset.json", split=["val"])
    assert [path.name for path in sorted((tmp_path / "one").iterdir())] == ["val_caps.txt", "val_ids.txt"]


def test_a_line_per_photo(tmp_path):
    """Multi30K: parallel files, one or several of a language, in the order of a list of photos."""
    photos = lines(tmp_path / "train_images.txt", PHOTOS)
    sources = [lines(tmp_path / f"train.{n}.de", [f"Bild {i} zum {n}. Mal" for i in range(3)]) for n in (1, 2)]
    convert_data(sources, out=tmp_path / "out", split=[f"train={photos}"])
    expected = [f"Bild {i} zum {n}. Mal" for i in range(3) for n in (1, 2)]
    assert lists(tmp_path / "out", "train") == [PHOTOS, expected]
    lines(sources[0], ["nur", "zwei"])
    with pytest.raises(ValueError, match=r"train\.1\.de: 2 lines, expected 3, one per photo of the split"):
        convert_data(sources, out=tmp_path / "out", split=[f"train={photos}"], overwrite=True)
    assert lists(tmp_path / "out", "train")[1] == expected
    with pytest.raises(ValueError, match=r"train\.1\.de: no PHOTO#NUMBER at the beginning.*2 lists, expected one"):
        convert_data(sources, out=tmp_path / "out", split=[f"a={photos}", f"b={photos}"])


def test_what_is_written_is_read(tmp_path):
    """As a folder of photos, and by a conversion of features."""
    image = pytest.importorskip("PIL.Image")
    source, photos = numbered(tmp_path / "a.token"), lines(tmp_path / "train.txt", PHOTOS)
    out = tmp_path / "out"
    convert_data([source], out=out, split=[f"train={photos}"])
    (out / "images").mkdir()
    for photo in PHOTOS:
        image.new("RGB", (32, 32)).save(out / "images" / photo)
    split = ImageFolder(out).split("train")
    assert (split.image_ids, split.num_captions, split.image(2).features.shape) == (PHOTOS, 6, (49, 3072))
    features = tmp_path / "features"
    features.mkdir()
    for place, photo in enumerate(PHOTOS):
        np.save(features / f"{photo.removesuffix('.jpg')}.npy", np.full((2, 3), place, np.float32))
    convert_data([features], out=tmp_path / "precomp", lists=out)
    found = PrecompFolder(tmp_path / "precomp").split("train")
    assert (found.image_ids, found.captions, found.image(2).features[0, 0]) == (PHOTOS, split.captions, 2)


def test_what_is_left_out_is_told(tmp_path, capsys):
    source = lines(tmp_path / "a.token", [f"{PHOTOS[0]}#0\ta dog", f"{PHOTOS[0]}#1\t ", f"{PHOTOS[0]}#2\ttwo dogs"])
    photos = lines(tmp_path / "train.txt", PHOTOS)
    given = {"out": tmp_path / "out", "split": [f"train={photos}"]}
    with pytest.raises(
        ValueError, match=r"train: no captions of 2 of its 3 photos: '10002456\.jpg', '1000268201\.jpg'; "
    ):
        convert_data([source], **given)
    convert_data([source], **given, missing="drop")
    assert capsys.readouterr().out.splitlines()[:3] == [
        "train: 1 photo, 2 captions",
        "train: 1 blank caption left out",
        "train: 2 photos without captions left out, the first is '10002456.jpg'",
    ]
    with pytest.raises(FileExistsError, match=r"train_caps\.txt: there is one already; --overwrite"):
        convert_data([source], **given, missing="drop")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "captions say nothing of splits; give --split NAME=FILE"),
        ({"split": ["train"]}, "captions say nothing of splits; give --split NAME=FILE"),
        ({"split": ["train=PHOTOS,PHOTOS"]}, r"image id '1000092795\.jpg' is already on line 1"),
        ({"split": ["train=none.txt"]}, r"none\.txt: no such file"),
        ({"lists": "somewhere"}, "--lists: such lists are made of files of captions"),
        ({"split": ["train=PHOTOS"], "line": "no caption"}, r"a\.token:7: 'no caption', expected PHOTO#NUMBER, a tab"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, options, error):
    source, photos = numbered(tmp_path / "a.token"), lines(tmp_path / "photos.txt", PHOTOS)
    source.write_text(source.read_text() + options.pop("line", "") + "\n")
    given = {name: [one.replace("PHOTOS", str(photos)) for one in value] for name, value in options.items()}
    with pytest.raises((ValueError, FileNotFoundError, UsageError), match=error):
        convert_data([source], out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_names_of_such_files(tmp_path):
    captions = ("a.token", "a.token.txt", "train.en", "train.1.de")
    others = ("features.pt", "a.gz", "a.h5", "a.tsv", "a.npy", "a.json")
    assert [is_caption_file(tmp_path / name) for name in (*captions, *others)] == [True] * 4 + [False] * 6
