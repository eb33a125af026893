import pickle
import subprocess
import sys

import pytest

from itmatch.data import HuggingFaceTokenizer, Tokenizer, Vocabulary, WordTokenizer
from itmatch.spec import build

SPECIALS = ["<pad>", "<start>", "<end>", "<unk>"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "run", "##s", "."]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    return str(folder)


def test_words():
    tokenizer = WordTokenizer(min_count=1)
    assert tokenizer.words("Two dogs don't run.") == ["two", "dogs", "do", "n't", "run", "."]
    tokenizer.fit(["a dog runs", "a cat"])
    assert tokenizer.vocabulary.words == [*SPECIALS, "a", "dog", "runs", "cat", "<mask>"]
    assert tokenizer(["A dog flies", ""]) == [[1, 4, 5, 3, 2], [1, 2]]
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.mask_id) == (9, 0, 8)
    assert tokenizer.special_ids == {0, 1, 2, 8}


def test_min_count_and_fitting_once():
    tokenizer = WordTokenizer(min_count=2)
    tokenizer.fit(["a dog", "a cat"])
    tokenizer.fit(["other words", "other words"])
    assert tokenizer.vocabulary.words == [*SPECIALS, "a", "<mask>"]


def test_use_before_fit():
    tokenizer = WordTokenizer()
    with pytest.raises(RuntimeError, match="no vocabulary yet"):
        tokenizer(["a"])
    assert tokenizer.spec["init_args"] == {"vocabulary": None, "min_count": 4}


def test_spec_holds_the_words(tmp_path):
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(["a dog"])
    again = build(tokenizer.spec, Tokenizer)
    assert again(["a dog"]) == tokenizer(["a dog"])
    assert again.spec == tokenizer.spec
    Vocabulary([*SPECIALS, "a"]).to_json(tmp_path / "v.json")
    from_file = WordTokenizer(tmp_path / "v.json")
    assert from_file.spec["init_args"]["vocabulary"] == [*SPECIALS, "a", "<mask>"]
    assert from_file(["a"]) == [[1, 4, 2]]
    from_file.fit(["dog dog dog dog"])
    assert from_file.vocab_size == 6


def test_min_count_is_checked():
    with pytest.raises(ValueError, match="min_count: 0"):
        WordTokenizer(min_count=0)


def test_word_pieces(bert_folder):
    tokenizer = HuggingFaceTokenizer(bert_folder, max_length=5)
    tokenizer.fit([])
    assert tokenizer(["A dog", "dog runs a dog ."]) == [[2, 5, 6, 3], [2, 6, 7, 8, 3]]
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.mask_id) == (len(PIECES), 0, 4)
    assert tokenizer.special_ids == {0, 2, 3, 4}
    assert tokenizer.vocabulary is None


def test_word_pieces_travel(bert_folder):
    tokenizer = HuggingFaceTokenizer(bert_folder)
    assert build(tokenizer.spec, Tokenizer)(["a"]) == tokenizer(["a"])
    assert pickle.loads(pickle.dumps(tokenizer))(["a"]) == tokenizer(["a"])


def test_unloadable(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    with pytest.raises(ValueError, match="no tokenizer could be loaded from it") as caught:
        tokenizer.fit([])
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="max_length: 2"):
        HuggingFaceTokenizer("bert-base-uncased", max_length=2)


def test_heavy_imports_wait():
    code = "import itmatch.data, sys; sys.exit(bool({'nltk', 'transformers', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fitted(bert_folder):
    tokenizer = WordTokenizer(min_count=1)
    assert not tokenizer.fitted
    tokenizer.fit(["a"])
    assert tokenizer.fitted
    assert WordTokenizer([*SPECIALS, "a"]).fitted
    assert HuggingFaceTokenizer(bert_folder).fitted
