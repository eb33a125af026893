"""ClassEmbedding: vectors by name, the unknown class, and how it is built again."""

import json

import pytest
import torch

from itmatch.nn import ClassEmbedding
from itmatch.spec import build


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("dog 1 2\nsitting 3 4\non 5 8\nhot 0 1\n", encoding="utf-8")
    return path


def test_names_start_from_the_mean_of_their_words(vectors):
    table = ClassEmbedding(["dog", "Sitting on", "hot-cat", "unicorn"], vectors=vectors)
    found = table(torch.tensor([0, 1, 2]))
    assert found.tolist() == [[1, 2], [4, 6], [0, 1]]  # of "hot-cat" one word is known
    assert bool((table(torch.tensor([3, -1])).abs() <= 0.1).all())
    assert table.dim == 2


def test_names_from_a_file(tmp_path, vectors):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(["dog", "on"]), encoding="utf-8")
    assert ClassEmbedding(str(path), vectors=vectors)(torch.tensor([[1]])).tolist() == [[[5, 8]]]


def test_frozen(vectors):
    table = ClassEmbedding(["dog", "on"], vectors=vectors, freeze=True)
    assert not table.embed.weight.requires_grad
    assert table(torch.tensor(-1)).tolist() == [0, 0]


def test_unknown_has_a_vector_of_its_own():
    table = ClassEmbedding(3, dim=4)
    table(torch.tensor([-1, 2])).sum().backward()
    assert table.embed.weight.grad.abs().sum(1).tolist() == [0, 0, 4, 4]


def test_built_again_without_names_and_files(vectors):
    table = ClassEmbedding(["dog", "on"], vectors=vectors)
    assert table.spec["init_args"] == {"classes": 2, "dim": 2, "vectors": None, "freeze": False}
    again = build(table.spec)
    again.load_state_dict(table.state_dict())
    assert torch.equal(again(torch.tensor([0, 1])), table(torch.tensor([0, 1])))


@pytest.mark.parametrize("value", [-2, 3])
def test_classes_outside(value):
    with pytest.raises(ValueError, match=rf"classes .*{value}.*expected -1 \(unknown\) .. 2"):
        ClassEmbedding(3, dim=2)(torch.tensor([0, value]))


def test_no_classes_at_all_is_fine():
    assert ClassEmbedding(3, dim=2)(torch.zeros(0, dtype=torch.int64)).shape == (0, 2)


def test_bad_settings(tmp_path, vectors):
    with pytest.raises(ValueError, match="classes: 0, expected a whole number, 1 or more"):
        ClassEmbedding(0)
    with pytest.raises(ValueError, match="needs the names"):
        ClassEmbedding(3, vectors=vectors)
    with pytest.raises(ValueError, match="size 2, expected dim 5"):
        ClassEmbedding(["dog"], dim=5, vectors=vectors)
    with pytest.raises(TypeError, match=r"classes\[1\]: a int"):
        ClassEmbedding(["dog", 3])
    with pytest.raises(FileNotFoundError, match=r"names.json: no such file"):
        ClassEmbedding(tmp_path / "names.json")
    bad = tmp_path / "bad.json"
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad.json:1: not json"):
        ClassEmbedding(bad)
    bad.write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="holds a dict, expected a list"):
        ClassEmbedding(bad)
