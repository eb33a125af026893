import json

import numpy as np
import pytest
import torch
from helpers_detectors import photos
from helpers_prompted import CLASSES, PROMPTED

from itmatch.ops.roi import roi_features
from itmatch.spec import build
from itmatch.vision import RegionExtractor
from itmatch.vision.prompted import COCO_CLASSES, load_detector


def outputs(folder, pixels):
    """What the model itself says of the pixels of one photo, by the classes of transformers alone."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor, AutoTokenizer

    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    if "owl" in model.config.model_type:
        options = {"padding": "max_length", "max_length": 16, "return_tensors": "pt"}
        text = AutoTokenizer.from_pretrained(folder)(CLASSES, **options)
    else:
        processor = AutoProcessor.from_pretrained(folder)
        text = processor(text=[CLASSES], images=[np.zeros((64, 64, 3), np.uint8)], return_tensors="pt")
        text = {key: value for key, value in text.items() if not key.startswith("pixel")}
    with torch.no_grad():
        return model(pixel_values=pixels, **text)


def scores_of(family, said):
    """(Q, classes)."""
    scores = said.logits[0].sigmoid()
    if family.startswith("owl"):
        return scores
    tokens = [[1], [3, 4], [6], [8, 9]]  # [CLS] dog . traffic light . cat . red ball . [SEP]
    return torch.stack([scores[:, places].mean(1) for places in tokens], 1)


@pytest.mark.parametrize("family", PROMPTED)
def test_features_are_the_hidden_states_of_the_best_queries(detector, family):
    image = photos()[1]
    model = load_detector(detector(family), "cpu", CLASSES)
    found = model([image], most=5)[0]
    said = outputs(detector(family), model.prepared(image)["pixel_values"])
    hidden = said.image_embeds.flatten(1, 2) if family.startswith("owl") else said.last_hidden_state
    torch.testing.assert_close(found.features, hidden[0, found.places])
    scores = scores_of(family, said)
    best = sorted(scores.max(-1).values.tolist(), reverse=True)[:5]
    assert found.scores.tolist() == pytest.approx(best, abs=1e-6)
    torch.testing.assert_close(found.labels, scores[found.places].argmax(-1))
    x, y, width, height = said.pred_boxes[0, found.places].unbind(-1)
    corners = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), -1)
    if family == "owlv2":  # 40 x 60, padded at the right
        corners = corners * torch.tensor([60 / 40, 1, 60 / 40, 1])
    torch.testing.assert_close(found.boxes, corners.clamp(0, 1))
    assert len({tuple(row) for row in found.features.tolist()}) > 1  # the queries differ


def test_the_own_backbone_of_a_padded_square(detector):
    image = photos()[1]  # 40 x 60: of the square, two thirds
    found = RegionExtractor(detector("owlv2"), backbone="detector", classes=CLASSES, regions=5)([image])
    pixels = load_detector(detector("owlv2"), "cpu", CLASSES).prepared(image)["pixel_values"]
    maps = outputs(detector("owlv2"), pixels).image_embeds.permute(0, 3, 1, 2)
    in_square = found.boxes * torch.tensor([40 / 60, 1, 40 / 60, 1])
    torch.testing.assert_close(found.features, roi_features(maps, in_square), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", PROMPTED)
@pytest.mark.parametrize("backbone", [None, "detector"])
def test_a_photo_gives_the_same_whatever_comes_with_it(detector, family, backbone):
    options = {"backbone": backbone, "classes": CLASSES, "regions": 6, "device": "cpu"}
    extractor = RegionExtractor(detector(family), **options)
    together = extractor(photos())
    for place, image in enumerate(photos()):
        alone = extractor([image])
        assert together.labels[place].tolist() == alone.labels[0].tolist()
        for name in ("features", "boxes", "scores"):
            torch.testing.assert_close(getattr(together, name)[place], getattr(alone, name)[0], atol=1e-5, rtol=1e-5)
    assert together.boxes.min() >= 0
    assert together.boxes.max() <= 1
    assert (together.scores.diff(dim=1) <= 0).all()
    assert extractor.label_names == CLASSES


def test_a_padded_square_is_padded_below_and_normalised_as_the_processor_has_it(detector):
    from PIL import Image

    pixels = load_detector(detector("owlv2"), "cpu", CLASSES).prepared(Image.new("RGB", (80, 40), (255, 0, 0)))
    values = pixels["pixel_values"]
    assert values.shape == (1, 3, 64, 64)
    red = (torch.tensor([1.0, 0, 0]) - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    torch.testing.assert_close(values[0, :, 10, 60], red)
    assert values[0, 0, 50, 60] < 0  # below the photo there is no red


def test_a_padded_square_is_that_of_the_processor(detector):
    from PIL import Image
    from transformers import AutoImageProcessor

    pytest.importorskip("scipy", reason="the processor of OWLv2 needs scipy")
    steps = np.linspace(0, 255, 180)[None, :, None] * np.ones((120, 1, 3))
    image = Image.fromarray(steps.astype(np.uint8))
    ours = load_detector(detector("owlv2"), "cpu", CLASSES).prepared(image)["pixel_values"]
    theirs = AutoImageProcessor.from_pretrained(detector("owlv2"))(images=[image], return_tensors="pt")
    assert (ours - theirs["pixel_values"])[:, :, :40, :62].abs().max() < 0.05


def test_classes_are_recorded(detector):
    extractor = RegionExtractor(detector("owlvit"), classes=tuple(CLASSES), regions=3)
    assert json.loads(json.dumps(extractor.spec))["init_args"]["classes"] == CLASSES
    other = build(extractor.spec, RegionExtractor)
    torch.testing.assert_close(other(photos()).features, extractor(photos()).features)


def test_without_classes_those_of_coco(detector):
    assert len(set(COCO_CLASSES)) == 80
    assert RegionExtractor(detector("owlvit")).label_names == list(COCO_CLASSES)


@pytest.mark.parametrize(
    ("family", "classes", "message"),
    [
        ("grounding-dino", ["dog", "cat. red"], r"class 'cat\. red', expected a name without full stops"),
        (
            "grounding-dino",
            ["dog"] + [f"{'red ' * number}cat" for number in range(1, 8)],
            "46 tokens for 8 classes",
        ),
        ("grounding-dino", ["dog", "\u200b"], r"class '.*' has no tokens"),
        ("owlvit", ["dog", "very long name of a dog"], "class 'very long name of a dog' has .* tokens, at most 16"),
    ],
)
def test_classes_that_are_no_good(detector, family, classes, message):
    with pytest.raises(ValueError, match=f"detector '.*': {message}"):
        RegionExtractor(detector(family), classes=classes).load()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes: none, expected"),
        ("dog", "classes: 'dog', expected a list"),
        (["dog", " "], "classes: ' ' at 1"),
        (["dog", "cat", "dog"], "classes: 'dog' at 2, expected names that are there once"),
        ([3], "classes: 3 at 0"),
    ],
)
def test_no_classes(classes, message):
    with pytest.raises(ValueError, match=message):
        RegionExtractor("x", classes=classes)


def test_a_detector_with_classes_of_its_own(detector):
    with pytest.raises(ValueError, match="a detr, which has classes of its own; those that are told: owlvit, owlv2, g"):
        RegionExtractor(detector("detr"), classes=CLASSES)(photos())
    with pytest.raises(ValueError, match="no detector, expected one"):
        RegionExtractor(None, backbone="x", classes=CLASSES)
