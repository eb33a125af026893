"""Detectors that look for classes that they are told by name: OWL-ViT, OWLv2, Grounding DINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from itmatch.formats.hub.models import load_pretrained
from itmatch.formats.messages import shown
from itmatch.formats.photos import image_module
from itmatch.vision.backbones import Pixels
from itmatch.vision.detectors import Detector, Seen

_COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, "
    "sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, "
    "refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
COCO_CLASSES = tuple(_COCO.split(", "))
"""What a detector looks for that nobody told any classes: the 80 of COCO."""


class PatchDetector(Detector):
    """OWL-ViT: a query is a patch of the photo, and its score is how near it is to the name of a class.

    The feature of a query is what class and box are read from. The names are encoded once.

    Args:
        name: of the Hugging Face hub, or a folder.
        device: where the model is.
        classes: what to look for.
    """

    auto_class = "AutoModelForZeroShotObjectDetection"

    def __init__(self, name: str, device: str, classes: Sequence[str]) -> None:
        super().__init__(name, device)
        self.label_names = list(classes)
        self.words = self._words()  # (classes, D)

    @torch.no_grad()
    def _words(self) -> Tensor:
        tokenizer = load_pretrained("AutoTokenizer", self.name, "tokenizer of the detector")
        most = self.model.config.text_config.max_position_embeddings
        for one, ids in zip(self.label_names, tokenizer(self.label_names)["input_ids"], strict=True):
            if len(ids) > most:
                raise ValueError(f"detector {self.name!r}: class {shown(one)} has {len(ids)} tokens, at most {most}")
        ids = tokenizer(self.label_names, padding="max_length", max_length=most, return_tensors="pt").to(self.device)
        both = self.model.base_model  # of photos and texts
        hidden = both.text_model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).pooler_output
        return normalize(both.text_projection(hidden), dim=-1)

    def look(self, values: dict[str, Tensor], *, own_maps: bool) -> Seen:
        """What the model says of the inputs of some photos, on its device."""
        maps = self.model.image_embedder(values["pixel_values"])[0]  # (I, H, W, F)
        features = maps.flatten(1, 2)
        logits = self.model.class_predictor(features, self.words.expand(len(maps), -1, -1))[0]
        boxes = self.model.box_predictor(features, maps)
        own = maps.permute(0, 3, 1, 2).float() if own_maps else None
        return Seen(logits.float().sigmoid(), features, boxes, own)


class PaddedPatchDetector(PatchDetector):
    """OWLv2: the same of a photo that is made a square by black below it or at its right.

    Size, mean and deviation are those of the processor, which itself is not called: it needs scipy or torchvision.
    """

    padded_square = True

    def prepared(self, image: Any) -> dict[str, Tensor]:
        """The inputs of one photo."""
        square = image_module().new("RGB", (max(image.size),) * 2)
        square.paste(image)
        return {"pixel_values": Pixels(self.processor, None)(square)[None]}


class GroundedDetector(Detector):
    """Grounding DINO and MM Grounding DINO: all names are one text, with a full stop behind each.

    The score of a class is the mean over its tokens, as the authors have it when they measure on COCO.

    Args:
        name: of the Hugging Face hub, or a folder.
        device: where the model is.
        classes: what to look for; as many as the model's text has room for.

    Source: Liu et al., Grounding DINO, ECCV 2024.
    """

    auto_class = "AutoModelForZeroShotObjectDetection"

    def __init__(self, name: str, device: str, classes: Sequence[str]) -> None:
        super().__init__(name, device)
        self.label_names = list(classes)
        tokenizer = load_pretrained("AutoTokenizer", name, "tokenizer of the detector")
        text = "".join(f"{one.strip().lower()}. " for one in classes).strip()
        self.text = dict(tokenizer(text, return_tensors="pt", return_token_type_ids=True).to(device))
        self.tokens = self._tokens(tokenizer).to(device)

    def _tokens(self, tokenizer: Any) -> Tensor:
        """(classes, L): the share of each token in the name of a class."""
        ids = self.text["input_ids"][0].cpu()
        most, classes = self.model.config.max_text_len, len(self.label_names)
        if len(ids) > most:
            raise ValueError(f"detector {self.name!r}: {len(ids)} tokens for {classes} classes, at most {most}")
        stops = ids == tokenizer.convert_tokens_to_ids(".")
        real = ~(stops | torch.isin(ids, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id])))
        whose = stops.cumsum(0)  # a token belongs to the class whose full stop comes next
        if int(stops.sum()) != classes:
            wrong = next((one for one in self.label_names if "." in one), self.label_names[0])
            raise ValueError(f"detector {self.name!r}: class {shown(wrong)}, expected a name without full stops")
        found = ((whose == torch.arange(classes)[:, None]) & real).float()
        for one, count in zip(self.label_names, found.sum(1), strict=True):
            if count == 0:
                raise ValueError(f"detector {self.name!r}: class {shown(one)} has no tokens")
        shares: Tensor = found / found.sum(1, keepdim=True)
        return shares

    def look(self, values: dict[str, Tensor], *, own_maps: bool) -> Seen:
        """What the model says of the inputs of some photos, on its device."""
        count = len(values["pixel_values"])
        text = {key: value.expand(count, -1) for key, value in self.text.items()}
        return super().look({**values, **text}, own_maps=own_maps)

    def class_scores(self, logits: Tensor) -> Tensor:
        """Scores (I, Q, classes) of the logits of tokens (I, Q, L), behind which there may be room."""
        scores: Tensor = logits[..., : self.tokens.shape[1]].sigmoid() @ self.tokens.T
        return scores


_PROMPTED = {
    "owlvit": PatchDetector,
    "owlv2": PaddedPatchDetector,
    "grounding-dino": GroundedDetector,
    "mm-grounding-dino": GroundedDetector,
}


def load_detector(name: str, device: str, classes: Sequence[str] | None = None) -> Detector:
    """A detector with its weights.

    Args:
        name: of the Hugging Face hub, or a folder.
        device: where the model is.
        classes: what to look for, for a detector that is told; None = ``COCO_CLASSES``.

    Raises:
        FileNotFoundError: there is no such model, or a broken one.
        ValueError: classes for a detector that has its own, or too many or too long ones.
    """
    kind = load_pretrained("AutoConfig", name, "detector").model_type
    prompted = _PROMPTED.get(kind)
    if prompted is not None:
        return prompted(name, device, COCO_CLASSES if classes is None else classes)
    if classes is not None:
        able = ", ".join(_PROMPTED)
        raise ValueError(f"detector {name!r}: a {kind}, which has classes of its own; those that are told: {able}")
    return Detector(name, device)
