"""The parts of a model by name, and making them of plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from itmatch.data import Tokenizer
from itmatch.extractor import Extractor
from itmatch.models.renames import renamed
from itmatch.nn import ImageEncoder, Similarity, TextEncoder
from itmatch.spec import build

PARTS: dict[str, type] = {
    "image_encoder": ImageEncoder,
    "text_encoder": TextEncoder,
    "similarity": Similarity,
    "tokenizer": Tokenizer,
    "extractor": Extractor,
}
MAY_LACK = ("tokenizer", "extractor")


def in_places(aligned: Tensor, image_encoder: ImageEncoder, text_encoder: TextEncoder) -> Tensor:
    """(R, W) of regions and tokens, from what a similarity says of all fragments.

    Raises:
        NotImplementedError: the fragments of a side stand for no single region or token.
    """
    for encoder in (image_encoder, text_encoder):
        if encoder.offset is None:
            raise NotImplementedError(
                f"{type(encoder).__name__} makes fragments that stand for no single region or word: there is no "
                "alignment of these"
            )
    return aligned[image_encoder.offset :, text_encoder.offset :]


def built_parts(spec: Mapping[str, Any], where: str, trusted_modules: Sequence[str] = ()) -> dict[str, Any]:
    """The parts that a spec describes, with fresh weights.

    Args:
        spec: the parts by name, as plain data.
        where: what it was read from, for error messages.
        trusted_modules: modules whose classes may be used beside those of this library and those imported already.

    Raises:
        ValueError: a part is missing, has another name, or is not admitted (:func:`itmatch.spec.build`).
    """
    missing = [name for name in PARTS if name not in spec and name not in MAY_LACK]
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}; is this an itmatch model?")
    unknown = sorted(set(map(str, spec)) - set(PARTS))
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)[:200]} is no part of a model, expected {', '.join(PARTS)}")
    return {
        name: build(
            renamed(spec.get(name), f"{where}: {name}"), kind, f"{where}: {name}", trusted_modules=trusted_modules
        )
        for name, kind in PARTS.items()
    }
