import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from helpers_cli import QUIET, error_of, run, write_precomp
from helpers_photo_folder import write_captions, write_photos
from helpers_pretrained import save_backbone, save_dual_encoder, save_swin

from itmatch.cli.running.configs import resolve_config
from itmatch.nn import InteractiveSimilarity, Similarity
from itmatch.presets import describe_presets, expanded, preset_config, preset_names, preset_path
from itmatch.spec import build
from itmatch.training import MilestoneSchedule

WIDTH = 16
ENCODERS = ("image_encoder", "text_encoder")


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Options that let the presets of photos run here, by what makes their regions."""
    root = tmp_path_factory.mktemp("photos")
    captions = write_captions(root / "captions.json", write_photos(root / "photos", 8))
    source = [f"--data.source.root={root}/photos", f"--data.source.captions={captions}", f"--data.source.cache={root}"]
    backbone = save_backbone(tmp_path_factory.mktemp("backbone"))
    regions = ["none", backbone, "4"]
    names = [f"--data.source.extractor.{name}" for name in ("detector", "backbone", "regions")]
    options = {"RegionExtractor": source + [f"{name}={value}" for name, value in zip(names, regions, strict=True)]}
    for split in ("train", "dev", "test", "testall"):  # lists of the same photos
        (root / f"{split}_ids.txt").write_text("".join(f"{number:02d}.png\n" for number in range(4)))
        (root / f"{split}_caps.txt").write_text("a black dog\nwhite cats run\n" * 2)
    (root / "images").symlink_to(root / "photos")
    for tower, folder in (("vit", backbone), ("swin", save_swin(tmp_path_factory.mktemp("swin")))):
        options[tower] = [f"--data.source.root={root}", f"--system.vision_name={folder}"]
    for family in ("clip", "siglip"):
        model = save_dual_encoder(family, tmp_path_factory.mktemp(family))
        options[family] = [*source, f"--system.model_name={model}"]
    return options


def shrunk(name, root, bert, photos):
    """Options that make a preset small enough to run here; what they do not name runs as it is."""
    config = preset_config(name)
    parts = config["model"]
    last = ["--data.batch_size=4", "--data.num_workers=0", "--trainer.accelerator=cpu"]
    if parts["image_encoder"]["class_path"].endswith("ClipImageEncoder"):
        return [*photos[re.match("clip|siglip", name)[0]], *last]
    if tower := re.search("_(vit|swin)_", name):
        small = [f"--system.embed_dim={WIDTH}"] + [f"--system.block_dim={WIDTH // 4}"] * name.startswith("avse")
        return [*photos[tower[1]], f"--system.model_name={bert}", *small, *last]
    if "block_dim" in parts["similarity"].get("init_args", {}):
        last.append(f"--model.similarity.init_args.block_dim={WIDTH // 4}")
    options = [flag for part in ENCODERS for flag in sizes(part, parts[part]["init_args"])]
    if "embed_dim" in parts["similarity"].get("init_args", {}):
        options.append(f"--model.similarity.init_args.embed_dim={WIDTH}")
    if parts["objective"]["class_path"].endswith("BatchRelationLoss"):
        options.append(f"--model.objective.init_args.embed_dim={WIDTH}")
    if parts["text_encoder"]["class_path"].endswith("TransformerTextEncoder"):
        options += [f"--model.text_encoder.model_name={bert}", f"--data.tokenizer.name_or_path={bert}"]
    if config["data"]["source"]["class_path"].endswith("RelationScenes"):
        options += [f"--data.source.num_{split}=4" for split in ("train", "val", "test")]
    elif config["data"]["source"]["class_path"].endswith("PhotoFolder"):
        options += photos["RegionExtractor"]
    else:
        options += [f"--data.source.root={root}"]
    return [*options, *last]


def sizes(part, arguments):
    """Options for a small embedding, in the encoder, in one within it, and in each of its relations."""
    if "embed_dim" in arguments:
        yield f"--model.{part}.init_args.embed_dim={WIDTH}"
    for inner in ("encoder", "slots"):
        if inner in arguments:
            yield from sizes(f"{part}.init_args.{inner}", arguments[inner]["init_args"])
    if "embed_dim" in (arguments.get("pooling") or {}).get("init_args", {}):  # and its heads are 8 or 16
        yield f"--model.{part}.init_args.pooling.init_args.embed_dim={WIDTH}"
    if arguments.get("relations"):
        for relation in arguments["relations"]:
            relation["init_args"]["embed_dim"] = WIDTH
        yield f"--model.{part}.init_args.relations={json.dumps(arguments['relations'])}"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_runs(name, tmp_path, tiny_bert, photos, capsys):
    root = write_precomp(tmp_path / "data", splits=("train", "dev", "test", "testall"), relations=True)
    limits = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1"]
    assert run("fit", "--config", name, *shrunk(name, root, tiny_bert, photos), *limits, *QUIET) == 0
    printed = capsys.readouterr()
    assert "rSum" in printed.out
    assert "itmatch: warning" not in printed.err
    folder = Path("runs/lightning_logs/version_0")
    assert (folder / "test_metrics.json").exists()
    own = ["--config", folder / "config.yaml", "--ckpt_path", folder / "checkpoints/last.ckpt"]
    assert run("test", *own) == 0
    assert "itmatch: warning" not in capsys.readouterr().err  # of settings that the checkpoint had otherwise


def test_a_tower_of_a_preset_is_trained_by_lora(tmp_path, tiny_bert, photos, capsys):
    lora = ["--model.image_encoder.lora=Lora", "--model.image_encoder.lora.rank=2"]
    limits = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1"]
    options = shrunk("laps_vit_f30k", tmp_path, tiny_bert, photos)
    assert run("fit", "--config", "laps_vit_f30k", *options, *lora, *limits, *QUIET) == 0
    folder = Path("runs/lightning_logs/version_0")
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    learned = [name for name in checkpoint["state_dict"] if "image_encoder" in name and "lora_" in name]
    assert {tuple(checkpoint["state_dict"][name].shape) for name in learned} == {(2, WIDTH), (WIDTH, 2)}
    capsys.readouterr()
    assert run("test", "--config", folder / "config.yaml", "--ckpt_path", folder / "checkpoints/last.ckpt") == 0
    assert "itmatch: warning" not in capsys.readouterr().err


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_parses_as_it_is_printed(name, capsys):
    parsed = whole(capsys, name)
    assert_contains(parsed, preset_config(name))
    assert run("presets", name) == 0
    printed = capsys.readouterr().out
    Path("printed.yaml").write_text(printed)
    assert resolve_config("printed.yaml") == "printed.yaml"  # nothing is left to expand
    assert yaml.safe_load(printed) == yaml.safe_load(resolve_config(name))
    if name in preset_names()[::10]:  # of which the same parser makes the same; it takes long for all
        assert whole(capsys, "printed.yaml") == parsed
    Path("parsed.yaml").write_text(yaml.safe_dump(parsed))
    assert whole(capsys, "parsed.yaml") == parsed


def whole(capsys, *configs):
    """The configuration that a run has, defaults and all."""
    words = [word for given in configs for word in ([given] if "--" in given else ["--config", given])]
    assert run("fit", *words, "--print_config") == 0
    return yaml.safe_load(capsys.readouterr().out)


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
    assert {"photos", "clip_vitb32", "siglip2_base"} <= set(preset_names())
    assert {"avse_regions_gru_f30k", "avse_regions_bert_coco", "laps_bert_f30k", "laps_features"} <= set(preset_names())
    assert {"hrem_gru_f30k", "hrem_bert_coco", "hrem_features"} <= set(preset_names())
    assert {"laps_vit_f30k", "laps_vit_coco", "laps_swin_f30k", "avse_vit_coco"} <= set(preset_names())
    assert {"dive_gru_f30k", "dive_gru_coco", "dive_features"} <= set(preset_names())
    names = {"cmsei_gru_f30k", "cmsei_bert_coco", "hire_bert_f30k", "hire_features", "cmsei_scenes"}
    assert names <= set(preset_names())


def test_a_preset_is_printed_whole(capsys):
    assert run("presets", "demo") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# CHAN on RelationScenes")
    assert yaml.safe_load(printed) == preset_config("demo")
    assert yaml.safe_load(printed)["model"]["text_encoder"] == {
        "class_path": "itmatch.nn.GRUTextEncoder",
        "init_args": {"embed_dim": 128, "word_dim": 64},
    }
    assert run("presets", "nothing") == 1
    assert "no preset 'nothing'; there are avse_features" in capsys.readouterr().err


def test_names_and_files():
    assert resolve_config("demo") == resolve_config("preset:demo")
    assert yaml.safe_load(resolve_config("demo")) == preset_config("demo")
    Path("demo").write_text("trainer: {}\n")
    assert resolve_config("demo") == "demo"  # a file of the user's comes first
    assert yaml.safe_load(resolve_config("preset:demo")) == preset_config("demo")
    with pytest.raises(FileNotFoundError, match=r"--config a/b: no such file"):
        resolve_config("a/b")
    with pytest.raises(ValueError, match="no preset 'b'"):
        resolve_config("b")


def test_presets_say_what_differs():
    """Parts that are all of one system stand in none of the files."""
    for name in preset_names():
        lines = preset_path(name).read_text().splitlines()
        assert len(lines) < 35, name
        assert not any("Encoder" in line for line in lines), name


@pytest.mark.parametrize(
    ("name", "epochs"),
    [("chan_gru_f30k", 15), ("scan_t2i_gru_f30k", 15), ("scan_t2i_gru_coco", 10), ("sgr_gru_f30k", 30)],
)
def test_milestones_are_the_epochs_of_the_public_code(name, epochs):
    config = preset_config(name)
    settings = config["model"]["scheduler"]["init_args"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    schedule = MilestoneSchedule(optimizer, settings["milestones"], total=config["trainer"]["max_epochs"])
    assert list(schedule.milestones) == [epochs]


def test_settings_of_a_source_that_is_replaced_are_gone(capsys):
    def source(*args):
        assert run("fit", "--config", "scan_t2i_gru_coco", *args, "--print_config") == 0
        return yaml.safe_load(capsys.readouterr().out)["data"]["source"]

    assert source("--data.source.root=mine")["init_args"]["test"] == "testall"
    assert source("--data.source=PrecompFolder", "--data.source.root=mine")["init_args"]["test"] == "testall"
    json = ["--data.source.annotations=a.json", "--data.source.features=a.npy"]
    plain = source("--data.source=KarpathyJson", *json)
    assert plain["class_path"] == "itmatch.data.KarpathyJson"
    assert plain["init_args"]["test"] == "test"
    assert source("--data.source", "itmatch.data.KarpathyJson", *json) == plain
    own = {"class_path": "itmatch.data.KarpathyJson", "init_args": {"annotations": "a.json", "features": "a.npy"}}
    Path("mine.yaml").write_text(yaml.safe_dump({"data": {"source": own}}))
    assert source("--config", "mine.yaml") == source("--config=mine.yaml") == plain
    assert source("--config=mine.yaml", "--data.source.test=val")["init_args"]["test"] == "val"
    assert (
        source("--config=mine.yaml", "--data.source=PrecompFolder", "--data.source.root=a")["init_args"]["test"]
        == "test"
    )


def test_a_file_may_inherit_and_name_a_system(capsys):
    mine = {
        "inherits": ["resg_gru_f30k", "parts/features"],
        "system": {"hire_gru": {"embed_dim": 32, "num_predicates": 7}},
        "model": {"similarity": {"init_args": {"cross_level": None}}},
        "data": {"batch_size": 3},
    }
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    config = whole(capsys, "mine.yaml")
    graph = config["model"]["image_encoder"]["init_args"]["relations"][1]
    assert graph["class_path"] == "itmatch.nn.SpatialSemanticGCN"
    assert (graph["init_args"]["embed_dim"], graph["init_args"]["num_predicates"]) == (32, 7)
    assert config["model"]["similarity"]["init_args"]["cross_level"] is None
    assert config["model"]["objective"]["class_path"] == "itmatch.losses.HardNegativeTripletLoss"
    assert config["model"]["scheduler"]["class_path"].endswith("CosineSchedule")
    assert "milestones" not in config["model"]["scheduler"]["init_args"]  # those of the class that was replaced
    assert config["data"]["tokenizer"]["init_args"]["min_count"] == 4
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (8, 3)
    Path("other.yaml").write_text("system: {chan_bert: {model_name: my/bert}}")
    config = whole(capsys, "demo", "other.yaml")
    assert config["data"]["tokenizer"]["init_args"]["name_or_path"] == "my/bert"
    assert config["model"]["text_encoder"]["init_args"]["model_name"] == "my/bert"
    assert config["data"]["source"]["class_path"] == "itmatch.data.RelationScenes"


@pytest.mark.parametrize(
    ("system", "threshold", "embed_dim"),
    [("{hire_gru: {embed_dim: 8}}", 0.0, 8), ("hire_gru", 0.0, 128), ("{cmsei_gru: {embed_dim: 8}}", None, 8)],
)
def test_settings_of_a_system_are_merged_and_those_of_another_are_not(system, threshold, embed_dim):
    config = expanded(yaml.safe_load(f"inherits: hire_scenes\nsystem: {system}"), "here")
    arguments = config["model"]["image_encoder"]["init_args"]
    assert arguments["embed_dim"] == embed_dim
    assert arguments["relations"][-1]["init_args"].get("threshold") == threshold


@pytest.mark.parametrize("preset", ["cmsei_scenes", "hire_scenes", "cmsei_features", "hire_features"])
def test_presets_have_attention_across_levels_as_by_default(preset):
    config = expanded(yaml.safe_load(f"inherits: {preset}"), "here")
    similarity = build(config["model"]["similarity"], Similarity)
    assert similarity.spec == InteractiveSimilarity().spec


def test_another_system_keeps_none_of_the_parts_that_are_inherited():
    config = expanded(yaml.safe_load("inherits: demo\nsystem: vse_pp_gru\nmodel:\ntrainer: {max_epochs: 3}"), "here")
    similarity = config["model"]["similarity"]
    assert similarity["class_path"] == "itmatch.nn.CosineSimilarity"
    assert "pooling" not in similarity.get("init_args", {})  # of the hard alignment of the demo
    assert "objective" in config["model"]
    assert config["trainer"]["max_epochs"] == 3


def test_a_setting_of_the_system_is_named_once(capsys):
    mine = Path("mine.yaml")
    mine.write_text("system: chan_bert\ninherits: chan_features\n")
    found = whole(capsys, "mine.yaml", "--system.embed_dim=24", "--system.model_name=some/bert")
    assert [found["model"][part]["init_args"]["embed_dim"] for part in ENCODERS] == [24, 24]
    assert found["model"]["text_encoder"]["init_args"]["model_name"] == "some/bert"
    assert found["data"]["tokenizer"]["init_args"]["name_or_path"] == "some/bert"
    found = whole(capsys, "clip_vitb32", "--system.model_name=a/clip")
    named = [found["model"][part]["init_args"]["model_name"] for part in ENCODERS]
    extractor = found["data"]["source"]["init_args"]["extractor"]["init_args"]
    assert [*named, extractor["model_name"], found["data"]["tokenizer"]["init_args"]["name_or_path"]] == ["a/clip"] * 4
    assert extractor["image_size"] is extractor["mean"] is None  # the model's own files say it
    for words, message in (
        (["clip_vitb32", "--system.modell=a"], "got an unexpected keyword argument 'modell'"),
        (["clip_vitb32", "--system.model_name"], "--system.model_name: expected --system.SETTING VALUE"),
        (["demo.yaml", "--system.embed_dim=3"], "--system.SETTING: no --config with a system, such as the preset"),
    ):
        Path("demo.yaml").write_text("trainer: {max_epochs: 1}")
        assert message in error_of(capsys, "fit", "--config", *words)


def test_what_is_no_use_of_the_two_keys_stays_as_it_is():
    config = {"model": {"system": 3}, "data": {"class_path": "a.B"}}
    assert expanded(config, "here") == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("inherits: [demo, nothing]", "mine.yaml: inherits: no preset 'nothing'; there are avse_features"),
        ("inherits: ../presets/demo", "mine.yaml: inherits: no preset '../presets/demo'"),
        ("inherits: 3", "mine.yaml: inherits: 3, expected the name of a preset, or a list of names"),
        ("inherits: [{a: b}]", "mine.yaml: inherits: .*, expected the name of a preset, or a list of names"),
        ("system: chan", "mine.yaml: system: no system 'chan'; did you mean 'chan_"),
        ("system: os.system", "no system 'os.system'"),
        ("system: convert_checkpoint", "no system 'convert_checkpoint'"),
        ("system: [chan_gru]", "mine.yaml: system: .*, expected a name, or a name with its settings"),
        ("system: {chan_gru: {}, chan_bert: {}}", "expected a name, or a name with its settings"),
        ("system: {chan_gru: 3}", "mine.yaml: system.chan_gru: 3, expected settings by name"),
        ("system: {chan_gru: {embd_dim: 3}}", "mine.yaml: system: chan_gru: .*'embd_dim'"),
        ("system: {hire_gru: {thresold: 3}}", "mine.yaml: system: hire_gru: SpatialSemanticGCN: .*'thresold'"),
        ("system: {chan_gru: {vocabulary: 9}}", "chan_gru: vocabulary comes from the data"),
        ("system: {chan_gru: {embed_dim: many}}", "image_encoder.*many"),
    ],
)
def test_a_mistake_in_a_short_file_is_told_in_one_line(config, message, capsys):
    Path("mine.yaml").write_text(config)
    assert re.search(message, error_of(capsys, "fit", "--config", "demo", "--config", "mine.yaml"))
