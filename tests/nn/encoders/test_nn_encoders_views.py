"""Views of images: the public heads and choice of patches, and what must not matter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from itmatch.batch import Fragments, Regions
from itmatch.nn import BlockSimilarity, GeneralizedPooling, MeanPooling, ViewEncoder
from itmatch.nn.encoders.views import nearest_patches

REFERENCE = Path(__file__).parents[2] / "reference"


def arrays():
    file = np.load(REFERENCE / "avse.npz", allow_pickle=False)
    return {key: torch.from_numpy(file[key]) for key in file.files}


def pooling_of(data, side):
    pooling, start = GeneralizedPooling(), f"{side}_encoder.gpool."
    pooling.load_state_dict({key.removeprefix(start): value for key, value in data.items() if key.startswith(start)})
    return pooling


class GivenViews(ViewEncoder):
    """The first half of the fragments is one view, the second the other."""

    def views(self, mask):
        first = torch.arange(mask.shape[1]) < mask.shape[1] // 2
        return torch.stack((first, ~first)).expand(len(mask), -1, -1)


def test_agrees_with_the_heads_of_avse():
    data = arrays()
    image = GivenViews(20, 24, pooling=pooling_of(data, "image"))
    image.fc.load_state_dict({part: data[f"image_encoder.fc.{part}"] for part in ("weight", "bias")})
    views = image(Regions(torch.cat((data["heads.view1"], data["heads.view2"]), 1)))
    torch.testing.assert_close(views.features.flatten(1), data["heads.image"], atol=1e-5, rtol=0)
    mask = torch.arange(10) < data["heads.word_lengths"][:, None]
    norm = nn.LayerNorm(24)
    norm.load_state_dict({part: data[f"text_encoder.ln.{part}"] for part in ("weight", "bias")})
    text = norm(pooling_of(data, "text")(data["heads.words"], mask[..., None], dim=1))
    torch.testing.assert_close(text, data["heads.text"], atol=1e-5, rtol=0)
    scores = BlockSimilarity(12)(views, Fragments(data["heads.words"], mask, text))
    torch.testing.assert_close(scores, data["heads.scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["training", "test"])
def test_agrees_with_the_public_choice_of_patches(part):
    data = arrays()
    side, count, centres = int(data["views.side"]), int(data[f"views.{part}.n_kept"]), data[f"views.{part}.centres"]
    encoder = ViewEncoder(4, 8)
    share = encoder.kept if part == "training" else encoder.kept_in_evaluation
    assert count == int((side * side + 1) * share)
    found, expected = nearest_patches(side, centres, count), data[f"views.{part}.kept"]
    assert (found.sum(2) == count).all()
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    distance = (rows - rows[centres][..., None]).square() + (columns - columns[centres][..., None]).square()
    border = distance.masked_fill(~expected, -1).amax(2, keepdim=True)
    assert torch.equal(found & (distance != border), expected & (distance != border))


def test_views_of_evaluation_are_always_the_same():
    encoder = ViewEncoder(4, 8).eval()
    regions = Regions(torch.randn(3, 50, 4))
    first = encoder(regions).features
    assert torch.equal(encoder(regions).features, first)
    assert not torch.allclose(first[:, 0], first[:, 1], atol=1e-3)
    torch.testing.assert_close(encoder(regions[1:2]).features, first[1:2])
    assert ViewEncoder(4, 8).eval().views(torch.ones(1, 50, dtype=torch.bool)).sum(2).tolist() == [[46, 46]]
    training = ViewEncoder(4, 8, class_token=False).train()
    seen = training.views(torch.ones(30, 49, dtype=torch.bool))
    assert (seen.sum(2) == 40).all()
    assert len(seen.flatten(0, 1).unique(dim=0)) > 10


@pytest.mark.parametrize("class_token", [True, False])
def test_a_vector_is_that_of_the_patches_of_its_view(class_token):
    torch.manual_seed(0)
    encoder = ViewEncoder(4, 8, 3, class_token=class_token, pooling=MeanPooling()).eval()
    nn.init.normal_(encoder.fc.bias)  # else padding adds nothing to the direction of a mean
    features = torch.randn(2, 9 + class_token, 4)
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    mask[1, 5:] = False
    found = encoder(Regions(features.masked_fill(~mask[..., None], 9.0), mask)).features
    views = encoder.views(mask)
    assert views[:, :, :class_token].all()
    for row in range(2):
        for view in range(3):
            chosen = encoder.fc(features[row, views[row, view] & mask[row]]).mean(0)
            torch.testing.assert_close(found[row, view], chosen / chosen.norm())
    assert encoder(Regions(features[:0], mask[:0])).features.shape == (0, 3, 8)


def test_gradients_and_half_precision():
    encoder = ViewEncoder(4, 8).train()
    features = torch.randn(2, 17, 4).requires_grad_()
    encoder(Regions(features)).features.square()[..., 0].sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
    encoder.eval()
    exact = encoder(Regions(features.detach())).features
    torch.testing.assert_close(encoder(Regions(features.detach().half())).features, exact, atol=0.01, rtol=0)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="36 fragments, expected a class token and patches of a square"):
        ViewEncoder(4, 8)(Regions(torch.randn(1, 36, 4)))
    with pytest.raises(ValueError, match="37 fragments, expected patches of a square"):
        ViewEncoder(4, 8, class_token=False)(Regions(torch.randn(1, 37, 4)))
    with pytest.raises(ValueError, match="features of size 5, expected 4"):
        ViewEncoder(4, 8)(Regions(torch.randn(1, 17, 5)))
