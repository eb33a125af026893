"""Vision models as image encoders: the hidden states of transformers, patch by patch; what is trained of them."""

import pytest
import torch

from itmatch.batch import Regions
from itmatch.nn import MeanPooling, TransformerImageEncoder, patches_of
from itmatch.spec import build

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PATCHES = {**SIZES, "intermediate_size": 16, "image_size": 32, "patch_size": 8}
SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
DINO = {**SIZES, "mlp_ratio": 2, "image_size": 32, "patch_size": 8}
MODELS = {  # settings, and how many fragments are no patches
    "vit": (PATCHES, 1),
    "deit": (PATCHES, 2),
    "swin": (SWIN, 0),
    "swinv2": (SWIN, 0),
    "dinov2": (DINO, 1),
    "dinov2_with_registers": ({**DINO, "num_register_tokens": 3}, 4),
    "dinov3_vit": (PATCHES, 1),
    "siglip_vision_model": (PATCHES, 0),
}


def config(kind):
    return {"model_type": kind, **MODELS[kind][0]}


def pixels(side=32):
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=MODELS)
def kind(request):
    torch.manual_seed(0)
    return request.param


def test_fragments_are_the_hidden_states_of_the_patches(kind):
    encoder = TransformerImageEncoder(embed_dim=16, config=config(kind), normalize=False).eval()
    torch.nn.init.eye_(encoder.fc.weight)
    special = MODELS[kind][1]
    with torch.no_grad():
        hidden = encoder.transformer(pixel_values=pixels()).last_hidden_state
        found = encoder(Regions(patches_of(pixels(), 8)))
    assert hidden.shape[1] == special + 16
    assert encoder.offset == min(special, 1)
    torch.testing.assert_close(found.features[:, encoder.offset :], hidden[:, special:])
    torch.testing.assert_close(found.features[:, : encoder.offset], hidden[:, : encoder.offset])
    assert found.features.shape[1] == encoder.offset + 16
    assert (encoder.num_patches, encoder.in_features) == (16, 192)


def test_a_patch_changes_the_fragment_in_its_place_most():
    torch.manual_seed(0)
    encoder = TransformerImageEncoder(embed_dim=16, config=config("vit"), normalize=False).eval()
    patches = patches_of(pixels(), 8)
    changed = patches.clone()
    changed[:, 6] += 5
    with torch.no_grad():
        moved = (encoder(Regions(changed)).features - encoder(Regions(patches)).features).norm(dim=2)
    assert moved.argmax(1).tolist() == [7] * 3  # behind the class token


def test_without_the_class_token():
    torch.manual_seed(0)
    encoder = TransformerImageEncoder(embed_dim=8, config=config("vit"), pooling=MeanPooling()).eval()
    bare = TransformerImageEncoder(embed_dim=8, config=config("vit"), class_token=False).eval()
    bare.load_state_dict(encoder.state_dict())
    regions = Regions(patches_of(pixels(), 8))
    found = encoder(regions)
    torch.testing.assert_close(bare(regions).features, found.features[:, 1:])
    assert bare.offset == 0
    assert found.pooled.shape == (3, 8)
    torch.testing.assert_close(found.features.norm(dim=2), torch.ones(3, 17))
    assert encoder(regions[:0]).features.shape == (0, 17, 8)


def test_what_is_trained(kind):
    encoder = TransformerImageEncoder(embed_dim=8, config=config(kind), normalize=False).train()
    encoder(Regions(patches_of(pixels(), 8))).features.square()[..., 0].sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = TransformerImageEncoder(embed_dim=8, config=config(kind), trainable=False).train()
    assert {name for name, p in frozen.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    assert not frozen.transformer.training
    assert frozen.training


def test_rebuilt_from_its_spec(kind):
    encoder = TransformerImageEncoder(embed_dim=8, config=config(kind)).eval()
    again = build(encoder.spec, TransformerImageEncoder).eval()
    again.load_state_dict(encoder.state_dict())
    regions = Regions(patches_of(pixels(), 8))
    assert torch.equal(again(regions).features, encoder(regions).features)


@pytest.mark.parametrize("family", ["siglip", "vit"])
def test_from_a_folder(family, tmp_path):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    text = {**SIZES, "intermediate_size": 16}
    settings = PATCHES if family == "vit" else {"text_config": text, "vision_config": PATCHES}
    model = AutoModel.from_config(AutoConfig.for_model(family, **settings)).half()
    model.save_pretrained(tmp_path)
    encoder = TransformerImageEncoder(tmp_path, embed_dim=16, normalize=False).eval()
    torch.nn.init.eye_(encoder.fc.weight)
    own = getattr(model.float().eval(), "vision_model", model)
    with torch.no_grad():
        found = encoder(Regions(patches_of(pixels(), 8))).features
        torch.testing.assert_close(found, own(pixel_values=pixels()).last_hidden_state)
    again = build(encoder.spec)
    assert again.state_dict().keys() == encoder.state_dict().keys()
    assert not any("head" in name or "pooler" in name or "text" in name for name in again.state_dict())


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_images_of_another_size(kind):
    torch.manual_seed(0)
    encoder = TransformerImageEncoder(embed_dim=8, config=config(kind), image_size=48)
    assert encoder(Regions(patches_of(pixels(48), 8))).features.shape == (3, 37, 8)
    assert build(encoder.spec).num_patches == 36


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config": {"model_type": "clip"}}, "TransformerImageEncoder: a model of type clip, which is for Clip"),
        ({"config": {"model_type": "clip_vision_model", **SIZES}}, "a model of type clip_vision_model, which is for"),
        ({"config": {"model_type": "mlcd_vision_model", **SIZES}}, "'mlcd_vision_model', expected one that reads"),
        ({"config": {"model_type": "convnext"}}, "'convnext', expected one that reads images"),
        ({"config": {"model_type": "bert", **SIZES}}, "a model of type 'bert', expected one that reads images"),
        ({"config": {"model_type": "siglip2_vision_model", **SIZES}}, "'siglip2_vision_model', expected one that"),
        ({"config": {"model_type": "vit", **SIZES, "patch_size": [8, 4]}}, r"patch_size \[8, 4\], expected squares"),
        ({"config": {**config("swin"), "image_size": 2**20}}, "image_size: 1048576, expected at most 4096"),
        ({"config": config("vit"), "image_size": 36}, "image_size: 36, expected a multiple of 8"),
        ({}, "TransformerImageEncoder: neither model_name nor config"),
    ],
)
def test_what_does_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        TransformerImageEncoder(**{"embed_dim": 8} | settings)


def test_images_that_do_not_fit():
    encoder = TransformerImageEncoder(embed_dim=8, config=config("vit"))
    with pytest.raises(
        ValueError, match="images of 24 pixels in patches of 8, expected image_size 32 and patch_size 8"
    ):
        encoder(Regions(patches_of(pixels(24), 8)))
    mask = torch.ones(3, 16, dtype=torch.bool)
    mask[0, 0] = False
    with pytest.raises(ValueError, match="15 to 16 regions of size 192, expected the 16 patches of 192 pixel values"):
        encoder(Regions(patches_of(pixels(), 8), mask))
