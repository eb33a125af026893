"""Detectors that are told their classes, with random weights, saved as ``from_pretrained`` reads them."""

import string

import torch
from helpers_detectors import _EDGES, _LAYERS, _OUT, _PLAIN

CLASSES = ["dog", "traffic light", "cat", "red ball"]
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_OWL = {
    "text_config": {**_VIT, "vocab_size": 60, "max_position_embeddings": 16},
    "vision_config": {**_VIT, "image_size": 64, "patch_size": 16},
    "projection_dim": 16,
}
_GROUNDED = {
    **_LAYERS,
    "d_model": 32,  # its group norms have 32 groups
    "backbone_config": {**_PLAIN, **_OUT},
    "text_config": {**_VIT, "model_type": "bert", "vocab_size": 1040, "max_position_embeddings": 64},
    "max_text_len": 32,
    "num_feature_levels": 3,
    "disable_custom_kernels": True,
}
_SQUARE = {"height": 64, "width": 64}
PROMPTED = {
    "owlvit": (_OWL, "OwlViTImageProcessorPil", _SQUARE),
    "owlv2": (_OWL, "Owlv2ImageProcessorPil", _SQUARE),
    "grounding-dino": (_GROUNDED, "GroundingDinoImageProcessorPil", _EDGES),
    "mm-grounding-dino": (_GROUNDED, "GroundingDinoImageProcessorPil", _EDGES),
}


def save_prompted(family, folder, seed=0):
    """Write a detector, its processor and its tokenizer into a folder; returns its path."""
    import transformers

    settings, processor, size = PROMPTED[family]
    config = transformers.AutoConfig.for_model(family, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForZeroShotObjectDetection.from_config(config)
        for value in model.parameters():
            value.data += (0.3 if settings is _OWL else 0.1) * torch.randn_like(value)
    model.save_pretrained(folder)
    getattr(transformers, processor)(size=size).save_pretrained(folder)
    (_letters if family.startswith("owl") else _words)().save_pretrained(folder)
    return str(folder)


def _letters():
    """A CLIP tokenizer whose words are letters; id 0 is padding, as the models expect."""
    from transformers import CLIPTokenizer

    letters = [*string.ascii_lowercase, *(f"{one}</w>" for one in string.ascii_lowercase)]
    names = ["!", *letters, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({name: number for number, name in enumerate(names)}, [], pad_token="!")


def _words():
    """A BERT tokenizer with the special tokens where Grounding DINO looks for them."""
    from transformers import BertTokenizer

    names = [f"[unused{number}]" for number in range(1040)]
    known = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    words = ["dog", "traffic", "light", "cat", "red", "ball", "##s"]
    for number, name in (known | dict(enumerate(words, 200))).items():
        names[number] = name
    return BertTokenizer({name: number for number, name in enumerate(names)})
