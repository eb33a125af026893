import csv
import gc
import json
import os
import re
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Union
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from helpers_cli import DEMO, error_of, on_precomp, run, write_precomp
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.cli import LightningArgumentParser

from itmatch import __version__
from itmatch.__main__ import RUN_COMMANDS, _imports
from itmatch.cli.running.help import kept_help, made_help
from itmatch.cli.training import _take_integers_first
from itmatch.data import RelationScenes, WordTokenizer
from itmatch.evaluation import top_k
from itmatch.nn import GRUTextEncoder
from itmatch.training import MatchingTask, read_fragments
from itmatch.training.checkpoints.writing import BestCheckpoint

TOP_K = """
import torch
from itmatch.nn import Similarity


class TopKSimilarity(Similarity):
    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.k = k

    def forward(self, image, text):
        s = torch.einsum("ird,twd->itrw", image.features, text.features)
        s = s.masked_fill(~image.mask[:, None, :, None], -1.0).topk(self.k, dim=2).values.mean(2)
        return (s * text.mask).sum(-1) / text.mask.sum(-1)
"""


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a run of the demo, made small."""
    folder = tmp_path_factory.mktemp("trained")
    assert run("fit", *DEMO, f"--trainer.logger.save_dir={folder}", "--trainer.max_epochs=2") == 0
    return folder / "lightning_logs" / "version_0"


def evaluation(trained, command, *args, checkpoint="best"):
    """Arguments of a command on the run ``trained``."""
    checkpoint = trained / "checkpoints" / f"{checkpoint}.ckpt"
    return (
        command,
        "--config",
        trained / "config.yaml",
        "--ckpt_path",
        checkpoint,
        "--trainer.logger.save_dir=.",
        *args,
    )


def evaluated(trained, command, *args, checkpoint="best"):
    return run(*evaluation(trained, command, *args, checkpoint=checkpoint))


def figures(path):
    return json.loads(Path(path).read_text())


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_equal_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# --------------------------------------------------------------------------------------------------- what runs write


def test_fit_writes_what_it_should_and_prints_the_recalls(capsys):
    assert run("fit", *DEMO) == 0
    printed = capsys.readouterr()
    assert "image to text" in printed.out
    assert "rSum" in printed.out
    assert printed.err == ""
    folder = Path("runs/lightning_logs/version_0")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "report.html",
        "test_metrics.json",
        "test_ranks.npz",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    assert 0 < figures(folder / "test_metrics.json")["rsum"] <= 600
    logged = {name for row in csv.DictReader((folder / "metrics.csv").open()) for name, value in row.items() if value}
    assert {"train/loss", "val/rsum", "test/rsum", "epoch"} <= logged


def test_test_gives_the_figures_of_the_closing_test_and_prints_them_once(trained, capsys):
    assert evaluated(trained, "test") == 0
    printed = capsys.readouterr().out
    assert printed.count("rSum") == 1
    assert "Test metric" not in printed  # Lightning's table of the same figures
    assert figures("lightning_logs/version_0/test_metrics.json") == figures(trained / "test_metrics.json")


@pytest.mark.parametrize("there", [False, True])
def test_a_start_that_fails_leaves_no_folder(there, capsys, monkeypatch):
    if there:
        Path("runs").mkdir()
        Path("runs/notes.txt").write_text("mine")

    def fail(*_):
        raise ValueError("the first batch is broken")

    monkeypatch.setattr(MatchingTask, "training_step", fail)
    assert "the first batch is broken" in error_of(capsys, "fit", *DEMO)
    assert [str(path) for path in Path().rglob("*")] == (["runs", "runs/notes.txt"] if there else [])


def test_what_fails_later_keeps_its_folder(capsys, monkeypatch):
    def fail(*_):
        raise ValueError("the validation is broken")

    monkeypatch.setattr(MatchingTask, "on_train_epoch_end", fail)
    assert "the validation is broken" in error_of(capsys, "fit", *DEMO)
    assert Path("runs/lightning_logs/version_0/config.yaml").is_file()


def test_the_folder_of_the_trainer_is_that_of_the_runs(capsys):
    assert run("fit", *DEMO, "--test_after_fit=false", "--trainer.default_root_dir=mine") == 0
    assert Path("mine/lightning_logs/version_0/config.yaml").is_file()
    assert not Path("runs").exists()


def test_the_closing_test_can_be_left_out(capsys):
    assert run("fit", *DEMO, "--test_after_fit=false") == 0
    printed = capsys.readouterr().out
    assert "image to text" not in printed
    assert re.fullmatch(r"epoch 0  loss \d+\.\d{4}  rSum \d+\.\d  \d+ s\nreport: \S+/report\.html\n", printed)


def test_a_short_run_says_what_there_is_and_nothing_else(capsys):
    """Without options that keep it quiet: no table of Lightning's, no warnings, a line an epoch."""
    loud = [option for option in DEMO if "summary" not in option and "log_every" not in option]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*log_every_n_steps.*")
        assert run("fit", *loud, "--test_after_fit=false", "--trainer.max_epochs=2") == 0
    printed = capsys.readouterr()
    sizes = r"parameters: \d+ K in the image encoder, \d+ K in the text encoder; \d+ K are trained\n"
    epochs = "".join(rf"epoch {epoch}  loss \d+\.\d{{4}}  rSum \d+\.\d  \d+ s\n" for epoch in (0, 1))
    assert re.fullmatch(rf"{sizes}{epochs}report: \S+/report\.html\n", printed.out), printed.out
    assert printed.err == ""


def test_a_progress_bar_takes_the_place_of_the_line_of_an_epoch(capsys):
    assert run("fit", *DEMO, "--test_after_fit=false", "--trainer.enable_progress_bar=true") == 0
    assert not re.search("^epoch 0  loss", capsys.readouterr().out, re.MULTILINE)


def test_validate_gives_the_figures_by_which_the_best_was_chosen(trained):
    assert evaluated(trained, "validate") == 0
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    best = max(float(row["val/rsum"]) for row in rows if row.get("val/rsum"))
    assert figures("lightning_logs/version_0/val_metrics.json")["rsum"] == pytest.approx(best)


