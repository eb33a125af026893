"""DivE, AVSE, HREM, LAPS: the compositions are what they say, learn, and survive saving."""

import json
import shutil

import pytest
import torch
from helpers_photo_folder import write_photos
from helpers_pretrained import save_backbone, save_swin
from helpers_systems import TEXTS, WORDS, learns

from itmatch.batch import Regions
from itmatch.models import (
    MatchingModel,
    avse_regions_bert,
    avse_regions_gru,
    avse_vit,
    dive_gru,
    hrem_bert,
    hrem_gru,
    laps_bert,
    laps_gru,
    laps_swin,
    laps_vit,
)
from itmatch.nn import LastPooling, MaxPooling, SetSimilarity
from itmatch.ops import lengths_to_mask
from itmatch.pages import explain

SIZES = {"region_dim": 6, "embed_dim": 16, "word_dim": 8}
MODELS = {
    "dive": lambda _: dive_gru(WORDS, **SIZES, head_dim=8, depth=2),
    "avse": lambda _: avse_regions_gru(WORDS, **SIZES, block_dim=4),
    "avse_bert": lambda bert: avse_regions_bert(bert, region_dim=6, embed_dim=16, block_dim=4),
    "hrem": lambda _: hrem_gru(WORDS, **SIZES, num_heads=2),
    "hrem_bert": lambda bert: hrem_bert(bert, region_dim=6, embed_dim=16),
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


OF_PHOTOS = {
    "laps_vit": lambda bert, vit, _: laps_vit(bert, vit, embed_dim=16, num_patches=16),
    "laps_swin": lambda bert, _, swin: laps_swin(bert, swin, embed_dim=16, num_patches=16),
    "avse_vit": lambda bert, vit, _: avse_vit(bert, vit, embed_dim=16, block_dim=4),
}


@pytest.fixture(params=OF_PHOTOS)
def of_photos(request, tiny_bert, tmp_path):
    torch.manual_seed(0)
    folders = [tmp_path / name for name in ("vit", "swin")]
    return OF_PHOTOS[request.param](tiny_bert, save_backbone(folders[0]), save_swin(folders[1]))


def test_systems_of_photos(of_photos, tmp_path):
    """They take photos, learn, are saved with how they take them, and need no other files then."""
    write_photos(tmp_path / "photos", 4)
    photos = sorted(str(path) for path in (tmp_path / "photos").iterdir())
    before = of_photos.score(photos, TEXTS)
    assert before.shape == (4, 4)
    assert learns(of_photos, of_photos.extractor(photos), of_photos.tokenizer.batch(TEXTS), steps=40, margin=0.2)
    after = of_photos.eval().score(photos, TEXTS)
    assert not torch.allclose(after, before, atol=1e-3)
    of_photos.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "vit")
    shutil.rmtree(tmp_path / "swin")
    again = MatchingModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.score(photos, TEXTS), after)
    torch.testing.assert_close(again.score(photos[1:2], TEXTS)[0], after[1])


def test_pictures_show_the_patches_behind_the_class_token(tiny_bert, tmp_path):
    torch.manual_seed(0)
    model = laps_vit(tiny_bert, save_backbone(tmp_path), embed_dim=16, num_patches=16).eval()
    write_photos(tmp_path / "photos", 1)
    found = explain(model, str(tmp_path / "photos/00.png"), TEXTS[0])
    assert found.alignment.shape == (16, 3)
    assert len(found.boxes) == 16
    fragments = model.encode_images(str(tmp_path / "photos/00.png"))
    whole = model.similarity.align(fragments, model.encode_texts(TEXTS[0]))
    assert whole.shape[0] == 17
    torch.testing.assert_close(model.align(fragments, TEXTS[0]), whole[1:])


def test_vision_models_other_than_a_vit(tiny_bert, tmp_path):
    """A DINOv2 whose settings say larger images than its processor makes."""
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes, image_size=64)).save_pretrained(tmp_path)
    settings = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 40}, "image_std": [0.2, 0.2, 0.25]}
    settings |= {"do_center_crop": True, "image_mean": [0.5, 0.4, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    model = laps_vit(tiny_bert, str(tmp_path), embed_dim=16, num_patches=16, image_size=32).eval()
    expected = {"image_size": 32, "patch_size": 8, "fit": "crop", "mean": [0.5, 0.4, 0.4], "std": [0.2, 0.2, 0.25]}
    assert model.extractor.spec["init_args"] == expected
    write_photos(tmp_path / "photos", 1)
    assert model.encode_images(str(tmp_path / "photos/00.png")).features.shape == (1, 17, 16)
