"""The preset ``photos``: from a folder of photos with captions to a model that takes photos."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch
from helpers_cli import QUIET, error_of, run
from helpers_photo_folder import write_captions, write_photos
from helpers_pretrained import save_backbone, save_dual_encoder

from itmatch.cli.running.runs import model_of_run
from itmatch.data import PhotoPatches
from itmatch.nn import HardAligningSimilarity
from itmatch.search import Index
from itmatch.vision import RegionExtractor

SMALL = [*QUIET, "--data.batch_size=8", "--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.num_workers=0"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of photos with captions, a backbone, and a run on both."""
    root = tmp_path_factory.mktemp("photos")
    write_captions(root / "captions.json", write_photos(root / "photos"))
    save_backbone(root / "backbone")
    assert run("fit", *options(root), f"--trainer.logger.save_dir={root}") == 0
    (root / "lightning_logs/version_0").rename(root / "run")
    return root


def options(root, preset="photos"):
    source = {"root": "photos", "captions": "captions.json", "cache": "cache"}
    extractor = ["detector=none", f"backbone={root}/backbone", "regions=4"] if preset == "photos" else []
    return [
        *("--config", preset),
        *(f"--data.source.{name}={root}/{value}" for name, value in source.items()),
        *(f"--data.source.extractor.{setting}" for setting in extractor),
        *SMALL,
    ]


def test_the_model_of_a_run_takes_photos(made, tmp_path, capsys):
    model = model_of_run(made / "run", [])
    expected = RegionExtractor(None, backbone=f"{made}/backbone", regions=4)
    assert isinstance(model.extractor, RegionExtractor)
    assert (model.extractor.detector, model.extractor.backbone) == (None, f"{made}/backbone")
    assert model.encode_images([made / "photos/00.png"]).features.shape == (1, 4, 256)
    model.save_pretrained(tmp_path / "model")
    photo = made / "photos/07.png"
    assert model.score(photo, ["red"]).equal(model.score(expected([photo]), ["red"]))
    for name, given in {"of_run": made / "run", "of_model": tmp_path / "model"}.items():
        assert run("index", made / "photos", "--model", given, "--out", tmp_path / name) == 0
        assert f"{tmp_path / name}: 24 images" in capsys.readouterr().out
    assert run("search", tmp_path / "of_run", "red beside green", "--html", tmp_path / "page.html") == 0
    assert "data:image" in (tmp_path / "page.html").read_text()


def test_the_report_shows_the_photos(made):
    assert "data:image/jpeg" in (made / "run/report.html").read_text()


def test_a_run_is_indexed_from_its_cache(made, tmp_path, capsys):
    assert run("index", made / "run", "--out", tmp_path / "index") == 0
    said = capsys.readouterr()
    assert "6 images and 12 captions" in said.out
    assert "extracting" not in said.err
    assert Index.open(tmp_path / "index").images.pictures[0] == f"{made}/photos/03.png"


def test_a_test_on_regions_that_were_made_otherwise_is_warned_of(made, tmp_path):
    config = ["--config", made / "run/config.yaml", "--ckpt_path", made / "run/checkpoints/best.ckpt"]
    where = f"--trainer.logger.save_dir={tmp_path}"
    with warnings.catch_warnings():
        for message in ("the regions of the data", "The dirpath has changed"):  # the run was moved
            warnings.filterwarnings("error", message=message)
        assert run("test", *config, where) == 0
    shutil.copytree(made / "backbone", tmp_path / "other")
    told = "the regions of the data are not those that the model was trained on: backbone is"
    with pytest.warns(UserWarning, match=told):
        assert run("test", *config, where, f"--data.source.extractor.backbone={tmp_path}/other") == 0


@pytest.mark.parametrize("name", ["clip_vitb32", "siglip2_base"])
@pytest.mark.parametrize("similarity", ["cosine", "hard"])
def test_a_dual_encoder_by_its_folder(name, similarity, made, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    model = save_dual_encoder(name.split("_")[0].removesuffix("2"), tmp_path / "model")
    named = [*options(made, name), f"--system.model_name={model}"]
    if similarity == "hard":
        named += ["--model.similarity=HardAligningSimilarity", "--model.similarity.pooling=MeanPooling"]
    assert run("test", *named, f"--trainer.logger.save_dir={tmp_path}/before") == 0  # as it is, without training
    before = capsys.readouterr()
    assert "the weights are random, or pretrained" in before.err
    assert run("fit", *named, f"--trainer.logger.save_dir={tmp_path}") == 0
    folder = tmp_path / "lightning_logs/version_0"
    trained = model_of_run(folder, [])
    assert isinstance(trained.extractor, PhotoPatches)
    shutil.rmtree(model)  # the run needs it no more
    assert run("index", made / "photos", "--model", folder, "--out", tmp_path / "index") == 0
    assert len(Index.open(tmp_path / "index").images) == 24


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_patches_and_words_without_training(family, made, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    named = ["--model", save_dual_encoder(family, tmp_path / "model")]
    for name, more in {"whole": [], "aligned": ["--align"]}.items():
        assert run("index", made / "photos", *named, *more, "--out", tmp_path / name) == 0
    whole, aligned = (Index.open(tmp_path / name) for name in ("whole", "aligned"))
    assert isinstance(aligned.model.similarity, HardAligningSimilarity)
    assert not isinstance(whole.model.similarity, HardAligningSimilarity)
    hits = aligned.search(["red beside green"], top=24)
    scores = aligned.model.score([made / "photos" / name for name in hits.ids[0]], ["red beside green"])[:, 0]
    torch.testing.assert_close(torch.as_tensor(hits.scores[0]), scores, atol=1e-3, rtol=0)
    assert run("search", tmp_path / "aligned", "red beside green", "--html", tmp_path / "page.html") == 0
    refused = error_of(capsys, "index", made / "photos", "--model", made / "run", "--align", "--out", tmp_path / "no")
    assert refused.startswith(f"--align: {made}/run is no CLIP or SigLIP of transformers, and scores as it was trained")


def test_a_missing_dual_encoder_is_named(made, tmp_path, capsys):
    named = [*options(made, "clip_vitb32"), f"--system.model_name={tmp_path}/none"]
    error = error_of_last(capsys, "fit", *named)
    assert f"model '{tmp_path}/none': no such folder here" in error


def test_a_missing_detector_is_named(made, tmp_path, capsys):
    given = [one for one in options(made) if "extractor" not in one]
    error = error_of_last(capsys, "fit", *given, f"--data.source.extractor.detector={tmp_path}/none")
    assert f"detector '{tmp_path}/none'" in error
    assert not (Path(made) / "lightning_logs/version_1").exists()


def test_an_extraction_that_fails_is_tried_once(made, tmp_path, capsys, monkeypatch):
    tried = []

    def fail(self, photos):
        tried.append(len(photos))
        raise ValueError("it fails")

    monkeypatch.setattr(RegionExtractor, "__call__", fail)
    error = error_of_last(capsys, "fit", *options(made), f"--data.source.cache={tmp_path}/new")
    assert error == "itmatch: error: it fails"
    assert len(tried) == 1


def error_of_last(capsys, *words):
    assert run(*words) == 1
    return capsys.readouterr().err.splitlines()[-1]
