import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers_cli import QUIET, error_of, run

from itmatch.cli.running.runs import model_of_run
from itmatch.data import PrecompFolder
from itmatch.vision import RegionExtractor
from itmatch.vision.parts import read_part
from itmatch.vision.relations import BOX_PREDICATES

Image = pytest.importorskip("PIL.Image")
sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "vision"))

from helpers_detectors import save_detector  # noqa: E402
from helpers_prompted import save_prompted  # noqa: E402


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return save_detector("detr", tmp_path_factory.mktemp("detr"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """23 photos of two sizes, and captions of 22 of them, two or three each."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(23):
        shape = (40, 60, 3) if number % 3 else (60, 40, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / f"{number:02d}.png")
    lines = [f"{number:02d}.png\ta dog {number} {c}\n" for number in range(22) for c in range(2 + number % 2)]
    (root / "captions.txt").write_text("".join(lines))
    return root


def files(out):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


def arguments(folder, out, detector, *more):
    sizes = ["--batch-size", 2, "--part-size", 4, "--regions", 5, "--device", "cpu"]
    return ["extract", folder, "--out", out, "--detector", detector, *sizes, *more]


def test_a_folder_that_can_be_trained_on(folder, detector, tmp_path, capsys):
    captions = tmp_path / "captions.txt"
    captions.write_text((folder / "captions.txt").read_text() + "gone.png\ta dog\n")
    assert run(*arguments(folder, tmp_path, detector, "--captions", captions, "--split", "train")) == 0
    said = capsys.readouterr()
    assert "1 of 23 photos have no captions and are left out; the first is '22.png'" in said.out
    assert "captions.txt: 1 name that no photo has" in said.out
    assert "22 of 22 photos, " in said.err
    split = PrecompFolder(tmp_path).split("train")
    assert (split.num_images, split.num_captions, split.image_ids[3]) == (22, 55, "03.png")
    assert split.image(3).features.shape == (5, 16)
    assert split.image(3).labels.shape == (5,)
    assert np.load(tmp_path / "train_sizes.npy")[:2].tolist() == [[40, 60], [60, 40]]
    assert (tmp_path / "train_photos.txt").read_text().splitlines()[0] == str(folder / "00.png")
    assert not (tmp_path / "train.parts").exists()


OWN = """
import torch
from itmatch.vision import Backbone

class Squares(Backbone):
    def __init__(self, value=2):
        self.value = value

    def __call__(self, images):
        return torch.full((len(images), 3, 2, 2), float(self.value))

class Sized(Squares):
    def __init__(self, value):
        self.value = value

class Other:
    pass
"""


def test_a_backbone_of_the_users_own(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("own_backbones.py").write_text(OWN)
    shown = arguments(folder, tmp_path / "out", "none", "--regions", 4, "--backbone")
    assert run(*shown, "own_backbones.Squares") == 0
    assert np.load(tmp_path / "out/photos_ims.npy").tolist() == np.full((23, 4, 3), 2).tolist()
    noted = json.loads((tmp_path / "out/photos_extractor.json").read_text())["init_args"]["backbone"]
    assert noted == {"class_path": "own_backbones.Squares", "init_args": {"value": 2}}
    for name, told in (
        ("own_backbones.Sized", "cannot be built .*'value'"),
        ("own_backbones.Other", "is no itmatch.vision"),
        ("own_backbone.Squares", "no class 'own_backbone.Squares'; the file that defines it must be importable"),
    ):
        assert re.search(f"^--backbone: .*{told}", error_of(capsys, *shown, name))


def test_a_finished_split_is_left_as_it_is(folder, detector, tmp_path, capsys):
    out, captions = tmp_path / "out", ["--captions", folder / "captions.txt"]
    first = arguments(folder, out, detector, *captions, "--split", "train")
    assert run(*first) == 0
    before = files(out)
    assert run(*first) == 0
    assert "train_ims.npy is there already; remove it to extract again" in capsys.readouterr().out
    anew = f"write to another folder, or remove {out}/train_ims.npy to extract train anew"
    for split in ("train", "dev"):  # a folder has one extractor
        refused = error_of(capsys, *arguments(folder, out, detector, "--split", split, "--regions", 4))
        assert refused == f"{out}/train_extractor.json: made with regions 5, now 4; {anew}"
    refused = error_of(capsys, *arguments(folder, out, detector, "--split", "train"))
    assert refused == f"{out}/train_ids.txt: made of 22 photos, now 23, of which '22.png' is new; {anew}"
    (tmp_path / "few.txt").write_text("".join(f"{number:02d}.png\ta cat\n" for number in range(21)))
    fewer = arguments(folder, out, detector, "--split", "train", "--captions", tmp_path / "few.txt")
    refused = error_of_last(capsys, fewer)
    assert f"train_ids.txt: made of '21.png' among 22 photos, now 21 without it; {anew}" in refused
    others = (folder / "captions.txt").read_text().replace("a dog 3 0", "a cat")
    (tmp_path / "others.txt").write_text(others)
    again = arguments(folder, out, detector, "--split", "train", "--captions", tmp_path / "others.txt")
    refused = error_of_last(capsys, again)
    assert f"{out}/train_caps.txt: other captions than those given; remove it to have these written" in refused
    assert files(out) == before
    (out / "train_caps.txt").unlink()
    assert run(*again) == 0
    assert (out / "train_caps.txt").read_text().splitlines()[7] == "a cat"
    assert PrecompFolder(out).split("train").num_captions == 55


def test_a_split_that_is_extracted_anew_keeps_no_file_of_before(folder, detector, tmp_path):
    assert run(*arguments(folder, tmp_path, detector, "--relations", 2, "--min-score", "0.35")) == 0
    assert (tmp_path / "photos_lengths.npy").exists()
    assert (tmp_path / "photos_relations.npy").exists()
    (tmp_path / "photos_ims.npy").unlink()
    assert run(*arguments(folder, tmp_path, detector)) == 0
    assert not (tmp_path / "photos_lengths.npy").exists()
    assert not (tmp_path / "photos_relations.npy").exists()
    assert PrecompFolder(tmp_path, test="photos").split("test").image(3).relations is None


def test_captions_stay_with_their_photos_when_a_split_is_extracted_anew(folder, detector, tmp_path):
    (tmp_path / "all.txt").write_text((folder / "captions.txt").read_text() + "22.png\ta dog\n")
    of_all = arguments(folder, tmp_path / "out", detector, "--captions", tmp_path / "all.txt")
    assert run(*of_all) == 0
    texts, ids = ((tmp_path / "out" / f"photos_{name}.txt").read_text() for name in ("caps", "ids"))
    (tmp_path / "out/photos_ims.npy").unlink()
    assert run(*arguments(folder, tmp_path / "out", detector)) == 0
    assert (tmp_path / "out/photos_caps.txt").read_text() == texts
    assert (tmp_path / "out/photos_ids.txt").read_text() == ids
    assert run(*arguments(folder, tmp_path / "few", detector, "--captions", folder / "captions.txt")) == 0
    (tmp_path / "few/photos_ims.npy").unlink()
    assert run(*arguments(folder, tmp_path / "few", detector)) == 0  # of a photo more
    assert not (tmp_path / "few/photos_caps.txt").exists()
    assert len((tmp_path / "few/photos_ids.txt").read_text().splitlines()) == 23


def test_a_model_that_is_trained_on_a_folder_knows_its_extractor(folder, detector, tmp_path, capsys):
    for split in ("train", "dev", "test"):
        more = ["--split", split, "--captions", folder / "captions.txt"]
        assert run(*arguments(folder, tmp_path / "data", detector, *more)) == 0
    root = ["--data.source.root", tmp_path / "data", "--trainer.max_epochs=1", f"--trainer.logger.save_dir={tmp_path}"]
    assert run("fit", "--config", "chan_features", *root, *QUIET) == 0
    model = model_of_run(tmp_path / "lightning_logs/version_0", [])
    assert model.extractor.spec == RegionExtractor(detector, regions=5).spec
    photo = [folder / "03.png"]
    stored = PrecompFolder(tmp_path / "data").split("train").image(3).features[None]
    torch.testing.assert_close(model.score(photo, ["a dog"]), model.score(stored, ["a dog"]), atol=1e-2, rtol=0)
    noted = tmp_path / "data/dev_extractor.json"
    noted.write_text(noted.read_text().replace('"regions": 5', '"regions": 6'))
    source = PrecompFolder(tmp_path / "data")
    source.split("train")
    with pytest.raises(ValueError, match=r"dev_extractor\.json: regions is 6, that of another split is 5"):
        source.split("val")
    noted.write_text('{"class_path": "no_such_module.Own", "init_args": {}}')
    with pytest.warns(UserWarning, match="models that are trained on it take no photos"):
        assert source.split("val").num_images == 22
    noted.write_text('{"regions": 5}')
    with pytest.raises(ValueError, match="no extractor in it, expected a class_path and its init_args"):
        source.split("val")


def test_relations_of_boxes_that_cmsei_is_trained_on(folder, detector, tmp_path, capsys):
    for split in ("train", "dev", "test"):
        more = ["--split", split, "--captions", folder / "captions.txt", "--relations", 2]
        assert run(*arguments(folder, tmp_path / "data", detector, *more)) == 0
    source = PrecompFolder(tmp_path / "data")
    item, extractor = source.split("train").image(3), RegionExtractor(detector, regions=5, relations=2, device="cpu")
    graph = extractor([folder / "03.png"]).graph
    expected = torch.stack((graph.edge_index[0], graph.predicate, graph.edge_index[1]), -1)
    assert np.load(tmp_path / "data/train_relations.npy").shape == (22, 10, 3)
    assert np.asarray(item.relations).tolist() == expected.tolist()
    assert source.num_predicates == len(BOX_PREDICATES)
    system = {"cmsei_gru": {"embed_dim": 8, "word_dim": 8, "num_predicates": len(BOX_PREDICATES)}}
    text = {"inherits": "cmsei_features", "system": system}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(text))
    run_it = ["--data.source.init_args.root", tmp_path / "data", "--trainer.max_epochs=1", *QUIET]
    capsys.readouterr()
    assert run("fit", "--config", tmp_path / "own.yaml", *run_it) == 0
    assert "rSum" in capsys.readouterr().out


def test_no_relations_where_a_photo_has_one_region(folder, detector, tmp_path):
    assert run(*arguments(folder, tmp_path, detector, "--relations", 2, "--min-score", "1.0")) == 0
    assert np.load(tmp_path / "photos_relations.npy").tolist() == [[[-1, -1, -1]]] * 23
    assert PrecompFolder(tmp_path, test="photos").split("test").num_images == 23


def test_a_corrupt_photo_among_a_hundred(folder, detector, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(100):
        content = (folder / f"{number % 23:02d}.png").read_bytes()
        (photos / f"{number:03d}.png").write_bytes(content[: len(content) // 2] if number == 41 else content)
    assert run(*arguments(photos, tmp_path / "out", detector)) == 0
    said = capsys.readouterr()
    assert "1 photo could not be read, listed in" in said.out
    assert said.err.count("no image that can be read") == 1
    names = (tmp_path / "out/photos_ids.txt").read_text().split()
    assert names == [f"{number:03d}.png" for number in range(100) if number != 41]
    assert (tmp_path / "out/photos_unreadable.txt").read_text().startswith("041.png\t")
    features = np.load(tmp_path / "out/photos_ims.npy")
    assert features.shape == (99, 5, 16)
    np.testing.assert_array_equal(features[60], features[15])  # photos 61 and 15 are the same


def test_a_folder_of_datasets_gives_the_files_of_its_photos(folder, detector, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "caption": [f"a dog {path.stem}"]}
        for path in sorted(folder.glob("*.png"))
    ]
    table = pyarrow.Table.from_pylist(rows)
    (tmp_path / "hub").mkdir()
    with pyarrow.ipc.new_stream(str(tmp_path / "hub/data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    assert run(*arguments(tmp_path / "hub", tmp_path / "out", detector, "--split", "dev")) == 0
    assert run(*arguments(folder, tmp_path / "one", detector, "--split", "dev")) == 0
    found, expected = files(tmp_path / "out"), files(tmp_path / "one")
    differ = {"dev_photos.txt", "dev_caps.txt"}  # where they are; the captions came with them
    assert {name for name in found if found[name] != expected.get(name)} == differ
    assert len((tmp_path / "out/dev_caps.txt").read_text().splitlines()) == 23


def test_classes_of_a_file(folder, tmp_path, capsys):
    model = save_prompted("owlvit", tmp_path / "owl")
    (tmp_path / "classes.txt").write_text("dog\n\nred ball \n")
    more = ["--classes", tmp_path / "classes.txt", "--backbone", "detector"]
    assert run(*arguments(folder, tmp_path / "out", model, *more)) == 0
    assert json.loads((tmp_path / "out/labels.json").read_text()) == ["dog", "red ball"]
    assert run(*arguments(folder, tmp_path / "other", model, *more, "--shard", "1/2")) == 0
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    message = error_of(capsys, *arguments(folder, tmp_path / "other", model, *more))
    assert "plan.json: begun with classes ['dog', 'red ball'], now ['dog', 'cat']" in message


def test_shards_give_the_files_of_one_process(folder, detector, tmp_path, capsys):
    assert run(*arguments(folder, tmp_path / "one", detector)) == 0
    for shard in ("2/3", "1/3"):
        assert run(*arguments(folder, tmp_path / "many", detector, "--shard", shard)) == 0
    assert "2 of 6 parts are missing" in capsys.readouterr().out
    assert run(*arguments(folder, tmp_path / "many", detector)) == 0
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_photos_that_cannot_be_read_are_listed(folder, detector, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("00.png", "01.png", "02.png"):
        (photos / name).write_bytes((folder / name).read_bytes())
    (photos / "01.png").write_bytes((folder / "01.png").read_bytes()[:200])
    assert run(*arguments(photos, tmp_path / "out", detector)) == 0
    assert (tmp_path / "out/photos_ids.txt").read_text() == "00.png\n02.png\n"
    listed = (tmp_path / "out/photos_unreadable.txt").read_text()
    assert listed.startswith(f"01.png\t{photos}/01.png: no image that can be read (")
    assert f"{photos}/01.png: no image" in capsys.readouterr().err
    (photos / "00.png").write_bytes(b"")
    (photos / "02.png").write_bytes(b"")
    assert "none of the 3 photos could be read" in error_of_last(capsys, arguments(photos, tmp_path / "none", detector))
    assert not (tmp_path / "none/photos_ims.npy").exists()


def error_of_last(capsys, words):
    assert run(*words) == 1
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_ten_kills_change_nothing(folder, detector, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # another number of threads rounds otherwise
    begin = [sys.executable, "-m", "itmatch"]
    whole = [*begin, *map(str, arguments(folder, tmp_path / "whole", detector))]
    subprocess.run(whole, check=True, capture_output=True)
    command = [*begin, *map(str, arguments(folder, tmp_path / "killed", detector))]
    random.seed(0)
    kills, parts = 0, tmp_path / "killed/photos.parts"
    while kills < 10:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, deadline = len(list(parts.glob("*.npz"))), time.monotonic() + 60
        while kills % 2 and len(list(parts.glob("*.npz"))) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        if kills % 2 == 0:
            time.sleep(random.uniform(0.1, 6))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        elif not parts.exists():  # it had the time to finish: again, with the files of the last part gone
            (tmp_path / "killed/photos_ims.npy").unlink(missing_ok=True)
        process.wait()
        kills += 1
    subprocess.run(command, check=True, capture_output=True)
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_other_settings_are_refused(folder, detector, tmp_path, capsys):
    assert run(*arguments(folder, tmp_path, detector, "--shard", "1/2")) == 0
    message = error_of(capsys, *arguments(folder, tmp_path, detector, "--min-score", "0.5"))
    way_out = f"write to another folder, or remove {tmp_path}/photos.parts to begin anew"
    assert message.endswith(f"plan.json: begun with min_score 0.0, now 0.5; {way_out}")
    (tmp_path / "list.txt").write_text(str(folder / "03.png"))
    message = error_of(capsys, *arguments(tmp_path / "list.txt", tmp_path, detector))
    assert message.endswith(f"plan.json: begun with 23 photos, now 1, of which '{folder}/03.png' is new; {way_out}")


def test_a_damaged_part_is_named(folder, detector, tmp_path, capsys):
    assert run(*arguments(folder, tmp_path, detector, "--shard", "1/2")) == 0
    part = tmp_path / "photos.parts/000000.npz"
    assert sorted(read_part(part)) == ["boxes", "errors", "features", "good", "labels", "lengths", "scores", "sizes"]
    part.write_bytes(part.read_bytes()[:100])
    found = error_of_last(capsys, arguments(folder, tmp_path, detector))
    assert f"{part}: damaged (" in found
    assert found.endswith("remove it and run again")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "3/2"], "--shard: '3/2', expected i/n, from 1/n to n/n"),
        (["--detector", "none"], "--detector none: needs --backbone"),
        (["--regions", "0"], "regions: 0, expected a whole number"),
    ],
)
def test_options_that_are_no_good(more, message, folder, detector, tmp_path, capsys):
    assert message in error_of(capsys, *arguments(folder, tmp_path, detector, *more))
