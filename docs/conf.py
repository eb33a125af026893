"""Sphinx configuration."""

from itmatch import __version__

project = "itmatch"
author = "the itmatch authors"
copyright = "2026, the itmatch authors"
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
napoleon_custom_sections = ["Shape", "Formula", "Source", "Deviation"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_include_init_with_doc = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__", "show-inheritance": True}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"itmatch {release}"
