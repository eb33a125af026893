"""CLIP and SigLIP take photos as their own processors prepare them."""

import json

import numpy as np
import pytest
import torch

from itmatch.data import PhotoPatches
from itmatch.models import clip_dual_encoder
from itmatch.models.photos import extractor_of
from itmatch.nn import ClipImageEncoder, patches_of

Image = pytest.importorskip("PIL.Image")

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SETTINGS = {
    "text_config": {**TOWER, "vocab_size": 20, "max_position_embeddings": 8},
    "vision_config": {**TOWER, "image_size": 24, "patch_size": 8},
}


def save_settings(kind, folder):
    """The settings of a small model, in a folder; returns its path."""
    from transformers import AutoConfig

    AutoConfig.for_model(kind, **SETTINGS, **({"projection_dim": 16} if kind == "clip" else {})).save_pretrained(folder)
    return str(folder)


def usual(kind):
    return extractor_of(ClipImageEncoder(config={**SETTINGS, "model_type": kind, "projection_dim": 16}), None)


def photo():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((70, 50), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("colours", [None, ([0.1, 0.2, 0.3], [0.9, 0.8, 0.7])])
@pytest.mark.parametrize("together", [False, True])  # with the tokenizer in one file, as whole processors are saved
def test_the_pixels_are_those_of_the_processor(kind, colours, together, tmp_path):
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    settings = {} if colours is None else {"image_mean": colours[0], "image_std": colours[1]}
    if kind == "clip":
        sizes = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
        processor = CLIPImageProcessorPil(**sizes, **settings)
    else:
        processor = SiglipImageProcessorPil(size={"height": 24, "width": 24}, **settings)
    processor.save_pretrained(tmp_path)
    if together:
        settings = (tmp_path / "preprocessor_config.json").rename(tmp_path / "processor_config.json")
        settings.write_text(json.dumps({"image_processor": json.loads(settings.read_text())}))
    expected = processor(images=[photo()], return_tensors="pt")["pixel_values"]
    found = PhotoPatches(save_settings(kind, tmp_path))([photo()])
    torch.testing.assert_close(found.features, patches_of(expected, 8), atol=0.02 if kind == "clip" else 0.05, rtol=0)
    assert expected.std() > 0.3
    if colours is not None:
        wrong = usual(kind)([photo()])
        assert (found.features - wrong.features).abs().mean() > 0.1


def test_without_a_processor_it_is_that_of_the_family(tmp_path):
    for kind in ("clip", "siglip"):
        assert PhotoPatches(save_settings(kind, tmp_path)).spec == usual(kind).spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 32}, "size is 32 pixels, expected 24"),
        ({"size": {"shortest_edge": 24}, "crop_size": 16}, "crop_size is 16 pixels, expected 24"),
        ({"size": {"height": 24, "width": 32}}, "size is .*, expected a square"),
        ({"size": "large"}, "size is 'large', expected a square"),
        ({"size": [32, 32]}, r"size is \[32, 32\], expected a square of whole pixels"),
        ({"size": {"height": 32.0, "width": 32.0}}, "size is .*, expected a square of whole pixels"),
        ({"image_mean": 0.5}, "image_mean is 0.5, expected a list of three numbers"),
        ({"image_mean": [0.5]}, "mean: .*expected three finite numbers"),
        ({"image_std": [0, 0, 0]}, "std: .*expected three positive numbers"),
    ],
)
def test_what_is_not_done_here_is_told(settings, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message) as caught:
        PhotoPatches(save_settings("clip", tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_settings_beside_a_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="mean: the files of "):
        PhotoPatches(save_settings("clip", tmp_path), mean=[0.5] * 3)
    with pytest.raises(FileNotFoundError, match="no such"):
        PhotoPatches(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="a model of type 'bert' with image_size None and patch_size None, "):
        PhotoPatches(tmp_path)


def test_it_is_saved_with_the_model(tiny_bert, tmp_path):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    text = {**SETTINGS["text_config"], "eos_token_id": tokenizer.sep_token_id, "bos_token_id": tokenizer.cls_token_id}
    text |= {"pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model("clip", **{**SETTINGS, "text_config": text}, projection_dim=10)
    AutoModel.from_config(config).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "size": 24}
    (tmp_path / "clip/preprocessor_config.json").write_text(json.dumps(settings))
    model = clip_dual_encoder(tmp_path / "clip")
    assert model.extractor.spec["init_args"]["mean"] == [0.1, 0.2, 0.3]
    scores = model.score(photo(), "a dog")
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    weights = again.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(again.score(photo(), "a dog"), scores)  # not bit by bit: the weights lie elsewhere
