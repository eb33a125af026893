"""The notebooks of docs/notebooks: the build of the documentation runs them, and fails where one of them does."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))
HEADER = "---\njupytext:\n"
KERNEL = "---\nfile_format: mystnb\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n"


def cells(notebook):
    """The code of a notebook, without the magic of IPython."""
    found = re.findall(r"^```\{code-cell\} python\n(.*?)^```$", notebook.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(r"^%.*\n", "", cell, flags=re.MULTILINE) for cell in found]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_notebooks(notebook):
    text = notebook.read_text("utf-8")
    assert text.startswith(HEADER), "without this header it is a page, whose cells are not run"
    assert text.partition("\n---\n")[0].endswith("\n  name: python3")
    assert len(cells(notebook)) >= 4
    assert "```python" not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_that_notebooks_import_exist(notebook):
    imported = [
        line for cell in cells(notebook) for line in ast.walk(ast.parse(cell)) if isinstance(line, ast.ImportFrom)
    ]
    ours = [line for line in imported if line.module.split(".")[0] == "itmatch"]
    assert ours
    for line in ours:
        module = importlib.import_module(line.module)
        assert [name.name for name in line.names if not hasattr(module, name.name)] == []


@pytest.mark.slow
def test_a_notebook_that_fails_fails_the_build(tmp_path):
    for name in ("myst_nb", "latex2mathml"):
        pytest.importorskip(name)
    settings = f"import runpy\nshared = runpy.run_path({str(DOCS / 'conf.py')!r})\n"
    settings += "globals().update({name: value for name, value in shared.items() if name.startswith('nb_')})\n"
    (tmp_path / "conf.py").write_text(settings + 'extensions = ["myst_nb"]\nexclude_patterns = ["out"]\n', "utf-8")
    build = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    for code, status in (("print(6 * 7)", 0), ("print(1 / 0)", 2)):
        (tmp_path / "index.md").write_text(f"{KERNEL}\n# Title\n\n```{{code-cell}} python\n{code}\n```\n", "utf-8")
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
    assert "ExecutionError" in done.stderr
    assert "42" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_two_processes_run_two_notebooks_at_the_same_time():
    parallel = pytest.importorskip("sphinx.util.parallel")
    spec = importlib.util.spec_from_file_location("reference_of_docs", DOCS / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    notebooks = [f"notebooks/{notebook.stem}" for notebook in NOTEBOOKS]
    for count in (2, 5, 400):
        names = sorted([*(f"api/page{number}" for number in range(count)), *notebooks])
        found = list(names)
        reference.spread_notebooks(SimpleNamespace(parallel=2), None, found)
        assert sorted(found) == names
    with_one = [any(name in notebooks for name in part) for part in parallel.make_chunks(found, 2)]
    assert with_one == [True, True, *[False] * (len(with_one) - 4), True, True]
