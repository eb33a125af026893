import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from itmatch.nn import (
    GeneralizedPooling,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    SoftmaxPooling,
    SumPooling,
    TopKPooling,
)
from itmatch.ops import lengths_to_mask

REFERENCE = Path(__file__).parents[1] / "reference" / "vse_infty.npz"


def gpo(values):
    pooling = generalized()
    weights = pooling.rank_weights(torch.ones(len(values), dtype=torch.bool))
    return (values.sort(descending=True).values * weights).sum()


def generalized():
    torch.manual_seed(3)
    return GeneralizedPooling(8, 6).double()


CASES = {
    "mean": (MeanPooling, lambda x: x.mean()),
    "sum": (SumPooling, lambda x: x.sum()),
    "max": (MaxPooling, lambda x: x.max()),
    "top k": (lambda: TopKPooling(3), lambda x: x.sort().values[-3:].mean()),
    "softmax": (lambda: SoftmaxPooling(0.5), lambda x: (x * (x / 0.5).softmax(0)).sum()),
    "lse": (lambda: LogSumExpPooling(0.5), lambda x: 0.5 * (x / 0.5).exp().sum().log()),
    "lse unscaled": (lambda: LogSumExpPooling(0.5, scaled=False), lambda x: (x / 0.5).exp().sum().log()),
    "lse normalized": (
        lambda: LogSumExpPooling(0.5, length_normalized=True),
        lambda x: 0.5 * (x / 0.5).exp().mean().log(),
    ),
    "generalized": (generalized, gpo),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_loop_and_ignores_padding(name):
    make, naive = CASES[name]
    torch.manual_seed(0)
    values, mask = torch.randn(3, 4, 5, dtype=torch.double), torch.rand(4, 5) > 0.4
    mask[:, 2] = True
    mask[0] = True
    dirty = values.masked_fill(~mask, torch.nan).requires_grad_()
    result = make()(dirty, mask[None])  # alignment scores (I, T, W), mask (1, T, W)
    assert result.shape == (3, 4)
    for i in range(3):
        for t in range(4):
            torch.testing.assert_close(result[i, t], naive(values[i, t, mask[t]]))
    result.sum().backward()
    assert torch.isfinite(dirty.grad).all()
    assert (dirty.grad[:, ~mask] == 0).all()
    wide = F.pad(dirty.detach(), (0, 2), value=torch.nan)
    torch.testing.assert_close(make()(wide, F.pad(mask, (0, 2))[None]), result.detach())


@pytest.mark.parametrize("name", CASES)
def test_other_dimensions(name):
    make, _ = CASES[name]
    torch.manual_seed(0)
    values, mask = torch.randn(4, 5, 3, dtype=torch.double), lengths_to_mask(torch.tensor([5, 1, 3, 2]))
    pooling = make()
    features = pooling(values, mask[..., None], dim=1)  # (N, D)
    assert features.shape == (4, 3)
    torch.testing.assert_close(features, pooling(values.transpose(1, 2), mask[:, None]))  # as (I, T, R), mask (I, 1, R)


@pytest.mark.parametrize("name", CASES)
def test_nothing_real_gives_zero(name):
    values = torch.full((2, 3), torch.nan, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([[False] * 3, [False] * 3])
    result = CASES[name][0]()(values, mask)
    assert (result == 0).all()
    result.sum().backward()
    assert (values.grad == 0).all()


@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name):
    torch.manual_seed(0)
    values = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    mask, pooling = lengths_to_mask(torch.tensor([4, 2, 1])), CASES[name][0]()
    assert torch.autograd.gradcheck(lambda x: pooling(x, mask), values)


def test_limits_of_the_temperature():
    torch.manual_seed(0)
    values, mask = torch.rand(6), torch.tensor([True] * 5 + [False])
    largest, mean = MaxPooling()(values, mask), MeanPooling()(values, mask)
    torch.testing.assert_close(SoftmaxPooling(1e-4)(values, mask), largest)
    torch.testing.assert_close(SoftmaxPooling(1e5)(values, mask), mean)
    torch.testing.assert_close(LogSumExpPooling(1e-4)(values, mask), largest, atol=1e-3, rtol=0)
    torch.testing.assert_close(LogSumExpPooling(100.0, length_normalized=True)(values, mask), mean, atol=1e-2, rtol=0)


def test_length_normalization_removes_the_length():
    short, long = (torch.full((n,), 0.3) for n in (2, 20))
    plain, normalized = LogSumExpPooling(0.1), LogSumExpPooling(0.1, length_normalized=True)
    real = {n: torch.ones(n, dtype=torch.bool) for n in (2, 20)}
    gap = plain(long, real[20]) - plain(short, real[2])
    assert math.isclose(gap.item(), 0.1 * math.log(10), rel_tol=1e-5)
    torch.testing.assert_close(normalized(long, real[20]), normalized(short, real[2]))


def load(prefix, arrays):
    pooling = GeneralizedPooling(32, 32)
    names = [name for name in arrays.files if name.startswith(prefix)]
    pooling.load_state_dict({name.removeprefix(prefix): torch.from_numpy(arrays[name]) for name in names})
    return pooling


def test_generalized_pooling_agrees_with_the_public_code():
    arrays = np.load(REFERENCE, allow_pickle=False)
    features, lengths, pooled, weights = (
        torch.from_numpy(arrays[name])
        for name in ("text_features", "token_lengths", "text_pooled", "text_pool_weights")
    )
    mask = lengths_to_mask(lengths, features.shape[1])
    pooling = load("text_gpo.", arrays)
    torch.testing.assert_close(pooling.rank_weights(mask), weights, atol=1e-5, rtol=0)
    torch.testing.assert_close(pooling(features, mask[..., None], dim=1), pooled, atol=1e-5, rtol=0)


def test_generalized_pooling_agrees_on_the_image_side():
    arrays = np.load(REFERENCE, allow_pickle=False)
    regions, lengths = torch.from_numpy(arrays["regions"]), torch.from_numpy(arrays["region_lengths"])
    p = {n.removeprefix("image_encoder."): torch.from_numpy(arrays[n]) for n in arrays.files if "image_encoder" in n}
    hidden = F.linear(regions, p["mlp.layers.0.weight"], p["mlp.layers.0.bias"])
    statistics = (p[f"mlp.bns.0.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    hidden = F.batch_norm(hidden.flatten(0, 1), *statistics).view_as(hidden).relu()
    features = F.linear(hidden, p["mlp.layers.1.weight"], p["mlp.layers.1.bias"])
    features = features + F.linear(regions, p["fc.weight"], p["fc.bias"])
    mask = lengths_to_mask(lengths, regions.shape[1])
    pooled = load("image_encoder.gpool.", arrays)(features, mask[..., None], dim=1)
    expected = torch.from_numpy(arrays["image_embedding"])
    torch.testing.assert_close(F.normalize(pooled, dim=-1), expected, atol=1e-5, rtol=0)


def test_bad_arguments_are_named():
    for make in (SoftmaxPooling, LogSumExpPooling, lambda x: GeneralizedPooling(temperature=x)):
        with pytest.raises(ValueError, match="temperature"):
            make(0.0)
    with pytest.raises(ValueError, match="position_dim"):
        GeneralizedPooling(7)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_pooled_to_float32(name, dtype):
    torch.manual_seed(0)
    pooling = CASES[name][0]()
    values = (torch.randn(6, 9) * 5).to(dtype).requires_grad_()
    mask = lengths_to_mask(torch.tensor([9, 1, 4, 9, 2, 7]))
    pooled = pooling(values, mask)
    torch.testing.assert_close(pooled, pooling(values.float(), mask))  # types too
    pooled.sum().backward()
    assert values.grad.dtype == dtype
    assert pooling(values.double(), mask).dtype == torch.double
