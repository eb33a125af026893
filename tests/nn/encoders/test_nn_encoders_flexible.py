"""SigLIP 2 of variable resolution (NaFlex): the embeddings of transformers, whatever the shape of the photo."""

import numpy as np
import pytest
import torch

from itmatch.batch import Captions, Regions
from itmatch.data import ImageFolder, PhotoPatches
from itmatch.models import clip_dual_encoder
from itmatch.models.systems.clip import is_clip_model
from itmatch.nn import ClipImageEncoder, HardAligningSimilarity, MeanPooling

Image = pytest.importorskip("PIL.Image")

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = [(70, 50), (30, 90), (64, 64), (9, 200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bert):
    """A small model with its processor, which makes 16 patches of 8 x 8 pixels at most, and a tokenizer."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, Siglip2ImageProcessorPil

    path = tmp_path_factory.mktemp("siglip2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 12}
    vision = {**TOWER, "patch_size": 8, "num_patches": 9}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model("siglip2", text_config=text, vision_config=vision)
        AutoModel.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(path)
    return str(path)


def photos():
    draw = np.random.default_rng(0)
    coarse = [draw.integers(0, 256, (4, 5, 3), dtype=np.uint8) for _ in SIZES]
    return [Image.fromarray(one).resize(size) for one, size in zip(coarse, SIZES, strict=True)]


def test_the_vectors_are_those_of_the_model_with_its_own_processor(folder):
    from transformers import AutoImageProcessor, AutoModel

    model, original = clip_dual_encoder(folder), AutoModel.from_pretrained(folder).eval()
    assert is_clip_model(folder)
    given = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=photos(), return_tensors="pt")
    with torch.no_grad():
        expected = original.get_image_features(**given).pooler_output
        hidden = original.vision_model(**given).last_hidden_state
    found = model.encode_images(photos())
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(found.pooled, expected, atol=2e-3, rtol=0)  # 8 bits, rounded before and after resizing
    counts = given["pixel_attention_mask"].sum(1)
    assert found.mask.sum(1).tolist() == counts.tolist()
    assert len(set(given["spatial_shapes"].prod(1).tolist())) > 1
    for row, count in enumerate(counts):
        own = torch.nn.functional.normalize(hidden[row, :count], dim=-1)
        torch.testing.assert_close(found.features[row, :count], own, atol=5e-3, rtol=0)
    assert expected.std(0).mean() > 0.01  # the photos differ
    with torch.no_grad():
        text = original.get_text_features(input_ids=torch.tensor([[2, 6, 3] + [0] * 9])).pooler_output
    ids = torch.tensor([[2, 6, 3]])
    ours = model.encode_texts(Captions(ids, torch.ones_like(ids, dtype=torch.bool))).pooled
    torch.testing.assert_close(ours, torch.nn.functional.normalize(text, dim=-1))


def test_a_photo_is_the_same_alone_and_among_others(folder, tmp_path):
    model = clip_dual_encoder(folder, HardAligningSimilarity(pooling=MeanPooling()))
    together = model.encode_images(photos())
    for row, photo in enumerate(photos()):
        alone = model.encode_images(photo)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0])
        torch.testing.assert_close(together.features[row][together.mask[row]], alone.features[0][alone.mask[0]])
    scores = model.score(photos(), ["a dog"])
    model.save_pretrained(tmp_path)
    assert torch.equal(type(model).from_pretrained(tmp_path).score(photos(), ["a dog"]), scores)


def test_patches_of_files_and_their_boxes(folder, tmp_path):
    for number, photo in enumerate(photos()):
        photo.save(tmp_path / f"{number}.png")
    patches = PhotoPatches(folder)
    assert patches.spec["init_args"] == {
        **{"max_patches": 16, "patch_size": 8, "fit": "keep"},
        **{"mean": [0.5] * 3, "std": [0.5] * 3},
    }
    made = patches(photos())
    split = ImageFolder(tmp_path, extractor=patches).split("test")
    for row in range(len(SIZES)):
        real = made.mask[row]
        assert torch.equal(torch.from_numpy(split.features[row]), made.features[row][real])
        boxes = made.boxes[row][real]
        torch.testing.assert_close((boxes[:, 2:] - boxes[:, :2]).prod(1).sum(), torch.tensor(1.0))
        down, across = (made.features[row, real, -2:].amax(0) + 1).tolist()
        torch.testing.assert_close(boxes[-1], torch.tensor([1 - 1 / across, 1 - 1 / down, 1, 1]))


def test_patches_that_are_no_whole_grid_are_refused(folder):
    encoder = ClipImageEncoder(folder)
    made = PhotoPatches(folder)(photos()[:2])
    mask = made.mask.clone()
    mask[1, 3] = False
    shuffled = made.features.clone()
    shuffled[0, [0, 1]] = shuffled[0, [1, 0]]
    for regions in (Regions(made.features, mask), Regions(shuffled, made.mask)):
        with pytest.raises(ValueError, match="and no whole grid of"):
            encoder(regions)
    with pytest.raises(ValueError, match="regions of size 192, expected 194: pixel values of patches of 8 x 8, and"):
        encoder(Regions(made.features[..., :-2], made.mask))


def test_padding_may_hold_anything(folder):
    encoder = ClipImageEncoder(folder).eval()
    made = PhotoPatches(folder)(photos())
    assert not bool(made.mask.all())
    junk = made.features.clone()
    junk[~made.mask] = torch.nan
    expected, found = encoder(made), encoder(Regions(junk, made.mask))
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.features[made.mask], expected.features[made.mask])


def test_patches_of_a_size_that_no_memory_holds_are_refused():
    with pytest.raises(ValueError, match="max_patches: 10000 patches of 4096 x 4096 pixels, expected at most 4096 x"):
        PhotoPatches(patch_size=4096, fit="keep", max_patches=10_000)
