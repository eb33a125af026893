"""``itmatch index``, ``search`` and ``serve``: from a run to answers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import DEMO, error_of, on_precomp, run, write_precomp
from helpers_photos import CLIP, COLOURS, Halves, a_photo, halves_model, small_clip, write_photos
from PIL import Image

from itmatch.cli.search import search as search_command
from itmatch.data import RelationScenes
from itmatch.search import Index, Qdrant
from itmatch.training import MatchingTask


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ITMATCH_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on scenes and its index; a folder of features and a run on it."""
    folder = tmp_path_factory.mktemp("made")
    assert run("fit", *DEMO, f"--trainer.logger.save_dir={folder}/scenes") == 0
    write_precomp(folder / "features")
    assert run(*on_precomp("fit", folder / "features", f"--trainer.logger.save_dir={folder}/runs")) == 0
    (folder / "scenes/lightning_logs/version_0").rename(folder / "run")
    (folder / "runs/lightning_logs/version_0").rename(folder / "other")
    assert run("index", folder / "run", "--out", folder / "index") == 0
    return folder


def test_a_run_is_indexed(made, capsys):
    assert run("index", made / "run", "--out", "index") == 0
    line = capsys.readouterr().out
    assert re.fullmatch(r"index: 4 images and 20 captions of RelationScenes test, \d+\.\d MiB\n", line)
    opened, scenes = Index.open("index"), RelationScenes(num_train=8, num_val=4, num_test=4).split("test")
    assert opened.images.ids == scenes.image_ids
    assert opened.captions.texts == scenes.captions
    assert opened.images.pictures[0].startswith("<svg")
    model = MatchingTask.load_from_checkpoint(made / "run/checkpoints/best.ckpt").model
    hits = opened.search(scenes.captions, 4)
    scores = model.score([scenes.image(i).features for i in range(4)], scenes.captions)
    np.testing.assert_allclose(hits.scores, scores.T.sort(1, descending=True).values.detach(), atol=5e-3)


def test_recalls_of_searching_are_those_of_the_test(made, capsys):
    """The figures that ``itmatch test`` prints, counted by hand from what an index of the same run finds."""
    given = ["--data.source.num_test=30", "--ckpt_path", made / "run/checkpoints/best.ckpt"]
    assert run("test", *DEMO, *given) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("test: 30 images, 150 captions")
    printed = {line[:13].strip(): line[13:].split()[:3] for line in lines[place + 2 : place + 4]}
    folder = Path("runs/lightning_logs/version_0")
    written = json.loads((folder / "test_metrics.json").read_text())
    assert run("index", folder, "--out", "index") == 0
    index = Index.open("index")
    owners = index.captions.image_serials()
    images, captions = (side.fragments()[:].to(dtype=torch.float32) for side in (index.images, index.captions))
    right = {
        "image to text": owners[index.search(images, 10, kind="captions").rows] == index.images.serials[:, None],
        "text to image": index.images.serials[index.search(captions, 10, kind="images").rows] == owners[:, None],
    }
    for name, direction in (("image to text", "i2t"), ("text to image", "t2i")):
        found = {k: 100 * right[name][:, :k].any(1).mean() for k in (1, 5, 10)}
        assert [f"{found[k]:.1f}" for k in (1, 5, 10)] == printed[name]
        assert [found[k] for k in (1, 5, 10)] == pytest.approx([written[f"{direction}_r{k}"] for k in (1, 5, 10)])
    assert 0 < found[1] < found[10] < 100
    assert "4 images, 20 captions" in (made / "run/report.html").read_text()


def test_what_the_model_read_is_kept_where_it_is_asked_for(made):
    assert run("index", made / "run", "--out", "index", "--keep_regions") == 0
    item = RelationScenes(num_train=8, num_val=4, num_test=4).split("test").image(3)
    np.testing.assert_allclose(Index.open("index").images.regions(3).features[0], item.features, atol=5e-3)
    assert Index.open(made / "index").images.regions(3) is None


def test_another_split(made, capsys):
    assert run("index", made / "run", "--split", "val", "--out", "index") == 0
    assert "RelationScenes val" in capsys.readouterr().out
    error = error_of(capsys, "index", made / "run", "--split", "dev", "--out", "other")
    assert error == "--split: 'dev', expected train, val or test (see itmatch index --help)"


