import pickle

import numpy as np
import pytest
import torch
from helpers_detectors import photos

from itmatch.vision import PretrainedBackbone, RegionExtractor

_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = {**_VIT, "image_size": 32, "patch_size": 8}
_TEXT = {"vocab_size": 9, "max_position_embeddings": 8, **_VIT}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
MODELS = {  # settings, and the processor that checkpoints come with
    "dinov2": (
        _PATCHES,
        "BitImageProcessorPil",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    "dinov2_with_registers": (
        _PATCHES,
        "BitImageProcessorPil",
        {"size": {"shortest_edge": 32}, "do_center_crop": False},
    ),
    "clip": (
        {"vision_config": _PATCHES, "text_config": {**_TEXT, "eos_token_id": 2}},
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
    ),
    "siglip": (
        {"vision_config": _PATCHES, "text_config": _TEXT},
        "SiglipImageProcessorPil",
        {"size": {"height": 32, "width": 32}},
    ),
    "resnet": (_RESNET, "ConvNextImageProcessorPil", {"size": {"shortest_edge": 32}}),
}


@pytest.fixture(scope="module", params=MODELS)
def backbone(request, tmp_path_factory):
    import transformers

    settings, processor, sizes = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(
            transformers.AutoConfig.for_model(request.param, **settings)
        ).save_pretrained(folder)
    getattr(transformers, processor)(**sizes).save_pretrained(folder)
    return request.param, str(folder)


def test_maps_are_the_models_own(backbone):
    from transformers import AutoImageProcessor, AutoModel

    kind, folder = backbone
    maps = PretrainedBackbone(folder)(photos())
    model, processor = AutoModel.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)
    model = getattr(model, "vision_model", model)
    resized = [np.asarray(image.resize((32, 32), 3), np.float32) / 255 for image in photos()]
    values = (np.stack(resized) - np.array(processor.image_mean)) / np.array(processor.image_std)
    with torch.no_grad():
        hidden = model(pixel_values=torch.tensor(values).permute(0, 3, 1, 2).float()).last_hidden_state
    if kind == "resnet":
        expected = hidden
    else:
        assert hidden.shape[1] == 16 + {"siglip": 0, "clip": 1, "dinov2": 1, "dinov2_with_registers": 5}[kind]
        expected = hidden[:, -16:].transpose(1, 2).reshape(5, 16, 4, 4)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-5)
    assert maps.std(0).max() > 0


def test_regions_do_not_depend_on_the_batch(backbone, detector):
    extractor = RegionExtractor(detector("rt_detr"), backbone=backbone[1], regions=4)
    together = extractor(photos())
    other = pickle.loads(pickle.dumps(extractor))
    for place, image in enumerate(photos()):
        torch.testing.assert_close(other([image]).features[0], together.features[place], atol=1e-5, rtol=1e-5)
    assert RegionExtractor(None, backbone=backbone[1], regions=9)(photos()).features.shape[:2] == (5, 9)


def test_stages(backbone):
    kind, folder = backbone
    maps = PretrainedBackbone(folder, stage=-2)(photos()[:1])
    assert maps.shape == ((1, 8, 8, 8) if kind == "resnet" else (1, 16, 4, 4))
    if kind in ("resnet", "dinov2"):
        assert PretrainedBackbone(folder, image_size=64)(photos()[:1]).shape[-1] == 8
    with pytest.raises(ValueError, match="stage 9, of 3 hidden states"):
        PretrainedBackbone(folder, stage=9)(photos()[:1])


def test_what_is_not_there():
    with pytest.raises(FileNotFoundError, match="backbone 'gone'"):
        PretrainedBackbone("gone")(photos())
