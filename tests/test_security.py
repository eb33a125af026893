"""What a file from elsewhere may do; every test here stands behind a cell of the table in docs/security.md.

The attacks leave a marker file where a real one would do harm.
"""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_cli import DEMO, error_of, run
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from itmatch.data import RelationScenes
from itmatch.models import MatchingModel, chan_gru
from itmatch.models.bounds import bounded_by
from itmatch.nn import HardAligningSimilarity, Similarity, TransformerTextEncoder
from itmatch.spec import Configurable, build
from itmatch.training import MatchingData, MatchingTask
from itmatch.training.checkpoints.writing import AtomicCheckpointIO, BestCheckpoint
from itmatch.trust import import_class

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run of the command line."""
    folder = tmp_path_factory.mktemp("trained")
    assert run("fit", *DEMO, f"--trainer.logger.save_dir={folder}") == 0
    return folder / "lightning_logs/version_0"


@pytest.fixture(scope="module")
def content(trained):
    return torch.load(trained / "checkpoints/last.ckpt", weights_only=True)


def popen():
    return {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(Path("marker").absolute())]}}


def nothing_ran():
    return not Path("marker").exists()


def changed(content, change):
    """A checkpoint file whose settings somebody has changed."""
    copy = pickle.loads(pickle.dumps(content))
    change(copy)
    torch.save(copy, "changed.ckpt")
    return Path("changed.ckpt")


def below_any(content):
    content["hyper_parameters"]["tokenizer"] = {
        "class_path": "itmatch.data.HuggingFaceTokenizer",
        "init_args": {"name_or_path": "x", "serialized": popen()},
    }


def below_config(content):
    content["hyper_parameters"]["text_encoder"] = {
        "class_path": "itmatch.nn.TransformerTextEncoder",
        "init_args": {"embed_dim": 16, "config": popen()},
    }


def scheduler(content):
    schedule = {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "os._exit"}}
    content["hyper_parameters"]["scheduler"] = schedule


def optimizer(content):
    content["hyper_parameters"]["optimizer"] = popen()


def instantiator(content):
    content["hyper_parameters"]["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
    content["hyper_parameters"]["_class_path"] = "itmatch.training.MatchingTask"


def as_part(content):
    content["hyper_parameters"]["similarity"] = popen()


def as_nested_part(content):
    content["hyper_parameters"]["similarity"]["init_args"]["pooling"] = popen()


def as_plain_setting(content):
    content["hyper_parameters"]["lr_scale"] = popen()


ATTACKS = [below_any, below_config, scheduler, optimizer, instantiator, as_part, as_nested_part, as_plain_setting]


# ----------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_checkpoint_runs_nothing_on_the_command_line(attack, content, capsys):
    path = changed(content, attack)
    message = error_of(capsys, "test", *DEMO, f"--ckpt_path={path}")
    assert "changed.ckpt" in message or attack is as_plain_setting
    assert nothing_ran()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("weights_only", [None, True])
def test_a_checkpoint_runs_nothing_in_python(attack, weights_only, content):
    path = changed(content, attack)
    if attack is as_plain_setting:  # it stays plain, and training with it is an error
        assert MatchingTask.load_from_checkpoint(path, weights_only=weights_only).lr_scale == popen()
    else:
        with pytest.raises(ValueError, match=r"changed\.ckpt"):
            MatchingTask.load_from_checkpoint(path, weights_only=weights_only)
    assert nothing_ran()


@pytest.mark.parametrize("attack", [below_config, instantiator, as_part])
def test_a_member_of_an_ensemble_runs_nothing(attack, content, trained, capsys):
    path = changed(content, attack)
    good = trained / "checkpoints/last.ckpt"
    assert "changed.ckpt" in error_of(capsys, "test", *DEMO, f"--ckpt_path={good}", f"--ensemble={path}")
    assert nothing_ran()


@pytest.mark.parametrize("attack", [below_config, instantiator, as_part])
def test_weights_to_start_from_run_nothing(attack, content, capsys):
    path = changed(content, attack)
    assert "changed.ckpt" in error_of(capsys, "fit", *DEMO, f"--init_from={path}")
    assert nothing_ran()


@pytest.mark.parametrize("attack", [scheduler, optimizer, instantiator])
def test_settings_that_we_never_write_are_refused_by_name(attack, content):
    name = {"instantiator": "_class_path, _instantiator"}.get(attack.__name__, attack.__name__)
    with pytest.raises(ValueError, match=rf"changed.ckpt: hyper_parameters has {name}, which we never write"):
        MatchingTask.load_from_checkpoint(changed(content, attack))


def test_a_report_runs_nothing(trained, content):
    run_folder = Path("copied")
    shutil.copytree(trained, run_folder)
    config = run_folder / "config.yaml"
    honest = config.read_text()
    config.write_text(json.dumps({"data": {"source": popen()}}))
    assert run("report", run_folder) == 0
    assert nothing_ran()
    config.write_text(honest)
    for attack in (as_part, below_config, instantiator):
        shutil.copy(changed(content, attack), run_folder / "checkpoints" / "best.ckpt")
        assert run("report", run_folder) == 0
        assert nothing_ran()
        assert "no queries are shown" in (run_folder / "report.html").read_text("utf-8")


class Command:
    def __reduce__(self):
        return subprocess.Popen, (["touch", str(Path("marker").absolute())],)


def pickled_command():
    torch.save({"hyper_parameters": {}, "state_dict": {}, "extra": Command()}, "pickled.ckpt")
    assert nothing_ran()
    return Path("pickled.ckpt")


def test_a_pickle_in_a_checkpoint_is_not_run(capsys):
    path = pickled_command()
    assert "pickled.ckpt" in error_of(capsys, "test", *DEMO, f"--ckpt_path={path}")
    with pytest.raises(ValueError, match=r"pickled\.ckpt: no checkpoint"):
        MatchingTask.load_from_checkpoint(path)
    with pytest.raises(ValueError, match=r"pickled\.ckpt: no checkpoint"):
        AtomicCheckpointIO().load_checkpoint(path)
    assert nothing_ran()


def test_a_checkpoint_of_a_url_is_read_as_weights_alone(trained):
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.pipe("/good.ckpt", (trained / "checkpoints/last.ckpt").read_bytes())
    storage.pipe("/bad.ckpt", pickled_command().read_bytes())
    assert MatchingTask.load_from_checkpoint("memory://good.ckpt").model.tokenizer is not None
    for read in (MatchingTask.load_from_checkpoint, AtomicCheckpointIO().load_checkpoint):
        with pytest.raises(ValueError, match=r"memory://bad\.ckpt: no checkpoint"):
            read("memory://bad.ckpt")
        with pytest.raises(FileNotFoundError, match=r"memory://none\.ckpt: no such file"):
            read("memory://none.ckpt")
    assert nothing_ran()


def test_unpickling_cannot_be_asked_for(trained, capsys):
    checkpoint = trained / "checkpoints/last.ckpt"
    with pytest.raises(ValueError, match="weights_only is always True"):
        MatchingTask.load_from_checkpoint(checkpoint, weights_only=False)
    with pytest.raises(ValueError, match="weights_only=False would run"):
        AtomicCheckpointIO().load_checkpoint(checkpoint, weights_only=False)
    assert "--weights_only false" in error_of(
        capsys, "test", *DEMO, f"--ckpt_path={checkpoint}", "--weights_only=false"
    )


def test_data_are_not_built_from_a_checkpoint(content):
    def attack(content):
        content["datamodule_hyper_parameters"] = {"source": popen(), "_instantiator": "subprocess.Popen"}

    with pytest.raises(TypeError, match="a checkpoint holds no data"):
        MatchingData.load_from_checkpoint(changed(content, attack))
    assert nothing_ran()


def test_a_checkpoint_removes_no_file_but_its_own(content, capsys):
    precious = Path("precious")
    precious.mkdir()
    (precious / "thesis.ckpt").write_text("years")

    def attack(content):
        for state in content["callbacks"].values():
            state["best_model_path"] = state["last_model_path"] = f"local://{precious.absolute()}"
            state["kth_best_model_path"] = str(precious / "thesis.ckpt")
            state["best_k_models"] = {f"local://{precious.absolute()}": torch.tensor(-1.0)}
            state["dirpath"] = str(precious)

    path = changed(content, attack)
    capsys.readouterr()
    with pytest.warns(UserWarning, match="names files outside its own folder, which are left alone: .*local://"):
        assert run("fit", *DEMO, f"--ckpt_path={path}", "--trainer.max_epochs=3") == 0
    assert (precious / "thesis.ckpt").read_text() == "years"


@pytest.mark.parametrize("callback", [BestCheckpoint, ModelCheckpoint])
def test_that_holds_for_any_checkpoint_callback_in_python(callback, tmp_path):
    Path("precious").mkdir()

    def trainer(epochs):
        kept = callback(tmp_path / "kept", monitor="val/rsum", mode="max", save_last=True)
        return Trainer(max_epochs=epochs, logger=False, enable_progress_bar=False, callbacks=[kept], accelerator="cpu")

    def task(data):
        model = chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=8, word_dim=8)
        return MatchingTask.from_model(model)

    data = MatchingData(RelationScenes(num_train=4, num_val=2, num_test=2), batch_size=8)
    trainer(1).fit(task(data), data)
    saved = torch.load("kept/last.ckpt", weights_only=True)
    for state in saved["callbacks"].values():
        own = state["best_model_path"]
        state["last_model_path"] = state["kth_best_model_path"] = f"local://{Path('precious').absolute()}"
    torch.save(saved, "kept/last.ckpt")
    resumed = trainer(2)
    with pytest.warns(UserWarning, match="left alone"):
        resumed.fit(task(data), data, ckpt_path="kept/last.ckpt")
    assert Path("precious").is_dir()
    assert Path(own).exists() or resumed.checkpoint_callback.best_model_path != own  # its own are still its own


# ----------------------------------------------------------------------------------------------------- model folders


@pytest.fixture
def folder():
    chan_gru(WORDS, region_dim=4, embed_dim=8, word_dim=4).save_pretrained("folder")
    return Path("folder")


def edit(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config)
    path.write_text(json.dumps(config), "utf-8")


@pytest.mark.parametrize("attack", [below_any, below_config, as_part, as_nested_part, scheduler, instantiator])
def test_a_model_folder_runs_nothing(attack, folder, capsys):
    edit(folder, lambda config: attack({"hyper_parameters": config}))
    with pytest.raises(ValueError, match=r"folder/config\.json"):
        MatchingModel.from_pretrained("folder")
    assert "folder" in error_of(capsys, "test", *DEMO, "--ckpt_path=folder")
    assert nothing_ran()


def write_module(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "from pathlib import Path\nfrom itmatch.nn import MeanPooling\nPath('marker').touch()\n"
        "class Mean(MeanPooling):\n    pass\n"
    )


def names(class_path):
    return lambda config: config["similarity"]["init_args"].update(pooling={"class_path": class_path})


def test_a_model_does_not_bring_code_of_its_own(folder, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())  # "." would stay the folder of the first test
    write_module(folder / "evil.py")
    write_module(Path("my_evil.py"))
    for path in ("folder.evil.Mean", "my_evil.Mean", "unittest.__main__.Mean", "this.Mean", "__main__.Mean"):
        edit(folder, names(path))
        with pytest.raises(ValueError, match=r"folder/config\.json: similarity\.pooling: "):
            MatchingModel.from_pretrained("folder")
    assert nothing_ran()
    assert "this" not in sys.modules
    assert "folder" not in sys.modules


def test_a_folder_without_init_is_never_a_package(folder, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())  # "." would stay the folder of the first test
    write_module(folder / "evil.py")
    edit(folder, names("folder.evil.Mean"))
    for trusted in (["folder"], ["folder.evil"]):
        with pytest.raises(ValueError, match=r"'folder', which has no __init__\.py"):
            MatchingModel.from_pretrained("folder", trusted_modules=trusted)
    assert nothing_ran()


def test_modules_that_are_named_are_imported(folder, monkeypatch):
    monkeypatch.syspath_prepend(Path.cwd())  # "." would stay the folder of the first test
    write_module(Path("my_pooling.py"))
    edit(folder, names("my_pooling.Mean"))
    with pytest.raises(ValueError, match=r"trusted_modules=\['my_pooling'\], on the command line --trust my_pooling"):
        MatchingModel.from_pretrained("folder")
    assert nothing_ran()
    with pytest.raises(ValueError, match="trusted_modules"):
        MatchingModel.from_pretrained("folder", trusted_modules="my_poolin")  # no list of letters
    model = MatchingModel.from_pretrained("folder", trusted_modules="my_pooling")
    model = MatchingModel.from_pretrained("folder", trusted_modules=["my_pooling"])
    assert type(model.similarity.pooling).__name__ == "Mean"
    assert type(MatchingModel.from_pretrained("folder").similarity.pooling).__name__ == "Mean"  # it is imported now
    for similar in ("my_pool", "my_pooling.Mea", "my"):
        del sys.modules["my_pooling"]
        with pytest.raises(ValueError, match="trusted_modules"):
            MatchingModel.from_pretrained("folder", trusted_modules=[similar])
        sys.modules["my_pooling"] = sys.modules[type(model.similarity.pooling).__module__] = object()


def test_trust_on_the_command_line(content, capsys):
    write_module(Path("my_trusted.py"))

    def own_pooling(content):
        content["hyper_parameters"]["similarity"]["init_args"]["pooling"] = {"class_path": "my_trusted.Mean"}

    path = changed(content, own_pooling)
    assert "--trust my_trusted" in error_of(capsys, "test", *DEMO, f"--ckpt_path={path}")
    assert nothing_ran()
    assert run("test", *DEMO, f"--ckpt_path={path}", "--trust=my_trusted") == 0
    del sys.modules["my_trusted"]
    assert run("test", *DEMO, f"--ckpt_path={path}", f"--ensemble={path}", "--trust=[my_trusted]") == 0


class InMain(Similarity):
    def forward(self, image, text):
        raise AssertionError


def test_the_running_program_is_looked_up_when_it_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "InMain", InMain, raising=False)
    with pytest.raises(ValueError, match="is of a program, not of a module"):
        build({"class_path": "__main__.InMain"})
    assert type(build({"class_path": "__main__.InMain"}, trusted_modules=["__main__"])) is InMain
    with pytest.raises(ValueError, match="is of a program"):
        build({"class_path": "unittest.__main__.X"}, trusted_modules=["unittest", "__main__"])


@pytest.mark.parametrize(
    "path", ["json.tool.main", "itmatch.spec.os.PathLike", "torch.hub.load", "itmatch.nn.nope.Mean", "builtins.eval"]
)
def test_what_is_no_class_of_ours_is_never_called(path):
    with pytest.raises(ValueError, match=r"^x: "):
        build({"class_path": path, "init_args": {}}, Similarity, "x")


def test_a_path_that_a_user_has_typed_may_name_any_class():
    assert import_class("json.JSONDecoder") is json.JSONDecoder


class Nest(Configurable):
    def __init__(self, inner=None):
        self.inner = inner


def test_nesting_has_a_limit():
    spec = None
    for _ in range(2000):
        spec = {"class_path": f"{__name__}.Nest", "init_args": {"inner": spec}}
    with pytest.raises(ValueError, match="nested more than 40 deep"):
        build(spec)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested more than 40 deep"):
        build({"class_path": "itmatch.nn.HardAligningSimilarity", "init_args": {"pooling": deep}})


@pytest.mark.parametrize("value", [[1], 3, "x", {3: 4}, {"nope": 1}, {"query": 7}])
def test_arguments_of_a_wrong_kind(value):
    with pytest.raises(ValueError, match=r"^x"):
        build({"class_path": "itmatch.nn.HardAligningSimilarity", "init_args": value}, Similarity, "x")


# --------------------------------------------------------------------------------------------------------------- sizes

HUGE = {
    "a vocabulary": lambda p: p["text_encoder"]["init_args"].update(vocabulary=50_000_000_000),
    "a space": lambda p: p["image_encoder"]["init_args"].update(embed_dim=10_000_000_000),
    "layers": lambda p: p["text_encoder"]["init_args"].update(num_layers=10_000_000),
    "a transformer": lambda p: p.update(
        text_encoder={
            "class_path": "itmatch.nn.TransformerTextEncoder",
            "init_args": {"embed_dim": 8, "config": {"model_type": "bert", "num_hidden_layers": 10_000_000}},
        }
    ),
    "positions": lambda p: p.update(
        text_encoder={
            "class_path": "itmatch.nn.TransformerTextEncoder",
            "init_args": {"embed_dim": 8, "config": {"model_type": "bert", "max_position_embeddings": 10**12}},
        }
    ),
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_are_bounded_by_the_weights(name, folder, content, capsys):
    edit(folder, HUGE[name])
    with pytest.raises(ValueError, match=r"folder/config\.json.*its settings ask for .*, its weights hold \d+ numbers"):
        MatchingModel.from_pretrained("folder")
    path = changed(content, lambda content: HUGE[name](content["hyper_parameters"]))
    with pytest.raises(ValueError, match=r"changed\.ckpt.*its settings ask for"):
        MatchingTask.load_from_checkpoint(path)
    assert "its settings ask for" in error_of(capsys, "test", *DEMO, f"--ckpt_path={path}")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**7, 10**7),
        lambda: torch.zeros((10**7, 10**7)),
        lambda: torch.full((10**14,), 1.0),
        lambda: torch.rand(10**14),
        lambda: torch.zeros(1).new_zeros(10**14),
        lambda: torch.arange(10**14),
        lambda: torch.arange(5, 10**14, 2),
        lambda: torch.linspace(0, 1, 10**14),
        lambda: torch.eye(10**7),
        lambda: torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2000)),
        lambda: torch.nn.ModuleList(torch.nn.Identity() for _ in range(3000)),
    ],
)
def test_every_way_to_allocate_is_bounded(make):
    with pytest.raises(ValueError, match=r"^file: its settings ask for"), bounded_by([10, 10], "file"):
        make()
    torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2000))  # the bound has ended


# ---------------------------------------------------------------------------------------- what transformers would fetch


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation_internal": "someone/kernel"},
        {"attn_implementation": {"": "someone/kernel"}},
        {"experts_implementation": "someone/kernel:fn"},
        {"auto_map": {"AutoModel": "someone/model--modeling.Model"}},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"text_config": {"attn_implementation": "someone/kernel"}},
        {"backbone": "someone/backbone"},
        {"use_pretrained_backbone": True},
    ],
)
def test_settings_of_a_transformer_fetch_nothing(settings):
    with pytest.raises(ValueError, match=r"^TransformerTextEncoder\.config\."):
        TransformerTextEncoder(embed_dim=8, config={"model_type": "bert", "vocab_size": 9} | settings)


def test_remote_code_is_refused_explicitly(monkeypatch, tiny_bert):
    import transformers

    seen = []
    for name, method in [
        ("AutoModel", "from_pretrained"),
        ("AutoModel", "from_config"),
        ("AutoTokenizer", "from_pretrained"),
    ]:
        cls = getattr(transformers, name)
        original = getattr(cls, method)

        def watched(*args, original=original, **kwargs):
            seen.append(kwargs.get("trust_remote_code"))
            return original(*args, **kwargs)

        monkeypatch.setattr(cls, method, watched)
    from itmatch.data import HuggingFaceTokenizer

    encoder = TransformerTextEncoder(tiny_bert, 8)
    build(encoder.spec)
    HuggingFaceTokenizer(tiny_bert).fit(["a dog"])
    assert seen == [False, False, False]


# ----------------------------------------------------------------------------------------------------------------- YAML


def test_nothing_is_built_below_plain_data_in_yaml(capsys):
    bert = ["--model.text_encoder=itmatch.nn.TransformerTextEncoder", "--model.text_encoder.embed_dim=16"]
    config = f"--model.text_encoder.config={json.dumps(popen())}"
    assert run("fit", *[flag for flag in DEMO if "text_encoder" not in flag], *bert, config) == 1
    assert nothing_ran()


def test_a_file_of_the_working_folder_replaces_no_library():
    Path("queue.py").write_text("open('marker', 'w')\n")
    Path("my_own.py").write_text("")
    code = "import sys; from itmatch.__main__ import main; main(['fit', '--help', 'all']); import my_own, queue"
    for command in ([sys.executable, "-c", code], [sys.executable, "-m", "itmatch", "validate", "--config=nothing"]):
        subprocess.run(command, capture_output=True, check=False, timeout=100)
        assert nothing_ran(), command


# ------------------------------------------------------------------------------------------------------- the table


def test_every_cell_of_the_table_names_a_test():
    page = (Path(__file__).parents[1] / "docs/security.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`test_" in line]
    assert len(rows) >= 10
    source = Path(__file__).read_text("utf-8") + "".join(
        path.read_text("utf-8") for path in sorted(Path(__file__).parent.rglob("test_*.py"))
    )
    for name in {word for row in rows for word in row.split("`") if word.startswith("test_")}:
        assert f"def {name}(" in source, name


def test_a_loaded_model_is_the_saved_one(folder):
    model = MatchingModel.from_pretrained("folder")
    assert isinstance(model.similarity, HardAligningSimilarity)
    assert not model.training
