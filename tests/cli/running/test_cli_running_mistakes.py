"""Fifty mistakes that people make, and the one line that they read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_cli import DEMO, error_of, on_precomp, run, write_precomp

from itmatch.batch import Regions
from itmatch.cli.listing import KINDS, OTHERS
from itmatch.losses import HardNegativeTripletLoss
from itmatch.models import MatchingModel, chan_gru
from itmatch.nn import GRUTextEncoder, HardAligningSimilarity, RegionEncoder

SIMILARITIES = "there are AligningSimilarity, .*CosineSimilarity, .*VectorSimilarity"  # other tests define some too
NO_LIGHTNING = {  # found before Lightning is imported
    "command": (["fti", *DEMO], "no command 'fti'; did you mean 'fit'?"),
    "command of data": (["data", "chek", "."], "no command 'data chek'; did you mean 'data check'?"),
    "preset": (["fit", "--config", "chan_gru_f3k"], "no preset 'chan_gru_f3k'; did you mean 'chan_gru_f30k'?"),
    "preset to print": (["presets", "dmo"], "no preset 'dmo'; did you mean 'demo'?"),
    "preset inherited": (["fit", "--config", "preset.yaml"], "preset.yaml: inherits: no preset .* 'chan_gru_f30k'?"),
    "system": (
        ["fit", "--config", "system.yaml"],
        "system.yaml: system: no system 'chan_gr'; .*'chan_gru'?",
    ),
    "no such file": (["fit", "--config", "mine.yml"], "--config mine.yml: no such file"),
    "folder for a file": (["fit", "--config", "folder"], "--config folder: a folder, expected a file"),
    "folder of a run for its file": (
        ["test", "--config", "runs"],
        "--config runs: a folder, expected a file; there is runs/version_0/config.yaml",
    ),
    "folder of runs": (
        ["test", "runs"],
        "'runs': no option; a run is named by --config runs/version_0/config.yaml --ckpt_path runs/version_0/",
    ),
    "no yaml": (["fit", "--config", "broken.yaml"], "broken.yaml:2: no configuration"),
    "kind of parts": (["list", "losss"], "no kind 'losss'; did you mean 'losses'?"),
    "option of a tool": (
        ["compare", "run", "--publishd=f"],
        "unrecognized .*--publishd=f; did you mean '--published'?",
    ),
    "option in short": (["compare", "run", "--pub=f"], "unrecognized arguments: --pub=f; did you mean '--published'?"),
    "missing option of a tool": (["convert", "x.png"], "required: --format, --out"),
    "format": (["convert", "x.png", "--format=scam", "--out=o"], "format: 'scam', expected .*'scan'"),
    "png to convert": (
        ["convert", "x.png", "--format=scan", "--out=o"],
        "x.png: no checkpoint .it is not of torch.save",
    ),
    "run that is none": (["compare", "folder"], "folder/test_metrics.json: no such file"),
    "features in a png": (["data", "convert", "x.png", "--out=o"], "x.png: a .png, expected .tsv"),
}
SETTINGS = {
    "class": (["--model.similarity=HardAligningSimilariti"], f"did you mean 'HardAligningSimilarity'. .{SIMILARITIES}"),
    "path of a class": (["--model.similarity=itmatch.nn.HardAligning"], "did you mean 'HardAligningSimilarity'"),
    "class of another kind": (["--model.similarity=GRUTextEncoder"], "GRUTextEncoder is no Similarity; there are"),
    "class of torch": (
        ["--model.similarity=torch.nn.Linear"],
        "torch.nn.Linear is no Similarity, as it is no subclass of itmatch.nn.Similarity; there are",
    ),
    "module": (["--model.similarity=no.Such"], f"no Similarity 'no.Such' .the file that defines it .*; {SIMILARITIES}"),
    "number for a class": (["--model.similarity=3"], f"--model.similarity: no Similarity '3'; {SIMILARITIES}"),
    "encoder": (["--model.image_encoder=RegionEncodr"], "no ImageEncoder 'RegionEncodr'; .*'RegionEncoder'?"),
    "loss": (["--model.objective=LaderLoss"], "--model.objective: no Loss 'LaderLoss'; did you mean 'LadderLoss'?"),
    "loss of several": (
        ["--model.objective=Objective", "--model.objective.terms={a: {class_path: CircelLoss}}"],
        "--model.objective.terms.a: no Loss 'CircelLoss'; did you mean 'CircleLoss'?",
    ),
    "source": (["--data.source=Precomp"], "--data.source: no DataSource 'Precomp'; did you mean 'PrecompFolder'?"),
    "tokenizer": (["--data.tokenizer=WordTokeniser"], "did you mean 'WordTokenizer'?"),
    "protocol": (["--protocol=coco_1"], "--protocol: no EvaluationProtocol 'coco_1'; did you mean 'Coco1K'?"),
    "optimizer": (["--model.optimizer=Adan"], "--model.optimizer: no Optimizer 'Adan'; did you mean 'Adam'?"),
    "schedule": (["--model.scheduler=StepLRR"], "did you mean 'StepLR'?"),
    "logger": (["--trainer.logger=CSVLoger"], "--trainer.logger: no Logger 'CSVLoger'; did you mean 'CSVLogger'?"),
    "callback": (["--trainer.callbacks=EarlyStoping"], "did you mean 'EarlyStopping'?"),
    "pooling": (["--model.similarity.pooling=mean"], "--model.similarity.pooling: .*did you mean 'MeanPooling'?"),
    "option of a class": (["--data.source.num_trian=3"], "RelationScenes has no 'num_trian'; .*'num_train'?"),
    "option of another class": (["--data.source.rot=x"], "RelationScenes has no 'rot'; there are .*seed"),
    "option of an optimizer": (["--model.optimizer.lr_=3"], "--model.optimizer.lr_: AdamW has no 'lr_'; .*'lr'?"),
    "needed option": (["--data.source=PrecompFolder"], "PrecompFolder needs 'root': --data.source.root"),
    "key of a class": (["--model.similarity={class_path: CosineSimilarity, init_arg: {}}"], "mean 'init_args'?"),
    "run": (["run"], "^'run': no option; a run is named by --config run/config.yaml --ckpt_path run/che"),
    "option": (["--nokey=3"], "no option --nokey; --help lists them"),
    "option by its last name": (["--batch_size=3"], "no option --batch_size; did you mean '--data.batch_size'?"),
    "option by a part of its name": (["--epochs=3"], "no option --epochs; did you mean '--trainer.max_epochs'?"),
    "option by its beginning": (["--seed=3"], "no option --seed; did you mean '--seed_everything'?"),
    "option of a class by its name": (["--lr=3"], "no option --lr; did you mean '--model.optimizer.lr'?"),
    "option of a class by another name": (["--learning_rate", "3"], "did you mean '--model.optimizer.lr'?"),
    "option of a part of the model": (["--query=all"], "did you mean '--model.similarity.query'?"),
    "option of a class before a part of a name": (["--num_train=3"], "did you mean '--data.source.num_train'?"),
    "option that several names have as a part": (["--encoder=3"], "no option --encoder; --help lists them"),
    "option that is like none": (["--temperatures=3"], "no option --temperatures; --help lists them"),
    "option of the trainer": (["--trainer.max_epoch=3"], "--trainer has no 'max_epoch'; did you mean 'max_epochs'?"),
    "option in short": (["--data.batch_siz=3"], "--data has no 'batch_siz'; did you mean 'batch_size'?"),
    "key of a file": (["--config", "key.yaml"], "--data has no 'batch_sise'; did you mean 'batch_size'?"),
    "group of a file": (["--config", "group.yaml"], "no option --modle; did you mean '--model'?"),
    "word": (["stray"], "'stray': no option; options begin with --"),
    "learning rate": (["--model.optimizer.lr", "high"], "--model.optimizer.lr: 'high', expected a number$"),
    "number": (["--data.batch_size=many"], "--data.batch_size: 'many', expected a whole number$"),
    "number or none": (["--trainer.max_epochs=1.5"], "--trainer.max_epochs: '1.5', expected a whole number or null$"),
    "boolean": (["--data.drop_last=perhaps"], "--data.drop_last: 'perhaps', expected true or false$"),
    "choice": (["--model.similarity.query=all"], "similarity.query: 'all', expected one of words, regions, both$"),
    "choice of the report": (["--report.form=tex"], "--report.form: 'tex', expected one of text, markdown, latex$"),
    "precision": (["--trainer.precision=8"], "--trainer.precision: '8', expected one of 64, 32, 16, .*bf16 or null$"),
    "range": (["--data.batch_size=0"], "batch_size: 0, expected a whole number, 1 or more$"),
    "sizes": (["--model.text_encoder.embed_dim=12"], "embedding sizes differ: image 16, text 12; .*same embed_dim$"),
    "vocabulary": (["--data.tokenizer=WordTokenizer", "--data.tokenizer.vocabulary=no.json"], "^no.json: no such file"),
    "folder": (["--data.source=PrecompFolder", "--data.source.root=no"], "^no: no such folder; --data.source.root"),
    "png for a checkpoint": (["--ckpt_path=x.png"], "x.png: no checkpoint of itmatch .it is not of torch.save.$"),
    "folder without a model": (
        ["--ckpt_path=folder"],
        "folder: no config.json, expected a folder of save_pretrained, or a checkpoint$",
    ),
}  # fmt: skip
IN_PYTHON = {
    "pooling": (lambda: HardAligningSimilarity(pooling="mean"), "pooling: a str, expected an itmatch.nn.Pooling"),
    "pooling of words": (
        lambda: GRUTextEncoder(9, 4, pooling="mean"),
        "pooling: a str, expected an itmatch.nn.Pooling",
    ),
    "list of features": (lambda: Regions([[1, 2]]), "Regions: a list, expected a tensor"),
    "list of scores": (
        lambda: HardNegativeTripletLoss()([[1]]),
        r"scores: a list, expected a tensor \(images, captions\)",
    ),
    "parts in another order": (
        lambda: MatchingModel(HardAligningSimilarity(), RegionEncoder(6, 4), GRUTextEncoder(9, 4)),
        "image_encoder: a HardAligningSimilarity, expected an itmatch.nn.ImageEncoder",
    ),
    "size of the features": (
        lambda: chan_gru(vocabulary=9, region_dim=6, embed_dim=8).encode_images(torch.ones(2, 3, 5)),
        "features of size 5, expected 6",
    ),
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("runs/version_0").mkdir(parents=True)
    Path("runs/version_0/config.yaml").write_text("seed_everything: 0\n")
    Path("run").mkdir()
    Path("run/config.yaml").write_text("seed_everything: 0\n")
    Path("x.png").write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    contents = {
        "preset": "inherits: chan_gru_f3k",
        "system": "system: chan_gr",
        "broken": "model: [",
        "key": "data: {batch_sise: 3}",
        "group": "modle: {similarity: 3}",
    }
    for name, text in contents.items():
        Path(f"{name}.yaml").write_text(text)


def check(message, expected):
    import re

    assert re.search(expected.replace("?", "[?]"), message), message
    assert not re.search("Union|typing|Callable|subtypes|Namespace|Parser key", message)


@pytest.mark.parametrize("name", NO_LIGHTNING)
def test_a_mistake_that_is_seen_at_once(name, capsys):
    arguments, expected = NO_LIGHTNING[name]
    check(error_of(capsys, *arguments), expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_mistake_in_the_settings(name, capsys):
    arguments, expected = SETTINGS[name]
    check(error_of(capsys, "fit", *DEMO, *arguments), expected)


@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_mistake_in_python(name):
    call, expected = IN_PYTHON[name]
    with pytest.raises((TypeError, ValueError), match=expected):
        call()


def test_features_of_another_size_than_the_checkpoints(tmp_path, capsys):
    folder = write_precomp(tmp_path / "data")
    run(*on_precomp("fit", folder, "--trainer.logger.save_dir=runs", "--test_after_fit=false"))
    for file in folder.glob("*_ims.npy"):
        np.save(file, np.ones((4, 3, 5), np.float32))
    checkpoint = next(tmp_path.rglob("best.ckpt"))
    message = error_of(capsys, *on_precomp("test", folder, f"--ckpt_path={checkpoint}"))
    assert message == f"--ckpt_path {checkpoint}: its model takes 6 numbers per region, the data have 5"


def test_the_parts_are_listed(capsys):
    assert run("list") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*KINDS, *OTHERS]
    for kind, expected in {
        "similarities": "HardAligningSimilarity    CHAN: each query",
        "encoders": "GRUTextEncoder          Text encoder",
        "losses": "LadderLoss",
        "sources": "PrecompFolder   A folder of",
        "protocols": "Coco1K          The test set of MS-COCO",
        "systems": "chan_gru",
        "presets": "demo",
    }.items():
        assert run("list", kind) == 0
        printed = capsys.readouterr().out
        lines = [" ".join(line.split()) for line in printed.splitlines()]  # columns are as wide as the longest name
        assert any(line.startswith(" ".join(expected.split())) for line in lines), printed
        assert "\n_" not in printed
