import numpy as np
import pytest

from itmatch.data import CaptionRelations

CAPTIONS = ["a dog sees horses", "a cat", "", "two cats 😀 sleep"]
TABLES = [[[(2, 5), (6, 10), (11, 17)], [(0, 1), (-1, -1), (2, 5)]], [], [], [[(4, 8), (11, 16), (0, 3)]]]


def saved(tmp_path, **changes):
    """A file like the one that save() writes, with changes."""
    path = tmp_path / "x.npz"
    CaptionRelations.pack(TABLES).save(path, CAPTIONS, overwrite=True)
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    content = {name: value for name, value in {**content, **changes}.items() if value is not None}
    np.savez(path, **content)
    return path


def test_a_sequence():
    relations = CaptionRelations.pack(TABLES)
    assert (len(relations), relations.num_relations) == (4, 3)
    assert [entry.tolist() for entry in relations] == [np.array(table).tolist() for table in TABLES]
    assert [len(entry) for entry in relations[1:]] == [0, 0, 1]
    assert relations[-1].tolist() == np.array(TABLES[3]).tolist()
    assert (relations.spans.dtype, relations.offsets.dtype) == (np.int32, np.int64)
    assert relations.summary() == "3 relations of 4 captions, 2 captions without"
    assert CaptionRelations.pack(relations) is relations
    assert CaptionRelations.pack([[], []]).num_relations == 0
    with pytest.raises(IndexError, match="caption 4 of 4"):
        relations[4]


def test_round_trip(tmp_path):
    path = tmp_path / "deeper" / "x.npz"
    CaptionRelations.pack(TABLES).save(path, CAPTIONS)
    again = CaptionRelations.load(path, CAPTIONS)
    assert again.spans.tolist() == CaptionRelations.pack(TABLES).spans.tolist()
    assert again.offsets.tolist() == [0, 2, 2, 2, 3]
    assert [file.name for file in path.parent.iterdir()] == ["x.npz"]
    empty = CaptionRelations.pack([[]] * 4)
    with pytest.raises(FileExistsError, match=r"x\.npz: there is one already"):
        empty.save(path, CAPTIONS)
    empty.save(path, CAPTIONS, overwrite=True)
    assert CaptionRelations.load(path, CAPTIONS).num_relations == 0


def test_what_does_not_fit_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"x\.npz: caption 1, relation 0: subject at characters \[2, 6\]"):
        CaptionRelations.pack([[], [[(2, 6), (-1, -1), (0, 1)]], [], []]).save(tmp_path / "x.npz", CAPTIONS)
    assert not list(tmp_path.iterdir())


def test_problems_are_counted():
    relations = CaptionRelations.pack([[[(2, 2), (5, 4), (0, 1)], [(0, 1), (0, 1), (0, 99)]], [], [], []])
    (problem,) = relations.problems(CAPTIONS, "here")
    assert problem == (
        "here: caption 0, relation 0: subject at characters [2, 2], expected 0 <= start < end <= 17 in "
        "'a dog sees horses' (2 such in all)"
    )


BROKEN = {
    r"x\.npz: no 'offsets' in it; it holds captions_sha256, spans, expected": {"offsets": None},
    r"x\.npz: spans: float64 of shape \(3, 3, 2\), expected integers of shape \(relations": {
        "spans": np.zeros((3, 3, 2))
    },
    r"x\.npz: spans: int64 of shape \(3, 2\)": {"spans": np.zeros((3, 2), int)},
    r"x\.npz: spans: relation 2 has character 4294967298, expected -1\.\.2147483647": {  # 2 in 32 bits
        "spans": np.full((3, 3, 2), [[[0, 1]], [[0, 1]], [[0, 2**32 + 2]]])
    },
    r"x\.npz: offsets: int64 of shape \(1, 5\)": {"offsets": np.zeros((1, 5), int)},
    r"x\.npz: offsets: expected numbers that rise from 0 to 3": {"offsets": np.array([0, 2, 1, 2, 3])},
    r"x\.npz: offsets: expected numbers that rise": {"offsets": np.array([0, 2, 2, 2, 4])},
    r"x\.npz: offsets: expected numbers that rise from": {"offsets": np.array([0, 2**64 - 1, 2, 2, 3], np.uint64)},
    r"x\.npz: relations of 3 captions, expected 4": {"offsets": np.array([0, 2, 2, 3])},
    r"x\.npz: made for other captions": {"captions_sha256": np.zeros(32, np.uint8)},
    r"x\.npz: spans: holds pickled Python objects, expected plain numbers": {"spans": np.array([None], object)},
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_content(tmp_path, message):
    with pytest.raises(ValueError, match=message) as caught:
        CaptionRelations.load(saved(tmp_path, **BROKEN[message]), CAPTIONS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut off"])
def test_no_such_file_and_others(tmp_path, content):
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError, match=r"x\.npz: no such file"):
        CaptionRelations.load(path, CAPTIONS)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: no \.npz file of plain numbers"):
        CaptionRelations.load(path, CAPTIONS)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"x\.npz: no \.npz file of plain numbers \(File is not a zip file"):
        CaptionRelations.load(path, CAPTIONS)


def test_a_change_of_one_letter_is_seen(tmp_path):
    path = saved(tmp_path)
    CaptionRelations.load(path, CAPTIONS)
    with pytest.raises(ValueError, match="their number agrees, their text does not"):
        CaptionRelations.load(path, [*CAPTIONS[:-1], CAPTIONS[-1].capitalize()])


def test_characters_that_would_become_others_in_32_bits():
    far = [[[(0, 1), (2, 3), (4, 2**32 + 6)]]]
    with pytest.raises(ValueError, match=r"parse: caption 0: relation 0 has character 4294967302"):
        CaptionRelations.pack(far, "parse")
    with pytest.raises(ValueError, match=r"CaptionRelations: spans: relation 0 has character 4294967302"):
        CaptionRelations(np.array(far[0]), np.array([0, 1]))
