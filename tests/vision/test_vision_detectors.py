import numpy as np
import pytest
import torch
from helpers_detectors import FAMILIES, photos

from itmatch.errors import NonFiniteError
from itmatch.ops.roi import roi_features
from itmatch.vision import RegionExtractor
from itmatch.vision.detectors import Detector, best_queries, class_scores, in_photo, processed


def outputs(folder, image):
    """What the model itself says of one photo, by the classes of transformers alone."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    values = AutoImageProcessor.from_pretrained(folder)(images=[np.asarray(image)], return_tensors="pt")
    with torch.no_grad():
        return model(pixel_values=values["pixel_values"])


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_the_hidden_states_of_the_best_queries(detector, family):
    image = photos()[1]
    found = Detector(detector(family), "cpu")([image], most=5)[0]
    said = outputs(detector(family), image)
    queries = FAMILIES[family][0].get("num_queries", 12)
    torch.testing.assert_close(found.features, said.last_hidden_state[0, -queries:][found.places])
    softmax = said.logits.shape[-1] == 6
    scores = said.logits[0].softmax(-1)[:, :5] if softmax else said.logits[0].sigmoid()
    assert softmax == (family in ("detr", "table-transformer", "yolos"))
    best = sorted(scores.max(-1).values.tolist(), reverse=True)[:5]
    assert found.scores.tolist() == pytest.approx(best, abs=1e-6)
    torch.testing.assert_close(found.labels, scores[found.places].argmax(-1))
    x, y, width, height = said.pred_boxes[0, found.places].unbind(-1)
    corners = torch.stack((x - width / 2, y - height / 2, x + width / 2, y + height / 2), -1)
    torch.testing.assert_close(found.boxes, corners.clamp(0, 1))
    assert len({tuple(row) for row in found.features.tolist()}) > 1  # the queries differ


def own_map(folder, family, image):
    """The last map of the model's backbone, (1, C, H, W), from where the family keeps it."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    values = AutoImageProcessor.from_pretrained(folder)(images=[np.asarray(image)], return_tensors="pt")
    pixels, mask = values["pixel_values"], torch.ones(1, *values["pixel_values"].shape[-2:])
    with torch.no_grad():
        if family == "yolos":
            height, width = pixels.shape[2] // 16, pixels.shape[3] // 16
            return model(pixels).last_hidden_state[:, 1:-12].transpose(1, 2).reshape(1, 16, height, width)
        if family == "deimv2":
            return model.model.conv_encoder(pixels)[-1]
        backbone = model.model.backbone
        maps = getattr(backbone, "conv_encoder", backbone)(pixels, mask)
        return maps[0] if family == "rf_detr" else maps[-1][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_detectors_own_backbone_under_its_boxes(detector, family):
    image = photos()[1]
    found = RegionExtractor(detector(family), backbone="detector", regions=5, device="cpu")([image])
    alone = RegionExtractor(detector(family), regions=5, device="cpu")([image])
    torch.testing.assert_close(found.boxes, alone.boxes)
    assert found.labels.tolist() == alone.labels.tolist()
    maps = own_map(detector(family), family, image)
    assert maps.std() > 0
    torch.testing.assert_close(found.features, roi_features(maps, found.boxes), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_photo_gives_the_same_whatever_comes_with_it(detector, family):
    extractor = RegionExtractor(detector(family), regions=8, device="cpu")
    together = extractor(photos())
    for place, image in enumerate(photos()):
        alone = extractor([image])
        assert together.labels[place].tolist() == alone.labels[0].tolist()
        for name in ("features", "boxes", "scores"):
            torch.testing.assert_close(getattr(together, name)[place], getattr(alone, name)[0], atol=1e-5, rtol=1e-5)
    assert together.boxes.min() >= 0
    assert together.boxes.max() <= 1
    assert (together.boxes[..., 2:] >= together.boxes[..., :2]).all()
    assert (together.scores.diff(dim=1) <= 0).all()
    assert together.sizes.tolist() == [list(image.size) for image in photos()]
    assert extractor.label_names == ["dog", "cat", "ball", "tree", "car"]


def test_fewer_queries_than_regions(detector):
    found = RegionExtractor(detector("detr"), regions=36)(photos()[:2])
    assert found.features.shape == (2, 12, 16)
    assert found.mask.all()


def test_unsure_regions_are_left_out_but_for_one(detector):
    everything = RegionExtractor(detector("detr"), regions=12)(photos())
    bound = everything.scores.flatten().median().item()
    found = RegionExtractor(detector("detr"), regions=12, min_score=bound)(photos())
    assert found.mask.sum(1).tolist() == (everything.scores >= bound).sum(1).clamp(min=1).tolist()
    assert (found.labels[~found.mask] == -1).all()
    assert RegionExtractor(detector("detr"), min_score=1.0)(photos()).mask.tolist() == [[True]] * 5


def test_a_photo_three_pixels_high(detector):
    from PIL import Image

    assert len(RegionExtractor(detector("rt_detr"))([Image.new("RGB", (30, 3)), Image.new("RGB", (1, 1))])) == 2


def test_a_photo_that_cannot_be_prepared():
    from PIL import Image

    with pytest.raises(ValueError, match=r"a photo of 9 x 1 pixels cannot be prepared \(no\)"):
        processed(lambda **_: (_ for _ in ()).throw(RuntimeError("no\nmore")), Image.new("RGB", (9, 1)))


def test_scores_of_another_number_of_classes():
    with pytest.raises(ValueError, match="detector 'x': 9 logits for 5 labels, expected as many or one more"):
        class_scores(torch.zeros(1, 2, 9), 5, "x")


def test_boxes_of_a_padded_square():
    boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]])
    assert in_photo(boxes, (40, 20), True).tolist() == [[0, 0, 0.5, 1], [0.5, 1, 1, 1]]


@pytest.mark.parametrize("place", range(3))
def test_numbers_that_are_none_are_told_of(place):
    values = [torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 5)]
    values[place][1] = torch.nan
    with pytest.raises(NonFiniteError, match=r"x: NaN or inf among the (features|boxes|scores)"):
        best_queries(*values, 2, "x")


def test_of_equal_scores_the_first_query_comes_first():
    scores = torch.tensor([[0.1], [0.5], [0.5], [0.2]])
    found = best_queries(torch.zeros(4, 1), torch.zeros(4, 4), scores, 3, "x")
    assert found.places.tolist() == [1, 2, 3]
