import json

import pytest

from itmatch.data import Vocabulary
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
    assert GRUTextEncoder(path, 8, word_dim=4).vocabulary_size == len(Vocabulary.from_json(path)) == 6
    path.write_text('{"word2idx": {"a": 0, "b": 2}, "idx2word": {}, "idx": 2}')
    for read in (read_vocabulary, Vocabulary.from_json, GRUTextEncoder):
        with pytest.raises(ValueError, match=r"vocab\.json: word2idx has 2 words and none with id 1"):
            read(path)
