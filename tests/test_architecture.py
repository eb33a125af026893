"""Rules that hold for the repository as a whole: layers, heavy imports, public names, what lies where."""

import ast
import importlib
import inspect
import os
import pkgutil
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import itmatch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "itmatch"

# A part may import the parts of lower levels, and itself. Nothing else: parts of one level do not know each other.
LEVELS = {
    "_version": 0,
    "trust": 0,
    "errors": 0,
    "stopping": 0,
    "hostcopies": 0,
    "tensordata": 1,
    "batch": 2,
    "formats": 2,
    "presets": 6,
    "spec": 2,
    "extractor": 3,
    "ops": 3,
    "nn": 4,
    "losses": 4,
    "evaluation": 4,
    "data": 4,
    "vision": 5,
    "models": 5,
    "search": 6,
    "training": 6,
    "pages": 7,
    "cli": 8,
    "__main__": 9,
    "": 9,  # itmatch/__init__.py, which is lazy
}
TOP_LEVEL = {"pyproject.toml", "README.md", "CHANGELOG.md", "itmatch", "examples", "tests", "docs"}
PACKAGES = [
    "",
    "data",
    "evaluation",
    "losses",
    "models",
    "nn",
    "ops",
    "pages",
    "search",
    "spec",
    "training",
    "vision",
]


@dataclass(frozen=True)
class Import:
    """One module that a file imports, or reaches through an attribute."""

    file: str
    line: int
    target: str
    lazy: bool

    def __str__(self):
        return f"{self.file}:{self.line} imports {self.target}"

    def within(self, name):
        return self.target == name or self.target.startswith(f"{name}.")


def find_imports(source, file, package):
    """All imports of a file; ``package`` is the dotted package that relative imports start from."""
    found = []

    def visit(node, lazy):
        lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = ast.unparse(node)  # `import torch` and then `torch.distributed.all_reduce`
            targets = [name] if name == "torch.distributed" else []
        found.extend(Import(file, node.lineno, target, lazy) for target in targets)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy)

    visit(ast.parse(source), False)
    return found


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports():
    for path in modules():
        relative = path.relative_to(ROOT)
        yield from find_imports(path.read_text("utf-8"), relative.as_posix(), ".".join(relative.parts[:-1]))


def part(dotted):
    """The part that ``itmatch.nn.pooling`` belongs to: nn."""
    second = dotted.split(".")[1:2]
    return second[0] if second and second[0] in LEVELS else ""


def part_of_file(file):
    second = Path(file).parts[1]
    return "" if second == "__init__.py" else second.removesuffix(".py")


def layer_errors(found):
    for item in found:
        if not item.within("itmatch"):
            continue
        mine, theirs = part_of_file(item.file), part(item.target)
        if mine != theirs and LEVELS[theirs] >= LEVELS[mine]:
            yield str(item)


def test_every_part_has_a_level():
    parts = {part_of_file(path.relative_to(ROOT).as_posix()) for path in modules()}
    assert parts == set(LEVELS)


def test_imports_point_down():
    found = list(imports())
    assert sum(item.within("itmatch") for item in found) > 100  # the walk sees something
    assert list(layer_errors(found)) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("itmatch/nn/a.py", "from itmatch.losses import InfoNCELoss"),
        ("itmatch/nn/a.py", "def f():\n    from itmatch import losses"),
        ("itmatch/nn/a.py", "from ..losses import base"),
        ("itmatch/nn/a.py", "if TYPE_CHECKING:\n    import itmatch.data.split"),
        ("itmatch/ops/a.py", "from itmatch.nn import Block"),
        ("itmatch/batch.py", "import itmatch.ops"),
        ("itmatch/batch.py", "from itmatch.spec import build"),
        ("itmatch/models/a.py", "import itmatch.training"),
        ("itmatch/training/a.py", "from itmatch.cli.training import run"),
        ("itmatch/data/a.py", "from itmatch import Batch"),
    ],
)
def test_the_layer_rule_sees(file, source):
    package = ".".join(Path(file).parts[:-1])
    assert len(list(layer_errors(find_imports(source, file, package)))) == 1


def test_the_layer_rule_allows():
    lines = [
        "import torch",
        "from itmatch.batch import Batch",
        "from itmatch.nn.block import Block",
        "from . import pooling",
    ]
    assert list(layer_errors(find_imports("\n".join(lines), "itmatch/nn/a.py", "itmatch.nn"))) == []


def test_lightning_stays_above():
    users = {item.file for item in imports() if item.within("lightning") or item.within("pytorch_lightning")}
    assert users
    assert all(file.startswith(("itmatch/training/", "itmatch/cli/")) for file in users)


