"""DivE, AVSE, LAPS: the compositions are what they say, learn, and survive saving."""

import pytest
import torch
from helpers_systems import TEXTS, WORDS, learns

from itmatch.batch import Regions
from itmatch.models import MatchingModel, avse_regions_bert, avse_regions_gru, dive_gru, laps_bert, laps_gru
from itmatch.nn import LastPooling, MaxPooling, SetSimilarity
from itmatch.ops import lengths_to_mask
from itmatch.pages import explain

SIZES = {"region_dim": 6, "embed_dim": 16, "word_dim": 8}
MODELS = {
    "dive": lambda _: dive_gru(WORDS, **SIZES, head_dim=8, depth=2),
    "avse": lambda _: avse_regions_gru(WORDS, **SIZES, block_dim=4),
    "avse_bert": lambda bert: avse_regions_bert(bert, region_dim=6, embed_dim=16, block_dim=4),
    "laps": lambda _: laps_gru(WORDS, **SIZES),
    "laps_bert": lambda bert: laps_bert(bert, region_dim=6, embed_dim=16, num_patches=4, class_token=True),
}


@pytest.fixture(params=MODELS)
def model(request, tiny_bert):
    torch.manual_seed(0)
    return MODELS[request.param](tiny_bert)


@pytest.fixture
def regions():
    torch.manual_seed(1)
    return Regions(
        torch.randn(4, 4, 6), lengths_to_mask(torch.tensor([4, 2, 4, 3])), boxes=torch.rand(4, 4, 4).sort()[0]
    )


def test_learns(model, regions):
    assert learns(model, regions, model.tokenizer.batch(TEXTS), steps=60, margin=0.1)


def test_saved_and_loaded(model, regions, tmp_path):
    model.save_pretrained(tmp_path)
    again = MatchingModel.from_pretrained(tmp_path)
    assert again.spec == model.spec
    assert torch.equal(again.score(regions, TEXTS), model.score(regions, TEXTS))


def test_a_score_depends_on_its_own_image_and_caption_alone(model, regions):
    whole = model.score(regions, TEXTS)
    for image, count in enumerate(regions.mask.sum(1).tolist()):
        alone = Regions(regions.features[image : image + 1, :count], boxes=regions.boxes[image : image + 1, :count])
        torch.testing.assert_close(model.score(alone, TEXTS[image])[0, 0], whole[image, image])


def test_pictures_show_regions_and_no_alignment_where_fragments_are_none_of_them(regions):
    model = dive_gru(WORDS, **SIZES, head_dim=8, depth=2)
    with pytest.raises(NotImplementedError, match="SlotImageEncoder makes fragments that stand for no single region"):
        model.align(regions[:1], TEXTS[0])
    found = explain(model, regions[1:2], TEXTS[0])
    assert found.alignment is None
    assert len(found.regions) == len(found.boxes) == 2  # of the image; its fragments are four vectors
    assert found.words == ["a", "black", "dog"]


def test_parts_of_dive():
    model = dive_gru(WORDS, **SIZES, num_slots=3, head_dim=8)
    image, text = model.image_encoder, model.text_encoder
    assert (image.slots.num_slots, text.slots.num_slots) == (3, 3)
    assert (image.slots.positions, text.slots.positions) == (None, "caption")
    assert isinstance(image.encoder.pooling, MaxPooling)
    assert image.encoder.mlp is not None
    assert isinstance(text.encoder.pooling, LastPooling)
    assert (image.encoder.normalize, text.encoder.normalize) == (False, False)
    assert isinstance(model.similarity, SetSimilarity)
    assert (image.in_features, image.embed_dim) == (6, 16)
