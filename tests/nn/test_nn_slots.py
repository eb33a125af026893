"""Slots and the encoders that gather fragments by them: the public numbers, a loop, and padding."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, normalize

from itmatch.batch import Captions, Regions
from itmatch.nn import (
    GRUTextEncoder,
    LastPooling,
    MaxPooling,
    RegionEncoder,
    Relation,
    SetSimilarity,
    SlotImageEncoder,
    SlotPooling,
    SlotTextEncoder,
)
from itmatch.ops import lengths_to_mask

REFERENCE = Path(__file__).parents[1] / "reference"
RENAMED = [
    ("agg_block.", ""), ("last_layer.0.", "last."), ("residual_norm.", "whole."), (".0.fn.to_q.", ".query."),
    (".0.fn.to_k.", ".key."), (".0.fn.to_v.", ".value."), (".0.fn.to_out.0.", ".out."), (".0.norm.", ".norm."),
    (".0.norm_context.", ".norm_context."), (".2.norm.", ".norm_feed."), (".2.fn.net.0.", ".network.0."),
    (".2.fn.net.3.", ".network.2."), ("layers.0.1.norm.", "norms.0."), ("layers.0.3.norm.", "norms.1."),
    ("layers.1.1.norm.", "norms.2."), ("layers.1.3.norm.", "norms.3."),
]  # fmt: skip
OPTIONS = {
    "slots_image": {},
    "slots_text": {"positions": "batch", "mask_attention": False},
    "slots_postnorm": {"post_norm": True, "activation": "relu", "ff_mult": 2},
}
SIZES = {"head_dim": 5, "num_heads": 2, "depth": 3, "ff_mult": 2}


def arrays():
    file = np.load(REFERENCE / "slots.npz", allow_pickle=False)
    return {key: torch.from_numpy(file[key]) for key in file.files}


def renamed(key):
    for public, ours in RENAMED:
        key = key.replace(public, ours)
    return key


def public(case, found, **options):
    """SlotPooling with the weights of a case; ``spm.`` goes before those of the encoder."""
    weights = {
        renamed(key.removeprefix(f"{case}.").removeprefix("spm.")): value
        for key, value in found.items()
        if key.startswith(f"{case}.") and ("agg_block" in key or "residual_norm" in key) and ".grad." not in key
    }
    count, size = weights["latents"].shape
    depth, width = (int(found[f"{case}.{name}"]) for name in ("depth", "head_width"))
    context = weights["layers.0.norm_context.weight"].shape[0]
    tied = not any(key.startswith("layers.1.") for key in weights)
    slots = SlotPooling(size, count, context, depth=depth, head_dim=width, tied=tied, **options)
    slots.load_state_dict(weights)
    return slots


def close_to(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)


@pytest.mark.parametrize("case", OPTIONS)
def test_agrees_with_the_public_code_of_dive(case, monkeypatch):
    data, seen = arrays(), []
    slots = public(case, data, **OPTIONS[case])
    shares = slots.layers[0].shares
    monkeypatch.setattr(slots.layers[0], "shares", lambda *given, **k: seen.append(shares(*given, **k)) or seen[-1])
    part = f"{case}.as_coded" if case == "slots_text" else case
    features, whole = data[f"{case}.fragments"].requires_grad_(), data[f"{case}.global"].requires_grad_()
    mask = lengths_to_mask(data[f"{case}.lengths"], 9) if case == "slots_text" else None
    vectors = slots(features, mask, whole)
    close_to(vectors.detach(), data[f"{part}.vectors"])
    close_to(seen[0].detach(), data[f"{part}.first_attention"])
    found = slots.slots(features, mask)
    close_to(found.detach(), data[f"{part}.slots"])
    close_to((slots.whole(whole)[:, None] + found).detach(), data[f"{part}.vectors_unnormalised"])
    vectors.backward(data[f"{part}.cotangent"])
    weights = {name: value.grad for name, value in slots.named_parameters()}
    wanted = {
        key.removeprefix(f"{part}.grad."): value for key, value in data.items() if key.startswith(f"{part}.grad.")
    }
    stored = [name for name in weights if not name.startswith(("layers.1.", "norms.2.", "norms.3."))]
    assert len(wanted) == len(stored) + 2
    close_to(features.grad, wanted.pop("fragments"))
    close_to(whole.grad, wanted.pop("global"))
    for key, expected in wanted.items():
        close_to(weights[renamed(key)], expected)


@pytest.mark.parametrize(("positions", "key"), [("caption", "alone"), ("batch", "alone_batch_positions")])
def test_a_caption_in_a_batch_is_as_alone_in_the_public_code(positions, key):
    data = arrays()
    slots = public("slots_text", data, positions=positions)
    mask = lengths_to_mask(data["slots_text.lengths"], 9)
    features = data["slots_text.fragments"].masked_fill(~mask[..., None], torch.nan).requires_grad_()
    vectors = slots(features, mask, data["slots_text.global"])
    close_to(vectors.detach(), data[f"slots_text.{key}.vectors"])
    vectors.square()[..., 0].sum().backward()
    assert (features.grad[~mask] == 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in slots.parameters())
    if positions == "caption":
        close_to(slots.slots(features, mask).detach(), data["slots_text.alone.slots"])
    if positions == "batch":
        close_to(slots._positions(mask)[1], data["slots_text.positions"])


class ProjectedMLP(Relation):
    """A perceptron on the projected regions, beside them, as DivE's image encoder has one."""

    def __init__(self, size):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(size, size // 2), nn.BatchNorm1d(size // 2), nn.Linear(size // 2, size)

    def forward(self, features, mask, boxes, graph):
        hidden = self.bn(self.fc1(features).flatten(0, 1)).relu().view(*features.shape[:2], -1)
        return features + self.fc2(hidden)


def dive_image_encoder(data, **options):
    slots = public("encoder", data, **options)
    regions = RegionEncoder(12, 16, normalize=False, pooling=MaxPooling(), relations=[ProjectedMLP(16)])
    weights = {key.removeprefix("encoder."): value for key, value in data.items() if key.startswith("encoder.")}
    state = {f"fc.{part}": weights[f"fc.{part}"] for part in ("weight", "bias")}
    for key, value in weights.items():
        if key.startswith("mlp."):
            state[key.replace("mlp.bn.bn", "relations.0.bn").replace("mlp.", "relations.0.")] = value
    regions.load_state_dict(state)
    return SlotImageEncoder(regions, slots).eval()


def test_agrees_with_the_image_encoder_of_dive():
    data = arrays()
    found = dive_image_encoder(data)(Regions(data["encoder_full.regions"]))
    close_to(found.features, data["encoder_full.vectors"])
    assert found.mask.all()
    assert found.features.shape == (4, 4, 16)


def test_images_of_several_sizes_agree_with_the_image_encoder_of_dive():
    """There padded regions are read; where there are none, nothing differs."""
    data = arrays()
    regions, mask = data["encoder.regions"], lengths_to_mask(data["encoder.lengths"], 9)
    encoder = dive_image_encoder(data, mask_attention=False)
    every, whole = encoder.encoder(Regions(regions)).features, encoder.encoder(Regions(regions, mask)).pooled
    close_to(encoder.slots(every, mask, whole).detach(), data["encoder.vectors"])
    close_to(encoder.slots.slots(every, mask).detach(), data["encoder.slots"])
    found, full = dive_image_encoder(data)(Regions(regions, mask)).features, mask.all(1)
    close_to(found[full].detach(), data["encoder.vectors"][full])
    assert ((found - data["encoder.vectors"])[~full].abs().amax((1, 2)) > 0.01).all()


def loop(slots, features, whole):
    """One row of real fragments, one layer at a time; heads one by one."""
    h, size = slots.latents, slots.embed_dim
    for place in range(slots.depth):
        layer = slots.layers[0 if slots.tied else place]
        context = layer.norm_context(features)
        y, read, width = layer.norm(h), [], layer.query.weight.shape[0] // layer.num_heads
        for head in range(layer.num_heads):
            rows = slice(head * width, (head + 1) * width)
            q, k, v = (
                y @ layer.query.weight[rows].T,
                context @ layer.key.weight[rows].T,
                context @ layer.value.weight[rows].T,
            )
            shares = (q @ k.T / math.sqrt(width)).softmax(0)
            read.append(shares / (shares.sum(1, keepdim=True) + 1e-7) @ v)
        h = h + layer.out(torch.cat(read, 1))
        wide = layer.network[0](layer.norm_feed(h))
        h = h + layer.network[2](gelu(wide))
    h = layer_norm(h, (size,), slots.last.weight, slots.last.bias)
    return normalize(layer_norm(whole, (size,), slots.whole.weight, slots.whole.bias) + h, dim=-1)


@pytest.mark.parametrize("tied", [True, False])
def test_agrees_with_a_loop_over_rows(tied):
    torch.manual_seed(0)
    slots = SlotPooling(6, 3, 8, tied=tied, **SIZES).double()
    with torch.no_grad():
        for parameter in slots.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    features, whole = torch.randn(4, 5, 8, dtype=torch.double), torch.randn(4, 6, dtype=torch.double)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
    expected = torch.stack([loop(slots, row[m], w) for row, m, w in zip(features, mask, whole, strict=True)])
    torch.testing.assert_close(slots(features.masked_fill(~mask[..., None], torch.inf), mask, whole), expected)
    torch.testing.assert_close(slots(features[1:2], mask[1:2], whole[1:2]), expected[1:2])
    places = torch.randperm(5)
    torch.testing.assert_close(slots(features[:, places], mask[:, places], whole), expected)


def test_gradcheck():
    torch.manual_seed(0)
    slots = SlotPooling(4, 2, head_dim=3, num_heads=2, depth=2, ff_mult=1, positions="caption").double()
    given = (
        torch.randn(2, 3, 4, dtype=torch.double).requires_grad_(),
        torch.randn(2, 4, dtype=torch.double).requires_grad_(),
    )
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert torch.autograd.gradcheck(lambda x, w: slots(x, mask, w), given)


@pytest.mark.parametrize("whole_model", [True, False])
def test_half_precision(whole_model):
    torch.manual_seed(0)
    slots, features, whole = SlotPooling(8, **SIZES), torch.randn(2, 5, 8), torch.randn(2, 8)
    exact = slots(features, None, whole)
    slots = slots.half() if whole_model else slots
    found = slots(features.half(), None, whole.half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0)


def test_encoders_of_sets_and_their_similarity():
    torch.manual_seed(0)
    image = SlotImageEncoder(RegionEncoder(5, 8, normalize=False, pooling=MaxPooling()), SlotPooling(8, **SIZES))
    words = GRUTextEncoder(20, 8, word_dim=3, normalize=False, pooling=LastPooling())
    text = SlotTextEncoder(words, SlotPooling(8, positions="caption", **SIZES))
    mask = torch.tensor([[True, True, True], [True, True, False]])
    captions = Captions(torch.tensor([[3, 4, 5], [6, 7, 0]]), mask)
    sets = image(Regions(torch.randn(3, 4, 5))), text(captions)
    assert [side.features.shape for side in sets] == [(3, 4, 8), (2, 4, 8)]
    assert SetSimilarity()(*sets).shape == (3, 2)
    alone = text(Captions(torch.tensor([[6, 7]])))
    torch.testing.assert_close(alone.features, sets[1].features[1:])
    assert image(Regions(torch.randn(0, 4, 5))).features.shape == (0, 4, 8)
    assert image.embed_dim == text.embed_dim == 8


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="fragments of size 6, expected 8"):
        SlotPooling(8, **SIZES)(torch.randn(1, 2, 6), None, torch.randn(1, 8))
    with pytest.raises(ValueError, match="context_dim 6 and embed_dim 8, expected those of the encoder, 8"):
        SlotImageEncoder(RegionEncoder(5, 8, pooling=MaxPooling()), SlotPooling(8, context_dim=6))
    with pytest.raises(ValueError, match="the encoder makes no vector of the whole"):
        SlotImageEncoder(RegionEncoder(5, 8), SlotPooling(8, **SIZES))(Regions(torch.randn(1, 2, 5)))
    with pytest.raises(ValueError, match="positions: 'words', expected None, 'caption' or 'batch'"):
        SlotPooling(8, positions="words")
    with pytest.raises(TypeError, match=r"encoder: a GRUTextEncoder, expected an itmatch\.nn\.ImageEncoder"):
        SlotImageEncoder(GRUTextEncoder(20, 8), SlotPooling(8, **SIZES))
