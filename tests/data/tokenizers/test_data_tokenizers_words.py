import json
import pickle
import shutil
import subprocess
import sys

import pytest

from itmatch.data import HuggingFaceTokenizer, Names, Tokenizer, Vocabulary, WordTokenizer
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


def test_batch():
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(["a dog runs"])
    captions = tokenizer.batch(["a dog runs", "dog"])
    assert captions.mask.tolist() == [[True] * 5, [True, True, True, False, False]]
    assert [row[mask].tolist() for row, mask in zip(captions.input_ids, captions.mask, strict=True)] == tokenizer(
        ["a dog runs", "dog"]
    )
    assert (captions.input_ids[~captions.mask] == tokenizer.pad_id).all()
    assert tokenizer.batch([]).mask.shape == (0, 1)
    for texts, error, message in (
        ("a dog", TypeError, "one string"),
        (["a", 3], TypeError, r"texts\[1\]: a int"),
        (["a", " "], ValueError, r"texts\[1\]: an empty caption"),
    ):
        with pytest.raises(error, match=message):
            tokenizer.batch(texts)
    with pytest.raises(ValueError, match="caption 'a' has no tokens"):
        tokenizer.padded([[]], ["a"])


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


def copied(folder, tmp_path, name="model"):
    return shutil.copytree(folder, tmp_path / name)


def keep_settings_of_a_call(folder):
    """What tokenizer.json looks like when it was saved after a call that cut and padded."""
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    content["padding"] = {"strategy": {"Fixed": 20}, **padding}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


TEXTS = ["A dog", "dogs run . a cat flies [SEP]", "", "a dog a dog a dog a dog"]


def test_rebuilt_without_the_folder(tiny_bert, tmp_path):
    from transformers import AutoTokenizer

    folder = copied(tiny_bert, tmp_path)
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs(TEXTS, truncation=True, max_length=6)["input_ids"]
    tokenizer = HuggingFaceTokenizer(str(folder), max_length=6)
    spec = json.loads(json.dumps(tokenizer.spec))  # never used before
    assert tokenizer(TEXTS) == expected
    assert json.loads(json.dumps(tokenizer.spec)) == spec  # use leaves no trace in it
    shutil.rmtree(folder)
    again = build(spec, Tokenizer)
    again.fit([])
    assert again(TEXTS) == expected
    assert max(map(len, expected)) == 6
    assert (again.name_or_path, again.max_length) == (str(folder), 6)
    assert again.vocab_size == tokenizer.vocab_size == len(theirs)
    assert again.pad_id == tokenizer.pad_id == theirs.pad_token_id
    assert again.mask_id == tokenizer.mask_id == theirs.mask_token_id
    assert again.special_ids == tokenizer.special_ids == set(theirs.all_special_ids) - {theirs.unk_token_id}
    assert again.spec == spec
    assert again.fingerprint == tokenizer.fingerprint
    assert pickle.loads(pickle.dumps(again))(TEXTS) == expected


