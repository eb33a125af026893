"""A folder of photos with captions as a source of data."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_photo_folder import Pixels, save_hub, write_captions, write_photos

from itmatch.data import DataSource
from itmatch.spec import build
from itmatch.vision import PhotoFolder, RegionExtractor
from itmatch.vision.cache import default_cache, digest_of
from itmatch.vision.photos import find_photos

STAGES = ("train", "val", "test")


@pytest.fixture
def made(tmp_path):
    records = write_photos(tmp_path / "photos")
    return tmp_path, records


def source(root, captions, *, log=None, regions=4, **settings):
    extractor = RegionExtractor(None, backbone=Pixels(log and str(log)), regions=regions)
    return PhotoFolder(root / "photos", captions, extractor, cache=root / "cache", **settings)


def numbers(split):
    return [int(name[:2]) for name in split.image_ids]


def test_the_splits_of_a_karpathy_json(made):
    root, records = made
    data = source(root, write_captions(root / "captions.json", records))
    splits = {stage: data.split(stage) for stage in STAGES}
    assert numbers(splits["val"]) == [2, 6, 10, 14, 18, 22]
    assert numbers(splits["test"]) == [3, 7, 11, 15, 19, 23]
    assert numbers(splits["train"]) == [n for n in range(24) if n % 4 < 2]  # train and restval
    test = splits["test"]
    assert test.captions[:3] == ["white beside red", "the left is white", "white beside green"]
    assert test.caption_image.tolist() == [i for i in range(6) for _ in range(2)]
    assert test.picture(1) == str(root / "photos/07.png")
    found = RegionExtractor(None, backbone=Pixels(), regions=4)([root / "photos/07.png"])
    assert torch.equal(test.image(1).features, found.features[0].half().float())
    assert torch.equal(test.image(1).boxes, found.boxes[0])
    assert isinstance(test.features._array, np.memmap)


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_a_hash_of_the_name_splits_the_others(made, ending):
    root, records = made
    plain = [{key: one[key] for key in ("filename", "sentences")} for one in records]
    data = source(root, write_captions(root / f"captions.{ending}", plain), val_share=0.25, test_share=0.25)
    splits = {stage: data.split(stage).image_ids for stage in STAGES}
    assert sorted(name for names in splits.values() for name in names) == [f"{n:02d}.png" for n in range(24)]
    expected = [int(hashlib.sha256(f"{n:02d}.png".encode()).hexdigest()[:8], 16) / 2**32 for n in range(24)]
    assert splits["val"] == [f"{n:02d}.png" for n, place in enumerate(expected) if place < 0.25]
    assert splits["test"] == [f"{n:02d}.png" for n, place in enumerate(expected) if 0.25 <= place < 0.5]
    fewer = write_captions(root / f"fewer.{ending}", plain[5:])
    again = source(root, fewer, val_share=0.25, test_share=0.25)
    for stage in STAGES:  # a photo stays where it is
        assert again.split(stage).image_ids == [name for name in splits[stage] if int(name[:2]) >= 5]


def test_a_file_for_each_split(made):
    root, records = made
    files = {}
    for stage, some in {"train": records[:20], "val": records[20:], "test": records[20:]}.items():
        files[stage] = str(write_captions(root / f"{stage}.txt", some))
    data = source(root, files)
    assert [data.split(stage).num_images for stage in STAGES] == [20, 4, 4]
    with pytest.raises(ValueError, match=r"captions: of .*expected those of train, val and test"):
        source(root, {"train": "a.json"})


def test_photos_are_extracted_once(made):
    root, records = made
    captions, log = write_captions(root / "captions.json", records), root / "log"
    data = source(root, captions, log=log)
    for stage in STAGES:
        data.split(stage)
    assert sum(map(int, log.read_text().split())) == 24
    source(root, captions, log=log).split("val")
    records[0]["sentences"] = [{"raw": "another caption"}]  # captions are no part of what is extracted
    changed = source(root, write_captions(captions, records), log=log).split("train")
    assert changed.captions[0] == "another caption"
    assert sum(map(int, log.read_text().split())) == 24


def test_a_photo_that_is_changed_or_another_extractor_makes_a_new_cache(made):
    root, records = made
    captions, log = write_captions(root / "captions.json", records), root / "log"
    before = source(root, captions, log=log).split("train").image(0).features
    shutil.copy(root / "photos/02.png", root / "photos/00.png")
    after = source(root, captions, log=log).split("train").image(0).features
    assert not torch.equal(before, after)
    assert source(root, captions, log=log, regions=9).split("train").image(0).features.shape == (9, 3)
    assert len(list((root / "cache").iterdir())) == 3
    photos, extractor = find_photos(root / "photos"), RegionExtractor(None, backbone=Pixels())
    on_gpu = RegionExtractor(None, backbone=Pixels(), device="cuda")
    assert digest_of(photos, extractor) == digest_of(photos, on_gpu)
    assert digest_of(photos, extractor) != digest_of(photos[:-1], extractor)
    os.utime(root / "photos/05.png", (0, 0))
    assert digest_of(photos, extractor) != digest_of(find_photos(root / "photos")[:-1], extractor)


def test_a_model_that_is_changed_in_its_folder_makes_a_new_cache(made):
    photos, folder = find_photos(made[0] / "photos"), made[0] / "detector"
    folder.mkdir()
    (folder / "model.safetensors").write_text("a")
    before = digest_of(photos, RegionExtractor(str(folder)))
    (folder / "model.safetensors").write_text("other weights")
    assert digest_of(photos, RegionExtractor(str(folder))) != before


def test_an_extraction_that_was_stopped_goes_on(made, monkeypatch):
    root, _ = made
    records = write_photos(root / "photos", 80)
    captions, log = write_captions(root / "captions.json", records), root / "log"
    whole = source(root, captions, log=log).split("train")
    state = [whole.image(i).features for i in range(whole.num_images)]
    shutil.rmtree(root / "cache")
    log.unlink()
    call = Pixels.__call__

    def killed(self, images):
        if log.exists() and sum(map(int, log.read_text().split())) >= 72:
            raise KeyboardInterrupt
        return call(self, images)

    monkeypatch.setattr(Pixels, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        source(root, captions, log=log).split("train")
    monkeypatch.setattr(Pixels, "__call__", call)
    again = source(root, captions, log=log).split("train")
    assert sum(map(int, log.read_text().split())) == 72 + 16  # the first part, of 64 photos, was kept
    assert all(torch.equal(again.image(i).features, features) for i, features in enumerate(state))


def test_photos_that_cannot_be_read_are_left_out_and_listed(made, capsys):
    root, records = made
    (root / "photos/03.png").write_bytes(b"no photo")
    data = source(root, write_captions(root / "captions.json", records))
    assert numbers(data.split("test")) == [7, 11, 15, 19, 23]
    assert len(data.split("test").captions) == 10
    said = capsys.readouterr().err
    assert "1 photo left out that cannot be read" in said
    assert "24 of 24 photos, " in said
    assert said.count("03.png") == said.count("left out that cannot be read") == 1
    assert "could not be read" not in said
    (listed,) = (root / "cache").glob("*/photos_unreadable.txt")
    assert listed.read_text().startswith("03.png\t")


def test_a_photo_of_a_list_that_is_not_there_is_left_out_until_it_is(made, capsys):
    root, records = made
    (root / "list.txt").write_text("".join(f"photos/{one['filename']}\n" for one in records))
    captions = write_captions(root / "captions.json", records)
    extractor = RegionExtractor(None, backbone=Pixels(), regions=4)
    content = (root / "photos/03.png").read_bytes()
    (root / "photos/03.png").unlink()
    assert PhotoFolder(root / "list.txt", captions, extractor, cache=root / "cache").split("test").num_images == 5
    assert "1 photo left out that cannot be read" in capsys.readouterr().err
    (listed,) = (root / "cache").glob("*/photos_unreadable.txt")
    assert listed.read_text() == f"photos/03.png\t{root}/photos/03.png: no such file\n"
    (root / "photos/03.png").write_bytes(content)
    assert PhotoFolder(root / "list.txt", captions, extractor, cache=root / "cache").split("test").num_images == 6


def test_what_cannot_be_loaded_is_not_told_of_as_extracting(made, capsys):
    root, records = made
    extractor = RegionExtractor(None, backbone=str(root / "none"))
    data = PhotoFolder(root / "photos", write_captions(root / "c.json", records), extractor, cache=root / "cache")
    with pytest.raises(FileNotFoundError, match="none"):
        data.split("train")
    assert "extracting" not in capsys.readouterr().err


def test_of_several_processes_one_extracts(made):
    root, records = made
    captions, log = write_captions(root / "captions.json", records), root / "log"
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from helpers_photo_folder import Pixels\n"
        "from itmatch.vision import PhotoFolder, RegionExtractor\n"
        "call = Pixels.__call__\n"
        "Pixels.__call__ = lambda self, images: (time.sleep(0.5), call(self, images))[1]\n"
        f"extractor = RegionExtractor(None, backbone=Pixels({str(log)!r}), regions=4)\n"
        f"data = PhotoFolder({str(root / 'photos')!r}, {str(captions)!r}, extractor, cache={str(root / 'cache')!r})\n"
        "print('ready', flush=True); input()\n"
        "print(data.split('train').num_images)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    run = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in run] == ["ready\n", "ready\n"]
    for process in run:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=240)[0] for process in run] == ["12\n", "12\n"]
    assert sum(map(int, log.read_text().split())) == 24


def test_it_is_recorded_as_plain_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = PhotoFolder("photos", "captions.json", RegionExtractor("folder", regions=9), test_share=0.2)
    again = build(data.spec, DataSource, "here")
    assert again.spec == data.spec
    assert (again.extractor.detector, again.extractor.regions, again.test_share) == ("folder", 9, 0.2)
    assert again.cache == default_cache() == tmp_path / "itmatch"


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"split": "middle"}, {}, r"captions.json: '00.png' is of split 'middle', expected one of train, restval, val"),
        ({"split": None}, {}, "captions.json: '00.png' is of split None, expected a name as others have"),
        ({"filename": "other.png"}, {}, None),
        ({}, {"val_share": 0.6, "test_share": 0.5}, r"val_share \+ test_share: 1.1, expected at most 1"),
        ({}, {"val_share": 2}, "val_share: 2, expected a number between 0 and 1"),
    ],
)
def test_mistakes(made, change, settings, message):
    root, records = made
    records[0] |= change
    captions = write_captions(root / "captions.json", records)
    if message is None:  # a photo without captions is left out
        assert numbers(source(root, captions).split("train"))[0] == 1
        return
    with pytest.raises(ValueError, match=message):
        source(root, captions, **settings).split("train")


def test_captions_and_photos_without_the_other_are_told_of(made, capsys):
    root, records = made
    records[5]["filename"], records[6]["filename"] = "gone.png", "other.png"
    captions = write_captions(root / "captions.json", records)
    source(root, captions).split("train")
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == [
        f"{captions}: 2 names that no photo has, whose captions are left out; the first is 'gone.png'",
        f"{root}/photos: 2 of 24 photos have no captions and are left out; the first is '05.png'",
    ]
    files = {"train": str(write_captions(root / "train.txt", records[:4]))}
    files |= dict.fromkeys(("val", "test"), str(write_captions(root / "val.txt", records[4:20])))
    source(root, files).split("train")
    told = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in told[:2]] == [
        f"{root}/val.txt: 2 names that no photo has, whose captions are left out",
        f"{root}/photos: 6 of 24 photos have no captions and are left out",
    ]
    assert "left out" not in "".join(told[2:])


def test_no_photo_is_trained_on_and_tested_with(made):
    root, records = made
    parts = {"train": records[:20], "val": records[20:], "test": records[19:]}
    files = {stage: str(write_captions(root / f"{stage}.txt", some)) for stage, some in parts.items()}
    with pytest.raises(ValueError, match=r"test.txt: '19.png' is of test and of train, expected one"):
        source(root, files).split("val")
    twice = write_captions(root / "twice.json", [*records, {**records[0], "filename": "00", "split": "test"}])
    with pytest.raises(
        ValueError, match=r"twice.json: '00.png' has records of the splits 'train' and 'test', expected"
    ):
        source(root, twice).split("val")


def test_all_splits_have_photos_before_any_is_extracted(made):
    root, records = made
    log = root / "log"
    captions = write_captions(root / "captions.json", [one for one in records if one["split"] != "test"])
    with pytest.raises(ValueError, match=r"no photo for test \(12 for train, 6 for val, 0 for test\)"):
        source(root, captions, log=log).split("train")
    assert not log.exists()
    assert source(root, captions, test_share=0).split("train").num_images == 12  # none are wanted
    assert source(root, captions).split("val").num_images == 6  # nor of a test


def test_all_photos_may_be_tested_with(made):
    root, records = made
    data = source(root, write_captions(root / "captions.txt", records), val_share=0, test_share=1)
    assert numbers(data.split("test")) == list(range(24))
    with pytest.raises(ValueError, match=r"no photo for train \(0 for train, 0 for val, 24 for test\); give"):
        data.split("train")


def test_mistakes_of_the_folder(made):
    root, records = made
    with pytest.raises(ValueError, match="photos: photos without captions; captions=FILE names a json, a csv"):
        source(root, None).split("train")
    with pytest.raises(FileNotFoundError, match=r"none.json: no such file; --data.source.captions FILE says where"):
        source(root, root / "none.json").split("train")
    with pytest.raises(FileNotFoundError, match=r"none: no such folder; --data.source.root FOLDER says where"):
        PhotoFolder(root / "none", None).split("train")
    few = write_captions(root / "few.txt", records[:2])
    with pytest.raises(ValueError, match=r"photos: no photo for val \(1 for train, 0 for val, 1 for test\); give"):
        source(root, few).split("val")


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_a_folder_of_datasets_brings_its_captions_and_splits(made, ending):
    pytest.importorskip("pyarrow")
    root, records = made
    shutil.copytree(root / "photos", root / "files")
    shutil.rmtree(root / "photos")
    for name, splits in (("train", ("train", "restval")), ("validation", ("val",)), ("test", ("test",))):
        chosen = [record for record in records if record["split"] in splits]
        rows = [
            {
                "image": {"bytes": (root / "files" / one["filename"]).read_bytes(), "path": one["filename"]},
                "caption": [sentence["raw"] for sentence in one["sentences"]],
            }
            for one in chosen
        ]
        save_hub(root / f"photos/{name}/data-00000-of-00001.{ending}", rows)
    data = source(root, None)
    assert numbers(data.split("val")) == [2, 6, 10, 14, 18, 22]
    assert numbers(data.split("test")) == [3, 7, 11, 15, 19, 23]
    assert data.split("test").captions[:2] == ["white beside red", "the left is white"]
    found = RegionExtractor(None, backbone=Pixels(), regions=4)([root / "files/07.png"])
    assert torch.equal(data.split("test").image(1).features, found.features[0].half().float())
    shutil.rmtree(root / "photos/test")
    shutil.rmtree(root / "photos/validation")
    by_name = source(root, None, val_share=0.3, test_share=0.3)  # there is one split alone
    assert sum(by_name.split(stage).num_images for stage in STAGES) == 12