def test_features_with_a_model_of_any_form(made, capsys):
    MatchingTask.load_from_checkpoint(made / "other/checkpoints/best.ckpt").model.save_pretrained("folder")
    for model in (made / "other", made / "other/checkpoints/last.ckpt", "folder"):
        assert run("index", made / "features", "--model", model, "--out", "index", "--overwrite") == 0
        assert capsys.readouterr().out.startswith("index: 4 images and 8 captions")
    assert run("index", made / "features", "--model", "folder", "--split", "val", "--out", "val") == 0
    assert run("index", made / "features", "--model", "folder", "--split", "dev", "--out", "dev") == 0
    assert Index.open("val").captions.texts == Index.open("dev").captions.texts


def test_mistakes_of_indexing(made, capsys):
    run_, features = made / "run", made / "features"
    Path("empty").mkdir()
    Path("photos").mkdir()
    Path("photos/a.JPG").write_bytes(b"")
    for arguments, expected in (
        ([features, "--out", "x"], f"{features}: no run (no config.yaml), so --model is needed"),
        (["."], "the following arguments are required: --out"),
        ([made, "--out", "x"], f"a checkpoint or a model folder; {made / 'other'} is one"),
        ([run_ / "checkpoints", "--out", "x"], f"a checkpoint or a model folder; {run_} is one"),
        ([run_ / "checkpoints/best.ckpt", "--out", "x"], "a file, expected a folder of a run, of precomputed features"),
        ([run_ / "checkpoints/best.ckpt", "--out", "x"], f"{run_} is one of a run"),
        (["photos", "--model", run_, "--out", "x"], "features of regions, not photos such as a.JPG; itmatch extract"),
        ([run_, "--model", made, "--out", "x"], f"; there is {made}"),
        (["nowhere", "--out", "x"], "nowhere: no such folder, expected a folder of a run, of precomputed features or"),
        ([run_, "--model", "nowhere", "--out", "x"], "nowhere: no such file"),
        ([run_, "--model", made / "other", "--out", "x"], "64 numbers per region, the model takes 6"),
        ([features, "--model", run_, "--out", "x"], "6 numbers per region, the model takes 64"),
        (["empty", "--model", run_, "--out", "x"], "empty"),
        ([run_, "--out", made / "index"], f"{made / 'index'}: there is an index already; --overwrite builds it anew"),
        ([run_, "--out", made / "features"], f"{made / 'features'}: holds"),
        ([run_], "the following arguments are required: --out"),
    ):
        assert expected in error_of(capsys, "index", *arguments), arguments
        assert not Path("x").exists() or not any(Path("x").iterdir())


def test_a_run_may_name_classes_of_its_own_where_they_are_trusted(made, capsys):
    Path("my_scenes.py").write_text("from itmatch.data import RelationScenes\nclass Mine(RelationScenes):\n    pass\n")
    config = (made / "run/config.yaml").read_text().replace("itmatch.data.RelationScenes", "my_scenes.Mine")
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.yaml").write_text(config)
    Path("run/checkpoints/last.ckpt").write_bytes((made / "run/checkpoints/last.ckpt").read_bytes())
    assert "--trust my_scenes" in error_of(capsys, "index", "run", "--out", "index")
    assert "my_scenes" not in sys.modules
    assert run("index", "run", "--out", "index", "--trust", "my_scenes") == 0


