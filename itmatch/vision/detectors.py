"""Detectors of ``transformers``: the queries of photos, with their features, boxes, classes and scores."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from itmatch.errors import NonFiniteError, PhotoError
from itmatch.formats.hub.models import load_pretrained
from itmatch.formats.messages import reason
from itmatch.ops.roi import roi_features
from itmatch.vision.loading import by_shape, load_model


@dataclass(frozen=True, eq=False)
class Queries:
    """What a detector says of one photo, the surest queries first.

    Args:
        features: (Q, F) last hidden states.
        boxes: (Q, 4) x1 y1 x2 y2, as fractions of the photo.
        labels: (Q,) the class that a query is surest of.
        scores: (Q,) how sure it is, in [0, 1].
        places: (Q,) which query of the model it is.
    """

    features: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    places: Tensor

    def surer(self, least: float) -> Queries:
        """Those with a score of ``least`` or more, and always the first."""
        count = max(1, int((self.scores >= least).sum()))
        return Queries(*(getattr(self, one.name)[:count] for one in fields(self)))


class Seen(NamedTuple):
    """What a model says of a batch: scores (I, Q, classes), features (I, Q, F), boxes (I, Q, 4) as centre and size.

    ``maps`` (I, C, H, W) are those of its backbone, over the whole input; None where nobody asked for them.
    """

    scores: Tensor
    features: Tensor
    boxes: Tensor
    maps: Tensor | None = None


class Detector:
    """A detector with its weights, which answers with its best queries.

    Photos of one size go through the model together, those of another size by themselves. Nothing is padded: a photo
    gives the same numbers whatever photos come with it.

    Args:
        name: of the Hugging Face hub, or a folder.
        device: where the model is.
    """

    auto_class = "AutoModelForObjectDetection"
    padded_square = False  # whether boxes are fractions of a square that the photo is the upper left part of

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.model = load_model(self.auto_class, name, "detector", device)
        self.processor = load_pretrained("AutoImageProcessor", name, "processor of the detector")
        names = self.model.config.id2label
        self.label_names = [str(names.get(label, label)) for label in range(self.model.config.num_labels)]

    @torch.no_grad()
    def __call__(self, images: Sequence[Any], most: int, *, own_maps: bool = False) -> list[Queries]:
        """The best ``most`` queries of each photo; fewer where the model has fewer.

        Args:
            images: RGB images of Pillow.
            most: queries of a photo.
            own_maps: whether the features are those of the model's own backbone under the boxes.
        """
        inputs = [self.prepared(image) for image in images]
        found: dict[int, Queries] = {}
        for places in by_shape([values["pixel_values"] for values in inputs]):
            joined = {key: torch.cat([inputs[place][key] for place in places]) for key in inputs[places[0]]}
            seen = self.look({key: value.to(self.device) for key, value in joined.items()}, own_maps=own_maps)
            for row, place in enumerate(places):
                size, whose = images[place].size, f"detector {self.name!r}"
                boxes = in_photo(seen.boxes[row], size, self.padded_square)
                found[place] = best_queries(seen.features[row], boxes, seen.scores[row], most, whose)
                if seen.maps is not None:
                    found[place] = self._under_boxes(found[place], seen.maps[row], size)
        return [found[place] for place in range(len(images))]

    def prepared(self, image: Any) -> dict[str, Tensor]:
        """The inputs of one photo, unpadded."""
        values = processed(self.processor, image, do_pad=False)
        taken = inspect.signature(self.model.forward).parameters
        return {key: value for key, value in values.items() if key in ("pixel_values", "pixel_mask") and key in taken}

    def look(self, values: dict[str, Tensor], *, own_maps: bool) -> Seen:
        """What the model says of the inputs of some photos, on its device."""
        with _watched(self._backbone() if own_maps else None) as maps:
            output = self.model(**values)
        hidden, count = output.last_hidden_state, output.logits.shape[1]
        if own_maps and not maps:  # YOLOS: a class token and the patches come before the queries
            height, width = (side // self.model.config.patch_size for side in values["pixel_values"].shape[-2:])
            maps.append(hidden[:, 1:-count].transpose(1, 2).unflatten(2, (height, width)))
        scores = self.class_scores(output.logits.float())
        return Seen(scores, hidden[:, -count:], output.pred_boxes, maps[-1].float() if maps else None)

    def class_scores(self, logits: Tensor) -> Tensor:
        """Scores (I, Q, classes) of logits (I, Q, C)."""
        return class_scores(logits, len(self.label_names), self.name)

    def _backbone(self) -> torch.nn.Module | None:
        """What makes maps of the photos. All families but YOLOS, which has none, call it a "ConvEncoder"."""
        named = (one for one in self.model.modules() if type(one).__name__.endswith("ConvEncoder"))
        found: torch.nn.Module | None = next(named, None)
        if found is None and self.model.config.model_type != "yolos":
            raise ValueError(f"detector {self.name!r}: no backbone of its own that could be read; name another one")
        return found

    def _under_boxes(self, queries: Queries, maps: Tensor, size: tuple[int, int]) -> Queries:
        share = torch.tensor([*size, *size]) / max(size) if self.padded_square else 1
        features = roi_features(maps[None].cpu(), (queries.boxes * share)[None])[0]
        _check_finite(f"detector {self.name!r}", maps=features)
        return replace(queries, features=features)


@contextmanager
def _watched(module: torch.nn.Module | None) -> Iterator[list[Tensor]]:
    """The maps that a module gives meanwhile are added to the list."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    hook = module.register_forward_hook(lambda _module, _inputs, output: seen.extend(_maps_in(output)))
    try:
        yield seen
    finally:
        hook.remove()


