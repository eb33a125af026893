import pytest

from itmatch.data.caption_graphs.words import align_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man in a t-shirt.", ["A", "man", "in", "a", "t-shirt"]),
        ("the dog's  ball -- 2 o\u2019clock", ["the", "dog's", "ball", "2", "o\u2019clock"]),
        ("-dash- _under_score é😀x", ["dash", "under", "score", "é", "x"]),
        (" .,! ", []),
    ],
)
def test_split(text, words):
    assert [text[start:end] for start, end in split_words(text)] == words


def test_align_takes_each_place_once_and_in_order():
    assert align_words(["a", "a", "aa"], "A b a aaa") == [(0, 1), (4, 5), (6, 8)]
    assert align_words([], "a") == []


def test_letters_that_become_two_in_lower_case():
    text = "İİ dog İ"
    assert [text[start:end] for start, end in align_words(["i̇i̇", "DOG", "İ"], text)] == ["İİ", "dog", "İ"]


@pytest.mark.parametrize("words", [["cat"], ["dog", "a"], ["a", "dog", "dog"], [""]])
def test_words_that_are_not_there(words):
    with pytest.raises(ValueError, match=r"word \d \('.*'\) is not in 'a dog' after character \d"):
        align_words(words, "a dog")
