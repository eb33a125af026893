"""What README.md and docs/ say runs, and what they point at exists."""

import ast
import contextlib
import importlib
import json
import re
import shlex
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from itmatch.__main__ import RUN_COMMANDS, main
from itmatch.data import Vocabulary
from itmatch.presets import preset_names

ROOT = Path(__file__).parents[1]
WRITTEN = sorted(page for folder in ("docs", "docs/howto", "docs/notebooks") for page in (ROOT / folder).glob("*.md"))
PAGES = ["README.md", "examples/README.md", *(page.relative_to(ROOT).as_posix() for page in WRITTEN)]
TINY = ["--data.source.num_train", "8", "--data.source.num_val", "4", "--data.source.num_test", "4"]
TRAINER = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]

# What is made smaller.
SHRUNK = {
    "README.md": [("RelationScenes()", "RelationScenes(num_test=4)")],
    "docs/training.md": [
        ("RelationScenes()", "RelationScenes(num_train=8, num_val=4, num_test=4)"),
        ("max_epochs=5", "max_epochs=1, accelerator='cpu', enable_progress_bar=False, enable_model_summary=False"),
    ],
    "docs/start.md": [("RelationScenes()", "RelationScenes(num_test=4)")],
    "docs/howto/features.md": [("max_epochs=5", "max_epochs=1, accelerator='cpu', enable_progress_bar=False")],
    "docs/howto/plain_pytorch.md": [("RelationScenes()", "RelationScenes(num_train=8, num_test=4)")],
    "docs/index.md": [
        ("RelationScenes(num_train=1000)", "RelationScenes(num_train=8, num_val=4, num_test=4)"),
        ("max_epochs=5", "max_epochs=1, accelerator='cpu', enable_progress_bar=False, enable_model_summary=False"),
    ],
}


def blocks(page, *languages):
    """The code blocks of a page in some languages."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [text for _, language, text in found if language in languages]


def commands(page):
    """The commands of the shell blocks of a page, as lists of words."""
    for block in blocks(page, "bash", "shell", "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            ends = [-1, *(i for i, word in enumerate(words) if word == "&&"), len(words)]
            yield from (words[a + 1 : b] for a, b in pairwise(ends) if b > a + 1)


def call(arguments):
    """Exit status of ``itmatch`` with some arguments, in this process."""
    try:
        return main(arguments)
    except SystemExit as stop:  # --help, --print_config
        return stop.code or 0


def write_precomp(root):
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "dev", "test", "testall"):
        np.save(root / f"{split}_ims.npy", rng.standard_normal((4, 3, 8)).astype(np.float16))
        lines = [f"a dog and cat number {i}" for i in range(20)]
        (root / f"{split}_caps.txt").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the data that the pages name and the files of a finished run."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("f30k_precomp", "coco_precomp", "toy_precomp"):
        write_precomp(folder / "data" / name)
    (folder / "vocab").mkdir()
    Vocabulary.build([["a", "dog", "cat"]], 1).to_json(folder / "vocab/f30k_precomp_vocab.json")
    (folder / "glove.6B.300d.txt").write_text("".join(f"{word} {'0.5 ' * 299}0.5\n" for word in ("a", "dog")), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--config", "demo", *TINY, *TRAINER, "--trainer.enable_model_summary", "false"]) == 0
    assert (folder / "runs/lightning_logs/version_0/checkpoints/best.ckpt").exists()
    return folder


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """A copy of that folder, which is also where modules are imported from."""
    folder = tmp_path / "place"
    shutil.copytree(finished, folder)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("results", "benchmarks"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    before = set(sys.modules)
    yield folder
    for name in {name for name in sys.modules if name.startswith("my_")} - before:
        del sys.modules[name]


def run_python(page):
    """Execute the Python blocks of a page in order; one that begins with ``# file.py`` becomes that file."""
    names = {"__name__": "docs"}
    changes = SHRUNK.get(page, [])
    source = "".join(blocks(page, "python"))
    assert [old for old, _ in changes if old not in source] == [], f"{page}: SHRUNK is out of date"
    for block in blocks(page, "python"):
        for old, new in changes:
            block = block.replace(old, new)
        file = re.match(r"# (\w+)\.py\n", block)
        if file:
            Path(f"{file[1]}.py").write_text(block, "utf-8")
            importlib.invalidate_caches()
            names.update(vars(importlib.import_module(file[1])), __name__="docs")
        else:
            exec(compile(block, f"<{page}>", "exec"), names)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page, place, capsys):
    run_python(page)


ACTS = (
    "print",
    "add",
    "delete",
    "compact",
    "savefig",
    "write",
    "manual_seed",
    "seed_everything",
    "fit",
    "eval",
    "save_pretrained",
)  # called for what they do


SHOWING = [
    "docs/searching.md",
    "docs/pages.md",
    *(page for page in PAGES if "howto" in page and blocks(page, "python")),
]


@pytest.mark.parametrize("page", SHOWING)
def test_python_blocks_show_something(page):
    """Somebody who runs a block as a script sees what it found: no value stands there alone."""
    for block in blocks(page, "python"):
        assert "print(" in block, block
        for line in ast.parse(block).body:
            if isinstance(line, ast.Expr):
                function = getattr(line.value, "func", None)
                name = getattr(function, "attr", getattr(function, "id", None))
                assert name in ACTS, ast.unparse(line)


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_commands_are_understood(page, place, capsys):
    if page in ("README.md", "docs/extending.md", "docs/start.md"):
        run_python(page)  # writes the files that the commands name
    write_yaml(page)
    for words in commands(page):
        if words[0] == "itmatch":
            help_wanted = any(word.endswith(("--help", ".help")) for word in words)
            parsed = ["--print_config"] if words[1] in RUN_COMMANDS and not help_wanted else []
            parsed += ["--help"] if words[1] == "serve" else []  # which would not end
            status = call([*words[1:], *parsed])
            assert status == 0, f"{page}: {shlex.join(words)}\n{capsys.readouterr().err}"
        elif words[0] in ("bash", "python"):
            assert Path(words[1]).is_file() or (ROOT / words[1]).is_file(), f"{page}: {shlex.join(words)}"
        elif words[:2] == ["pip", "install"] and "-c" in words:
            assert (ROOT / words[words.index("-c") + 1]).is_file()


