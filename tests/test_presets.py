import json
import sys
from pathlib import Path

import pytest
import yaml
from helpers_cli import QUIET, run, write_precomp

from itmatch.presets import describe_presets, preset_names, preset_path, resolve_config

WIDTH = 16
ENCODERS = ("image_encoder", "text_encoder")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def shrunk(name, root, bert):
    """Options that make a preset small enough to run here; what they do not name runs as it is."""
    config = yaml.safe_load(preset_path(name).read_text())
    parts = config["model"]
    options = [flag for part in ENCODERS for flag in sizes(part, parts[part]["init_args"])]
    if "embed_dim" in parts["similarity"].get("init_args", {}):
        options.append(f"--model.similarity.init_args.embed_dim={WIDTH}")
    if parts["text_encoder"]["class_path"].endswith("TransformerTextEncoder"):
        options += [f"--model.text_encoder.model_name={bert}", f"--data.tokenizer.name_or_path={bert}"]
    if config["data"]["source"]["class_path"].endswith("RelationScenes"):
        options += [f"--data.source.num_{split}=4" for split in ("train", "val", "test")]
    else:
        options += [f"--data.source.root={root}"]
    return [*options, "--data.batch_size=4", "--data.num_workers=0", "--trainer.accelerator=cpu"]


def sizes(part, arguments):
    """Options for a small embedding, in the encoder and in each of its relations."""
    if "embed_dim" in arguments:
        yield f"--model.{part}.init_args.embed_dim={WIDTH}"
    if "relations" in arguments:
        for relation in arguments["relations"]:
            relation["init_args"]["embed_dim"] = WIDTH
        yield f"--model.{part}.init_args.relations={json.dumps(arguments['relations'])}"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_runs(name, tmp_path, tiny_bert, capsys):
    root = write_precomp(tmp_path / "data", splits=("train", "dev", "test", "testall"), relations=True)
    limits = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1"]
    assert run("fit", "--config", name, *shrunk(name, root, tiny_bert), *limits, *QUIET) == 0
    printed = capsys.readouterr()
    assert "rSum" in printed.out
    assert "itmatch: warning" not in printed.err
    assert Path("runs/lightning_logs/version_0/test_metrics.json").exists()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_parses_as_it_stands(name, capsys):
    assert run("fit", "--config", name, "--print_config") == 0
    parsed = yaml.safe_load(capsys.readouterr().out)
    assert_contains(parsed, yaml.safe_load(preset_path(name).read_text()))


def assert_contains(parsed, given):
    for key, value in given.items():
        if isinstance(value, dict):
            assert_contains(parsed[key], value)
        elif isinstance(value, list) and all(isinstance(item, dict) for item in value):  # relations
            for part, wanted in zip(parsed[key], value, strict=True):
                assert_contains(part, wanted)
        else:
            assert parsed[key] == value, key


def test_presets_are_listed_with_a_summary(capsys):
    assert run("presets") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in preset_names():
        line = next(line for line in lines if line.startswith(f"{name} "))
        assert len(line.removeprefix(name).strip()) > 20, line
    assert describe_presets().splitlines() == lines
    assert {"demo", "chan_bert_f30k", "chan_bert_coco", "chan_gru_f30k", "chan_gru_coco"} <= set(preset_names())
    assert {"resg_gru_f30k", "resg_scenes"} <= set(preset_names())
    assert {"cmsei_gru_f30k", "cmsei_bert_coco", "hire_bert_f30k", "hire_photos", "cmsei_scenes"} <= set(preset_names())


def test_a_preset_is_printed_as_yaml(capsys):
    assert run("presets", "demo") == 0
    printed = capsys.readouterr().out
    assert printed == preset_path("demo").read_text()
    assert yaml.safe_load(printed)["data"]["source"]["class_path"] == "itmatch.data.RelationScenes"
    assert run("presets", "nothing") == 1
    assert "no preset 'nothing'; there are chan_bert_coco" in capsys.readouterr().err


def test_names_and_files():
    assert resolve_config("demo") == resolve_config("preset:demo") == str(preset_path("demo"))
    Path("demo").write_text("")
    assert resolve_config("demo") == "demo"  # a file of the user's comes first
    assert resolve_config("preset:demo") == str(preset_path("demo"))
    with pytest.raises(FileNotFoundError, match=r"--config a/b: no such file"):
        resolve_config("a/b")
    with pytest.raises(ValueError, match="no preset 'b'"):
        resolve_config("b")
