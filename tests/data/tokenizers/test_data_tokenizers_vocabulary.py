import json
import os

import pytest
from helpers_files import files_in, small_files

from itmatch.data import Vocabulary

SPECIALS = ["<pad>", "<start>", "<end>", "<unk>"]


def test_build_counts_and_orders():
    captions = [["b", "a"], ["a", "c"], ["b", "a", "<pad>"], ["<pad>"]]
    assert Vocabulary.build(captions, min_count=2).words == [*SPECIALS, "b", "a"]
    assert Vocabulary.build(captions, min_count=3).words == [*SPECIALS, "a"]


def test_encode():
    vocabulary = Vocabulary([*SPECIALS, "dog"])
    assert vocabulary.encode(["dog", "cat", "<end>"]) == [4, 3, 2]
    assert "dog" in vocabulary
    assert "cat" not in vocabulary
    assert len(vocabulary) == 5


def test_mask_is_appended_once():
    vocabulary = Vocabulary([*SPECIALS, "dog"]).with_mask()
    assert vocabulary.words == [*SPECIALS, "dog", "<mask>"]
    assert vocabulary.with_mask() is vocabulary


def test_json_round_trip(tmp_path):
    path = tmp_path / "vocab.json"
    vocabulary = Vocabulary([*SPECIALS, "straße", "dog"])
    vocabulary.to_json(path)
    assert Vocabulary.from_file(path) == vocabulary
    assert os.listdir(tmp_path) == ["vocab.json"]
    content = json.loads(path.read_text("utf-8"))
    assert content["word2idx"]["dog"] == 5
    assert content["idx2word"]["5"] == "dog"
    assert content["idx"] == 6


def edit(content, key, **changes):
    content[key].update(changes)


BROKEN = {
    r"no 'word2idx' \(dict\); keys there: idx, idx2word": lambda c: c.pop("word2idx"),
    r"no 'idx2word' \(dict\)": lambda c: c.pop("idx2word"),
    r"no 'idx' \(int\)": lambda c: c.update(idx="6"),
    r"word2idx has 6 words and none with id 5, expected ids 0\.\.5": lambda c: edit(c, "word2idx", dog=6),
    r"word2idx has 6 words and none with id 5": lambda c: edit(c, "word2idx", dog=4),
    r"none with id 4": lambda c: edit(c, "word2idx", cat="4"),
    r"none with id 1": lambda c: c["word2idx"].update({next(w for w, i in c["word2idx"].items() if i == 1): True}),
    r"no 'idx' \(int\); keys there: idx, idx2word, word2idx": lambda c: c.update(idx=True),
    r"idx2word\[5\] is '9+\.\.\.9+', word2idx says 'dog'": lambda c: c["idx2word"].update({"5": "9" * 5000}),
    r"idx is 7, word2idx has 6 words": lambda c: c.update(idx=7),
    r"idx2word\[5\] is 'cow', word2idx says 'dog'": lambda c: c["idx2word"].update({"5": "cow"}),
    r"no <unk> among its 6 words": lambda c: (
        c["word2idx"].pop("<unk>"),
        edit(c, "word2idx", x=3),
        c["idx2word"].update({"3": "x"}),
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_json(tmp_path, message):
    words = [*SPECIALS, "cat", "dog"]
    content = {
        "word2idx": {w: i for i, w in enumerate(words)},
        "idx2word": {str(i): w for i, w in enumerate(words)},
        "idx": 6,
    }
    BROKEN[message](content)
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        Vocabulary.from_file(path)
    assert str(caught.value).startswith(str(path))


def test_wrong_words():
    with pytest.raises(ValueError, match="'a' comes twice"):
        Vocabulary([*SPECIALS, "a", "b", "a"])
    with pytest.raises(ValueError, match="no <pad>"):
        Vocabulary(["a"])


def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    Vocabulary(SPECIALS).to_json(tmp_path / "a.json")
    before = files_in(tmp_path)
    with small_files(300), pytest.raises(OSError, match=r"/a\.json: cannot be written \(File too large\)"):
        Vocabulary([*SPECIALS, *map(str, range(100))]).to_json(tmp_path / "a.json")
    assert files_in(tmp_path) == before


def test_words_are_strings():
    with pytest.raises(ValueError, match="vocabulary: word 4 is 3 of type int, expected a string"):
        Vocabulary([*SPECIALS, 3])
