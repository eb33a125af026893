"""What `.ci/run` looks at in the built pages of the documentation, on pages of one line."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "site.py"
REQUIRED = os.environ.get("ITMATCH_BROWSER") == "required"


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_of_docs", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not REQUIRED:
        pytest.importorskip("playwright")
        if not any(map(shutil.which, module.NAMES)):
            pytest.skip("no browser")
    return module


def test_problems_of_pages_are_told(site, tmp_path):
    pages = {
        "good": "<p>fine</p>",
        "wide": '<p style="width: 900px">wide</p>',
        "wrong": "<script>nothing()</script>",
        "elsewhere": '<img src="http://127.0.0.1:9/a.png">',
    }
    for name, body in pages.items():
        (tmp_path / f"{name}.html").write_text(f"<!doctype html><body>{body}</body>", "utf-8")
    (tmp_path / "_modules").mkdir()
    (tmp_path / "_modules" / "listing.html").write_text("", "utf-8")
    found = site.problems(tmp_path, site.pages_of(tmp_path))
    for told in ("wide.html: 508 pixels wider than a window of 400", "wrong.html: nothing is not defined"):
        assert told in found
    assert "elsewhere.html: asks for http://127.0.0.1:9/a.png" in found
    assert not any(told.startswith("good") for told in found)