def test_rebuilt_as_it_was_set_up(tiny_bert, tmp_path):
    from transformers import AutoTokenizer

    folder = copied(tiny_bert, tmp_path)
    theirs = AutoTokenizer.from_pretrained(folder, truncation_side="left", split_special_tokens=True, mask_token=None)
    theirs.add_tokens(["zebra"])
    theirs.add_special_tokens({"additional_special_tokens": ["<image>"]})
    theirs.save_pretrained(folder)
    keep_settings_of_a_call(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs.truncation_side == "left"
    tokenizer = HuggingFaceTokenizer(str(folder), max_length=5)
    spec = tokenizer.spec
    shutil.rmtree(folder)
    again = build(spec, Tokenizer)
    texts = ["a zebra", "a [MASK] dog", "black white dog cat", "<image> a"]
    assert again(texts) == tokenizer(texts) == theirs(texts, truncation=True, max_length=5)["input_ids"]
    assert again.vocab_size == len(theirs)
    assert again.mask_id is theirs.mask_token_id is None
    assert again.special_ids == set(theirs.all_special_ids) - {theirs.unk_token_id}
    assert theirs.convert_tokens_to_ids("<image>") in again.special_ids
    assert theirs.convert_tokens_to_ids("zebra") not in again.special_ids


def test_rebuilding_needs_no_transformers(tiny_bert, tmp_path):
    (tmp_path / "spec.json").write_text(json.dumps(HuggingFaceTokenizer(tiny_bert).spec))
    code = """if True:
        import json, sys
        from itmatch.data import Tokenizer
        from itmatch.spec import build
        tokenizer = build(json.load(open(sys.argv[1])), Tokenizer)
        assert tokenizer(["a dog"]) == [[2, 5, 8, 3]] and tokenizer.special_ids == {0, 2, 3, 4}, tokenizer(["a dog"])
        assert tokenizer.fingerprint and "transformers" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "spec.json")], check=True)


def test_not_fast_is_recorded_by_name(tmp_path):
    from transformers import ByT5Tokenizer

    for name in "ab":
        ByT5Tokenizer().save_pretrained(tmp_path / name)
    tokenizer = HuggingFaceTokenizer(str(tmp_path / "a"), max_length=4)
    tokenizer.fit([])
    assert tokenizer.spec["init_args"] == {"name_or_path": str(tmp_path / "a"), "max_length": 4, "serialized": None}
    assert tokenizer(["ab", "abcdef"]) == [[100, 101, 1], [100, 101, 102, 1]]
    assert (tokenizer.pad_id, tokenizer.mask_id, tokenizer.vocab_size) == (0, None, 384)
    assert {0, 1} <= tokenizer.special_ids
    assert 2 not in tokenizer.special_ids
    assert tokenizer.fingerprint == HuggingFaceTokenizer(str(tmp_path / "a"), max_length=9).fingerprint
    assert tokenizer.fingerprint != HuggingFaceTokenizer(str(tmp_path / "b"), max_length=4).fingerprint


def test_unloadable_is_recorded_by_name(tmp_path):
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    assert tokenizer.spec["init_args"] == {"name_or_path": str(tmp_path), "max_length": 64, "serialized": None}


def test_serialized_is_checked(tiny_bert):
    content = HuggingFaceTokenizer(tiny_bert).spec["init_args"]["serialized"]
    with pytest.raises(ValueError, match="gone: serialized has no 'pad_id', expected backend"):
        HuggingFaceTokenizer("gone", serialized={k: v for k, v in content.items() if k != "pad_id"})
    with pytest.raises(ValueError, match="gone: serialized holds no tokenizer"):
        HuggingFaceTokenizer("gone", serialized={**content, "backend": "{}"}).fit([])


def test_fingerprint_of_word_pieces(tiny_bert, bert_folder, tmp_path):
    first = HuggingFaceTokenizer(tiny_bert, max_length=8)
    before = first.fingerprint
    first(["a dog a dog a dog a dog"])
    folder = copied(tiny_bert, tmp_path)
    keep_settings_of_a_call(folder)
    moved = HuggingFaceTokenizer(str(folder), max_length=12)
    assert before == first.fingerprint == moved.fingerprint
    assert len(before) == 16
    assert int(before, 16)
    assert before != HuggingFaceTokenizer(bert_folder, max_length=8).fingerprint
    content = first.spec["init_args"]["serialized"]
    left = HuggingFaceTokenizer(tiny_bert, serialized={**content, "truncation_side": "left"})
    assert before != left.fingerprint
    assert first.spec["init_args"]["max_length"] == 8


def test_fingerprint_of_words():
    words = [*SPECIALS, "a", "dog"]
    built = WordTokenizer(min_count=1)
    built.fit(["a dog"])
    assert built.fingerprint == WordTokenizer(words, min_count=3).fingerprint
    assert built.fingerprint == build(built.spec, Tokenizer).fingerprint
    assert built.fingerprint != WordTokenizer([*SPECIALS, "dog", "a"]).fingerprint
    assert built.fingerprint != WordTokenizer([*words, "cat"]).fingerprint


def test_fingerprint_tells_classes_apart():
    class Characters(WordTokenizer):
        def words(self, text):
            return list(text)

    assert Characters([*SPECIALS, "a"]).fingerprint != WordTokenizer([*SPECIALS, "a"]).fingerprint


ODD = [
    "The man's \"red\" dog doesn't run.",
    "\"Quoted\" and ''quoted'' and ``quoted''",
    'a sign ("STOP") -- says "go"...',
    "“Curly” quotes, \u2018single\u2019 ones; «angled»",
    "A dog\u2019s ball  and\ta\u00a0cat",
    "Two dogs 🐕🐕 on the ⛄️ snow 😀!",
    "İstanbul'da Bir köpek: ÇOK İYİ",
    "cannot, gonna & whatcha?! 50% #1 a@b",
    "",
]


def test_spans_of_words():
    tokenizer = WordTokenizer(min_count=1)
    for text, spans in zip(ODD, tokenizer.spans(ODD), strict=True):
        words = tokenizer.words(text)
        assert spans[0] == spans[-1] == (0, 0)
        found = [text[start:end].lower() for start, end in spans[1:-1]]
        quotes = {'"': ("``", "''"), "''": ("``", "''")}  # are rewritten
        assert all(word == part or word in quotes.get(part, ()) for word, part in zip(words, found, strict=True)), found
        assert "".join(found) == "".join(text.lower().split())  # nothing is left out, nothing comes twice
    assert len(tokenizer.spans(ODD)) == len(ODD)


def test_spans_of_words_that_are_not_in_the_text():
    class Lemmas(WordTokenizer):
        def words(self, text):
            return ["dog" if word == "dogs" else "hound" for word in super().words(text)]

    with pytest.raises(ValueError, match=r"word 1 \('hound'\) is not in 'Dogs run' after character 3"):
        Lemmas().spans(["Dogs run"])


def test_spans_of_word_pieces(tiny_bert, tmp_path):
    folder = copied(tiny_bert, tmp_path)
    tokenizer = HuggingFaceTokenizer(str(folder), max_length=9)
    texts = ["A  dog's 🐕 cat.", 'Black "runs" é', "", "a dog a dog a dog a dog a dog"]
    ids, spans = tokenizer(texts), tokenizer.spans(texts)
    assert [len(row) for row in spans] == [len(row) for row in ids]
    assert [texts[0][start:end] for start, end in spans[0]] == ["", "A", "dog", "'", "s", "🐕", "cat", ".", ""]
    assert [texts[1][start:end] for start, end in spans[1]] == ["", "Black", '"', "run", "s", '"', "é", ""]
    assert len(spans[3]) == 9
    shutil.rmtree(folder)
    assert build(tokenizer.spec, Tokenizer).spans(texts) == spans


def test_spans_of_pieces_that_begin_with_a_blank():
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    vocabulary = {"[PAD]": 0, "\u0120a": 1, "\u0120dog": 2, "\u0120": 3}
    backend = Backend(models.WordLevel(vocabulary, unk_token="[PAD]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    settings = {"truncation_side": "right", "split_special_tokens": False, "pad_id": 0, "mask_id": None}
    content = {"backend": backend.to_str(), **settings, "special_ids": [0]}
    tokenizer = HuggingFaceTokenizer("bytes", serialized=content)
    assert tokenizer(["a dog "]) == [[1, 2, 3]]
    assert tokenizer.spans(["a dog "])[0][:2] == [(0, 1), (2, 5)]
    start, end = tokenizer.spans(["a dog "])[0][2]
    assert start == end


def test_no_spans_where_a_tokenizer_is_not_fast(tmp_path):
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path / "bytes")
    with pytest.raises(ValueError, match=r"bytes: its tokenizer is not fast .* take a fast one, or WordTokenizer"):
        HuggingFaceTokenizer(str(tmp_path / "bytes")).spans(["a"])


def test_share_of_unknown_words():
    tokenizer = WordTokenizer([*SPECIALS, "a", "dog", "."])
    assert tokenizer.unknown_id == 3
    assert tokenizer.unknown_share(["A dog.", "a cat."]) == 0.25  # the full stops do not count
    assert tokenizer.unknown_share(["\u4e00\u53ea\u72d7."]) == 1.0
    assert tokenizer.unknown_share(["...", "!"]) is None
    fitted = WordTokenizer(min_count=2)
    fitted.fit(["a dog", "a cat"])
    assert fitted.unknown_share(["a dog", "a cat"]) == 0.5


def test_one_string_is_not_read_letter_by_letter(tiny_bert):
    tokenizer = WordTokenizer([*SPECIALS, "a", "dog"])
    for several in (tokenizer, HuggingFaceTokenizer(tiny_bert), WordTokenizer().fit, tokenizer.begin_with, Vocabulary):
        with pytest.raises(TypeError, match="one string, 'a dog', expected a list of strings"):
            several("a dog")
    assert len(tokenizer.batch(text for text in ("a", "a dog"))) == 2  # not 0: they can be read once
    with pytest.raises(TypeError, match="texts: a int, expected"):
        tokenizer.batch(3)
    for names in ({"labels": "dog"}, {"predicates": "on"}):
        with pytest.raises(TypeError, match="one string"):
            Names(**names)


def test_unknown_words(tiny_bert):
    tokenizer = WordTokenizer([*SPECIALS, "a", "dog", "."])
    assert tokenizer.unknown_words(["A Zebra; a cat, a zebra.", "a dog!", "..."]) == [["zebra", "cat"], [], []]
    pieces = HuggingFaceTokenizer(tiny_bert)
    assert pieces.unknown_words(["a Fish and a fish", "a dog", ""]) == [["Fish", "and", "fish"], [], []]
    assert pieces.unknown_words([]) == tokenizer.unknown_words([]) == []


def test_share_of_unknown_word_pieces(tiny_bert):
    tokenizer = HuggingFaceTokenizer(tiny_bert, max_length=4)
    assert tokenizer.unknown_id == 1
    assert tokenizer.unknown_share(["a dog", "a fish swims"]) == 0.25  # the last word is cut off
    again = build(tokenizer.spec, Tokenizer)
    assert (again.unknown_id, again.unknown_share(["a fish"])) == (1, 0.5)


def test_nothing_is_unknown_to_bytes_nor_where_the_unknown_id_means_something_else_too(tmp_path):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, processors
    from transformers import ByT5Tokenizer

    ByT5Tokenizer().save_pretrained(tmp_path)
    assert HuggingFaceTokenizer(str(tmp_path)).unknown_share(["a \u72d7"]) == 0
    assert HuggingFaceTokenizer(str(tmp_path)).unknown_words(["a \u72d7"]) == [[]]  # it does not say where tokens stand
    settings = {"truncation_side": "right", "split_special_tokens": False, "mask_id": None, "special_ids": []}
    unigram = Backend(models.Unigram([("a", -1.0), ("<unk>", -2.0), ("</s>", -3.0)], 1))
    tokenizer = HuggingFaceTokenizer("unigram", serialized={"backend": unigram.to_str(), **settings, "pad_id": 2})
    assert (tokenizer.unknown_id, tokenizer.unknown_share(["aab"])) == (1, 1 / 3)
    words = Backend(models.WordLevel({"<pad>": 0, "<end>": 1, "a": 2}, unk_token="<end>"))
    words.post_processor = processors.TemplateProcessing("$A <end>", special_tokens=[("<end>", 1)])
    tokenizer = HuggingFaceTokenizer("clip", serialized={"backend": words.to_str(), **settings, "pad_id": 0})
    assert (tokenizer.unknown_id, tokenizer.unknown_share(["a b"])) == (1, None)
    assert tokenizer.unknown_words(["a b"]) == [[]]


def test_share_of_a_tokenizer_without_an_unknown_token():
    class Letters(Tokenizer):
        vocab_size, pad_id, mask_id, special_ids = 2**21, 0, None, frozenset()

        def __call__(self, texts):
            return [[ord(letter) for letter in text] for text in texts]

    assert Letters().unknown_share(["a"]) is None


SERIALIZED = {
    r"has no 'pad_id'": lambda content: content.pop("pad_id"),
    r"has backend 3": lambda content: content.update(backend=3),
    r"has truncation_side 'RIGHT'": lambda content: content.update(truncation_side="RIGHT"),
    r"has split_special_tokens 1": lambda content: content.update(split_special_tokens=1),
    r"has pad_id -1": lambda content: content.update(pad_id=-1),
    r"has mask_id nan": lambda content: content.update(mask_id=float("nan")),
    r"has special_ids \[\[0\]\]": lambda content: content.update(special_ids=[[0]]),
    r"holds no tokenizer \(.+\)$": lambda content: content.update(backend="{}"),
    r"holds no tokenizer \(invalid type": lambda content: content.update(backend="[" * 5000),
}


@pytest.mark.parametrize("message", SERIALIZED)
def test_a_recorded_tokenizer_that_is_none(tiny_bert, message):
    content = dict(HuggingFaceTokenizer(tiny_bert).spec["init_args"]["serialized"])
    SERIALIZED[message](content)
    with pytest.raises(ValueError, match=f"a name: serialized {message}") as caught:
        HuggingFaceTokenizer("a name", serialized=content).fit([])
    assert len(str(caught.value).splitlines()) == 1


def test_a_recorded_tokenizer_that_lacks_a_word_of_its_own(tiny_bert):
    """Its library panics then, which is no Exception in Python."""
    content = dict(HuggingFaceTokenizer(tiny_bert).spec["init_args"]["serialized"])
    backend = json.loads(content["backend"])
    backend["post_processor"]["special_tokens"].pop("[SEP]", None)
    for name in list(backend["model"]["vocab"]):
        if name == "[UNK]":
            del backend["model"]["vocab"][name]
    content["backend"] = json.dumps(backend)
    with pytest.raises(ValueError, match=r"a name: (its tokenizer cannot read|serialized holds no)"):
        HuggingFaceTokenizer("a name", serialized=content)(["unheard of"])


@pytest.mark.timeout(60)
def test_an_id_far_beyond_the_tokens(tiny_bert, tmp_path):
    """Its library would go through two thousand million numbers to write it down."""
    folder = copied(tiny_bert, tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["dog"] = 2**31
    (folder / "tokenizer.json").write_text(json.dumps(content))
    message = r"the id of 'dog' is 2147483648, expected at most 10000000"
    with pytest.raises(ValueError, match=rf"no tokenizer could be loaded from it \({message}"):
        HuggingFaceTokenizer(str(folder)).fit([])
    serialized = dict(HuggingFaceTokenizer(tiny_bert).spec["init_args"]["serialized"])
    serialized["backend"] = json.dumps(content)
    with pytest.raises(ValueError, match=rf"a name: serialized holds no tokenizer \({message}"):
        HuggingFaceTokenizer("a name", serialized=serialized).fit([])


@pytest.mark.parametrize("damage", ["{}", "[" * 5000, '{"model": 3}', "\0"])
def test_a_folder_with_a_damaged_tokenizer(tiny_bert, tmp_path, damage):
    folder = copied(tiny_bert, tmp_path)
    (folder / "tokenizer.json").write_text(damage)
    (folder / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=f"{folder}: no tokenizer could be loaded from it") as caught:
        HuggingFaceTokenizer(str(folder)).fit([])
    assert len(str(caught.value).splitlines()) == 1


def test_a_vocabulary_in_the_place_of_its_words():
    vocabulary = Vocabulary.build([["a", "dog"]], min_count=1)
    assert list(vocabulary) == vocabulary.words  # its ids are asked for by word, so iteration has to be its own
    assert WordTokenizer(vocabulary).vocabulary.words == WordTokenizer(vocabulary.words).vocabulary.words


def test_a_folder_without_a_tokenizer_is_told_of(tmp_path):
    """``transformers`` makes one of nothing, to which all texts are the same."""
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match=r"no file of a tokenizer in the folder, such as tokenizer\.json"):
        HuggingFaceTokenizer(str(tmp_path))(["a dog"])
