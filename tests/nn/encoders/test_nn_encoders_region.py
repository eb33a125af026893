"""RegionEncoder: agreement with the published code, and what padding may not do."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from itmatch.batch import Regions
from itmatch.nn.block import Block
from itmatch.nn.encoders.region import RegionEncoder
from itmatch.nn.pooling import GeneralizedPooling, MaxPooling, MeanPooling
from itmatch.ops.masking import lengths_to_mask
from itmatch.spec import build

REFERENCE = Path(__file__).parents[2] / "reference"
RENAMED = {"feedforward.ln.": "norm.", "feedforward.attn.": "attention."}


def reference(name):
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def public_state(data):
    state = {}
    for key, value in data.items():
        if key.startswith("image_encoder."):
            key = key.removeprefix("image_encoder.")
            for public, ours in RENAMED.items():
                key = key.replace(public, ours)
            state[key] = value
    return state


def random_regions(lengths=(5, 3, 1), size=12, length=5):
    torch.manual_seed(0)
    return Regions(torch.randn(len(lengths), length, size), lengths_to_mask(torch.tensor(lengths), length))


def encoder(**kwargs):
    torch.manual_seed(1)
    return RegionEncoder(12, 8, num_heads=2, **kwargs)


VARIANTS = [
    {},
    {"self_attention": True},
    {"self_attention": True, "input_norm": "l2"},
    {"self_attention": True, "input_norm": "layer"},
    {"self_attention": True, "normalize": False},
]


@pytest.mark.parametrize("name", ["chan_basic", "chan_selfattention"])
@pytest.mark.parametrize("training", [False, True])
def test_agrees_with_public_code(name, training):
    data = reference(name)
    mask = lengths_to_mask(data["region_lengths"], data["regions"].shape[1])
    ours = RegionEncoder(48, 32, self_attention=name == "chan_selfattention", mask_attention=False).train(training)
    ours.load_state_dict(public_state(data))
    fragments = ours(Regions(data["regions"], mask))
    torch.testing.assert_close(fragments.features[mask], data["image_fragments"][mask], atol=1e-5, rtol=0)
    assert fragments.features[~mask].eq(0).all()
    assert fragments.pooled is None


def test_masked_attention_differs_from_public_code_where_there_is_padding():
    data = reference("chan_selfattention")
    mask = lengths_to_mask(data["region_lengths"], data["regions"].shape[1])
    ours = RegionEncoder(48, 32, self_attention=True)
    ours.load_state_dict(public_state(data))
    difference = (ours(Regions(data["regions"], mask)).features - data["image_fragments"]).abs().amax(-1)
    assert difference[mask.all(1)].max() < 1e-5
    assert difference[~mask.all(1)][:, 0].min() > 1e-4


@pytest.mark.parametrize("kwargs", VARIANTS)
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(kwargs, training):
    ours = encoder(pooling=MeanPooling(), **kwargs).train(training)
    regions = random_regions()
    wide = regions.features.new_full((3, 9, 12), float("nan"))
    wide[:, :5] = regions.features.masked_fill(~regions.mask[..., None], float("nan"))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, :5] = regions.mask
    expected, found = ours(regions), ours(Regions(wide, mask))
    torch.testing.assert_close(found.features[:, :5], expected.features, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.pooled, expected.pooled, atol=1e-6, rtol=0)
    assert found.features[~mask].eq(0).all()
    for row, length in enumerate((5, 3, 1)):
        alone = ours(Regions(regions.features[row : row + 1, :length], regions.mask[row : row + 1, :length]))
        torch.testing.assert_close(alone.features[0], expected.features[row, :length], atol=1e-6, rtol=0)


def test_gradient_of_nan_padding_is_zero():
    features = random_regions().features
    mask = random_regions().mask
    features = features.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    ours = encoder(self_attention=True)
    ours(Regions(features, mask)).features.pow(3).sum().backward()
    assert features.grad[~mask].eq(0).all()
    assert features.grad[mask].abs().sum(-1).gt(0).all()
    for parameter in ours.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("kwargs", VARIANTS)
def test_order_of_regions_and_images_is_kept(kwargs):
    ours, regions = encoder(**kwargs), random_regions((5, 5, 5))
    order, rows = torch.randperm(5), torch.tensor([2, 0, 1])
    found = ours(Regions(regions.features[rows][:, order], regions.mask)).features
    torch.testing.assert_close(found, ours(regions).features[rows][:, order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_pooled_is_made_of_the_regions_before_normalisation(normalize):
    regions = random_regions()
    plain = encoder(normalize=False)(regions)
    mean = torch.stack([row[: int(mask.sum())].mean(0) for row, mask in zip(plain.features, plain.mask, strict=True)])
    expected = torch.nn.functional.normalize(mean, dim=-1) if normalize else mean
    pooled = encoder(normalize=normalize, pooling=MeanPooling())(regions).pooled
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=0)


def test_input_norm():
    regions = random_regions()
    scaled = Regions(regions.features * 100, regions.mask)
    for kind, invariant in ((None, False), ("l2", True), ("layer", True)):
        ours = encoder(input_norm=kind, normalize=False)
        same = torch.allclose(ours(regions).features, ours(scaled).features, atol=1e-3)
        assert same is invariant


def test_half_precision_input_and_bf16_autocast():
    regions, ours = random_regions(), encoder(self_attention=True)
    half = ours(Regions(regions.features.half(), regions.mask)).features
    assert half.dtype is torch.float32
    torch.testing.assert_close(half, ours(regions).features, atol=5e-3, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        low = ours(regions).features
    low.float().sum().backward()
    torch.testing.assert_close(low.float(), half, atol=5e-2, rtol=0)
    assert ours.fc.weight.grad.isfinite().all()


@pytest.mark.parametrize("pooling", [MaxPooling(), GeneralizedPooling()])
def test_pooled_by_other_poolings(pooling):
    ours, regions = encoder(pooling=pooling), random_regions()
    pooled = ours(regions).pooled
    assert pooled.shape == (3, 8)
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(3))
    rows = torch.tensor([2, 0])
    alone = ours(Regions(regions.features[rows], regions.mask[rows])).pooled
    torch.testing.assert_close(alone, pooled[rows], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kwargs", [*VARIANTS, {"pooling": MeanPooling()}])
def test_rebuilt_from_spec(kwargs):
    ours, regions = encoder(**kwargs), random_regions()
    again = build(ours.spec, RegionEncoder)
    again.load_state_dict(ours.state_dict())
    assert again.spec == ours.spec
    for other in (again, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(regions).features, ours(regions).features)


def test_published_start():
    ours = RegionEncoder(300, 200)
    bound = (6 / 500) ** 0.5
    assert 0.95 * bound < ours.fc.weight.abs().max() <= bound
    assert ours.fc.bias.eq(0).all()


class Model(torch.nn.Module):
    def __init__(self, encoder: Block):
        super().__init__()
        self.encoder = encoder


class Data:
    def __init__(self, size: int = 7):
        self.feature_dim = size


def test_command_line_links_the_feature_size():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Data, "data")
    parser.add_subclass_arguments(Model, "model")
    target = "model.init_args.encoder.init_args.in_features"
    parser.link_arguments("data", target, compute_fn=lambda data: data.feature_dim, apply_on="instantiate")
    arguments = {"embed_dim": 8, "input_norm": "l2", "pooling": "itmatch.nn.pooling.MeanPooling"}
    encoder = {"class_path": "itmatch.nn.RegionEncoder", "init_args": arguments}
    model = {"class_path": f"{__name__}.Model", "init_args": {"encoder": encoder}}
    built = parser.instantiate(parser.parse_object({"data": {"size": 9}, "model": model})).model.encoder
    assert built.in_features == 9
    assert isinstance(built.pooling, MeanPooling)


def test_dropout_acts_in_training_only():
    ours, regions = encoder(dropout=0.5, self_attention=True), random_regions()
    assert not torch.equal(ours(regions).features, ours(regions).features)
    assert torch.equal(ours.eval()(regions).features, ours(regions).features)


def test_errors():
    with pytest.raises(ValueError, match="features of size 7, expected 12"):
        encoder()(Regions(torch.randn(1, 2, 7), torch.ones(1, 2, dtype=torch.bool)))
    with pytest.raises(ValueError, match="embed_dim 10 is not divisible by num_heads 4"):
        RegionEncoder(4, 10, self_attention=True, num_heads=4)
    with pytest.raises(ValueError, match="input_norm: 'max'"):
        RegionEncoder(4, 10, input_norm="max")
