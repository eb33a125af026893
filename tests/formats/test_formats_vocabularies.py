"""Vocabulary files of SCAN; what is wrong with one is tested where a Vocabulary reads it."""

import json

import pytest

from itmatch.formats.vocabularies import read_words


def test_words_come_in_the_order_of_their_ids(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"word2idx": {"b": 1, "a": 0}, "idx2word": {"0": "a", "1": "b"}, "idx": 2}))
    assert read_words(path) == ["a", "b"]
    path.write_text(json.dumps({"word2idx": {"b": 2, "a": 0}, "idx2word": {"0": "a", "1": "b"}, "idx": 2}))
    with pytest.raises(ValueError, match=r"vocab\.json: word2idx has 2 words and none with id 1"):
        read_words(path)
