"""The card of a saved model: what it is made of, how it is used, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from itmatch._version import __version__

if TYPE_CHECKING:
    from itmatch.models.matching import MatchingModel

CARD = """---
{{ card_data }}
---

# An image-text matching model

It gives a score to every pair of an image and a caption: the higher, the better they fit.

```python
from itmatch import MatchingModel

model = MatchingModel.from_pretrained("this folder, or its name on the Hugging Face hub")
scores = model.score({{ images }}, {{ captions }})  # (I, T)
```
{% if given %}
{{ given }}
{% endif %}
## Parts

{{ parameters }} parameters. Written by itmatch {{ version }}.

```yaml
{{ settings }}
```
{% if data %}
## Data

{{ data }}
{% endif %}{% if figures %}
## Figures

{{ figures }}
{% endif %}
## Limits

{{ limits }}
"""
TAGS = ["image-text-matching", "cross-modal-retrieval"]
LONGEST = 20  # items of a list that are shown


def card_fields(model: MatchingModel, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What stands in the card of a model; ``told`` wins, and may have ``data`` and ``figures``."""
    photos, (images, given) = model.takes_photos, _images(model)
    words = getattr(getattr(model.tokenizer, "vocabulary", None), "words", None)
    same_features = "It reads features of regions made as those of its training; scores of others mean nothing."
    limits = [
        "A score says which pair fits better, not whether one fits: every caption has a best image.",
        "What the training data never showed, or showed one-sidedly, the model has not learned otherwise.",
        "It reads photos as its extractor makes regions of them." if photos else same_features,
    ]
    if words and model.tokenizer is not None:
        count = len(words) - len({*model.tokenizer.special_ids, model.tokenizer.unknown_id} - {None})
        limits += [f"It knows {count} words; all others are one and the same to it."]
    if model.tokenizer is None:
        given = f"{given} `captions` are `itmatch.Captions`: token ids, since no tokenizer was saved.".strip()
    return {
        "version": __version__,
        "images": images,
        "given": given,
        "captions": "captions" if model.tokenizer is None else '["a red dog", "two cats"]',
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "settings": yaml.safe_dump(_shortened(model.spec), sort_keys=False, allow_unicode=True).strip(),
        "limits": "\n".join(f"- {limit}" for limit in limits),
        **(told or {}),
    }


def _images(model: MatchingModel) -> tuple[str, str]:
    """What stands for images in the code, and what that is."""
    if model.takes_photos:
        return '["a.jpg", "b.jpg"]', ""
    encoder = model.image_encoder
    features = f"(I, R, {getattr(encoder, 'in_features', 'F')}), those of R regions of each of I images"
    parts = ["labels"] if getattr(encoder, "labels", None) is not None else []
    parts += ["boxes", "graph"] if getattr(encoder, "relations", None) else []
    if not parts:
        return "features", f"`features` are {features}."
    beside = " and ".join(f"`{part}`" for part in parts).replace(" and ", ", ", len(parts) - 2)
    return (
        "regions",
        f"`regions` are `itmatch.Regions`: features {features}, with {beside} as far as its parts read them.",
    )


def _shortened(value: Any) -> Any:
    """Plain data without the long lists in it, such as a vocabulary."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return f"{len(value)} items" if len(value) > LONGEST else [_shortened(item) for item in value]
    return value
