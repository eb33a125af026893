"""load_word_vectors: the formats it reads, and what it says about a broken file."""

import gzip

import pytest
import torch

from itmatch.formats.word_vectors import load_word_vectors


@pytest.fixture
def write(tmp_path):
    def function(text):
        path = tmp_path / "vectors.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return function


def test_words_are_found_in_any_order_and_others_stay_zero(write):
    path = write("a 1 2 3\nb 4 5 6\nc 7 8 9\n")
    vectors, found = load_word_vectors(path, ["c", "<pad>", "a", "c"])
    assert vectors.dtype is torch.float32
    assert found.dtype is torch.bool
    assert vectors.tolist() == [[7, 8, 9], [0, 0, 0], [1, 2, 3], [7, 8, 9]]
    assert found.tolist() == [True, False, True, True]


def test_fasttext_header_and_trailing_spaces(write):
    vectors, found = load_word_vectors(str(write("2 3\na 1 2 3 \nb 4 5 6 \n")), ["b", "2"])
    assert vectors.tolist() == [[4, 5, 6], [0, 0, 0]]
    assert found.tolist() == [True, False]


@pytest.mark.parametrize("header", ["", "4 2\n"])
def test_words_with_spaces(write, header):
    path = write(f"{header}. . . 1 2\nat name@domain.com 3 4\nat 5 6\nx\u2028y 7 8\n")
    vectors, found = load_word_vectors(path, ["at", ". . .", "at name@domain.com", "x\u2028y"])
    assert vectors.tolist() == [[5, 6], [1, 2], [3, 4], [7, 8]]
    assert found.all()


def test_first_of_two_lines_counts_and_bad_bytes_elsewhere_do_not_matter(write):
    vectors, _ = load_word_vectors(write(b"a 1 2\n\xff\xfe 3 4\nx\ry 7 8\na 5 6\r\n\n"), ["a"])
    assert vectors.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3\nb 4 5\n", "vectors.txt, line 2: 3 columns, expected 4"),
        ("a 1 2 3\nb 4 5 6 7\n", "vectors.txt, line 2: 5 columns, expected 4"),
        ("1 3\na 1 2\n", "vectors.txt, line 2: 3 columns, expected 4"),
        ("1 2\na 1 2 3\n", "vectors.txt, line 2: 4 columns, expected 3"),
        ("1 3\na 1 x 3\n", "vectors.txt, line 2: 'x' is no finite number"),
        ("b 1 2\na 1 1_0\n", "vectors.txt, line 2: '1_0' is no finite number"),
        ("b 1 2\na 1 nan\n", "vectors.txt, line 2: 'nan' is no finite number"),
        ("b 1 2\na 1 1e39\n", "vectors.txt, line 2: '1e39' is no finite number of float32"),
        ("b 1 2\na -3.5e38 1\n", "vectors.txt, line 2: '-3.5e38' is no finite number of float32"),
        ("a\nb 1 2\n", "vectors.txt, line 1: 1 columns"),
        ("5 0\na\n", "vectors.txt, line 2: 1 columns"),
        ("", "vectors.txt: an empty file"),
        ("b 1 2\n", "vectors.txt: none of the 1 words"),
    ],
)
def test_errors_name_file_and_line(write, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_word_vectors(write(text), ["a"])
    assert "\n" not in str(caught.value)


def test_tabs_and_a_packed_file(tmp_path, write):
    text = "2 3\na\t1\t2 3\nnew york\t4\t5\t6\n"
    expected = [[4, 5, 6], [1, 2, 3]]
    assert load_word_vectors(write(text), ["new york", "a"])[0].tolist() == expected
    packed = tmp_path / "cc.de.300.vec.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()))
    assert load_word_vectors(packed, ["new york", "a"])[0].tolist() == expected
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"cc\.de\.300\.vec\.gz: cannot be unpacked"):
        load_word_vectors(packed, ["a"])


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "glove.zip").write_bytes(b"PK\3\4rest")
    with pytest.raises(ValueError, match=r"glove\.zip: a zip archive, expected word vectors as text"):
        load_word_vectors(tmp_path / "glove.zip", ["a"])
    (tmp_path / "cc.bin").write_bytes(b"2 3\n")
    with pytest.raises(ValueError, match=r"cc\.bin: a binary file"):
        load_word_vectors(tmp_path / "cc.bin", ["a"])


def test_a_packed_line_that_would_fill_the_memory(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"a" * (3 << 20)))
    with pytest.raises(ValueError, match=r"x\.gz: a line of more than 1048576 characters"):
        load_word_vectors(tmp_path / "x.gz", ["a"])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"glove\.txt: no such file"):
        load_word_vectors(tmp_path / "glove.txt", ["a"])


def test_the_largest_number_is_kept(write):
    assert load_word_vectors(write("a 3.4028234e38 -3.4028234e38\n"), ["a"])[0].isfinite().all()


def test_a_file_with_few_of_the_words_is_told_of(write):
    path = write("a 1 2\nb 3 4\n")
    with pytest.warns(UserWarning, match=r"vectors\.txt: has 2 of the 5 words of the vocabulary"):
        load_word_vectors(path, ["a", "b", "c", "d", "e"])


def test_a_file_that_was_cut_off_is_told_of(write, recwarn):
    with pytest.warns(UserWarning, match=r"vectors\.txt: 2 words, its first line says 3"):
        load_word_vectors(write("3 2\na 1 2\nb 3 4\n"), ["a", "b"])
    recwarn.clear()
    load_word_vectors(write("2 2\na 1 2\nb 3 4\n"), ["a", "b"])
    assert not recwarn