def test_torch_distributed_is_in_one_file():
    assert {item.file for item in imports() if item.within("torch.distributed")} == {"itmatch/ops/collectives.py"}
    assert find_imports("import torch\ntorch.distributed.barrier()", "a.py", "")[1].within("torch.distributed")
    assert find_imports("from torch import distributed", "a.py", "")[0].within("torch.distributed")


def test_torch_geometric_is_in_the_relations():
    users = {item.file for item in imports() if item.within("torch_geometric")}
    assert users
    assert all(file.startswith("itmatch/nn/relations/") for file in users)


@pytest.mark.parametrize("library", ["transformers", "nltk"])
def test_slow_libraries_are_imported_in_functions(library):
    users = [item for item in imports() if item.within(library)]
    assert users
    assert [str(item) for item in users if not item.lazy] == []


def test_modules_are_imported_by_name_in_two_places():
    dynamic = {path.name for path in modules() if "import_module" in path.read_text("utf-8")}
    assert dynamic == {"__init__.py", "trust.py"}  # the lazy package, and classes named in a spec


def run(code, *unwanted):
    check = f"{code}\nimport sys\nprint(sorted({set(unwanted)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_importing_the_package_is_cheap():
    assert run("import itmatch; itmatch.__version__; dir(itmatch)", "torch", "numpy", "lightning", "transformers") == [
        "[]"
    ]


def test_importing_the_library_leaves_the_slow_ones_out():
    names = "nn", "losses", "data", "ops", "models", "evaluation", "vision", "search", "pages.queries"
    code = f"import {', '.join(f'itmatch.{name}' for name in names)}"
    # torchmetrics itself imports transformers and matplotlib
    unwanted = ("lightning", "transformers", "nltk", "torchmetrics", "torch_geometric", "matplotlib", "torch._dynamo")
    assert run(code, *unwanted) == ["[]"]


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["presets"], ["data", "--help"], ["unknown"]])
def test_simple_commands_are_cheap(arguments):
    code = f"from itmatch.__main__ import main\nmain({arguments})"
    lines = run(code, "torch", "numpy", "lightning", "transformers", "jsonargparse")
    assert lines[-1] == "[]"
    if arguments == ["--version"]:
        assert lines[0] == itmatch.__version__


def test_version_as_a_program():
    done = subprocess.run([sys.executable, "-m", "itmatch", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{itmatch.__version__}\n", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names(package):
    module = importlib.import_module(f"itmatch.{package}".rstrip("."))
    assert (module.__doc__ or "").strip(), f"{module.__name__} has no docstring"
    assert module.__all__ == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if not inspect.isclass(value) and not inspect.isfunction(value):
            continue  # a version, or the alias of a type
        assert value.__module__.startswith("itmatch."), name
        own = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
        assert (own or "").strip(), f"{module.__name__}.{name} has no docstring of its own"
        assert name in dir(module)


def test_every_package_with_public_names_is_tried():
    found = {
        ".".join(path.parent.relative_to(PACKAGE).parts)
        for path in PACKAGE.rglob("__init__.py")
        if "__all__" in path.read_text("utf-8")
    }
    assert found == set(PACKAGES)


def test_every_module_is_there_after_one_import():
    names = sorted(LEVELS.keys() - {"", "__main__", "_version"})
    code = f"import itmatch; print([getattr(itmatch, name).__name__ for name in {names}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([f"itmatch.{name}" for name in names])
    assert set(names) <= set(dir(itmatch))
    assert run("import itmatch; itmatch.presets, itmatch.spec, itmatch.trust", "torch", "numpy", "lightning") == ["[]"]


def test_unknown_name():
    with pytest.raises(AttributeError, match="'itmatch' has no attribute 'nothing'"):
        _ = itmatch.nothing
    assert itmatch.nn is importlib.import_module("itmatch.nn")


def test_the_folder_is_listed_once(monkeypatch):
    """Jsonargparse asks for hundreds of names that are not there."""
    assert "nn" in dir(itmatch)
    monkeypatch.setattr(pkgutil, "iter_modules", None)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = itmatch.nothing


def tracked_files():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("git does not read this checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_top_level():
    names = {name.split("/")[0] for name in tracked_files()}
    assert {name for name in names if not name.startswith(".")} - TOP_LEVEL == set()
    assert {"pyproject.toml", "README.md", "itmatch", "tests", "docs"} <= names


def test_no_file_points_out_of_the_repository():
    forbidden = [os.pardir + "/" + "shared", "/work" + "/"]  # put together, so that this file is none of them
    found = []
    for name in tracked_files():
        content = (ROOT / name).read_bytes()
        found += [(name, text) for text in forbidden if text.encode() in content]
    assert found == []
