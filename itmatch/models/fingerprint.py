"""Whether two models are one: a short text that follows from how a model is built and from its weights."""

from __future__ import annotations

import hashlib
import json

import torch

from itmatch.models.matching import MatchingModel


def fingerprint(model: MatchingModel) -> str:
    """The SHA-256 of a model: of how it is built, its tokenizer and its weights, wherever they lie.

    Its extractor does not enter: it may be set later, and another one leaves the model what it is.

    Example:
        >>> from itmatch.data import Vocabulary
        >>> from itmatch.models import chan_gru
        >>> model = chan_gru(Vocabulary.build([["a", "dog"]], min_count=1), region_dim=4, embed_dim=8)
        >>> len(fingerprint(model)), fingerprint(model) == fingerprint(model)
        (64, True)
    """
    spec = {name: part for name, part in model.spec.items() if name != "extractor"}
    found = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"\0{name} {weight.dtype} {tuple(weight.shape)}\0".encode())
        found.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
