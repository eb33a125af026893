"""Detectors of ``transformers``: the queries of photos, with their features, boxes, classes and scores."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itmatch.errors import NonFiniteError, PhotoError
from itmatch.formats.messages import reason
from itmatch.vision.loading import by_shape, load_model, load_part


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


class Detector:
    """A detector with its weights, which answers with its best queries.

    Photos of one size go through the model together, those of another size by themselves. Nothing is padded: a photo
    gives the same numbers whatever photos come with it.

    Args:
        name: of the Hugging Face hub, or a folder.
        device: where the model is.
    """

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.model = load_model("AutoModelForObjectDetection", name, "detector", device)
        self.processor = load_part("AutoImageProcessor", name, "processor of the detector")
        names = self.model.config.id2label
        self.label_names = [str(names.get(label, label)) for label in range(self.model.config.num_labels)]

    @torch.no_grad()
    def __call__(self, images: Sequence[Any], most: int) -> list[Queries]:
        """The best ``most`` queries of each photo; fewer where the model has fewer.

        Args:
            images: RGB images of Pillow.
            most: queries of a photo.
        """
        inputs = [self.prepared(image) for image in images]
        found: dict[int, Queries] = {}
        for places in by_shape([values["pixel_values"] for values in inputs]):
            joined = {key: torch.cat([inputs[place][key] for place in places]) for key in inputs[places[0]]}
            output = self.model(**{key: value.to(self.device) for key, value in joined.items()})
            scores, features, boxes = self.answers(output)
            for row, place in enumerate(places):
                whole = in_photo(boxes[row], images[place].size, self.padded_square)
                found[place] = best_queries(features[row], whole, scores[row], most, f"detector {self.name!r}")
        return [found[place] for place in range(len(images))]

    padded_square = False  # whether boxes are fractions of a square that the photo is the upper left part of

    def prepared(self, image: Any) -> dict[str, Tensor]:
        """The inputs of one photo, unpadded."""
        options = {} if self.padded_square else {"do_pad": False}
        values = processed(self.processor, image, **options)
        taken = inspect.signature(self.model.forward).parameters
        return {key: value for key, value in values.items() if key in ("pixel_values", "pixel_mask") and key in taken}

    def answers(self, output: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (I, Q, classes), features (I, Q, F), and boxes (I, Q, 4) as centre and size."""
        logits = output.logits.float()
        scores = class_scores(logits, len(self.label_names), self.name)
        return scores, output.last_hidden_state[:, -logits.shape[1] :], output.pred_boxes  # YOLOS: patches come first


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
    for what, values in (("scores", best), ("boxes", boxes), ("features", features)):
        if not bool(values.isfinite().all()):
            raise NonFiniteError(f"{name}: NaN or inf among the {what}")
    places = best.argsort(descending=True, stable=True)[:most]
    return Queries(
        features[places].float().cpu(), boxes[places].cpu(), labels[places].cpu(), best[places].cpu(), places.cpu()
    )