def test_predict_writes_the_encodings_of_the_model(trained):
    assert evaluated(trained, "predict", "--fragments.dirpath=out", "--data.eval_batch_size=3") == 0
    model = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model
    config = yaml.safe_load((trained / "config.yaml").read_text())["data"]["source"]["init_args"]
    dataset = RelationScenes(**config).split("test")
    images, index, ids = read_fragments("out/images.safetensors")
    assert ids == dataset.image_ids
    assert index.tolist() == list(range(4))
    for i in range(4):
        regions = dataset.image(i).features[None]
        torch.testing.assert_close(images.features[i][images.mask[i]], model.encode_images(regions).features[0])
    captions, index, ids = read_fragments("out/captions.safetensors")
    assert ids == [[dataset.image_ids[image], i] for i, image in enumerate(dataset.caption_image)]
    expected = model.encode_texts(dataset.captions)
    assert torch.equal(captions.mask, expected.mask)
    torch.testing.assert_close(captions.features[captions.mask], expected.features[expected.mask])


def test_a_second_prediction_replaces_the_first_only_if_told_to(trained, capsys):
    assert evaluated(trained, "predict", "--fragments.dirpath=out") == 0
    before = Path("out/captions.safetensors").stat().st_mtime_ns
    message = error_of(capsys, *evaluation(trained, "predict", "--fragments.dirpath=out"))
    assert message == "out/images.safetensors: there is one already; --fragments.overwrite true replaces it"
    assert Path("out/captions.safetensors").stat().st_mtime_ns == before
    assert evaluated(trained, "predict", "--fragments.dirpath=out", "--fragments.overwrite=true") == 0
    assert Path("out/captions.safetensors").stat().st_mtime_ns > before


def test_another_split_can_be_predicted(trained):
    assert evaluated(trained, "predict", "--fragments.dirpath=out", "--data.predict_stage=train") == 0
    assert len(read_fragments("out/images.safetensors")[1]) == 8


# ---------------------------------------------------------------------------------------------------- configurations


def test_the_saved_configuration_is_a_fixed_point(trained):
    saved = trained / "config.yaml"
    assert run("fit", "--config", saved, "--trainer.logger.save_dir=.") == 0
    folder = Path("lightning_logs/version_0")
    again, before = yaml.safe_load((folder / "config.yaml").read_text()), yaml.safe_load(saved.read_text())
    assert again["trainer"]["logger"]["init_args"].pop("save_dir") == "."
    before["trainer"]["logger"]["init_args"].pop("save_dir")
    assert again == before
    assert_equal_weights(folder / "checkpoints/last.ckpt", trained / "checkpoints/last.ckpt")
    assert figures(folder / "test_metrics.json") == figures(trained / "test_metrics.json")