def test_texts_find_images(made, capsys):
    hits = Index.open(made / "index").search(["a red dog"], 3)[0]
    assert run("search", made / "index", "a red dog", "--top", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[str(hit.rank), f"{hit.score:.4f}", hit.id] for hit in hits]
    assert run("search", made / "index", "a red dog", "--top", 3, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["query"], found["kind"], found["exact"]) == ("a red dog", "images", True)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in hits]
    assert search_command(made / "index", "a red dog", top=1) is None  # from Python as well
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_words_that_the_model_does_not_know(made, capsys):
    assert run("search", made / "index", "a red xyzzy and a plugh xyzzy", "--top", 1) == 0
    assert capsys.readouterr().err == "itmatch: note: not in the vocabulary: 'xyzzy', 'plugh'\n"
    assert run("search", made / "index", "xyzzy", "--top", 1, "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["unknown"] == ["xyzzy"]
    assert told.err == "itmatch: note: not in the vocabulary: 'xyzzy'; no word is, so what is found is chance\n"
    assert run("search", made / "index", "a red dog", "--json") == 0
    told = capsys.readouterr()
    assert (json.loads(told.out)["unknown"], told.err) == ([], "")


def test_features_find_captions(made, capsys):
    scenes = RelationScenes(num_train=8, num_val=4, num_test=4).split("test")
    np.save("regions.npy", scenes.image(2).features.numpy())
    hits = Index.open(made / "index").search(scenes.image(2).features[None], 2)[0]
    assert run("search", made / "index", "--image", "regions.npy", "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == [hit.text for hit in hits]


def test_a_page_of_the_answers(made, capsys):
    assert run("search", made / "index", "a <b>red</b> dog", "--top", 2, "--html", "out/found.html") == 0
    assert capsys.readouterr().out.endswith("written to out/found.html\n")
    page = Path("out/found.html").read_text()
    assert page.count('class="itm-explain"') == 2
    assert "<h1>a &lt;b&gt;red&lt;/b&gt; dog</h1>" in page
    assert page.count("data:image/svg+xml;base64,") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it needs nothing beside it
    assert run("search", made / "index", "a dog", "--json", "--html", "found.html") == 0
    told = capsys.readouterr()
    json.loads(told.out)
    assert told.err == "written to found.html\n"


def test_photos(tmp_path, capsys):
    write_photos(tmp_path)
    small_clip().save_pretrained("clip")
    assert run("index", ".", "--model", "clip", "--out", "index") == 0
    assert "3 images and 3 captions" in capsys.readouterr().out
    assert run("search", "index", "a red photo", "--top", 1, "--json") == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert Path(hit["picture"]).name == hit["id"]
    assert run("search", "index", "--image", "red.jpg", "--html", "found.html") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(maxsplit=2)[2] for line in lines[:-1]} == {"a red photo", "a green photo", "a blue photo"}
    assert Path("found.html").read_text().count("data:image/jpeg;base64,") == 3
    np.save("regions.npy", np.ones((4, 191)))
    expected = "regions.npy: float64 of shape (4, 191), expected features (regions, 192)"
    assert expected in error_of(capsys, "search", "index", "--image", "regions.npy")
    assert "--split: 'testall'" in error_of(
        capsys, "index", ".", "--model", "clip", "--out", "other", "--split", "testall"
    )


def test_photos_for_a_model_with_an_extractor(tmp_path, capsys):
    Path("photos/below").mkdir(parents=True)
    write_photos(Path("photos/below"))
    Path("photos/broken.jpg").write_bytes(b"nothing")
    halves_model().save_pretrained("model")
    with pytest.warns(UserWarning, match="read") as told:
        assert run("index", "photos", "--model", "model", "--out", "index") == 0
    assert "index: 3 images and 0 captions of photos, " in capsys.readouterr().out
    lines = [str(one.message) for one in told]
    assert lines[0].startswith("photos/broken.jpg: no image that can be read (")
    assert lines[1:] == ["1 of 4 photos could not be read and are left out"]
    assert run("search", "index", "a red photo", "--top", 1) == 0
    line = capsys.readouterr().out.split()
    assert line[3] == f"photos/{line[2]}"
    Path("list.txt").write_text("photos/below/red.jpg\n")
    assert run("index", "list.txt", "--model", "model", "--out", "listed") == 0
    assert "listed: 1 image and 0 captions" in capsys.readouterr().out
    halves_model(extractor=False).save_pretrained("plain")
    for source, expected in (
        ("photos/below", "this model takes features of regions, not photos such as "),
        ("list.txt", "list.txt: a file, expected a folder of features; this model takes no photos"),
    ):
        assert expected in error_of(capsys, "index", source, "--model", "plain", "--out", "other")


def test_photos_with_captions_find_captions_and_photos(tmp_path, capsys):
    Path("photos").mkdir()
    for colour in COLOURS:
        Path(f"photos/{colour}.jpg").write_bytes(a_photo(colour))
    halves_model().save_pretrained("model")
    assert run("index", "photos", "--model", "model", "--out", "index") == 0
    told = "index: holds no captions, so no image finds any; --like FILE finds similar images, and itmatch index PHOTOS"
    assert told in error_of(capsys, "search", "index", "--image", "photos/red.jpg")
    Path("captions.txt").write_text("".join(f"{colour}.jpg\ta {colour} photo\n" for colour in COLOURS))
    given = ["--model", "model", "--captions", "captions.txt"]
    assert run("index", "photos", *given, "--out", "index", "--overwrite") == 0
    assert "index: 3 images and 3 captions of photos, " in capsys.readouterr().out
    assert run("search", "index", "--image", "photos/red.jpg", "--top", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(maxsplit=2)[2] for line in lines) == [f"a {colour} photo" for colour in sorted(COLOURS)]
    assert run("search", "index", "--like", "photos/green.jpg", "--top", 2) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][2:] == ["green.jpg", "photos/green.jpg"]
    assert len(lines) == 2
    assert run("search", "index", "--like", "photos/green.jpg", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["query"], found["kind"], found["hits"][0]["id"]) == ("photos/green.jpg", "images", "green.jpg")
    assert found["hits"][0]["picture"] == str(tmp_path / "photos/green.jpg")
    assert "--html: " in error_of(capsys, "search", "index", "--like", "photos/red.jpg", "--html", "a.html")
    np.save("features.npy", np.ones((2, 3), np.float32))
    assert run("search", "index", "--like", "features.npy") == 0
    capsys.readouterr()
    Path("plain").mkdir()
    np.save("plain/test_ims.npy", np.ones((3, 2, 3), np.float32))
    error = error_of(capsys, "index", "plain", *given, "--out", "other")
    assert "--captions: are for photos alone, and plain/test is a split, whose files hold its own" in error


