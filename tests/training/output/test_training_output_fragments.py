"""Files of fragments: what was written is read, what is damaged is told of."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from itmatch.batch import Fragments
from itmatch.training import read_fragments
from itmatch.training.output.fragments import write_fragments


@pytest.fixture
def file(tmp_path):
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    fragments = Fragments(features, torch.tensor([[True, True, False]] * 2), pooled=features.mean(1))
    write_fragments(tmp_path / "images.safetensors", fragments, torch.tensor([1, 0]), ["b", "a"])
    return tmp_path / "images.safetensors"


def test_fragments_are_read(file):
    fragments, index, ids = read_fragments(file)
    assert fragments.features.shape == (2, 3, 4)
    assert (index.tolist(), ids) == ([1, 0], ["b", "a"])
    assert fragments.is_relation is None


def changed(file, change, ids='["b", "a"]'):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata=None if ids is None else {"ids": ids})


DAMAGE = {
    "holds features, mask, pooled, expected index": lambda f: changed(f, lambda t: t.pop("index")),
    "holds features, pooled, expected index": lambda f: changed(f, lambda t: t.pop("mask")),
    "holds features, mask, more, pooled, expected": lambda f: changed(f, lambda t: t.update(more=torch.zeros(1))),
    "holds features, mask, pooled, expected index, ids": lambda f: changed(f, lambda t: None, None),
    "ids:1: not json": lambda f: changed(f, lambda t: None, "["),
    r"of shape \(2,\) and 1 ids, expected one for each of 2 rows": lambda f: changed(f, lambda t: None, '["b"]'),
    "index -1, expected places of 0 or more": lambda f: changed(f, lambda t: t["index"].fill_(-1)),
    r"index torch.float32 of shape \(2,\)": lambda f: changed(f, lambda t: t.update(index=torch.zeros(2))),
    r"Fragments\.features: NaN or inf at row 0": lambda f: changed(f, lambda t: t["features"].fill_(float("nan"))),
    r"Fragments\.mask: .*": lambda f: changed(f, lambda t: t.update(mask=torch.ones(2, 2, dtype=torch.bool))),
    "no safetensors file, or a damaged one": lambda f: f.write_bytes(f.read_bytes()[:-3]),
    "no such file": lambda f: f.unlink(),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damaged_fragments_are_told_of_in_one_line(file, message):
    DAMAGE[message](file)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_fragments(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
