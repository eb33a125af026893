"""``itmatch report``, and the page that a training ends with."""

from pathlib import Path

import pytest
from helpers_cli import DEMO, error_of, run

from itmatch.pages.report import writing


@pytest.mark.usefixtures("elsewhere")
def test_a_training_ends_with_its_report(capsys, tmp_path, monkeypatch):
    assert run("fit", *DEMO) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("report: ")]
    path = Path(line.removeprefix("report: "))
    page = path.read_text("utf-8")
    for text in ("Recalls of the test", "Curves and ranks", "Worst captions", "Settings", "torch", "<img"):
        assert text in page
    assert "Missing here" not in page

    folder = path.parent
    out = tmp_path / "pages" / "other.html"
    out.parent.mkdir()
    assert run("report", folder, "--out", out) == 0
    assert f"written to {out}" in capsys.readouterr().out
    assert "Worst captions" in out.read_text("utf-8")

    for name in ("best", "last"):
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(b"broken")
    assert run("report", folder) == 0
    page = path.read_text("utf-8")
    assert "Worst captions" not in page
    assert "best.ckpt: no checkpoint of itmatch" in page.partition("Missing here")[2]

    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("itmatch.data.RelationScenes", "os.system"))
    assert run("report", folder) == 0
    assert "no queries are shown" in path.read_text("utf-8")
    assert "data.source" in path.read_text("utf-8").partition("Missing here")[2]


@pytest.mark.usefixtures("elsewhere")
def test_a_training_without_a_report(capsys, monkeypatch):
    assert run("fit", *DEMO, "--html_report=false") == 0
    assert "report: " not in capsys.readouterr().out
    assert not list(Path("runs").rglob("report.html"))

    def full(*args, **kwargs):
        raise OSError("report.html: no space left on device\nand more")

    monkeypatch.setattr(writing, "write_text", full)
    assert run("fit", *DEMO) == 0
    captured = capsys.readouterr()
    assert "itmatch: warning: no report was written (report.html: no space left on device)" in captured.err
    assert not list(Path("runs").rglob("report.html"))


def test_no_run(capsys, tmp_path):
    assert "nothing: no such folder, expected the folder of a run" in error_of(capsys, "report", tmp_path / "nothing")
    assert "no run, it has none of" in error_of(capsys, "report", tmp_path)
    (tmp_path / "runs/version_0/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/version_0/config.yaml").write_text("a: 1")
    for folder in (tmp_path, tmp_path / "runs", tmp_path / "runs/version_0/checkpoints"):
        assert error_of(capsys, "report", folder).endswith(f"; {tmp_path / 'runs/version_0'} is one")
