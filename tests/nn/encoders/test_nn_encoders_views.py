"""Views of images: the public heads and choice of patches, and what must not matter."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from itmatch.batch import Captions, Fragments, Regions
from itmatch.nn import (
    BlockSimilarity,
    GeneralizedPooling,
    LayerNormPooling,
    MeanPooling,
    RegionEncoder,
    RegionViewEncoder,
    TransformerTextEncoder,
    ViewEncoder,
)
from itmatch.nn.encoders.views import nearest_patches

REFERENCE = Path(__file__).parents[2] / "reference"


def arrays():
    file = np.load(REFERENCE / "avse.npz", allow_pickle=False)
    return {key: torch.from_numpy(file[key]) for key in file.files}


def pooling_of(data, side):
    pooling, start = GeneralizedPooling(), f"{side}_encoder.gpool."
    pooling.load_state_dict({key.removeprefix(start): value for key, value in data.items() if key.startswith(start)})
    return pooling


def views_of(**settings):
    return ViewEncoder(RegionEncoder(4, 8, normalize=False), **settings)


class GivenViews(ViewEncoder):
    """The first half of the fragments is one view, the second the other."""

    def views(self, mask):
        first = torch.arange(mask.shape[1]) < mask.shape[1] // 2
        return torch.stack((first, ~first)).expand(len(mask), -1, -1)


def test_agrees_with_the_heads_of_avse():
    data = arrays()
    image = GivenViews(RegionEncoder(20, 24, normalize=False), pooling=pooling_of(data, "image"))
    image.encoder.fc.load_state_dict({part: data[f"image_encoder.fc.{part}"] for part in ("weight", "bias")})
    views = image(Regions(torch.cat((data["heads.view1"], data["heads.view2"]), 1)))
    torch.testing.assert_close(views.features.flatten(1), data["heads.image"], atol=1e-5, rtol=0)
    mask = torch.arange(10) < data["heads.word_lengths"][:, None]
    pooling = LayerNormPooling(pooling_of(data, "text"), 24)
    pooling.norm.load_state_dict({part: data[f"text_encoder.ln.{part}"] for part in ("weight", "bias")})
    text = pooling(data["heads.words"], mask[..., None], dim=1)
    torch.testing.assert_close(text, data["heads.text"], atol=1e-5, rtol=0)
    scores = BlockSimilarity(12)(views, Fragments(data["heads.words"], mask, text))
    torch.testing.assert_close(scores, data["heads.scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["training", "test"])
def test_agrees_with_the_public_choice_of_patches(part):
    data = arrays()
    side, count, centres = int(data["views.side"]), int(data[f"views.{part}.n_kept"]), data[f"views.{part}.centres"]
    encoder = views_of()
    share = encoder.kept if part == "training" else encoder.kept_in_evaluation
    assert count == int((side * side + 1) * share)
    found, expected = nearest_patches(side, centres, count), data[f"views.{part}.kept"]
    assert (found.sum(2) == count).all()
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    distance = (rows - rows[centres][..., None]).square() + (columns - columns[centres][..., None]).square()
    border = distance.masked_fill(~expected, -1).amax(2, keepdim=True)
    assert torch.equal(found & (distance != border), expected & (distance != border))


def test_views_of_evaluation_are_always_the_same():
    encoder = views_of().eval()
    regions = Regions(torch.randn(3, 50, 4))
    first = encoder(regions).features
    assert torch.equal(encoder(regions).features, first)
    assert not torch.allclose(first[:, 0], first[:, 1], atol=1e-3)
    torch.testing.assert_close(encoder(regions[1:2]).features, first[1:2])
    assert views_of().eval().views(torch.ones(1, 50, dtype=torch.bool)).sum(2).tolist() == [[46, 46]]
    training = views_of(class_token=False).train()
    seen = training.views(torch.ones(30, 49, dtype=torch.bool))
    assert (seen.sum(2) == 40).all()
    assert len(seen.flatten(0, 1).unique(dim=0)) > 10


@pytest.mark.parametrize("class_token", [True, False])
def test_a_vector_is_that_of_the_patches_of_its_view(class_token):
    torch.manual_seed(0)
    encoder = views_of(num_views=3, class_token=class_token, pooling=MeanPooling()).eval()
    nn.init.normal_(encoder.encoder.fc.bias)  # else padding adds nothing to the direction of a mean
    features = torch.randn(2, 9 + class_token, 4)
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    mask[1, 5:] = False
    found = encoder(Regions(features.masked_fill(~mask[..., None], 9.0), mask)).features
    views = encoder.views(mask)
    assert views[:, :, :class_token].all()
    for row in range(2):
        for view in range(3):
            chosen = encoder.encoder.fc(features[row, views[row, view] & mask[row]]).mean(0)
            torch.testing.assert_close(found[row, view], chosen / chosen.norm())
    assert encoder(Regions(features[:0], mask[:0])).features.shape == (0, 3, 8)


def test_gradients_and_half_precision():
    encoder = views_of().train()
    features = torch.randn(2, 17, 4).requires_grad_()
    encoder(Regions(features)).features.square()[..., 0].sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    encoder.eval()
    exact = encoder(Regions(features.detach())).features
    torch.testing.assert_close(encoder(Regions(features.detach().half())).features, exact, atol=0.01, rtol=0)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="36 fragments, expected a class token and patches of a square"):
        views_of()(Regions(torch.randn(1, 36, 4)))
    with pytest.raises(ValueError, match="37 fragments, expected patches of a square"):
        views_of(class_token=False)(Regions(torch.randn(1, 37, 4)))
    with pytest.raises(ValueError, match="features of size 5, expected 4"):
        views_of()(Regions(torch.randn(1, 17, 5)))


class Given(nn.Module):
    """A transformer that has read its captions before."""

    def __init__(self, features, real):
        super().__init__()
        self.features, self.config, self.real = features, real.config, real
        self.get_input_embeddings = real.get_input_embeddings

    def forward(self, **_):
        return SimpleNamespace(last_hidden_state=self.features)


def test_agrees_with_the_text_side_of_avse():
    data = arrays()
    config = {"model_type": "bert", "vocab_size": 9, "hidden_size": 18, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "intermediate_size": 8}
    pooling = LayerNormPooling(pooling_of(data, "text"), 24)
    encoder = TransformerTextEncoder(embed_dim=24, config=config, normalize=False, mlp=True, pooling=pooling)
    encoder.transformer = Given(data["heads.bert_features"], encoder.transformer)
    names = {"mlp.layers.0.": "mlp.0.", "mlp.bns.0.": "mlp.1.", "mlp.layers.1.": "mlp.3.", "ln.": "pooling.norm."}
    for key, value in data.items():
        name = key.removeprefix("text_encoder.")
        for old, new in names.items():
            name = name.replace(old, new)
        if name != key and name in encoder.state_dict():
            encoder.state_dict()[name].copy_(value)
    mask = torch.arange(10) < data["heads.word_lengths"][:, None]
    found = encoder.eval()(Captions(torch.ones(4, 10, dtype=torch.long), mask))
    torch.testing.assert_close(found.pooled, data["heads.text"], atol=1e-5, rtol=0)
    words = data["heads.words"].masked_fill(~mask[..., None], 0)
    torch.testing.assert_close(found.features, words, atol=1e-5, rtol=0)


def test_views_of_regions():
    encoder = RegionViewEncoder(RegionEncoder(4, 8, normalize=False), 3, kept=0.5, kept_in_evaluation=0.8)
    mask = torch.arange(20) < torch.tensor([20, 10, 3, 1])[:, None]
    training = torch.stack([encoder.train().views(mask) for _ in range(20)])
    assert not (training & ~mask[:, None]).any()
    assert (training.sum(-1) == torch.tensor([10, 5, 1, 1])[:, None]).all()
    assert len(training[:, 0, 0].unique(dim=0)) > 15
    evaluation = encoder.eval().views(mask)
    assert torch.equal(encoder.views(mask), evaluation)
    assert not (evaluation & ~mask[:, None]).any()
    assert evaluation.sum(2).tolist() == [[16] * 3, [8] * 3, [2] * 3, [1] * 3]
    assert (~evaluation[0]).sum(0).max() == 1  # no region is left out twice
    assert torch.equal(encoder.views(mask[1:2, :10]), evaluation[1:2, :, :10])
    features = torch.randn(4, 20, 4)
    found = encoder(Regions(features, mask)).features
    assert found.shape == (4, 3, 8)
    torch.testing.assert_close(encoder(Regions(features[1:2, :10])).features, found[1:2])
    assert encoder(Regions(features[:0], mask[:0])).features.shape == (0, 3, 8)
