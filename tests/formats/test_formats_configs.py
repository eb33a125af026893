"""Configurations in YAML that are damaged, or made to do harm."""

from pathlib import Path

import pytest
from helpers_cli import error_of, run

from itmatch.formats.configs import read_config


def bomb(levels=8, width=9):
    rows = [f"a0: &a0 [{', '.join('x' * width)}]"]
    return "\n".join(rows + [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * width)}]" for i in range(levels)])


BROKEN = {
    r":5: no configuration \(aliases that stand for more than 10000 values": bomb(),
    r":1: no configuration \(\*a stands for something that it is a part of": "a: &a [*a]",
    r":1: no configuration \(found undefined alias": "a: *a",
    r":1: no configuration \(nested more than 100 levels deep": "a: " + "[" * 500,
    # libyaml has a limit of its own of 1000 since PyYAML 6.0.4, and reads ahead of what it tells
    r":1: no configuration \((nested more than 100 levels deep|exceeded maximum nesting depth)": "a: " + "[" * 5000,
    r": no configuration \(Exceeds the limit .* digits": "a: " + "9" * 5000,
    r": no configuration \(invalid literal for int": "a: !!int x",
    r":2: no configuration \(could not determine a constructor for the tag": "\na: !!python/object/apply:os.getcwd []",
    r":1: no configuration \(found unhashable key": "{{}: 2}",
    r":4: no configuration \('trainer' is given twice, first on line 1\)": "trainer: {a: 1}\nb: 2\n\ntrainer: {a: 2}",
    r":1: no configuration \('b' is given twice, first on line 1\)": "a: [{b: 1}, {b: 1}, {b: {b: 1, c: 1}, 'b': 2}]",
    r":2: no configuration \(found a tab character that violates indentation": "a: 1\n\tb: 2",
    r": holds a list, expected settings by name": "- a",
    r": holds nothing, expected settings by name": "# written by half\n",
    r": not UTF-8": b"a: \xff",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("message", BROKEN)
def test_broken_configurations_are_told_of_before_anything_is_built(tmp_path, capsys, message):
    path, content = tmp_path / "config.yaml", BROKEN[message]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_config(path)
    assert str(caught.value).startswith(str(path))
    assert error_of(capsys, "fit", "--config", path) == " ".join(str(caught.value).split())


def test_a_number_and_its_text_are_two_names(tmp_path):
    (tmp_path / "config.yaml").write_text("a: {1: b, '1': c, !!str 2: d, 2: e}\n")
    assert read_config(tmp_path / "config.yaml") == {"a": {1: "b", "1": "c", "2": "d", 2: "e"}}


def test_aliases_as_people_use_them(tmp_path):
    (tmp_path / "config.yaml").write_text("a: &a {b: 1, c: [1, 2]}\nd: {<<: *a, b: 2}\ne: *a\nf: 2001-99-99\n")
    content = read_config(tmp_path / "config.yaml")
    assert content["d"] == {"b": 2, "c": [1, 2]}
    (tmp_path / "config.yaml").write_text("a: &a {b: 1}\nc: &c {d: 1}\ne: {<<: *a, <<: *c, b: 2}\nf: &f g\n*f : g\n")
    assert read_config(tmp_path / "config.yaml")["e"] == {"b": 2, "d": 1}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", ["trainer", "model.similarity"])
def test_files_that_a_configuration_names_are_looked_at_too(tmp_path, monkeypatch, capsys, key):
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("class_path: itmatch.nn.CosineSimilarity\n" + bomb())
    message = error_of(capsys, "fit", "--config=demo", f"--{key}=other.yaml")
    assert "other.yaml" in message
    assert "aliases that stand for more than 10000 values" in message
    Path("other.yaml").write_text("max_epochs: " + "9" * 5000)
    assert "other.yaml" in error_of(capsys, "fit", "--config=demo", "--trainer=other.yaml")
    Path("other.yaml").write_text("class_path: itmatch.nn.CosineSimilarity\nclass_path: itmatch.nn.CosineSimilarity\n")
    message = error_of(capsys, "fit", "--config=demo", f"--{key}=other.yaml")
    assert "other.yaml" in message
    assert "'class_path' is given twice, first on line 1" in message
    assert "line 2" in message
    Path("good.yaml").write_text("max_epochs: 3\n")
    assert run("fit", "--config=demo", "--trainer=good.yaml", "--print_config") == 0
