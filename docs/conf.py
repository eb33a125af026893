"""Sphinx configuration. The built pages take nothing from another site: formulas are MathML, made while building."""

import os
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from itmatch import __version__

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each notebook: with -j 2 two of them run at the same time
sys.path.insert(0, str(Path(__file__).parent))  # reference.py

project = "itmatch"
author = "the itmatch authors"
copyright = "2026, the itmatch authors"
release = __version__

extensions = [
    "myst_nb",  # myst_parser, and the notebooks in docs/notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "reference",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # no cache: it would not see that the library has changed
nb_execution_in_temp = True
nb_execution_timeout = 900  # seconds of a cell, on a busy machine
nb_execution_raise_on_error = True  # a notebook that fails fails the build
nb_output_stderr = "remove"  # what Lightning tells of the machine
nb_merge_streams = True
napoleon_custom_sections = ["Shape", "Formula", "Source", "Deviation"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__", "show-inheritance": True}
nitpicky = True
nitpick_ignore = [("py:class", "E"), ("py:class", "Numbers")]  # words of docstrings before a colon, taken for types
exclude_patterns = ["_build"]
html_theme = "furo"  # light and dark by the reader's choice
html_title = f"itmatch {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def mathml(latex: str, display: str) -> str:
    """A formula that browsers show without a script; one in a line of its own scrolls where it is too wide."""
    shown = convert(latex, display=display)
    return f'<div class="math-wide">{shown}</div>' if display == "block" else shown


def visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(mathml(node.astext(), "block"))
    raise nodes.SkipNode


def setup(app: Any) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(visit_math, None), block_renderers=(visit_math_block, None))
