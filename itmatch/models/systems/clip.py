"""CLIP and SigLIP, as compositions of blocks.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; Zhai et al.,
"Sigmoid Loss for Language Image Pre-Training", ICCV 2023.
"""

from __future__ import annotations

from pathlib import Path

from itmatch.data import HuggingFaceTokenizer, PhotoPatches
from itmatch.formats.files import read_json
from itmatch.models.folders import model_file
from itmatch.models.matching import MatchingModel
from itmatch.nn import ClipImageEncoder, ClipTextEncoder, CosineSimilarity, Lora, Similarity


def clip_dual_encoder(
    model_name: str | Path = "openai/clip-vit-base-patch32",
    similarity: Similarity | None = None,
    *,
    trainable: bool = True,
    lora: Lora | None = None,
) -> MatchingModel:
    """Both towers of a pretrained CLIP or SigLIP; it takes photos, prepared as the model's own processor does.

    Args:
        model_name: name on the Hugging Face hub, or a local folder with the model and its tokenizer.
        similarity: by default the cosine of the two embeddings, as published. ``HardAligningSimilarity(pooling=
            MeanPooling())`` matches tokens with patches instead.
        trainable: False freezes both towers.
        lora: train small updates of the weights of both towers, and not these weights.
    """
    name = str(model_name)
    return MatchingModel(
        image_encoder=ClipImageEncoder(name, trainable=trainable, lora=lora),
        text_encoder=ClipTextEncoder(name, trainable=trainable, lora=lora),
        similarity=CosineSimilarity() if similarity is None else similarity,
        tokenizer=HuggingFaceTokenizer(name, max_length=None),
        extractor=PhotoPatches(name),
    )


def is_clip_model(model_name: str | Path) -> bool:
    """Whether a folder, or a name on the Hugging Face hub, holds a CLIP or SigLIP of ``transformers``.

    Raises:
        FileNotFoundError: the folder has no ``config.json``.
    """
    return read_json(model_file(str(model_name), "config.json", {})).get("model_type") in ("clip", "siglip", "siglip2")