def write_yaml(page):
    text = (ROOT / page).read_text("utf-8")
    for name, block in re.findall(r"`(\w+\.yaml)`[^`]*```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        Path(name).write_text(block, "utf-8")


def test_own_parts_train(place, capsys):
    """The classes of docs/extending.md are not only parsed: each one takes a step."""
    run_python("docs/extending.md")
    for stage in ("train", "val", "test"):
        Path("data/lines").mkdir(exist_ok=True)
        np.save(f"data/lines/{stage}.npy", np.ones((2, 3, 8), np.float32))
        captions = {"one": ["a dog", "a cat"] * 4, "two": ["a bird"] * 4}  # 4 of each: rarer words are unknown
        lines = [json.dumps({"id": name, "captions": texts}) for name, texts in captions.items()]
        Path(f"data/lines/{stage}.jsonl").write_text("\n".join(lines), "utf-8")
    found = [words for words in commands("docs/extending.md") if words[:2] == ["itmatch", "fit"]]
    assert len(found) >= 4
    for words in found:
        tiny = [] if "--data.source" in words else TINY
        status = call([*words[1:], *tiny, "--trainer.fast_dev_run", "1", "--trainer.enable_model_summary", "false"])
        assert status == 0, f"{shlex.join(words)}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_yaml_blocks_are_configurations(page, place, capsys):
    for number, block in enumerate(blocks(page, "yaml")):
        Path(f"block{number}.yaml").write_text(block, "utf-8")
        status = call(["fit", "--config", "chan_gru_f30k", "--config", f"block{number}.yaml", "--print_config"])
        assert status == 0, f"{page}: {block}\n{capsys.readouterr().err}"


def slugs(text):
    """The anchors that the headings of a page have."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"\w+:", target):
            continue  # of another site; not looked at offline
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        assert not anchor or anchor in slugs(path.read_text("utf-8")), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_library_exist(page):
    text = (ROOT / page).read_text("utf-8")
    roles = re.findall(r"\{py:\w+\}`~?([\w.]+)`", text)
    plain = re.findall(r"`(itmatch(?:\.\w+)+)(?:\(.*?\))?`", text)
    for name in [*roles, *plain]:
        parts = name.split(".")
        found = None
        for cut in range(len(parts), 0, -1):
            with contextlib.suppress(ModuleNotFoundError):
                found = importlib.import_module(".".join(parts[:cut]))
                for part in parts[cut:]:
                    found = getattr(found, part)
                break
        assert found is not None, f"{page}: {name}"


def test_every_page_is_in_the_index():
    listed = re.findall(r"```\{toctree\}.*?\n\n(.*?)```", (ROOT / "docs/index.md").read_text("utf-8"), re.DOTALL)
    names = {line for part in listed for line in part.split()}
    there = {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert names == {name for name in there if not name.startswith("_build")} - {"index"}
    assert names.isdisjoint({"search", "genindex", "modindex"}), "Sphinx has pages of these names of its own"


def rows(page):
    """The cells of the tables of a page, with the texts of links in their place."""
    cells = [line.strip().strip("|").split("|") for line in (ROOT / page).read_text("utf-8").splitlines()]
    return [[re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell.strip()) for cell in row] for row in cells if len(row) > 4]


def test_figures_of_the_first_page_are_those_of_the_results():
    measured = [set(row) for row in rows("docs/results.md")]
    shown = [row for row in rows("docs/index.md") if "±" in row[-1]]
    assert len(shown) >= 10
    for name, *_, time, recall in shown:
        assert any({name, time, recall} <= row for row in measured), (
            f"docs/results.md has no {name} with {time}, {recall}"
        )


def test_the_zoo_has_every_preset_and_the_figures_of_the_results():
    page = (ROOT / "docs/zoo.md").read_text("utf-8")
    assert [name for name in preset_names() if page.count(f"`{name}`") != 1] == []
    measured = rows("docs/results.md")
    shown = [row for row in rows("docs/zoo.md") if "±" in row[3]]
    assert len(shown) == sum(name.endswith("_features") for name in preset_names())
    for _, name, _, recall, seconds, size in shown:
        (row,) = (row for row in measured if row[0] == name and {recall, seconds} <= set(row))
        parameters = int(row[measured[0].index("parameters")].replace(",", ""))
        assert f"{parameters * 4 / 1e6:.1f}" == size, name


def test_every_layout_of_the_table_names_a_test():
    page = (ROOT / "docs/data.md").read_text("utf-8")
    rows = [line.split("|") for line in page.partition("## Layouts")[2].partition("```")[0].splitlines()[2:]]
    rows = [row for row in rows if len(row) == 6 and row[-2].strip().startswith("`")]
    assert len(rows) >= 20
    source = "".join(path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    assert {row[2].strip() for row in rows} == {"read", "converted", "refused", "read, converted"}
    for row in rows:
        assert f"def {row[-2].strip(' `')}(" in source, row