def test_photos_as_a_shell_gives_them(tmp_path, capsys):
    paths = [Path(f"{colour}.jpg") for colour in COLOURS]
    for path in paths:
        path.write_bytes(a_photo(path.stem))
    halves_model().save_pretrained("model")
    halves_model(extractor=False).save_pretrained("plain")
    assert run("index", *paths, "--model", "model", "--out", "index") == 0
    assert "index: 3 images and 0 captions of red.jpg green.jpg blue.jpg, " in capsys.readouterr().out
    assert Index.open("index").images.ids == list(map(str, paths))
    Path("folder").mkdir()
    for sources, model, expected in (
        ([*paths, "folder"], "model", "folder: a folder among 4 sources; give one source, or several photos"),
        ([*paths, "model/config.json"], "model", "model/config.json: no photo among 4 sources"),
        (paths, "plain", "red.jpg: a photo; this model takes features of regions, not photos"),
    ):
        assert expected in error_of(capsys, "index", *sources, "--model", model, "--out", "other")


def test_photos_find_the_captions_of_features(tmp_path, capsys):
    Path("photos").mkdir()
    write_photos(Path("photos"))
    regions = Halves()([Image.open(f"photos/{colour}.jpg") for colour in COLOURS])
    np.save("test_ims.npy", regions.features.numpy())
    Path("test_caps.txt").write_text("".join(f"a {colour} photo\n" for colour in COLOURS))
    halves_model().save_pretrained("model")
    assert run("index", ".", "--model", "model", "--out", "index") == 0
    assert "3 images and 3 captions" in capsys.readouterr().out
    assert run("search", "index", "--image", "photos/red.jpg", "--html", "found.html") == 0
    found = capsys.readouterr().out.splitlines()[:-1]
    np.save("red.npy", regions.features[0].numpy())
    assert run("search", "index", "--image", "red.npy") == 0
    assert capsys.readouterr().out.splitlines() == found
    page = Path("found.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert "left" in page  # what the extractor calls a region
    Path("bad.jpg").write_bytes(b"nothing")
    assert "bad.jpg: no image that can be read" in error_of(capsys, "search", "index", "--image", "bad.jpg")


def test_photos_by_a_clip_of_transformers(tmp_path, capsys, tiny_bert):
    from transformers import CLIPConfig, CLIPModel

    CLIPModel(CLIPConfig(**{name: value for name, value in CLIP.items() if name != "model_type"})).save_pretrained(
        "clip"
    )
    for file in Path(tiny_bert).iterdir():
        if "token" in file.name or file.name == "vocab.txt":
            shutil.copy(file, "clip")
    write_photos(tmp_path)
    for path in tmp_path.glob("*.txt"):
        path.unlink()  # photos and nothing else
    assert run("index", ".", "--model", "clip", "--out", "index") == 0
    assert "3 images and 0 captions" in capsys.readouterr().out
    assert run("search", "index", "a dog", "--top", 1, "--json") == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["id"] in ("red.jpg", "green.jpg", "blue.jpg")


def test_mistakes_of_searching(made, capsys):
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff")
    np.save("regions.npy", np.ones((4, 192)))
    index = made / "index"
    shutil.copytree(index, "near/index")
    model = next(index.glob("model-*"))
    for arguments, expected in (
        (["nowhere", "a dog"], "nowhere: no such folder"),
        (
            [made / "run", "a dog"],
            f"{made / 'run'}: no index in it; itmatch index {made / 'run'} --out INDEX makes one",
        ),
        (["near", "a dog"], "near: no index in it; near/index is one"),
        ([model, "a dog"], f"{model}: no index in it; {made / 'index'} is one"),
        ([made / "features", "a dog"], f"{made / 'features'}"),
        ([index], "either TEXT, --image FILE or --like FILE has to be given"),
        ([index, "a", "--image", "photo.jpg"], "either TEXT, --image FILE or --like FILE has to be given"),
        ([index, "a", "--top", "0"], "--top: 0, expected 1 or more"),
        ([index, " "], "an empty caption"),
        ([index, "--image", "photo.jpg"], "photo.jpg: this model takes features of regions, not photos"),
        ([index, "--image", "missing.npy"], "missing.npy: no such file"),
        ([index, "a", "--html", "/proc/found.html"], "/proc/found.html: cannot be written"),
        (
            [index, "photo.jpg"],
            f"photo.jpg: a file, not a text; itmatch search {index} --image photo.jpg finds captions",
        ),
        ([index, "regions.npy"], "regions.npy: a file, not a text;"),
        (["a red dog", index], f"a red dog: no such folder; INDEX comes first: itmatch search {index} 'a red dog'"),
    ):
        assert expected in error_of(capsys, "search", *arguments), arguments


def test_an_index_with_qdrant(made, capsys, monkeypatch):
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    model = MatchingTask.load_from_checkpoint(made / "run/checkpoints/best.ckpt").model
    scenes = RelationScenes(num_train=8, num_val=4, num_test=4).split("test")
    Index.build(model, scenes, "index", engine=Qdrant(path="edge")).engine.close()
    assert run("search", made / "index", "a red dog", "--json") == 0
    expected = json.loads(capsys.readouterr().out)["hits"]
    for option in ([], ["--qdrant", "edge"], ["--qdrant", "edge"]):  # which is let go of
        assert run("search", "index", "a red dog", "--json", *option) == 0
        told = capsys.readouterr()
        assert ([hit["id"] for hit in json.loads(told.out)["hits"]], told.err) == ([hit["id"] for hit in expected], "")
    monkeypatch.setattr("itmatch.search.answers.PAYS", 2)
    assert run("search", "index", "a red dog") == 0
    note = "itmatch: note: index: every row is scored; the index says that its first stage is at 'edge', and --qdrant "
    assert capsys.readouterr().err == f"{note}FOLDER or URL uses it\n"
    proposed = []
    monkeypatch.setattr(Qdrant, "propose", lambda *given, own=Qdrant.propose: proposed.append(1) or own(*given))
    assert run("search", "index", "a red dog", "--qdrant", "edge") == 0
    assert proposed
    assert capsys.readouterr().err == ""
    for command in (["search", "index", "a dog"], ["serve", "index"]):
        assert "nowhere: no such folder, expected that of Qdrant" in error_of(capsys, *command, "--qdrant", "nowhere")
    assert "was not built with Qdrant" in error_of(capsys, "search", made / "index", "a dog", "--qdrant", "edge")


@pytest.fixture
def serving(made):
    """The command in a process of its own, and the address that it prints."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "itmatch", "serve", str(made / "index"), "--port", "0", *arguments]
        # a shell has what it starts in the background ignore Ctrl-C, and children inherit that
        usual = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, **pipes, text=True, preexec_fn=usual)
        started.append(process)
        line = process.stdout.readline()
        found = re.fullmatch(r"\S+: 4 images, 20 captions; open (http://\S+/) \(Ctrl-C ends it\)\n", line)
        assert found is not None, line
        return process, found[1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status", "out", "err"),
    [(signal.SIGINT, 0, "ended\n", ""), (signal.SIGTERM, 143, "", "itmatch: stopped by SIGTERM\n")],
)
def test_the_page_is_served_until_ctrl_c(serving, number, status, out, err):
    process, address = serving()
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{address}search?q=a+dog&top=2") as answer:
        assert len(json.load(answer)["hits"]) == 2
    waiting = socket.create_connection(("127.0.0.1", int(address.rsplit(":")[-1].strip("/"))))  # says nothing
    os.kill(process.pid, number)
    told = process.communicate(timeout=90)
    waiting.close()
    assert (process.returncode, *told) == (status, out, err)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address)


def test_who_can_reach_the_page_is_told(serving):
    process, address = serving("--host", "0.0.0.0")
    assert address.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert err.startswith("itmatch: warning: --host 0.0.0.0: whoever can reach this machine can search")


def test_mistakes_of_serving(made, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = error_of(capsys, "serve", made / "index", "--port", port)
        assert error == f"127.0.0.1 port {port}: cannot be listened at (Address already in use)"
    assert str(made / "features") in error_of(capsys, "serve", made / "features")
    assert "port 70000" in error_of(capsys, "serve", made / "index", "--port", "70000")
