"""The towers of CLIP and SigLIP: the embeddings of transformers, and fragments through the same last steps."""

import pytest
import torch

from itmatch.batch import Captions, Regions
from itmatch.data import ImageFolder, PhotoPatches
from itmatch.models import MatchingModel, clip_dual_encoder
from itmatch.nn import (
    ClipImageEncoder,
    ClipTextEncoder,
    HardAligningSimilarity,
    MeanPooling,
    patches_of,
    pixels_of,
)

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 24, "patch_size": 8}


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request, tmp_path_factory, tiny_bert):
    """A small model and its tokenizer, as ``save_pretrained`` writes them; [SEP] ends a text."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 12}
    text |= {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.cls_token_id}
    text |= {"eos_token_id": tokenizer.sep_token_id}
    extra = {"projection_dim": 10} if request.param == "clip" else {}
    path = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(request.param, text_config=text, vision_config=VISION, **extra)
        AutoModel.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def original(folder):
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


def unit(values):
    return torch.nn.functional.normalize(values, dim=-1)


def pixels():
    return torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def regions(images):
    patches = patches_of(images, 8)
    return Regions(patches, torch.ones(patches.shape[:2], dtype=torch.bool))


def test_padding_is_the_tokenizers(folder, original):
    model = clip_dual_encoder(folder)
    model.text_encoder.pad_id = 5
    ids = torch.tensor([[2, 6, 3]])
    found = model.encode_texts(Captions(ids, torch.ones_like(ids, dtype=torch.bool))).pooled
    full = torch.cat((ids, torch.full((1, 9), 5)), 1)
    siglip = original.config.model_type == "siglip"
    with torch.no_grad():
        output = original.text_model(input_ids=full if siglip else ids).pooler_output
    expected = output if siglip else original.text_projection(output)
    torch.testing.assert_close(found, unit(expected))
    assert ClipTextEncoder(folder, pad_id=5).spec["init_args"]["pad_id"] == 5
    again = clip_dual_encoder(folder)
    assert again.text_encoder.pad_id == again.tokenizer.pad_id
    assert again.tokenizer.spec["init_args"]["max_length"] == 12
    with pytest.raises(ValueError, match="pad_id: 99, expected an id below"):
        ClipTextEncoder(folder, pad_id=99)


def test_patches_and_back():
    images = pixels()
    patches = patches_of(images, 8)
    assert patches.shape == (3, 9, 192)
    assert torch.equal(patches[1, 5].view(3, 8, 8), images[1, :, 8:16, 16:24])  # the grid goes row after row
    assert torch.equal(pixels_of(patches, 8), images)
    with pytest.raises(ValueError, match="24 x 24, expected multiples of 7"):
        patches_of(images, 7)


def test_image_embedding(folder, original):
    found = ClipImageEncoder(folder).eval()(regions(pixels()))
    with torch.no_grad():
        output = original.vision_model(pixel_values=pixels())
        pooled, hidden = output.pooler_output, output.last_hidden_state
        if original.config.model_type == "clip":
            pooled = original.visual_projection(pooled)
            hidden = original.visual_projection(original.vision_model.post_layernorm(hidden))[:, 1:]
    torch.testing.assert_close(found.pooled, unit(pooled))
    torch.testing.assert_close(found.features, unit(hidden))


def test_text_embedding_does_not_depend_on_padding(folder, original):
    encoder = ClipTextEncoder(folder).eval()
    ids = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    found = encoder(Captions(ids, mask))
    clip = original.config.model_type == "clip"
    with torch.no_grad():
        for row in range(2):
            own = ids[row : row + 1, mask[row]]
            if clip:
                output = original.text_model(input_ids=own)
                pooled, hidden = (original.text_projection(x) for x in (output.pooler_output, output.last_hidden_state))
            else:  # as SigLIP was trained
                full = torch.nn.functional.pad(own, (0, 12 - own.shape[1]))
                output = original.text_model(input_ids=full)
                pooled = output.pooler_output
                hidden = original.text_model.head(output.last_hidden_state[:, : own.shape[1]])
            torch.testing.assert_close(found.pooled[row], unit(pooled)[0])
            torch.testing.assert_close(found.features[row, mask[row]], unit(hidden)[0])
    assert (found.features[~mask] == 0).all()


@pytest.mark.parametrize("similarity", [None, HardAligningSimilarity(pooling=MeanPooling())])
def test_a_model_of_both_towers(folder, original, similarity, tmp_path):
    model = clip_dual_encoder(folder, similarity)
    texts = ["a dog runs .", "cat"]
    scores = model.score(regions(pixels()), texts)
    assert scores.shape == (3, 2)
    model.save_pretrained(tmp_path)
    again = MatchingModel.from_pretrained(tmp_path)
    assert torch.equal(again.score(regions(pixels()), texts), scores)
    if similarity is None:
        ids = model.tokenizer(texts)[0]
        expected = unit(model.encode_texts(texts[:1]).pooled) @ model.encode_images(regions(pixels())).pooled.T
        torch.testing.assert_close(scores[:, 0], expected[0])
        assert len(ids) >= 3


def test_a_frozen_tower_keeps_out_of_training(folder):
    encoder = ClipImageEncoder(folder, trainable=False).train()
    assert not encoder.vision_model.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_what_does_not_fit(folder, tiny_bert):
    with pytest.raises(ValueError, match="neither model_name nor config"):
        ClipTextEncoder()
    with pytest.raises(ValueError, match="type 'bert', expected clip, siglip or siglip2"):
        ClipTextEncoder(tiny_bert)
    with pytest.raises(ValueError, match="config: model_type 'bert', expected clip, siglip or siglip2"):
        ClipImageEncoder(config={"model_type": "bert"})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ClipImageEncoder("./nowhere/at/all")
    encoder = ClipImageEncoder(folder)
    with pytest.raises(ValueError, match="of 16 pixels in patches of 8, expected image_size 24 and patch_size 8"):
        encoder(regions(pixels()[:, :, :16, :16]))
    with pytest.raises(ValueError, match="8 to 8 regions of size 192, expected the 9 patches of 192"):
        encoder(Regions(regions(pixels()).features[:, :8]))
    long = torch.full((1, 13), 5)
    with pytest.raises(ValueError, match="captions of 13 tokens, expected at most 12"):
        ClipTextEncoder(folder)(Captions(long, torch.ones_like(long, dtype=torch.bool)))


def test_from_photos_to_scores(folder, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i in range(2):
        values = torch.randint(256, (24, 24, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        image.fromarray(values.numpy()).save(tmp_path / f"{i}.png")
    (tmp_path / "test_ids.txt").write_text("0.png\n1.png\n")
    (tmp_path / "test_caps.txt").write_text("a dog\na cat\n")
    data = ImageFolder(tmp_path, extractor=PhotoPatches(image_size=24, patch_size=8)).split("test")
    features = torch.stack([data.image(i).features for i in range(2)])
    scores = clip_dual_encoder(folder).score(features, data.captions)
    assert scores.shape == (2, 2)
    assert scores.isfinite().all()
