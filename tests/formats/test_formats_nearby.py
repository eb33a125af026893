"""Folders that somebody meant who gave another one."""

import os

from itmatch.formats.nearby import folder_near, near


def test_the_newest_below_or_the_next_above(tmp_path):
    for number, name in enumerate(("version_10", "version_9", "version_8")):
        run = tmp_path / "runs/lightning_logs" / name
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text("a: 1")
        os.utime(run / "config.yaml", (100, 100 - number))
    newest = tmp_path / "runs/lightning_logs/version_10"
    for path in (tmp_path, tmp_path / "runs", newest.parent, newest, newest / "checkpoints", newest / "config.yaml"):
        assert folder_near(path, "config.yaml") == newest, path
    own = newest.with_name("version_8")
    assert folder_near(own / "checkpoints", "config.yaml") == own
    assert near(tmp_path / "runs", "a run", "config.yaml") == f"; {newest} is a run"
    assert near(tmp_path / "runs", "an index", "index.json") == ""
    assert near(tmp_path / "nowhere", "a run", "config.yaml") == ""


def test_it_looks_neither_deep_nor_long(tmp_path, monkeypatch):
    deep = tmp_path / "a/b/c/d"
    deep.mkdir(parents=True)
    (deep / "config.yaml").write_text("a: 1")
    assert folder_near(tmp_path, "config.yaml") is None
    assert folder_near(tmp_path / "a", "config.yaml") == deep
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    assert folder_near(tmp_path / "a", "config.yaml") == deep
    looked = []
    monkeypatch.setattr("itmatch.formats.nearby._time", lambda path: looked.append(path) or 0.0)
    wide = tmp_path / "wide"
    for number in range(300):
        (wide / str(number)).mkdir(parents=True)
        (wide / str(number) / "config.yaml").write_text("")
    assert folder_near(wide, "config.yaml").parent == wide
    assert len(looked) == 200
