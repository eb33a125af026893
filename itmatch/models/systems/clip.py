"""CLIP and SigLIP, as compositions of blocks.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; Zhai et al.,
"Sigmoid Loss for Language Image Pre-Training", ICCV 2023.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from huggingface_hub.errors import EntryNotFoundError

from itmatch.data import HuggingFaceTokenizer, PhotoPatches
from itmatch.extractor import Extractor
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown
from itmatch.models.folders import model_file
from itmatch.models.matching import MatchingModel
from itmatch.models.photos import extractor_of
from itmatch.nn import ClipImageEncoder, ClipTextEncoder, CosineSimilarity, Similarity


def clip_dual_encoder(
    model_name: str | Path = "openai/clip-vit-base-patch32",
    similarity: Similarity | None = None,
    *,
    trainable: bool = True,
) -> MatchingModel:
    """Both towers of a pretrained CLIP or SigLIP; it takes photos, prepared as the model's own processor does.

    Args:
        model_name: name on the Hugging Face hub, or a local folder with the model and its tokenizer.
        similarity: by default the cosine of the two embeddings, as published. ``HardAligningSimilarity(pooling=
            MeanPooling())`` matches tokens with patches instead.
        trainable: False freezes both towers.
    """
    padding = HuggingFaceTokenizer(str(model_name)).pad_id
    text = ClipTextEncoder(model_name, trainable=trainable, pad_id=padding)
    image = ClipImageEncoder(model_name, trainable=trainable)
    return MatchingModel(
        image_encoder=image,
        text_encoder=text,
        similarity=CosineSimilarity() if similarity is None else similarity,
        tokenizer=HuggingFaceTokenizer(str(model_name), text.config.text_config.max_position_embeddings),
        extractor=patches_of_processor(str(model_name), extractor_of(image, None)),
    )


def patches_of_processor(model_name: str, usual: Extractor) -> Extractor:
    """How the processor of a CLIP or SigLIP prepares photos.

    Args:
        model_name: name on the Hugging Face hub, or a local folder.
        usual: what is done where the model comes without a processor, or its processor does not say.

    Raises:
        ValueError: it makes images of another size than the model reads, or does something that is not done here.
    """
    assert isinstance(usual, PhotoPatches)
    try:
        path = model_file(model_name, "preprocessor_config.json", {})
    except (EntryNotFoundError, FileNotFoundError):
        return usual
    found = read_json(path)
    cropped = bool(found.get("do_center_crop", usual.fit == "crop"))
    sizes = {name: side for name in ("crop_size", "size") if (side := _side(found.get(name), f"{path}: {name}"))}
    if not cropped:
        sizes.pop("crop_size", None)
    other = next((name for name, side in sizes.items() if side != usual.image_size), None)
    if other is not None:
        raise ValueError(f"{path}: {other} is {sizes[other]} pixels, expected {usual.image_size}, as the model reads")
    colours = usual.spec["init_args"]
    mean, std = (found.get(f"image_{name}", colours[name]) for name in ("mean", "std"))
    if found.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    try:
        fit: Literal["crop", "stretch"] = "crop" if cropped else "stretch"
        return PhotoPatches(usual.image_size, usual.patch_size, fit=fit, mean=mean, std=std)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _side(size: Any, where: str) -> int | None:
    """Pixels of a side, or None where it is not said."""
    sides = set(size.values()) if isinstance(size, dict) else {size}
    if len(sides) != 1 or not isinstance(size, (dict, int, type(None))):
        raise ValueError(f"{where} is {shown(size)}, expected a square")
    return None if size is None else int(sides.pop())


def is_dual_encoder(model_name: str | Path) -> bool:
    """Whether a folder, or a name on the Hugging Face hub, holds a CLIP or SigLIP of ``transformers``.

    Raises:
        FileNotFoundError: the folder has no ``config.json``.
    """
    return read_json(model_file(str(model_name), "config.json", {})).get("model_type") in ("clip", "siglip")
