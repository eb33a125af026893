"""The store: killed writers, full disks, several processes, damaged and hostile files."""

import json
import os
import random
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers_files import small_files
from helpers_search import SCENES, part, system

from itmatch.search import Axes, Index
from itmatch.search.store.manifest import NAME, read_manifest
from itmatch.search.store.writing import only_writer


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.fixture(scope="module")
def built(tmp_path_factory, split):
    """An index that is copied before it is changed."""
    folder = tmp_path_factory.mktemp("built") / "index"
    Index.build(system(), part(split, 0, 8), folder, engine=Axes(8))
    return folder


@pytest.fixture
def folder(tmp_path, built):
    return shutil.copytree(built, tmp_path / "index")


@contextmanager
def forked(work):
    """A process that does some work, with a pipe into which it writes a byte whenever something is done."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            torch.set_num_threads(1)  # OpenMP waits for ever in a fork of a process that has used several threads
            work(lambda: os.write(write, b"."))
        except BaseException:
            traceback.print_exc()  # for whoever reads why nothing came through the pipe
        finally:
            os._exit(0)
    os.close(write)
    try:
        yield child, read
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)


WRITING = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}


def changes_files(event, arguments):
    """Whether an event of Python (``sys.addaudithook``) is a change of files."""
    return event in WRITING or (event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)))


def killed_at(change, work):
    """How often a process said that something was done before it was killed, at so many changes of files.

    The place does not depend on how fast the machine is.
    """

    def counted(done):
        left = [change]

        def hook(event, arguments):
            if changes_files(event, arguments):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work(done)

    with forked(counted) as (_, read):
        done = 0
        while os.read(read, 1):
            done += 1
        return done


def check(index, split, images):
    """That an index holds the first images of a split, whole, and nothing else."""
    assert index.images.ids == split.image_ids[:images]
    assert index.captions.texts == split.captions[: 5 * images]
    scores = index.model.score(index.images.fragments()[:], index.captions.fragments(slice(0, 3))[:])
    found = index.search(split.captions[:3], top=images, candidates="all")
    torch.testing.assert_close(found.scores, scores.float().T.gather(1, found.rows), atol=2e-3, rtol=1e-2)
    assert index.search(split.captions[:3], top=3, candidates=images).ids == [ids[:3] for ids in found.ids]
    assert index.path.is_dir()


@pytest.mark.slow
def test_killed_while_adding(folder, split):
    draws, model, reached = random.Random(0), system(), []
    for _ in range(20):
        shutil.rmtree(folder)
        index = Index.build(model, part(split, 0, 2), folder, engine=Axes(8))

        def add(done, index=index):
            for first in range(2, 30):
                index.add(part(split, first, first + 1))
                done()

        acknowledged = killed_at(draws.randint(1, 3000), add)
        again = Index.open(folder, model=model)
        assert acknowledged <= len(again.images) - 2 <= acknowledged + 1
        check(again, split, len(again.images))
        reached.append(acknowledged)
        again.add(part(split, len(again.images), len(again.images) + 1))  # the lock went with its process
        check(again, split, len(again.images))
        named = {NAME, "writer.lock", *read_manifest(folder).entries()}
        assert {path.name for path in folder.iterdir()} == named  # what was left is gone
    assert len(set(reached)) > 3  # they were killed at different places


@pytest.mark.slow
def test_killed_while_building(tmp_path, split):
    draws, model, found = random.Random(1), system(), []
    sources = [part(split, 0, 5), part(split, 0, 9)]
    for _ in range(20):
        folder = tmp_path / "index"
        shutil.rmtree(folder, ignore_errors=True)

        def build(done, folder=folder):
            for turn in range(50):
                Index.build(model, sources[turn % 2], folder, overwrite=True)
                done()

        acknowledged = killed_at(draws.randint(1, 900), build)
        if acknowledged == 0 and not (folder / NAME).exists():
            Index.build(model, sources[0], folder)  # what a killed one left is in nobody's way
        index = Index.open(folder, model=model)
        assert len(index.images) in (5, 9)
        check_rows = index.images.ids == split.image_ids[: len(index.images)]
        assert check_rows
        assert len(index.search(split.captions[0], top=20).ids[0]) == len(index.images)
        found.append(acknowledged)
    assert len(set(found)) > 2


def test_two_readers_beside_a_writer(folder, split):
    def read(done):
        index, last = Index.open(folder), 0
        while True:
            index.refresh()
            count = len(index.images)
            hits = index.search(split.captions[0], top=100)
            assert len(hits.ids[0]) == len(index.images) == count >= last
            assert len(index.captions) == 5 * count
            assert index.images.ids == split.image_ids[:count]
            last = count
            if count == 20:
                done()
                return

    with forked(read) as (_, first), forked(read) as (_, second):
        writer = Index.open(folder)
        for row in range(8, 20):
            writer.add(part(split, row, row + 1))
            writer.compact()
        assert os.read(first, 1) == b"."
        assert os.read(second, 1) == b"."


def test_one_writer(folder, split):
    index = Index.open(folder)
    with only_writer(folder), pytest.raises(BlockingIOError, match="index: another process or thread is writing"):
        index.add(part(split, 8, 9))
    index.add(part(split, 8, 9))
    other = Index.open(folder)
    index.add(part(split, 9, 10))
    other.add(part(split, 10, 11))  # it sees first what the other one has added
    assert other.images.ids == split.image_ids[:11]


@pytest.mark.parametrize("size", [500, 3000, 20_000])
def test_a_full_disk_leaves_what_was_there(folder, split, size):
    index = Index.open(folder)
    before = {path.name for path in folder.iterdir()}
    with small_files(size), pytest.raises(OSError, match=r"cannot be written \(File too large\)"):
        index.add(part(split, 8, 30))
    assert {path.name for path in folder.iterdir()} == before
    check(Index.open(folder), split, 8)
    check(index, split, 8)
    with small_files(size), pytest.raises(OSError, match=r"cannot be written \(File too large\)"):
        Index.build(system(seed=3), part(split, 0, 20), folder, overwrite=True)
    check(Index.open(folder), split, 8)


def test_images_without_what_others_have(folder, split):
    index = Index.open(folder)
    index.add(split_with_boxes := SCENES.split("val"))
    assert index.images.boxes(0) is None
    assert torch.equal(index.images.boxes(8), split_with_boxes.image(0).boxes)
    index.compact()
    assert index.images.boxes(7) is None
    assert torch.equal(index.images.boxes(8), split_with_boxes.image(0).boxes)
    assert len(read_manifest(folder).images) == 2


def changed(folder, **values):
    content = json.loads((folder / NAME).read_text()) | values
    (folder / NAME).write_text(json.dumps(content))


def shard_of(folder, side="images"):
    entry = json.loads((folder / NAME).read_text())[side][0]
    return folder / entry["folder"]


def save(folder, name, array, side="images"):
    """Put another array into the place of a column, and let the manifest agree."""
    shard = shard_of(folder, side)
    np.save(shard / name, array)
    content = json.loads((folder / NAME).read_text())
    content[side][0]["bytes"][name] = (shard / name).stat().st_size
    (folder / NAME).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "tar"}, "index.json: format 'tar', expected 'itmatch-index'; is this an index"),
        ({"version": 2}, "layout 2 of itmatch .*, this is itmatch .*, which reads layout 1; build the index again"),
        ({"version": True}, "layout True"),
        ({"commit": -1}, "commit: -1, expected a whole number"),
        ({"commit": "1"}, "commit: '1', expected a whole number"),
        ({"model": "../../../etc"}, "model: '../../../etc', expected a name such as model-00000001"),
        ({"model": "model-00000009"}, "no such folder, though .*index.json names it"),
        ({"images": [{"folder": "/etc", "rows": 1, "bytes": {}}]}, "'/etc', expected a name such as images-"),
        ({"images": [{"folder": "images-00000001-000001"}]}, "expected folder, rows and bytes"),
        ({"images": {}}, "images: {}, expected a list of shards"),
        ({"next_serial": {"images": 1}}, "next_serial: .*, expected a number for images and one for captions"),
        ({"next_serial": {"images": 1, "captions": 40}}, "images have numbers up to 7, expected 0"),
        ({"deleted": "../x"}, "deleted: '../x', expected a name"),
        ({"names": {"predicates": "riding"}}, "names: .*, expected lists of names"),
        ({"engine": 3}, "engine: 3, expected a description or null"),
        (
            {"engine": {"class_path": "os.system", "init_args": {}}},
            "engine: (no class 'os|os.system is no)",
        ),
        ({"engine": {"class_path": "itmatch.nn.MeanPooling"}}, "MeanPooling is no itmatch.search"),
        ({"engine_folder": None}, "has no first stage"),
        ({"fingerprint": "0" * 64}, "built with the model 000000000000, its model folder holds another one"),
    ],
)
def test_a_manifest_that_is_none(folder, values, message):
    changed(folder, **values)
    with pytest.raises(ValueError, match=message) as caught:
        Index.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 5000, '{"format": "itmatch-index"}', "\0"])
def test_a_manifest_that_is_no_json(folder, content):
    (folder / NAME).write_text(content)
    with pytest.raises(ValueError, match=r"index\.json") as caught:
        Index.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("features.npy", np.zeros((9, 16), np.float16), "offsets do not rise from 0 to 9"),
        ("features.npy", np.zeros((9, 16), np.float32), "dtype float32, expected float16"),
        ("features.npy", np.array([object()]), "pickled Python objects"),
        ("features_offsets.npy", np.zeros(9, np.int64), "offsets do not rise"),
        ("features_offsets.npy", np.zeros(3, np.int64), "3 offsets, expected 9"),
        ("features_offsets.npy", np.full(9, -5), "offsets do not rise"),
        ("serial.npy", np.zeros(8, np.int64), "numbers of rows do not rise"),
        ("serial.npy", np.arange(8) + 2**40, "numbers up to"),
        ("ids.npy", np.full(88, 255, np.uint8), "not UTF-8"),
        ("ids.npy", np.frombuffer(b"test-00000a" * 8, np.uint8), "the id 'test-00000a' comes twice"),
        ("pooled.npy", np.zeros((3, 16), np.float16), "3 entries, which does not fit 8 rows"),
    ],
)
def test_columns_that_are_none(folder, name, array, message):
    save(folder, name, array)

    def opened():
        Index.open(folder).images.position("x")

    with pytest.raises(ValueError, match=message) as caught:
        opened()
    assert "\n" not in str(caught.value)


def test_files_that_are_gone_or_cut(folder):
    path = shard_of(folder) / "features.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ValueError, match=r"features\.npy: \d+ bytes, the manifest says \d+"):
        Index.open(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"features\.npy: no such file, though .*index\.json names it"):
        Index.open(folder)
    path.symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="a link out of the index"):
        Index.open(folder)


def test_a_model_that_lies_elsewhere(folder):
    shutil.move(folder / "model-00000001", folder.parent / "elsewhere")
    (folder / "model-00000001").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ValueError, match="a link out of the index"):
        Index.open(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_damaged_features_are_told_of(folder, split, bad):
    features = np.load(shard_of(folder) / "features.npy")
    features[7] = bad
    save(folder, "features.npy", features)
    with pytest.raises(ValueError, match="a score is NaN or infinite"):
        Index.open(folder).search(split.captions[0], candidates="all")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("images-codes.npy", np.zeros((3, 8), np.int8), "do not fit together"),
        ("images-outward.npy", np.full((16, 8), np.nan, np.float32), "hold a NaN"),
        ("images-inward.npy", np.zeros((16, 7), np.float32), "axes and codes do not fit together"),
        ("images-mean.npy", np.zeros(5, np.float32), "axes and codes do not fit together"),
        ("images-serials.npy", np.zeros(8, np.int64), "do not rise"),
        ("images-offsets.npy", np.full(9, 2**31 - 1), "do not fit together"),
    ],
)
def test_an_engine_that_is_damaged(folder, name, array, message):
    np.save(folder / "engine-00000001" / name, array)
    with pytest.raises(ValueError, match=message):
        Index.open(folder)


class Distant(Axes):
    """A first stage as one on a server would be."""

    is_local = False


def test_an_engine_that_reaches_out_is_not_made(tmp_path, split):
    index = Index.build(system(), part(split, 0, 4), tmp_path / "index", engine=Distant(8))
    with pytest.raises(ValueError, match=r"Distant reaches out of the index; give Index\.open the engine"):
        Index.open(index.path)
    assert Index.open(index.path, engine=index.engine).engine is index.engine


def test_relations_that_join_no_regions(tmp_path, split):
    index = Index.build(system(), split, tmp_path / "index")
    relations = np.load(shard_of(index.path) / "relations.npy")
    relations[:, 2] = 99
    save(index.path, "relations.npy", relations)
    with pytest.raises(ValueError, match="a relation of 'test-00000a' names no region"):
        Index.open(index.path).images.relations(0)
