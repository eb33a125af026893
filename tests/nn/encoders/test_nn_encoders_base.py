"""What every encoder is: its kind, its size."""

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, SiglipConfig

from itmatch.batch import Fragments, Regions
from itmatch.nn import (
    ClipImageEncoder,
    ClipTextEncoder,
    GRUTextEncoder,
    ImageEncoder,
    RegionEncoder,
    TextEncoder,
    TransformerTextEncoder,
)

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT = {"model_type": "bert", "vocab_size": 50, **SMALL}
TEXT = {**SMALL, "vocab_size": 30, "max_position_embeddings": 8}
VISION = {**SMALL, "hidden_size": 16, "image_size": 16, "patch_size": 8}
CLIP = {**CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12).to_dict(), "model_type": "clip"}
SIGLIP = {**SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION).to_dict()}


@pytest.mark.parametrize(
    ("encoder", "kind", "size"),
    [
        (RegionEncoder(4, 6), ImageEncoder, 6),
        (GRUTextEncoder(9, 5), TextEncoder, 5),
        (TransformerTextEncoder(embed_dim=7, config=BERT), TextEncoder, 7),
        (ClipImageEncoder(config=CLIP), ImageEncoder, 12),
        (ClipTextEncoder(config=CLIP), TextEncoder, 12),
        (ClipImageEncoder(config=SIGLIP), ImageEncoder, 16),
        (ClipTextEncoder(config=SIGLIP), TextEncoder, 16),
    ],
)
def test_kind_and_size(encoder, kind, size):
    assert isinstance(encoder, kind)
    assert encoder.embed_dim == size


def test_repr_shows_the_settings_of_now():
    encoder = RegionEncoder(4, 6, dropout=0.1)
    assert "in_features=4, embed_dim=6, self_attention=False" in repr(encoder)
    assert "dropout=0.1, pooling=None" in repr(encoder)
    encoder.dropout.p = 0.3
    assert "dropout=0.3" in repr(encoder)
    assert "vocabulary=1000, embed_dim=4" in repr(GRUTextEncoder([f"word{i}" for i in range(1000)], 4))
    assert len(ClipImageEncoder(config=CLIP).extra_repr()) < 500  # of the settings of a transformer, the first


class Projection(ImageEncoder):
    """An encoder as somebody writes it, for features of the type of its weights."""

    def __init__(self, in_features, embed_dim):
        super().__init__()
        self.embed_dim = embed_dim
        self.linear = nn.Linear(in_features, embed_dim)

    def forward(self, regions):
        return Fragments(self.linear(regions.features), regions.mask)


@pytest.mark.parametrize("encoder", [Projection(4, 6), RegionEncoder(4, 6, self_attention=True, num_heads=2)])
def test_features_of_float16_are_widened_at_the_encoder(encoder):
    features = torch.randn(2, 3, 4).half()
    boxes = torch.rand(2, 3, 4)
    narrow, wide = (encoder.eval()(Regions(x, boxes=boxes)).features for x in (features, features.float()))
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, wide)


def test_an_encoder_of_float16_reads_float16():
    seen = []
    encoder = Projection(4, 6).half()
    encoder.linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    encoder(Regions(torch.randn(2, 3, 4).half()))
    assert seen == [torch.float16]
