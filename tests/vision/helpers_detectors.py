"""Detectors of many families with random weights, a few thousand each, saved as ``from_pretrained`` reads them."""

import functools

import pytest
import torch

_OUT = {"out_features": ["stage2", "stage3", "stage4"]}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
_NO_TIMM = {"use_timm_backbone": False, "use_pretrained_backbone": False}
_PLAIN = {"model_type": "resnet", **_RESNET}
_LAYERS = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 12,
}
_DETR = {**_LAYERS, **_NO_TIMM, "backbone_config": {**_PLAIN, "out_features": ["stage4"]}}
_REAL_TIME = {
    **_LAYERS,
    "encoder_hidden_dim": 16,
    "num_denoising": 0,
    "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [16] * 3,
    "backbone_config": {"model_type": "rt_detr_resnet", **_RESNET, **_OUT},
}
_HGNET = {
    "model_type": "hgnet_v2",
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 16],
    "stage_mid_channels": [8] * 4,
    "stage_out_channels": [8, 16, 16, 32],
    "stage_num_blocks": [1] * 4,
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False] * 4,
    "stage_kernel_size": [3] * 4,
    "stage_numb_of_layers": [1] * 4,
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1] * 4,
    **_OUT,
}
_FINE = {
    **_REAL_TIME,
    "hidden_size": 16,
    "backbone_config": _HGNET,
    "encoder_in_channels": [16, 16, 32],
    "max_num_bins": 4,
}
_YOLOS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": [64, 96],
    "patch_size": 16,
    "num_detection_tokens": 12,
    "use_mid_position_embeddings": False,
}
_LIGHT = {
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_ffn_dim": 32,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "num_queries": 12,
    "group_detr": 1,
}
_WINDOWS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "out_features": ["stage1", "stage2"],
}
_LW = {
    **_LIGHT,
    "projector_scale_factors": [1.0],
    "backbone_config": {"model_type": "lw_detr_vit", **_WINDOWS, "pretrain_image_size": 64, "num_windows": 4},
}
_RF = {
    **_LIGHT,
    "backbone_config": {"model_type": "rf_detr_dinov2", **_WINDOWS, "patch_size": 16, "num_windows": 2},
}
_EDGES, _SQUARE = {"shortest_edge": 64, "longest_edge": 96}, {"height": 64, "width": 64}
FAMILIES = {  # model type: settings, the processor that its checkpoints come with, and its size
    "detr": (_DETR, "DetrImageProcessorPil", _EDGES),
    "table-transformer": (_DETR, "DetrImageProcessorPil", _EDGES),
    "conditional_detr": (_DETR, "ConditionalDetrImageProcessorPil", _EDGES),
    "dab-detr": ({**_DETR, "hidden_size": 16}, "ConditionalDetrImageProcessorPil", _EDGES),
    "deformable_detr": (
        {**_DETR, "d_model": 32, "num_feature_levels": 3, "backbone_config": {**_PLAIN, **_OUT}},
        "DeformableDetrImageProcessorPil",
        _EDGES,
    ),
    "rt_detr": (_REAL_TIME, "RTDetrImageProcessorPil", _SQUARE),
    "rt_detr_v2": (_REAL_TIME, "RTDetrImageProcessorPil", _SQUARE),
    "d_fine": (_FINE, "RTDetrImageProcessorPil", _SQUARE),
    "deimv2": (_FINE, "RTDetrImageProcessorPil", _SQUARE),
    "yolos": (_YOLOS, "YolosImageProcessorPil", _EDGES),
    "lw_detr": (_LW, "DeformableDetrImageProcessorPil", _SQUARE),
    "rf_detr": (_RF, "RfDetrImageProcessor", _SQUARE),  # it comes with torchvision alone
}


def save_detector(family, folder, seed=0):
    """Write a detector of five classes and its processor into a folder; returns its path."""
    import transformers

    settings, processor, size = FAMILIES[family]
    if processor == "RfDetrImageProcessor":
        pytest.importorskip("torchvision", reason="the processor of RF-DETR is in torchvision alone")
    names = {0: "dog", 1: "cat", 2: "ball", 3: "tree", 4: "car"}
    config = transformers.AutoConfig.for_model(family, id2label=names, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForObjectDetection.from_config(config)
        for value in model.parameters():  # as they begin, all queries say nearly the same
            value.data += (0.05 if settings is _FINE else 0.3) * torch.randn_like(value)
    model.save_pretrained(folder)
    getattr(transformers, processor)(size=size).save_pretrained(folder)
    return str(folder)


@functools.cache
def photos():
    """Five images, of three sizes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    sizes = [(60, 40), (40, 60), (60, 40), (33, 70), (60, 40)]
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]
