"""The reference: a table per module, and a page per class, function and constant, written before the build.

``.. reference:: itmatch.losses`` shows what a module exports: name, first line of the docstring, and the paper that its
section *Source* names. What lies in a folder of the module stands under a heading of its own.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.parallel import make_chunks

HERE = Path(__file__).parent
PAGES = HERE / "api" / "generated"
PAPER = re.compile(r"^(.*?\*[^*]+\*.*?\b(?:19|20)\d\d)\b", re.DOTALL)
KEPT_HOOKS = {"load_from_checkpoint", "forward"}


def modules() -> dict[str, str]:
    """The modules that the pages of ``api`` name, each with its page; rooms come before what lies in them."""
    found = {}
    for page in sorted((HERE / "api").glob("*.md")):
        for name in re.findall(r"^\.\. reference:: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE):
            found[name] = f"api/{page.stem}"
    return dict(sorted(found.items(), key=lambda item: item[0].count(".")))


def exported(module: ModuleType) -> dict[str, Any]:
    """What a module has for others: ``__all__``, or what is public and defined in it."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in names}


def documented() -> tuple[dict[str, tuple[str, Any]], dict[int, str]]:
    """Each name with the page of its module and its value, and the name that each value is documented under."""
    pages: dict[str, tuple[str, Any]] = {}
    names: dict[int, str] = {}
    for name, page in modules().items():
        for short, value in exported(importlib.import_module(name)).items():
            if not inspect.ismodule(value) and id(value) not in names:
                names[id(value)] = f"{name}.{short}"
                pages[f"{name}.{short}"] = (page, value)
    return pages, names


DOCUMENTED = documented()


def kind(value: Any) -> str:
    """The part of autodoc that documents a value."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) and hasattr(value, "__code__") else "data"


def documenter(value: Any) -> str:
    """The directive for a value; an alias of a type of Python must not bring the docstring of that type."""
    return (
        "py:data" if type(value).__module__ in ("types", "typing") and kind(value) == "data" else f"auto{kind(value)}"
    )


def write_pages(_: Any) -> None:
    """A file for each name. One that would not change is left alone, one of a name that is gone is deleted."""
    PAGES.mkdir(exist_ok=True)
    pages, _names = DOCUMENTED
    for name, (page, value) in pages.items():
        module, _, short = name.rpartition(".")
        title = f"{short}\n{'=' * len(short)}"
        text = f":orphan:\n\n{title}\n\nOf :doc:`{module} </{page}>`.\n\n.. {documenter(value)}:: {name}\n"
        file = PAGES / f"{name}.rst"
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
    for file in PAGES.glob("*.rst"):
        if file.stem not in pages:
            file.unlink()


def paper(value: Any) -> str:
    """The first paper of the section *Source* of a docstring, or nothing."""
    section = re.search(r"^Source:\n((?:\n|    .*\n?)+)", inspect.getdoc(value) or "", re.MULTILINE)
    found = PAPER.match(" ".join(section[1].split())) if section else None
    return found[1] if found else ""


def paper_of(module: ModuleType, value: Any) -> str:
    """The paper of a value, or of the function that its first line sends the reader to."""
    told = re.search(r":func:`~?(?:[\w.]+\.)?(\w+)`", first_line(value))
    return paper(value) or (paper(getattr(module, told[1], None)) if told else "")


def first_line(value: Any) -> str:
    """The first sentence of a docstring; nothing for a constant, whose docstring is that of its type."""
    return "" if kind(value) == "data" else (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ")


class Reference(SphinxDirective):
    """The table of a module, and its docstring."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the table."""
        module = importlib.import_module(self.arguments[0])
        _, names = DOCUMENTED
        lines = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
        groups: dict[str, list[tuple[str, Any]]] = {}
        for value in exported(module).values():
            if not inspect.ismodule(value):
                groups.setdefault(room(module, value), []).append((names[id(value)], value))
        for title, rows in sorted(groups.items()):
            lines += [f".. rubric:: {title}", ""] if title else []
            papers = any(paper_of(module, value) for _, value in rows)
            lines += [".. list-table::", "   :header-rows: 1", "   :class: itm-reference"]
            lines += [f"   :widths: {'26 44 30' if papers else '34 66'}", ""]
            lines += ["   * - name", "     - what", *(["     - source"] if papers else [])]
            for name, value in rows:
                lines += [f"   * - :py:obj:`~{name}`", f"     - {first_line(value)}"]
                lines += [f"     - {paper_of(module, value)}"] if papers else []
            lines.append("")
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=module.__name__), self.content_offset, holder)
        return holder.children


