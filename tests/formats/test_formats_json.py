"""Json that is damaged, or made to do harm; and what error messages quote of it."""

import pytest

from itmatch.formats.files import read_json
from itmatch.formats.json import parse_json
from itmatch.formats.messages import reason, shown, shown_keys


@pytest.mark.parametrize("depth", [150, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_deep_json_is_told_of(tmp_path, depth, brackets):
    path = tmp_path / "deep.json"
    path.write_text('{"b": ' + brackets[:-1] * depth + "1" + brackets[-1] * depth + "}")
    with pytest.raises(ValueError, match=r"deep\.json: nested more than 100 levels deep$"):
        read_json(path)


def test_json_of_ordinary_depth_is_read():
    text = "[" * 100 + "]" * 100
    assert parse_json(text, "a.json")
    with pytest.raises(ValueError, match="nested"):
        parse_json(f"[{text}]", "a.json")


def test_an_integer_of_thousands_of_digits(tmp_path):
    (tmp_path / "long.json").write_text('{"a": ' + "7" * 5000 + "}")
    with pytest.raises(ValueError, match=r"long\.json: an integer of more than 4000 digits"):
        read_json(tmp_path / "long.json")


def test_a_line_of_json_is_named_by_its_number():
    with pytest.raises(ValueError, match=r"a\.jsonl:7: not json"):
        parse_json("[1,", "a.jsonl", 7)
    with pytest.raises(ValueError, match=r"a\.jsonl:7: nested"):
        parse_json("[" * 5000 + "]" * 5000, "a.jsonl", 7)


def test_what_is_shown_is_short():
    deep = [[[[[[[]]]]]]]
    assert shown(deep) == "[[[[...]]]]"
    assert len(shown("x" * 10_000)) < 200
    assert len(shown(list(range(10_000)))) < 200
    assert len(shown(10**4000)) < 200
    assert shown_keys([]) == "none"
    assert shown_keys(range(9)) == "0, 1, 2, 3, 4, 5, 6, 7 and 1 more"
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
