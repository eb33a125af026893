"""The log of a run on a disk that is full."""

import csv
import errno
from pathlib import Path

import pytest

from itmatch.training import SafeCSVLogger


def rows(path):
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_it_writes_what_lightning_writes(tmp_path):
    logger = SafeCSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    logger.log_metrics({"a": 2.0, "b": 3.0}, 1)  # another column: the file is written anew
    logger.save()
    path = Path(logger.log_dir) / "metrics.csv"
    assert rows(path) == [{"a": "1.0", "step": "0"}, {"a": "2.0", "b": "3.0", "step": "1"}]
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


class FullDisk:
    """Takes a few bytes more in any file that is opened for writing, then none."""

    def __init__(self, monkeypatch):
        self.full = False
        write = csv.DictWriter.writerows

        def writerows(writer, values):
            values = list(values)
            write(writer, values[:1])  # a part arrives
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(writer, values[1:])

        monkeypatch.setattr(csv.DictWriter, "writerows", writerows)


@pytest.mark.parametrize("more", [{}, {"b": 3.0}])  # rows are added; the file is written anew for another column
def test_a_full_disk_leaves_what_was_there(more, tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch)
    logger = SafeCSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    path = Path(logger.log_dir) / "metrics.csv"
    before = path.read_bytes()
    disk.full = True
    for step in (1, 2):
        logger.log_metrics({"a": 2.0, **more}, step)
    with pytest.raises(OSError, match=r"metrics.csv: cannot be written \(No space left on device\)$"):
        logger.save()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["metrics.csv"]


def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path, monkeypatch):
    FullDisk(monkeypatch).full = True
    logger = SafeCSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    with pytest.raises(OSError, match=r"metrics.csv: cannot be written"):
        logger.finalize("failed")
    assert not list(Path(logger.log_dir).iterdir())
