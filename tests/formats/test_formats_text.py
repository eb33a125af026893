import json

import numpy as np
import pytest

from itmatch.data import (
    CaptionRelations,
    ConlluParses,
    ImageFolder,
    KarpathyJson,
    PhotoPatches,
    PrecompFolder,
    Triples,
    Vocabulary,
    WordTokenizer,
    check_path,
)
from itmatch.formats.arrays import open_array, save_array
from itmatch.formats.files import read_json, read_text, user_path
from itmatch.formats.text import read_lines
from itmatch.formats.word_vectors import load_word_vectors

MARK = "\ufeff"


def test_lines(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("a\u2028b\r\n\nlast".encode())
    assert read_lines(path) == ["a\u2028b", "", "last"]
    path.write_bytes(b"a\n")
    assert read_lines(path) == ["a"]
    path.write_bytes(b"a\r\n \n\r\n\n")  # only the last two are empty
    assert read_lines(path) == ["a", " "]
    path.write_bytes(b"")
    assert read_lines(path) == []


def test_bad_text(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\nb\nc\xe9\n")
    with pytest.raises(ValueError, match=r"x\.txt:3: not UTF-8 \(byte 0xe9\)"):
        read_lines(path)
    with pytest.raises(FileNotFoundError, match=r"y\.txt: no such file"):
        read_lines(tmp_path / "y.txt")


def test_json(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[1]")
    assert read_json(path, list) == [1]
    with pytest.raises(ValueError, match="holds a list, expected a dict"):
        read_json(path)
    path.write_text('{"a": 1,\n?}')  # not '\n}': from Python 3.13 on, such an error lies at the comma
    with pytest.raises(ValueError, match=r"x\.json:2: not json"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"x\.json:1: not UTF-8 \(byte 0xff\)"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_json(tmp_path / "y.json")


def test_byte_order_marks_are_dropped(tmp_path):
    path = tmp_path / "x"
    path.write_text(f"{MARK}a\n{MARK}b {MARK}c\n", "utf-8")  # two files, one appended to the other
    assert read_lines(path) == ["a", f"b {MARK}c"]
    path.write_text(MARK, "utf-8")
    assert read_lines(path) == []
    path.write_text(f'{MARK}{{"a": 1}}', "utf-8")
    assert read_json(path) == {"a": 1}
    path.write_bytes(f"{MARK}a\n".encode() + b"\xe9")
    with pytest.raises(ValueError, match=r"x:2: not UTF-8 \(byte 0xe9\)"):
        read_text(path)


def test_no_reader_keeps_a_byte_order_mark(tmp_path):
    """Editors of Windows write one; it is no part of the first caption, id, word or key."""
    write(tmp_path)
    for path in tmp_path.glob("*.*"):
        if path.suffix not in (".npy", ".npz"):
            path.write_text(MARK + path.read_text("utf-8"), "utf-8")
    check_values(tmp_path)


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    check_values("~")
    relations = CaptionRelations.pack([[], []])
    relations.save("~/r.npz", ["a dog", "a cat"])
    assert len(CaptionRelations.load("~/r.npz", ["a dog", "a cat"])) == 2
    save_array("~/a.npy", np.zeros(2))
    assert open_array("~/a.npy").shape == (2,)
    Vocabulary.from_file("~/vocab.json").to_json("~/again.json")
    assert (tmp_path / "again.json").exists()


def write(folder):
    np.save(folder / "train_ims.npy", np.arange(6, dtype=np.float32).reshape(2, 1, 3))
    texts = {"train_caps.txt": "a dog\na cat\n", "train_ids.txt": "1\n2\n", "glove.txt": "dog 1 2\ncat 3 4\n"}
    texts["triples.jsonl"] = '[["a", "of", "dog"]]\n[]\n'
    texts["parses.conllu"] = "".join(
        f"# newdoc\n1\ta\t_\t_\t_\t_\t2\tdet\t_\t_\n2\t{noun}\t_\t_\t_\t_\t0\troot\t_\t_\n\n" for noun in ("dog", "cat")
    )
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat"]).to_json(folder / "vocab.json")
    images = [
        {"split": "train", "filename": f"{i}.jpg", "sentences": [{"raw": text}] * 4}
        for i, text in enumerate(("a dog", "b"))
    ]
    (folder / "karpathy.json").write_text(json.dumps({"images": images}))


def check_values(folder):
    data = PrecompFolder(folder).split("train")
    assert (data.captions, data.image_ids) == (["a dog", "a cat"], ["1", "2"])
    photos = ImageFolder(folder, extractor=PhotoPatches(image_size=32)).split("train")
    assert (photos.captions, photos.image_ids) == (["a dog", "a cat"], ["1", "2"])
    karpathy = KarpathyJson(f"{folder}/karpathy.json", f"{folder}/train_ims.npy").split("train")
    assert karpathy.captions == ["a dog"] * 4 + ["b"] * 4
    assert WordTokenizer(f"{folder}/vocab.json")(["a dog"]) == [[1, 4, 5, 2]]
    assert load_word_vectors(f"{folder}/glove.txt", ["dog"])[0].tolist() == [[1, 2]]
    assert [len(found) for found in Triples(f"{folder}/triples.jsonl").parse(["a dog", "a cat"])] == [1, 0]
    assert len(ConlluParses(f"{folder}/parses.conllu", "edges").parse(["a dog", "a cat"])[0]) == 1
    for name in ("glove.txt", "vocab.json", "karpathy.json", "train_ims.npy"):
        assert check_path(f"{folder}/{name}").ok, name


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    path = tmp_path / "x.txt"
    path.write_text('{"a": 1}', encoding)
    marked = encoding in ("utf-16", "utf-32")
    message = rf"x\.txt: {encoding.upper()}, expected UTF-8" if marked else r"x\.txt:1: holds the byte 0x00"
    for reader in (read_lines, read_json):
        with pytest.raises(ValueError, match=message):
            reader(path)
    if marked:
        with pytest.raises(ValueError, match=message):
            load_word_vectors(path, ["a"])
        assert f"{encoding.upper()}, expected UTF-8" in check_path(path).problems[0]
