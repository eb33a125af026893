"""Weights that are damaged, or of another model."""

import pytest
import safetensors.torch
import torch
from torch import nn

from itmatch.models.weights import load_weights


class Tied(nn.Module):
    """Two parts that share a weight."""

    def __init__(self, size=3):
        super().__init__()
        self.one, self.two = nn.Linear(size, size), nn.Linear(size, size)
        self.two.weight = self.one.weight
        self.register_buffer("count", torch.tensor(3))


def written(path, change=lambda weights: None):
    torch.manual_seed(1)
    model = Tied()
    safetensors.torch.save_model(model, str(path))
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)
    return model


def test_weights_are_loaded_and_shared_ones_once(tmp_path):
    expected, model = written(tmp_path / "w.safetensors"), Tied()
    load_weights(model, tmp_path / "w.safetensors")
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.two.weight is model.one.weight


def test_half_precision_is_read_into_a_whole_model(tmp_path):
    expected = written(
        tmp_path / "w.safetensors", lambda w: w.update({k: v.half() for k, v in w.items() if k != "count"})
    )
    model = Tied()
    load_weights(model, tmp_path / "w.safetensors")
    torch.testing.assert_close(model.one.weight, expected.one.weight, atol=1e-3, rtol=1e-3)
    assert model.one.weight.dtype == torch.float32


WRONG = {
    "'one.bias' holds a NaN or an infinity": lambda w: w["one.bias"].fill_(float("nan")),
    "'two.bias' holds a NaN or an infinity": lambda w: w["two.bias"].fill_(float("inf")),
    r"no weight one\.bias; is this a file of another model": lambda w: w.pop("one.bias"),
    r"no weight one\.weight, two\.weight; is this": lambda w: w.pop("one.weight"),
    r"has more, for which the model has no place": lambda w: w.update(more=torch.zeros(1)),
    r"'one\.bias' is torch\.float32 of shape \(4,\), the model has torch\.float32 of shape \(3,\)": lambda w: w.update(
        {"one.bias": torch.zeros(4)}
    ),
    r"'one\.bias' is torch\.int64 of shape \(3,\), the model has torch\.float32": lambda w: w.update(
        {"one.bias": torch.zeros(3, dtype=torch.int64)}
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_weights_are_told_of_in_one_line(tmp_path, message):
    path, model = tmp_path / "w.safetensors", Tied()
    written(path, WRONG[message])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(model, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # none is half loaded
