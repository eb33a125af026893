import random

import pytest

from itmatch.formats.hub.photos import _groups, _photos_of_group, hub_files, hub_photos, parquet_photo

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import ipc, parquet  # noqa: E402 - after the skip

ROWS = [
    {"image": {"bytes": bytes([number]) * 9, "path": f"{number}.jpg"}, "caption": f"c {number}"} for number in b"abc"
]


def save(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(ROWS)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=2)
    else:
        with ipc.new_stream(str(path), table.schema, options=ipc.IpcWriteOptions(**options)) as stream:
            stream.write_table(table.slice(0, 1))
            stream.write_table(table.slice(1))  # its columns begin in the middle of others
    return path


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_bytes_are_read_from_where_they_are(tmp_path, ending):
    path = save(tmp_path / f"train-00000-of-00001.{ending}")
    assert hub_files(tmp_path) == [path]
    found = list(hub_photos(path, described=True))
    assert [one.read() for one in reversed(found)] == [row["image"]["bytes"] for row in reversed(ROWS)]
    assert [(one.name, one.captions, one.split, one.row) for one in found] == [
        (f"{number}.jpg", (f"c {number}",), "train", row) for row, number in enumerate(b"abc")
    ]


def test_files_of_a_cache_are_passed_over(tmp_path):
    save(tmp_path / "cache-12.arrow")
    assert hub_files(tmp_path) == []


def test_columns_that_are_compressed_are_told_of(tmp_path):
    path = save(tmp_path / "data.arrow", compression="zstd")
    with pytest.raises(ValueError, match=r"data\.arrow: no file of datasets .*or its columns are compressed"):
        list(hub_photos(path, described=True))


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_a_file_that_is_cut_off(tmp_path, ending):
    path = save(tmp_path / f"data.{ending}")
    content = path.read_bytes()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        try:
            found = [one.read() for one in hub_photos(path, described=True)]
        except ValueError as error:
            assert str(error).startswith(f"{path}: no file of datasets that can be read (")  # noqa: PT017
        else:
            assert found == [row["image"]["bytes"] for row in ROWS][: len(found)]


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_bytes_that_are_changed_lead_nowhere(tmp_path, ending):
    path, rng = save(tmp_path / f"data.{ending}"), random.Random(0)
    content = path.read_bytes()
    for _ in range(200):
        changed = bytearray(content)
        changed[rng.randrange(len(content))] = rng.choice([0, 1, 127, 128, 255])
        path.write_bytes(changed)
        _groups.cache_clear()
        _photos_of_group.cache_clear()
        try:
            found = [one.read() for one in hub_photos(path, described=False)]
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert all(one in bytes(changed) for one in found) or ending == "parquet"


def test_a_row_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"data\.parquet: no row 3, there are 3"):
        parquet_photo(save(tmp_path / "data.parquet"), 3)
