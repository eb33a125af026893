"""Vocabulary files: read as they are, by every reader the same; pickles are never run."""

import json
import os
import pickle
import sys
import types

import pytest

from itmatch.data import Vocabulary, WordTokenizer
from itmatch.formats.vocabularies import read_vocabulary, write_vocabulary
from itmatch.nn import GRUTextEncoder

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "straße", "dog"]


def test_a_file_is_read_in_the_order_of_the_ids(tmp_path):
    path = tmp_path / "vocab.json"
    write_vocabulary(path, WORDS)
    assert read_vocabulary(path) == WORDS
    content = json.loads(path.read_text("utf-8"))
    content["word2idx"] = dict(reversed(content["word2idx"].items()))
    path.write_text(json.dumps(content))
    assert read_vocabulary(path) == WORDS
    write_vocabulary(path, ["b", "a"])  # of any words: what a vocabulary needs is told by who uses them
    assert read_vocabulary(path) == ["b", "a"]


def test_readers_take_and_refuse_the_same(tmp_path):
    path = tmp_path / "vocab.json"
    write_vocabulary(path, WORDS)
    assert GRUTextEncoder(path, 8, word_dim=4).vocabulary_size == len(Vocabulary.from_file(path)) == 6
    path.write_text('{"word2idx": {"a": 0, "b": 2}, "idx2word": {}, "idx": 2}')
    for read in (read_vocabulary, Vocabulary.from_file, GRUTextEncoder):
        with pytest.raises(ValueError, match=r"vocab\.json: word2idx has 2 words and none with id 1"):
            read(path)


@pytest.fixture
def public(monkeypatch):
    """A vocabulary as the public code makes it, of a module that is not there when it is read."""
    module = types.ModuleType("vocab")
    module.Vocabulary = type("Vocabulary", (), {"__module__": "vocab", "__call__": lambda self, word: word})
    monkeypatch.setitem(sys.modules, "vocab", module)
    vocabulary = module.Vocabulary()
    vocabulary.word2idx = {word: index for index, word in enumerate(WORDS)}
    vocabulary.idx2word = dict(enumerate(WORDS))
    vocabulary.idx = len(WORDS)
    return vocabulary


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_gives_the_words(public, protocol, tmp_path, monkeypatch):
    path = tmp_path / "f30k_precomp_vocab.pkl"
    path.write_bytes(pickle.dumps(public, protocol))
    monkeypatch.delitem(sys.modules, "vocab")
    assert Vocabulary.from_file(path).words == WORDS
    assert WordTokenizer(str(path))(["dog straße"])[0] == [1, 5, 4, 2]
    assert "vocab" not in sys.modules


@pytest.mark.parametrize("step", [b"X", b"U"])
def test_one_of_python_2(step, tmp_path):
    """Protocol 2 with names, and words, as bytes, which Python 3 cannot write."""
    size = 4 if step == b"X" else 1
    text = [step + len(word.encode()).to_bytes(size, "little") + word.encode() for word in WORDS]
    words = b"".join(word + b"K" + bytes([i]) for i, word in enumerate(text))
    back = b"".join(b"K" + bytes([i]) + word for i, word in enumerate(text))
    state = b"(U\x08word2idx}(" + words + b"uU\x08idx2word}(" + back + b"uU\x03idxK\x06d"
    (tmp_path / "vocab.pkl").write_bytes(b"\x80\x02cvocab\nVocabulary\n)\x81" + state + b"b.")
    assert Vocabulary.from_file(tmp_path / "vocab.pkl").words == WORDS


class Harmful:
    def __reduce__(self):
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_harmful_file_is_refused_and_runs_nothing(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "vocab.pkl"
    path.write_bytes(pickle.dumps(Harmful(), protocol))
    with pytest.raises(ValueError, match=r"vocab\.pkl: names \w+\.system, expected plain values .*; nothing was run"):
        read_vocabulary(path)
    path.write_bytes(b"\x80\x02ccopy_reg\n_reconstructor\nc__builtin__\nobject\nc__builtin__\nobject\nN\x87R.")
    with pytest.raises(ValueError, match=r"names __builtin__\.object"):
        read_vocabulary(path)
    path.write_bytes(b"\x80\x02cvocab\nVocabulary\nN}U\x08__call__K\x01s\x86b)\x81.")  # changes the class itself
    with pytest.raises(ValueError, match=r"vocab\.pkl: no pickle of plain values"):
        read_vocabulary(path)
    assert [file.name for file in tmp_path.iterdir()] == ["vocab.pkl"]


def test_other_files_are_named(public, tmp_path):
    path = tmp_path / "vocab.pkl"
    whole = pickle.dumps(public)
    for length in (1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"vocab\.pkl"):
            Vocabulary.from_file(path)
    path.write_bytes(b"\x80\x02r\xff\xff\xff\x7f.")  # a place that would take all the memory
    with pytest.raises(ValueError, match=r"vocab\.pkl: no pickle of plain values"):
        Vocabulary.from_file(path)
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match="a pickled list, expected a Vocabulary"):
        Vocabulary.from_file(path)
    public.idx2word[4] = "cat"
    path.write_bytes(pickle.dumps(public))
    with pytest.raises(ValueError, match=r"vocab\.pkl: idx2word\[4\] is 'cat', word2idx says 'straße'"):
        Vocabulary.from_file(path)
