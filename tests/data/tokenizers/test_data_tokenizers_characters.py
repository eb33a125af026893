# ruff: noqa: RUF001 - commas of Chinese are meant
import numpy as np
import pytest

from itmatch.data import CharacterTokenizer, HuggingFaceTokenizer, PrecompFolder, Tokenizer, WordTokenizer, check_path
from itmatch.data.tokenizers.coverage import measure_coverage
from itmatch.spec import build

# two captions of Multi30K's kind in German, Chinese, Japanese and Thai
GERMAN = ["Zwei junge weiße Männer sind im Freien.", "Ein Hund läuft über die Straße."]
CHINESE = ["两个年轻的白人男子在户外，靠近灌木丛。", "一只狗在街上跑。"]
JAPANESE = ["2人の若い白人男性が屋外にいる。", "犬がストリートを走っている。"]
THAI = ["ชายหนุ่มสองคนอยู่กลางแจ้ง", "สุนัขวิ่งบนถนน"]


def test_characters_and_words():
    tokenizer = CharacterTokenizer(min_count=1)
    assert tokenizer.words("一只Dog don't跑，2只。") == ["一", "只", "dog", "do", "n't", "跑", "，", "2", "只", "。"]
    assert tokenizer.words("A dog's ball.") == WordTokenizer().words("A dog's ball.")
    assert tokenizer.words("") == []
    assert tokenizer.words("ストリートを") == list("ストリートを")
    assert tokenizer.words("𠮷々") == ["𠮷", "々"]
    tokenizer.fit(CHINESE)
    assert tokenizer([CHINESE[1]])[0][0] == 1
    again = build(tokenizer.spec, Tokenizer)
    assert type(again) is CharacterTokenizer
    assert again(CHINESE) == tokenizer(CHINESE)


@pytest.mark.parametrize("texts", [GERMAN, CHINESE, JAPANESE, THAI])
def test_spans_are_the_tokens(texts):
    tokenizer = CharacterTokenizer()
    for text, spans in zip(texts, tokenizer.spans(texts), strict=True):
        assert [text[start:end].lower() for start, end in spans[1:-1]] == tokenizer.words(text)


@pytest.mark.parametrize("texts", [GERMAN, CHINESE, JAPANESE, THAI])
def test_what_a_tokenizer_of_characters_knows(texts):
    """New sentences of known characters are known, which they are not to words between blanks."""
    other = [text[len(text) // 2 :] + text[: len(text) // 2] for text in texts]
    characters, words = CharacterTokenizer(min_count=1), WordTokenizer(min_count=1)
    for tokenizer in (characters, words):
        tokenizer.fit(texts)
    found = measure_coverage(characters, other, "dev")
    if texts is not GERMAN:
        assert found.share == 0
        assert measure_coverage(words, other, "dev").share > 0.5


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_texts_of_multi30k_from_a_folder(tmp_path, ending, mark, tiny_bert):
    """Line ends, a byte order mark and blank lines at the end as editors leave them; the report names the share."""
    for split in ("train", "dev", "test"):
        rng = np.random.default_rng(len(split))
        np.save(tmp_path / f"{split}_ims.npy", rng.standard_normal((2, 3, 4)).astype(np.float32))
        text = mark + ending.join([*CHINESE * 4][:8]) + ending * 3
        (tmp_path / f"{split}_caps.txt").write_bytes(text.encode())
    assert PrecompFolder(tmp_path).split("train").captions == CHINESE * 4
    assert check_path(tmp_path, CharacterTokenizer(["<pad>", "<start>", "<end>", "<unk>", *set("".join(CHINESE))])).ok
    problems = check_path(tmp_path, WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "。", "，"])).problems
    assert "HuggingFaceTokenizer with a model of it, or CharacterTokenizer" in problems[0]
    pretrained = HuggingFaceTokenizer(tiny_bert)  # an English one
    assert "100.0 % of the tokens are unknown to HuggingFaceTokenizer" in " ".join(
        check_path(tmp_path, pretrained).problems
    )