def room(module: ModuleType, value: Any) -> str:
    """What the folder holds that a value of a module lies in, or nothing if it lies in the module itself."""
    path = getattr(value, "__module__", "").removeprefix(f"{module.__name__}.").split(".")
    if len(path) < 2 or not getattr(value, "__module__", "").startswith(f"{module.__name__}."):
        return ""
    told = importlib.import_module(f"{module.__name__}.{path[0]}").__doc__ or path[0]
    return told.partition("\n")[0].rstrip(".")


def leave_out_hooks(_: Any, what: str, name: str, value: Any, skip: bool, __: Any) -> bool | None:  # noqa: FBT001
    """Leaves out what Lightning calls and a reader does not."""
    own = getattr(value, "__module__", None) or ""
    return True if what == "class" and own.startswith("itmatch.training") and name in hooks() else None


@cache
def hooks() -> set[str]:
    """The names that Lightning calls."""
    from lightning.pytorch import Callback, LightningDataModule, LightningModule

    return {name for base in (Callback, LightningDataModule, LightningModule) for name in dir(base)} - KEPT_HOOKS


def spread_notebooks(app: Any, _: Any, docnames: list[str]) -> None:
    """Puts notebooks where several processes (``-j 2``) read them at the same time: each takes as long as many pages.

    Processes take parts of the list, two of them the first two, and whoever is done the last one that is left.
    """
    notebooks = [name for name in docnames if name.startswith("notebooks/")]
    pages = [name for name in docnames if name not in notebooks]
    size = max(map(len, make_chunks(docnames, max(1, app.parallel))), default=1)
    places = [0, size, len(docnames) - 1, len(docnames) - 1 - size]
    for place, name in sorted(zip(places, notebooks, strict=False)):
        pages.insert(max(0, place), name)
    docnames[:] = pages + notebooks[len(places) :]


TREES: dict[str, str] = {}


def one_tree(_: Any, pagename: str, __: str, context: dict[str, Any], ___: Any) -> None:
    """The tree of pages at the side is made once for those that do not stand in it, folder by folder."""
    if pagename.startswith(("api/generated/", "_modules/")) and "toctree" in context:
        made, folder = context["toctree"], pagename.rpartition("/")[0]  # links of a tree are those of a folder

        def kept(**options: Any) -> str:
            key = f"{folder} {sorted(options.items())}"
            if key not in TREES:
                TREES[key] = made(**options)
            return TREES[key]

        context["toctree"] = kept


def find(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A reference by another name of the same thing; what exists and has no page here is plain text.

    So :class:`itmatch.Regions` leads to ``itmatch.batch.Regions``, and ``Fragments`` in a type hint to its page; a
    tensor of torch has none. A name that nobody knows stays a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    chosen = other_name(target)
    if chosen not in (None, target):
        return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", chosen, node, content)
    return content if exists(target) else None


@cache
def other_name(target: str) -> str | None:
    """The name that something is documented under."""
    pages, names = DOCUMENTED
    owner, _, last = target.rpartition(".")
    if not target.startswith("itmatch."):
        same = [name for name in pages if name.rpartition(".")[2] == target]
        return same[0] if len(same) == 1 else None
    value = look_up(target)
    if id(value) in names:
        return names[id(value)]
    value = look_up(owner)
    return f"{names[id(value)]}.{last}" if id(value) in names else None


@cache
def exists(target: str) -> bool:
    """Whether something has this name: anywhere by its whole name, in a module of the library, or in a class of it.

    Prose that napoleon takes for a type is no name at all, and passes.
    """
    if not all(part.isidentifier() for part in target.split(".")):
        return True
    if "." in target and look_up(target) is not None:
        return True
    first = target.partition(".")[0]
    known = [module for name, module in list(sys.modules.items()) if name.startswith("itmatch.")]
    return any(hasattr(owner, first) for owner in (*known, *(value for _, value in DOCUMENTED[0].values())))


@cache
def look_up(name: str) -> Any:
    """What a dotted name stands for, or None."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part, None)
        return value
    return None


def setup(app: Any) -> dict[str, bool]:
    """Registers all of it."""
    app.add_directive("reference", Reference)
    app.connect("builder-inited", write_pages)
    app.connect("env-before-read-docs", spread_notebooks)
    app.connect("html-page-context", one_tree, priority=400)  # before the theme asks for the tree
    app.connect("autodoc-skip-member", leave_out_hooks)
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