def _maps_in(output: Any) -> list[Tensor]:
    """Maps, beside which there may be masks: (I, H, W)."""
    if isinstance(output, Tensor):
        return [output] if output.ndim == 4 else []
    return [one for part in output for one in _maps_in(part)]


def processed(processor: Any, image: Any, **options: Any) -> dict[str, Tensor]:
    """What a processor makes of one photo.

    Raises:
        PhotoError: it fails, as on a photo of a single row of pixels that would vanish.
    """
    pixels = np.asarray(image)  # (H, W, 3): where the colours are is said, since a photo may be 3 pixels high
    try:
        values = processor(images=[pixels], input_data_format="channels_last", return_tensors="pt", **options)
    except Exception as error:  # each processor has its own ways
        width, height = image.size
        raise PhotoError(f"a photo of {width} x {height} pixels cannot be prepared ({reason(error)})") from error
    return dict(values)


def class_scores(logits: Tensor, num_labels: int, name: str) -> Tensor:
    """Scores of classes from logits (..., C): with one logit more than labels, for "nothing", they share a sum of 1.

    Raises:
        ValueError: another number of logits.
    """
    if logits.shape[-1] == num_labels + 1:
        return logits.softmax(-1)[..., :-1]
    if logits.shape[-1] != num_labels:
        raise ValueError(
            f"detector {name!r}: {logits.shape[-1]} logits for {num_labels} labels, expected as many or one more"
        )
    return logits.sigmoid()


def in_photo(boxes: Tensor, size: tuple[int, int], padded_square: bool = False) -> Tensor:  # noqa: FBT001, FBT002
    """Boxes (Q, 4) of centre and size as corners in [0, 1]; ``size`` is width and height of the photo."""
    centre, half = boxes[:, :2].float(), boxes[:, 2:].float() / 2
    corners = torch.cat((centre - half, centre + half), -1)
    if padded_square:
        corners = corners * (max(size) / corners.new_tensor([*size, *size]))
    return corners.clamp(0, 1)


def best_queries(features: Tensor, boxes: Tensor, scores: Tensor, most: int, name: str) -> Queries:
    """The queries with the best scores (Q, classes); of equal ones the first.

    Raises:
        NonFiniteError: a score, a box or a feature is NaN or infinite.
    """
    best, labels = scores.max(-1)
    _check_finite(name, scores=best, boxes=boxes, features=features)
    places = best.argsort(descending=True, stable=True)[:most]
    return Queries(
        features[places].float().cpu(), boxes[places].cpu(), labels[places].cpu(), best[places].cpu(), places.cpu()
    )


def _check_finite(name: str, **columns: Tensor) -> None:
    for what, values in columns.items():
        if not bool(values.isfinite().all()):
            raise NonFiniteError(f"{name}: NaN or inf among the {what}")