@pytest.mark.parametrize("how", [["--config", "demo"], ["--config", "preset:demo"], ["--config=demo"], ["-c", "demo"]])
def test_presets_are_named_after_config(how, capsys):
    assert run("fit", *how, "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["batch_size"] == 64


def test_later_files_and_options_win(capsys):
    Path("mine.yaml").write_text("data: {batch_size: 7, eval_batch_size: 5}\n")
    assert run("fit", "--config", "demo", "--config", "mine.yaml", "--data.batch_size=3", "--print_config") == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    assert (data["batch_size"], data["eval_batch_size"]) == (3, 5)


def test_a_folder_of_the_name_of_a_preset_does_not_hide_it(capsys):
    Path("demo").mkdir()
    Path("other").mkdir()
    assert run("fit", "--config", "demo", "--print_config") == 0
    assert error_of(capsys, "fit", "--config", "other") == "--config other: a folder, expected a file"


WRONG = {
    "preset": (["--config", "nopreset"], "no preset 'nopreset'; there are .*demo"),
    "prefixed preset": (["--config", "preset:nopreset"], "no preset 'nopreset'"),
    "file": (["--config", "no.yaml"], "--config no.yaml: no such file"),
    "nothing": ([], "required: model.image_encoder.*data.source.*itmatch presets"),
    "value": ([*DEMO, "--data.batch_size=0"], "batch_size: 0, expected a whole number"),
    "value in a part": ([*DEMO, "--data.source.init_args.num_val=3"], "num_val"),
    "parts that do not fit": ([*DEMO, "--model.image_encoder.init_args.embed_dim=8"], "embedding sizes differ: .* 8"),
    "learning rate": ([*DEMO, "--model.lr_scale={nothing: 0.1}"], r"lr_scale: no parameter begins with \['nothing'\]"),
    "device": ([*DEMO, "--trainer.accelerator=nothing"], "accelerator.*nothing"),
    "GPU": ([*DEMO, "--trainer.accelerator=gpu"], "^--trainer.accelerator gpu: PyTorch finds none on this machine"),
    "logger": ([*DEMO, "--trainer.logger=NoLogger"], "trainer.logger.*NoLogger"),
    "checkpoint": ([*DEMO, "--ckpt_path=no.ckpt"], "^no.ckpt: no such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_in_one_line(name, capsys, monkeypatch):
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    arguments, expected = WRONG[name]
    assert re.search(expected, error_of(capsys, "fit", *arguments))


def test_the_configuration_of_a_checkpoint_is_named(capsys):
    Path("run/checkpoints").mkdir(parents=True)
    for file in ("config.yaml", "checkpoints/best.ckpt"):
        Path("run", file).touch()
    for given in (["--ckpt_path", "run/checkpoints/best.ckpt"], ["--ckpt_path=run/checkpoints/best.ckpt"]):
        message = error_of(capsys, "test", *given)
        assert message.endswith(" (give --config run/config.yaml, the settings of that run)")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("modell: {a: 1}", "modell"),
        ("model: {similarity: {class_path: itmatch.nn.CosineSimilarity, init_args: {nokey: 1}}}", "nokey"),
        ("data: {batch_sise: 3}", "batch_sise"),
        ("trainer: {max_epochs: [1]}", "trainer.max_epochs"),
        ("model: [", "mine.yaml:2: no configuration"),
        ("3", "mine.yaml: holds a int, expected settings by name"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_line(content, expected, capsys):
    Path("mine.yaml").write_text(content)
    assert re.search(expected, error_of(capsys, "fit", *DEMO, "--config", "mine.yaml"))


def test_the_traceback_is_there_for_who_wants_it(monkeypatch):
    monkeypatch.setenv("ITMATCH_DEBUG", "1")
    with pytest.raises(ValueError, match="batch_size: 0"):
        run("fit", *DEMO, "--data.batch_size=0")


def test_a_mistake_in_a_program_keeps_its_traceback(tmp_path):
    Path("broken_similarity.py").write_text(TOP_K.replace("image.mask", "image.masque"))
    with pytest.raises(AttributeError, match="masque"):
        run("fit", *DEMO, "--model.similarity=broken_similarity.TopKSimilarity")


def test_a_missing_extra_is_told_in_one_line(capsys):
    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    message = error_of(capsys, "fit", *DEMO, "--trainer.logger=WandbLogger")
    assert message.startswith("Requirement 'wandb")
    assert "Namespace" not in message


def test_tensorboard():
    pytest.importorskip("tensorboard")
    assert run("fit", *DEMO, "--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=tb") == 0
    folder = Path("tb/lightning_logs/version_0")
    assert list(folder.glob("events.out.tfevents.*"))
    assert (folder / "test_metrics.json").exists()


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_a_class_in_a_file_of_the_users(capsys):
    Path("my_similarity.py").write_text(TOP_K)
    flags = ["--model.similarity=my_similarity.TopKSimilarity", "--model.similarity.k=2"]
    assert run("fit", *DEMO, *flags) == 0
    folder = Path("runs/lightning_logs/version_0")
    checkpoint = folder / "checkpoints/best.ckpt"
    assert MatchingTask.load_from_checkpoint(checkpoint).model.similarity.k == 2
    assert run("test", "--config", folder / "config.yaml", "--ckpt_path", checkpoint) == 0
    assert figures("runs/lightning_logs/version_1/test_metrics.json") == figures(folder / "test_metrics.json")
    Path("mine.yaml").write_text("model: {similarity: {class_path: my_similarity.TopKSimilarity, init_args: {k: 2}}}")
    assert run("fit", *DEMO, "--config", "mine.yaml") == 0
    assert_equal_weights("runs/lightning_logs/version_2/checkpoints/last.ckpt", folder / "checkpoints/last.ckpt")
    assert "itmatch: warning" not in capsys.readouterr().err


TERMS = """
model:
  image_encoder: {init_args: {pooling: itmatch.nn.MeanPooling}}
  text_encoder: {init_args: {pooling: itmatch.nn.MeanPooling}}
  objective:
    class_path: itmatch.losses.Objective
    init_args:
      terms:
        triplet: {class_path: itmatch.losses.HardNegativeTripletLoss, init_args: {margin: 0.1}}
        center: {class_path: itmatch.losses.CenterHingeLoss, init_args: {variant: compactness}}
      weights: {center: 0.5}
      ramp: {center: 1}
"""


def test_an_objective_of_several_terms(capsys):
    Path("terms.yaml").write_text(TERMS)
    assert run("fit", *DEMO, "--config", "terms.yaml") == 0
    folder = Path("runs/lightning_logs/version_0")
    logged = {name for row in csv.DictReader((folder / "metrics.csv").open()) for name, value in row.items() if value}
    assert {"train/loss", "train/loss_triplet", "train/loss_center", "train/positive"} <= logged
    checkpoint = folder / "checkpoints/best.ckpt"
    objective = MatchingTask.load_from_checkpoint(checkpoint, weights_only=True).objective
    assert objective.terms["triplet"].margin == 0.1
    assert objective.terms["center"].variant == "compactness"
    assert (objective.weights, objective.ramp["center"]) == ({"triplet": 1.0, "center": 0.5}, 1)
    assert capsys.readouterr().err == ""
    assert run("test", "--config", folder / "config.yaml", "--ckpt_path", checkpoint) == 0
    assert capsys.readouterr().err == ""  # the names of the classes in checkpoint and configuration are one
    other = folder / "other.yaml"
    other.write_text((folder / "config.yaml").read_text().replace("margin: 0.1", "margin: 0.3"))
    assert run("test", "--config", other, "--ckpt_path", checkpoint) == 0
    told = capsys.readouterr().err
    assert told.endswith("given: model.objective.init_args.terms.triplet.init_args.margin is 0.1, not 0.3\n")
    assert run("fit", "--config", folder / "config.yaml") == 0
    again = Path("runs/lightning_logs/version_3")
    assert_equal_weights(again / "checkpoints/last.ckpt", folder / "checkpoints/last.ckpt")
    saved, before = (yaml.safe_load((place / "config.yaml").read_text())["model"] for place in (again, folder))
    assert saved == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "{pooling: itmatch.nn.MeanPooling}",
            "{}",
            "objective, term 'center': CenterHingeLoss takes one vector .*pool",
        ),
        (
            "weights: {center",
            "weights: {centre",
            r"weights: no term is named 'centre'; there are \['center', 'triplet'",
        ),
        ("margin: 0.1", "margins: 0.1", "model.objective.*margins"),
        ("variant: compactness", "variant: dense", "variant.*dense"),
        ("losses.CenterHingeLoss", "nn.MeanPooling", "model.objective.*MeanPooling"),
    ],
)
def test_a_mistake_in_a_term_is_told_in_one_line(old, new, expected, capsys):
    Path("terms.yaml").write_text(TERMS.replace(old, new))
    assert re.search(expected, error_of(capsys, "fit", *DEMO, "--config", "terms.yaml"))


def test_a_checkpoint_that_says_the_same_as_the_options_is_no_matter_of_warning(trained, capsys):
    checkpoint = trained / "checkpoints/best.ckpt"
    linked = ["--model.text_encoder.init_args.vocabulary=9", "--model.image_encoder.init_args.in_features=9"]
    assert run("test", *DEMO, *linked, "--ckpt_path", checkpoint) == 0  # the preset names itmatch.nn.RegionEncoder
    assert capsys.readouterr().err == ""


def test_the_checkpoint_wins_and_says_so(trained, capsys):
    flags = [
        "--model.image_encoder.init_args.embed_dim=8",
        "--model.similarity=itmatch.nn.SoftAligningSimilarity",
        "--model.similarity.temperature=0.5",
        "--model.objective.init_args.margin=0.7",
    ]
    assert evaluated(trained, "test", *flags) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("itmatch: warning: the checkpoint's settings win")
    assert "model.image_encoder.init_args.embed_dim is 16, not 8" in lines[0]
    assert "model.objective.init_args.margin is 0.2, not 0.7" in lines[0]
    assert "model.similarity.class_path is" in lines[0]
    assert "temperature" not in lines[0]  # an argument of the class that is not used
    assert "vocabulary" not in lines[0]
    assert figures("lightning_logs/version_0/test_metrics.json") == figures(trained / "test_metrics.json")


def test_an_evaluation_without_a_checkpoint_is_warned_of(trained, capsys):
    assert run("test", "--config", trained / "config.yaml", "--trainer.logger.save_dir=.") == 0
    told = "test without --ckpt_path: the weights are random, or pretrained"
    assert capsys.readouterr().err == f"itmatch: warning: {told}\n"


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_file_that_is_no_checkpoint(content, trained, capsys):
    good = (trained / "checkpoints/best.ckpt").read_bytes()
    Path("bad.ckpt").write_bytes(good[: len(good) // 2] if content is None else content)
    assert "bad.ckpt: no checkpoint of itmatch" in error_of(capsys, "test", *DEMO, "--ckpt_path=bad.ckpt")


def test_an_evaluation_needs_its_own_split_alone(tmp_path, capsys):
    data = write_precomp(tmp_path / "data")
    assert run(*on_precomp("fit", data)) == 0
    first = Path("runs/lightning_logs/version_0")
    for path in [*data.glob("train_*"), *data.glob("dev_*")]:
        path.unlink()
    capsys.readouterr()
    checkpoint = f"--ckpt_path={first}/checkpoints/best.ckpt"
    assert run(*on_precomp("test", data, checkpoint)) == 0
    assert capsys.readouterr().err == ""
    assert figures("runs/lightning_logs/version_1/test_metrics.json") == figures(first / "test_metrics.json")
    assert run(*on_precomp("predict", data, checkpoint)) == 0
    assert "dev_ims.npy: no such file" in error_of(capsys, *on_precomp("validate", data, checkpoint))


def test_a_vocabulary_that_does_not_fit_the_checkpoint(tmp_path, capsys):
    data = write_precomp(tmp_path / "data")
    assert run(*on_precomp("fit", data)) == 0
    checkpoint = "--ckpt_path=runs/lightning_logs/version_0/checkpoints/best.ckpt"
    words = "--data.tokenizer.vocabulary=[<pad>, <start>, <end>, <unk>, dog]"
    message = error_of(capsys, *on_precomp("test", data, checkpoint, words))
    assert message.startswith("the data's tokenizer (WordTokenizer of 6 tokens) does not fit the model's")


def test_features_that_do_not_fit_the_checkpoint(tmp_path, capsys):
    assert run(*on_precomp("fit", write_precomp(tmp_path / "data"))) == 0
    other = write_precomp(tmp_path / "other", features=5)
    checkpoint = "--ckpt_path=runs/lightning_logs/version_0/checkpoints/best.ckpt"
    message = error_of(capsys, *on_precomp("test", other, checkpoint))
    assert message == f"{checkpoint.replace('=', ' ')}: its model takes 6 numbers per region, the data have 5"


def test_a_resumed_run_compares_with_the_best_before(tmp_path):
    (tmp_path / "old").mkdir()
    best = tmp_path / "old" / "best.ckpt"
    best.write_bytes(b"")
    first = BestCheckpoint(dirpath=tmp_path / "old", monitor="val/rsum", mode="max")
    first.best_model_path, first.best_k_models = str(best), {str(best): torch.tensor(9.0)}
    first.kth_best_model_path, first.kth_value, first.best_model_score = str(best), torch.tensor(9.0), torch.tensor(9.0)
    resumed = BestCheckpoint(dirpath=tmp_path / "new", monitor="val/rsum", mode="max")
    resumed.load_state_dict(first.state_dict())
    assert resumed.best_model_score == 9
    assert resumed.best_k_models == {str(best): 9.0}
    best.unlink()
    fresh = BestCheckpoint(dirpath=tmp_path / "new", monitor="val/rsum", mode="max")
    with pytest.warns(UserWarning, match="dirpath has changed"):
        fresh.load_state_dict(first.state_dict())
    assert fresh.best_k_models == {}


# ------------------------------------------------------------------------------------------------ what needs no torch


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["presets"], ["nothing"]])
def test_small_commands_import_nothing_heavy(args):
    code = (
        "import sys; from itmatch.__main__ import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'lightning', 'numpy', 'transformers', 'nltk') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_program_itself():
    done = subprocess.run([sys.executable, "-m", "itmatch", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__
    assert subprocess.run([sys.executable, "-m", "itmatch", "x"], capture_output=True, check=False).returncode == 2


def test_help(capsys):
    assert run("--help") == 0
    assert "usage: itmatch COMMAND" in capsys.readouterr().out
    assert run() == 2
    capsys.readouterr()
    assert run("fit", "--help") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: itmatch fit --config CONFIG [options]")
    own, lightning = printed.split("of Lightning")
    assert "--model.similarity " in own
    assert "--ckpt_path " in own
    assert "(128)" in own  # the default of --data.batch_size
    assert "--trainer.max_epochs" in lightning
    assert "--trainer" not in own
    assert run("fit", "--help", "all") == 0
    printed = capsys.readouterr().out
    assert "itmatch.nn.HardAligningSimilarity" in printed  # what exists is listed
    assert "--trainer.max_epochs MAX_EPOCHS" in printed
    for command in ("presets", "data"):
        assert run(command, "--help") == 0


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_the_help_that_is_kept_is_what_the_parser_makes(command, monkeypatch):
    kept = kept_help([command, "--help"])
    if kept is None:
        pytest.skip("kept of another version of Lightning")
    assert kept == made_help(command), "write it anew with python -m itmatch.cli.running.help"
    assert kept_help([command, "-h"]) == kept
    assert kept_help([command, "--help", "all"]) is None
    assert kept_help([command, "--config", "demo", "--help"]) is None
    monkeypatch.setattr("itmatch.cli.running.help.version", lambda name: "2.9999")  # whose options nobody has seen
    assert kept_help([command, "--help"]) is None


def test_imports_are_not_searched_for_garbage():
    frozen = gc.get_freeze_count()
    try:
        with _imports(own_process=False):
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() == frozen  # a caller's own garbage is not kept
        with _imports(own_process=True):
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_data_check(tmp_path, capsys):
    good = write_precomp(tmp_path / "good")
    assert run("data", "check", good) == 0
    assert capsys.readouterr().out.endswith("ok\n")
    bad = write_precomp(tmp_path / "bad")
    with (bad / "train_caps.txt").open("a") as file:
        file.write("one caption too many\n")
    assert run("data", "check", bad) == 1
    assert "train_caps.txt" in capsys.readouterr().out
    assert run("data", "check", good, bad) == 1
    assert run("data", "check", tmp_path / "nowhere") == 1
    assert run("data") == 2
    assert run("data", "chekc", good) == 2


def test_the_arguments_of_the_process_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["a.py", "b"])  # several processes are started with them
    assert run("fit", *DEMO, "--print_config") == 0
    assert sys.argv == ["a.py", "b"]
    assert os.getcwd() in sys.path


def test_processes_are_left_in_the_end():
    with mock.patch.dict(os.environ):  # Lightning leaves the address and rank of this process there
        assert run("fit", *DEMO, "--trainer.strategy=ddp", "--trainer.devices=1") == 0
    assert not torch.distributed.is_initialized()


def two_processes(*args, **environment):
    command = [sys.executable, "-m", "itmatch", "fit", *DEMO, "--trainer.devices=2", "--trainer.strategy=ddp", *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)  # two runs of two processes
def test_two_processes_train_and_report_once(tmp_path):
    done = two_processes()
    assert done.returncode == 0, done.stderr
    assert "recommended" not in done.stderr  # Lightning's advice to who ranks each process's share for itself
    assert done.stdout.count("image to text") == done.stdout.count("best checkpoint") == 1
    folder = tmp_path / "runs" / "lightning_logs" / "version_0"
    assert {"config.yaml", "test_metrics.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    each_has_all = two_processes("--data.features=device")
    assert each_has_all.returncode == 0, each_has_all.stderr
    metrics = [json.loads((folder.with_name(f"version_{i}") / "test_metrics.json").read_text()) for i in (0, 1)]
    assert metrics[0] == metrics[1]


FAILING = """
import os, time
from pathlib import Path
from lightning.pytorch import Callback
from itmatch.data import RelationScenes


class Failing(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 1 and trainer.global_rank == 1:
            Path("failed").write_text(str(time.time()))
            if "KILLED" in os.environ:
                os.kill(os.getpid(), 9)
            raise ValueError("made to fail")


class Differing(RelationScenes):
    def __init__(self) -> None:
        super().__init__(num_train=8 + 2 * int(os.environ.get("LOCAL_RANK", 0)), num_val=4, num_test=4)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "environment", "expected"),
    [
        (["--trainer.callbacks=failing.Failing"], {}, "error: process 1: made to fail"),
        (["--trainer.callbacks=failing.Failing"], {"KILLED": "1"}, "error: process 1 was killed by SIGKILL; .*"),
        (["--data.source=failing.Differing"], {}, r"error: the split 'train' \(.*\) differs between the processes: .*"),
    ],
)
def test_one_of_two_processes_that_fails_ends_the_other_with_one_line(args, environment, expected):
    Path("failing.py").write_text(FAILING)
    done = two_processes(*args, **environment)
    ended = time.time()
    assert done.returncode == 1
    assert re.fullmatch(f"itmatch: {expected}\n", done.stderr), done.stderr
    if Path("failed").exists():
        assert ended - float(Path("failed").read_text()) < 20


def test_without_a_logger_nothing_of_the_users_is_overwritten(capsys):
    Path("config.yaml").write_text("# mine\n")
    assert run("fit", *DEMO, "--trainer.logger=false") == 0
    assert "rSum" in capsys.readouterr().out
    assert Path("config.yaml").read_text() == "# mine\n"
    assert not Path("test_metrics.json").exists()


def test_a_missing_test_split_is_told_of_before_the_training(capsys):
    folder = write_precomp(Path("data"), splits=("train", "dev"))
    line = error_of(capsys, *on_precomp("fit", folder))
    assert "test_ims.npy" in line
    assert "--test_after_fit false" in line
    assert not list(Path().glob("**/*.ckpt"))
    assert run(*on_precomp("fit", folder, "--test_after_fit=false")) == 0


UNVALIDATED = {
    "steps": ["--trainer.max_epochs=-1", "--trainer.max_steps=1"],
    "epochs": ["--trainer.check_val_every_n_epoch=2"],
    "no validation": ["--trainer.limit_val_batches=0"],
}


@pytest.mark.parametrize("name", UNVALIDATED)
def test_a_run_that_ends_before_a_validation_says_so_and_tests_its_last_weights(name, capsys):
    assert run("fit", *DEMO, *UNVALIDATED[name]) == 0
    printed = capsys.readouterr()
    folder = Path("runs/lightning_logs/version_0")
    assert printed.err == (
        "itmatch: warning: no validation took place, so there is no best checkpoint; "
        f"{folder}/checkpoints/last.ckpt holds the last weights, which are tested\n"
    )
    assert "test: the last weights" in printed.out
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]
    found = figures(folder / "test_metrics.json")
    assert found.pop("last_weights") == 1
    assert run("test", *DEMO, "--ckpt_path", folder / "checkpoints/last.ckpt") == 0
    assert figures(folder.parent / "version_1/test_metrics.json") == found


def test_a_run_that_keeps_no_checkpoint_of_a_validation_says_so(capsys):
    assert run("fit", *DEMO, "--checkpoint.save_top_k=0", "--test_after_fit=false") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("itmatch: warning: no checkpoint of a validation was kept, so there is no best")
    assert printed.err.endswith("last.ckpt holds the last weights\n")
    assert "image to text" not in printed.out


@pytest.mark.parametrize("option", ["--trainer.max_epochs=0", "--trainer.max_time={seconds: 0}"])
def test_a_run_without_a_step_says_so(option, capsys):
    assert run("fit", *DEMO, option, "--test_after_fit=false") == 0
    expected = "no training step was made, so there is no best checkpoint; no file holds the last weights\n"
    assert capsys.readouterr().err.endswith(expected)


def test_the_last_checkpoint_is_that_of_the_end_of_the_training():
    options = ["--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2", "--test_after_fit=false"]
    assert run("fit", *DEMO, *options) == 0
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in Path().glob("**/*.ckpt")}
    assert steps == {"best.ckpt": 6, "last.ckpt": 9}


def test_a_limit_that_the_closing_test_would_refuse_is_told_of_before_the_training(capsys):
    message = error_of(capsys, "fit", *DEMO, "--trainer.limit_test_batches=1", "--data.eval_batch_size=4")
    assert message.startswith("trainer.limit_test_batches: 1 of 5 batches")
    assert "--test_after_fit false" in message
    assert not list(Path().glob("**/*.ckpt"))


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("null", None)])
def test_one_batch_is_not_all_where_another_library_asked_for_a_float_or_an_integer(text, value):
    parser = LightningArgumentParser()
    parser.add_argument("--trainer.limit", type=Union[float, int, None])  # noqa: UP007
    _take_integers_first(parser)
    found = parser.parse_args([f"--trainer.limit={text}"]).trainer.limit
    assert (found, type(found)) == (value, type(value))


def test_a_quick_run_leaves_nothing_behind(capsys):
    assert run("fit", *DEMO, "--trainer.fast_dev_run=1") == 0
    assert capsys.readouterr().err == ""
    assert not list(Path().iterdir())


STATUS = [
    (0, ["--version"]),
    (0, ["compare", "--help"]),
    (0, ["fit", "--help"]),
    (1, ["fit", "--config", "nowhere.yaml"]),
    (1, ["test", *DEMO, "--ckpt_path", "nowhere.ckpt"]),
    (1, ["data", "check", "nowhere"]),
    (1, ["compare", "nowhere"]),
    (1, ["convert", "nowhere", "--format", "vse_infty", "--out", "out"]),
    (2, []),
    (2, ["fitt"]),
    (2, ["data"]),
    (2, ["data", "scene-graphs", "--no-such"]),
    (2, ["compare"]),
    (2, ["compare", "run", "--samples", "many"]),
    (2, ["convert", "--no-such"]),
    (2, ["fit"]),
    (2, ["fit", *DEMO, "--no.such", "3"]),
    (2, ["fit", *DEMO, "--trainer.max_epochs", "many"]),
    (2, ["fit", *DEMO, "--model.similarity", "no.Such"]),
]


@pytest.mark.parametrize(("status", "arguments"), STATUS)
def test_exit_statuses(status, arguments, capsys):
    """Those of signals and pipes are tested in test_stopping.py."""
    assert run(*arguments) == status


def test_a_checkpoints_optimizer_wins_and_this_is_said(capsys):
    assert run("fit", *DEMO) == 0
    last = next(Path("runs").glob("**/last.ckpt"))
    flags = ["--ckpt_path", last, "--trainer.max_epochs=2"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run("fit", *DEMO, *flags, "--model.optimizer.init_args.lr=0.5") == 0
    assert any("lr is 0.001, not 0.5" in str(w.message) for w in caught)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run("fit", *DEMO, *flags) == 0
    assert not any("wins over the one given" in str(w.message) for w in caught)


def test_a_protocol_and_forms_of_the_table(trained, capsys):
    folds = ["--protocol=Coco1K", "--protocol.num_images=4", "--protocol.folds=2"]
    assert evaluated(trained, "test", *folds, "--report.form=latex") == 0
    assert r"\begin{tabular}{lrrrrrrr}" in capsys.readouterr().out
    found = figures("lightning_logs/version_0/test_metrics.json")
    assert found["t2i_r5"] == 100.0  # two images in each fold
    assert found["rsum_std"] >= 0
    assert not Path("lightning_logs/version_0/test_ranks.npz").exists()
    assert evaluated(trained, "test", "--report.form=markdown") == 0
    assert "| test |" in capsys.readouterr().out
    assert "expected 1000 with 5" in error_of(capsys, *evaluation(trained, "test", "--protocol=Flickr30K"))
    assert "report.form" in error_of(capsys, *evaluation(trained, "test", "--report.form=html"))


def test_an_ensemble_of_a_model_with_itself_is_the_model(trained, capsys):
    model = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model
    model.save_pretrained("folder")
    both = f"--ensemble=[{trained / 'checkpoints/best.ckpt'},folder]"
    assert evaluated(trained, "test", both) == 0
    assert figures("lightning_logs/version_0/test_metrics.json") == figures(trained / "test_metrics.json")
    assert "nothing.ckpt: no such file" in error_of(capsys, *evaluation(trained, "test", "--ensemble=[nothing.ckpt]"))
    model.tokenizer = None
    model.save_pretrained("silent")
    assert evaluated(trained, "test", "--ensemble=[silent]") == 0
    assert "--ensemble silent: no tokenizer in it" in capsys.readouterr().err


def test_an_ensemble_needs_one_tokenizer(trained, capsys):
    task = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt")
    other = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model
    other.tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a"])
    with pytest.raises(ValueError, match="model 0 of the ensemble: its tokenizer"):
        task.evaluate_with(other)
    other.save_pretrained("other")  # the command line knows the first one's tokenizer later
    assert "model 0 of the ensemble" in error_of(capsys, *evaluation(trained, "test", "--ensemble=[other]"))


def test_a_model_folder_is_as_good_as_a_checkpoint(trained, capsys):
    MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model.save_pretrained("folder")
    config = ["--config", trained / "config.yaml", "--ckpt_path=folder", "--trainer.logger.save_dir=."]
    assert run("test", *config) == 0
    assert capsys.readouterr().err == ""
    assert figures("lightning_logs/version_0/test_metrics.json") == figures(trained / "test_metrics.json")


def test_model_folders_that_do_not_fit(trained, capsys):
    config = ["test", "--config", trained / "config.yaml", "--trainer.logger.save_dir=."]
    Path("bare").mkdir()
    Path("bare/config.json").write_text("{}")
    assert "bare: no model.safetensors" in error_of(capsys, *config, "--ckpt_path=bare")
    model = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model
    model.tokenizer = None
    model.text_encoder = GRUTextEncoder(7, 16, word_dim=model.text_encoder.word_dim)
    model.save_pretrained("folder")
    capsys.readouterr()
    assert run(*config, "--ckpt_path=folder") == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert "no tokenizer in it" in warning
    assert "expected ids below the vocabulary size 7" in error


def test_ranks_of_another_test_do_not_stay(trained):
    assert evaluated(trained, "test", "--report.dirpath=out") == 0
    assert Path("out/test_ranks.npz").exists()
    folds = ["--protocol=Coco1K", "--protocol.num_images=4", "--protocol.folds=2"]
    assert evaluated(trained, "test", "--report.dirpath=out", *folds) == 0
    assert not Path("out/test_ranks.npz").exists()


def test_compare(trained, capsys):
    """Runs as they are written; test_cli_compare.py has more."""
    assert run("compare", trained, trained, "--published=flickr30k") == 0
    printed = capsys.readouterr().out
    assert re.search(r"CHAN \(BERT-base\) +80.6", printed)
    assert "rSum of" in printed
    assert "+0.0, 95 % interval +0.0 to +0.0, p = 1 (10000 samples" in printed
    assert run("compare", trained / "test_metrics.json", "--form=markdown") == 0
    assert "95 %" not in capsys.readouterr().out
    assert "nowhere: no such file; a run that was tested" in error_of(capsys, "compare", "nowhere")
    assert "expected one of flickr30k" in error_of(capsys, "compare", trained, "--published=mnist")
    assert "--samples: 0, expected 1 or more" in error_of(capsys, "compare", trained, "--samples=0")


def test_compare_over_seeds_and_protocols(trained, capsys):
    """Tests of the checkpoints of two trainings that differ in their seed; two protocols in one pass, and one alone."""
    assert run("fit", "--config", trained / "config.yaml", "--seed_everything=1", "--trainer.logger.save_dir=.") == 0
    seeds, parts = [trained, Path("lightning_logs/version_0").resolve()], ["--protocol.num_images=4"]
    both = ["--protocol+=Coco1K", *parts, "--protocol.folds=2", "--protocol+=Flickr30K", *parts]
    folds = ["--protocol=Coco1K", *parts, "--protocol.folds=2"]
    for name, protocol in (("both", both), ("folds", folds)):
        for folder in seeds:
            assert evaluated(folder, "test", *protocol, f"--trainer.logger.save_dir={name}") == 0
    runs = [*seeds, *sorted(Path("both/lightning_logs").iterdir()), *sorted(Path("folds/lightning_logs").iterdir())]
    capsys.readouterr()
    assert run("compare", *runs, "--over-seeds", "--form=csv", "--names", "A", "B", "C") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["group"], row["label"], row["runs"]) for row in rows] == [
        (group, f"{name} (2 seeds)", "2")
        for group, names in (
            ("Flickr30K, test: 4 images, 20 captions", "AB"),
            ("COCO 1K in 2 folds, test: 4 images, 20 captions", "BC"),
        )
        for name in names
    ]
    sums = [figures(folder / "test_metrics.json")["rsum"] for folder in seeds]
    assert float(rows[0]["rsum"]) == pytest.approx(sum(sums) / 2, abs=1e-3)
    assert float(rows[0]["rsum_sd"]) == pytest.approx(abs(sums[0] - sums[1]) / 2**0.5, abs=1e-3)
    assert rows[2]["rsum"] == rows[3]["rsum"]


def test_annotations_of_a_folder(trained, capsys):
    """Of the four test images of the demo; each is annotated with its own captions alone."""
    config = yaml.safe_load((trained / "config.yaml").read_text())["data"]["source"]["init_args"]
    image = RelationScenes(**config).split("test").caption_image.tolist()
    Path("notes").mkdir()
    np.save("notes/coco_test_ids.npy", np.arange(len(image)) + 500)
    t2i = {500 + caption: [900 + own] for caption, own in enumerate(image)}
    i2t = {900 + own: [500 + caption for caption, other in enumerate(image) if other == own] for own in set(image)}
    for kind in ("original", "cxc", "eccv"):
        Path(f"notes/{kind}_caption_to_image.json").write_text(json.dumps(t2i))
        Path(f"notes/{kind}_image_to_caption.json").write_text(json.dumps(i2t))
    assert evaluated(trained, "test", "--protocol=Cxc", "--protocol.folder=notes") == 0
    found = figures("lightning_logs/version_0/test_metrics.json")
    cxc = {name: value for name, value in found.items() if name.startswith("cxc")}
    for direction in ("i2t", "t2i"):
        for k in (1, 5, 10):
            assert found[f"cxc_{direction}_r{k}"] == pytest.approx(found[f"{direction}_r{k}"])
    assert f"cxc_t2i_r1: {found['t2i_r1']:.1f}" in capsys.readouterr().out
    assert evaluated(trained, "test", "--protocol=EccvCaption", "--protocol.folder=notes") == 0
    found = figures("lightning_logs/version_1/test_metrics.json")
    assert found["eccv_i2t_r1"] == pytest.approx(found["i2t_r1"])
    assert found["eccv_i2t_map_at_r"] <= found["eccv_i2t_rprecision"]
    eccv = {name: value for name, value in found.items() if name.startswith("eccv")}
    both = ["--protocol+=cxc", "--protocol.folder=notes", "--protocol+=eccv", "--protocol.folder=notes"]
    assert evaluated(trained, "test", *both, "--report.dirpath=both") == 0
    found = figures("both/test_metrics.json")
    assert {name: found[name] for name in cxc} == pytest.approx(cxc)
    assert {name: found[name] for name in eccv} == pytest.approx(eccv)
    capsys.readouterr()
    table = ["--protocol=EccvCaption", "--protocol.folder=notes", "--report.form=markdown"]
    assert evaluated(trained, "test", *table) == 0
    assert "|  | ECCV i2t R@1 | ECCV i2t R-Precision | ECCV i2t mAP@R |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "wanted", "unwanted"),
    [("ImageEncoder", "RegionEncoder", "GRUTextEncoder"), ("TextEncoder", "GRUTextEncoder", "RegionEncoder")],
)
def test_help_lists_encoders_where_an_encoder_is_wanted(capsys, kind, wanted, unwanted):
    assert run("fit", "--help", "all") == 0
    text = " ".join(capsys.readouterr().out.split())
    listed = text.split(f"<class '{kind}'>")[1].split(")")[0]
    assert wanted in listed
    assert unwanted not in listed
    assert "Pooling" not in listed


@pytest.mark.parametrize("loss", ["LadderLoss", "AdaptiveMarginTripletLoss"])
def test_losses_with_a_relevance_train_from_the_command_line(capsys, tmp_path, loss):
    def first_loss(name, *args):
        folder = tmp_path / name
        quick = ["--trainer.max_steps=1", f"--trainer.logger.save_dir={folder}"]
        assert run("fit", *DEMO, *args, *quick) == 0
        row = next(csv.DictReader(next(folder.rglob("metrics.csv")).open()))
        return float(row["train/loss"])

    objective = ["--model.objective", f"itmatch.losses.{loss}"]
    triplet = first_loss("triplet", "--model.objective", "itmatch.losses.HardNegativeTripletLoss")
    found = first_loss(loss, *objective, "--data.relevance", "itmatch.data.CaptionOverlap")
    assert found > 0
    assert abs(found - triplet) > 1e-3 * triplet
    error = error_of(capsys, "fit", *DEMO, *objective)
    assert re.search(f"{loss} needs .*--data.relevance itmatch.data.CaptionOverlap", error)


# ---------------------------------------------------------------------------------------------------- what finds what


def hits(path):
    """Lines of the json, and rows of the table by query."""
    lines = [json.loads(line) for line in Path(f"{path}.jsonl").read_text().splitlines()]
    with Path(f"{path}.csv").open(newline="") as file:
        return lines, list(csv.DictReader(file))


def test_a_test_writes_what_finds_what(trained, capsys):
    assert evaluated(trained, "test", "--top=3", "--report.dirpath=out") == 0
    assert "out/test_hits.jsonl" in capsys.readouterr().out
    lines, rows = hits("out/test_hits")
    model = MatchingTask.load_from_checkpoint(trained / "checkpoints/best.ckpt").model
    config = yaml.safe_load((trained / "config.yaml").read_text())["data"]["source"]["init_args"]
    split = RelationScenes(**config).split("test")
    regions = [split.image(i).features[None] for i in range(4)]
    scores = torch.cat([model.score(image, split.captions) for image in regions])
    of_images, of_captions = top_k(scores, 3, caption_image=split.caption_image)
    images, captions = lines[:4], lines[4:]
    assert [line["query_kind"] for line in lines] == ["image"] * 4 + ["caption"] * 20
    assert [line["query_id"] for line in images] == split.image_ids
    assert [line["result_ids"] for line in images] == of_images.indices.tolist()
    assert captions[7]["query_id"] == 7
    assert captions[7]["query_text"] == split.captions[7]
    assert captions[7]["result_ids"] == [split.image_ids[i] for i in of_captions.indices[7].tolist()]
    assert captions[7]["scores"] == pytest.approx(of_captions.scores[7].tolist(), rel=1e-4)
    assert captions[7]["right"] == [int(i) == split.caption_image[7] for i in of_captions.indices[7]]
    assert lines[0]["first_rank"] == 1
    assert [row["rank_from_1"] for row in rows[:4]] == ["1", "2", "3", "1"]
    assert rows[1]["result_text"] == lines[0]["result_texts"][1]
    assert len(rows) == 24 * 3
    assert evaluated(trained, "test", "--report.dirpath=out") == 0
    assert not Path("out/test_hits.csv").exists()  # those of the test before


def test_a_prediction_writes_what_finds_what(trained):
    assert evaluated(trained, "test", "--top=2", "--report.dirpath=out") == 0
    assert evaluated(trained, "predict", "--top=2", "--fragments.dirpath=out", "--data.eval_batch_size=3") == 0
    (lines, _), (expected, _) = hits("out/hits"), hits("out/test_hits")
    for line in (*lines, *expected):
        line["scores"] = pytest.approx(line["scores"], rel=1e-4) if line in lines else line["scores"]
    assert [line["result_ids"] for line in lines] == [line["result_ids"] for line in expected]
    assert Path("out/images.safetensors").exists()


def test_several_protocols_by_name_or_class(trained, capsys):
    settings = {"num_images": 4}
    folds = {"class_path": "coco_1k", "init_args": settings | {"folds": 2}}
    both = json.dumps([folds, {"class_path": "Coco5K", "init_args": settings}])
    assert evaluated(trained, "test", f"--protocol={both}", "--report.dirpath=both") == 0
    printed = capsys.readouterr().out
    assert "test: coco_1k\n" in printed
    assert "test: coco_5k\n" in printed
    found = figures("both/test_metrics.json")
    for name, more in (("coco_1k", ["--protocol.folds=2"]), ("Coco5K", [])):
        given = ["--protocol", name, "--protocol.num_images=4", *more, "--report.dirpath=one"]
        assert evaluated(trained, "test", *given) == 0
        alone = figures("one/test_metrics.json")
        prefix = {"coco_1k": "coco_1k", "Coco5K": "coco_5k"}[name]
        assert {k: found[f"{prefix}_{k}"] for k in alone if "twin" not in k} == pytest.approx(
            {k: v for k, v in alone.items() if "twin" not in k}
        )
    config = yaml.safe_load((trained / "config.yaml").read_text()) | {"protocol": ["coco_5k"]}
    Path("named.yaml").write_text(yaml.safe_dump(config))
    checkpoint = f"--ckpt_path={trained / 'checkpoints/best.ckpt'}"
    assert "Coco5K: 4 images" in error_of(capsys, "test", "--config=named.yaml", checkpoint)


def test_memory_of_an_evaluation(trained, capsys):
    assert evaluated(trained, "test", "--evaluation.memory=20KiB", "--report.dirpath=out") == 0
    assert figures("out/test_metrics.json") == pytest.approx(figures(trained / "test_metrics.json"))
    told = error_of(capsys, *evaluation(trained, "test", "--evaluation.memory=much"))
    assert told.startswith("--evaluation.memory: 'much', expected a size of memory such as 1GiB")


def test_a_gallery_is_encoded_and_searched(tmp_path, monkeypatch, capsys):
    """A split without captions: predicted, with hits where there are texts to search with, and refused elsewhere."""
    monkeypatch.chdir(tmp_path)
    folder = write_precomp(tmp_path / "data")
    assert run(*on_precomp("fit", folder, "--test_after_fit=false")) == 0
    [checkpoint] = Path("runs").glob("**/best.ckpt")
    (folder / "test_caps.txt").unlink()
    given = f"--ckpt_path={checkpoint}"
    for command in ("test", "fit"):
        message = error_of(capsys, *on_precomp(command, folder, *[given] * (command == "test")))
        assert f"{folder}/test_caps.txt: no such file, so the split is a gallery" in message
        assert "an evaluation needs captions of images" in message
    predict = on_precomp("predict", folder, given, "--top=3", "--fragments.dirpath=out", "--fragments.overwrite=true")
    (folder / "test_queries.txt").write_text("a red dog\na blue dog\n")
    assert run(*predict) == 0
    fragments, index, ids = read_fragments("out/captions.safetensors")
    assert (len(fragments), index.tolist(), ids) == (2, [0, 1], [[None, 0], [None, 1]])
    lines, rows = hits("out/hits")
    assert [line["query_text"] for line in lines[4:]] == ["a red dog", "a blue dog"]
    assert all(len(line["scores"]) == 3 and line["right"] == [None] * 3 for line in lines[4:])
    assert {row["right"] for row in rows} == {""}
    (folder / "test_queries.txt").unlink()
    capsys.readouterr()
    assert run(*predict) == 0
    said = capsys.readouterr()
    assert "4 images written to out/images.safetensors\nno captions" in said.out
    assert "zero" not in said.err
    assert [path.name for path in Path("out").iterdir()] == ["images.safetensors"]  # none of the prediction before


def test_captions_are_needed_to_train(tmp_path, capsys):
    folder = write_precomp(tmp_path / "data")
    (folder / "train_caps.txt").unlink()
    assert "train_caps.txt: no such file, so the split is a gallery" in error_of(capsys, *on_precomp("fit", folder))
