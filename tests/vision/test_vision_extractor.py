import json
import pickle
from pathlib import Path

import pytest
import torch
from helpers_detectors import photos

from itmatch.data import PhotoPatches
from itmatch.spec import build
from itmatch.vision import Backbone, PhotoRegions, PretrainedBackbone, RegionExtractor
from itmatch.vision.relations import BOX_PREDICATES


class Colours(Backbone):
    """Maps of 2 x 3 places: the mean colours of the parts of a photo."""

    def __init__(self, bands: int = 3) -> None:
        self.bands = bands

    def __call__(self, images):
        maps = [torch.tensor(list(image.resize((3, 2)).get_flattened_data())).view(2, 3, 3) for image in images]
        return torch.stack(maps).permute(0, 3, 1, 2)[:, : self.bands].float()


def test_a_grid_of_the_backbone(tmp_path):
    found = RegionExtractor(None, backbone=Colours(), regions=None)(photos()[:2])
    assert found.features.shape == (2, 6, 3)
    torch.testing.assert_close(found.boxes[0, 4], torch.tensor([1 / 3, 0.5, 2 / 3, 1]))
    assert found.features[1, 4].tolist() == list(photos()[1].resize((3, 2)).getpixel((1, 1)))
    assert found.labels is None
    assert RegionExtractor(None, backbone=Colours(), regions=16)(photos()[:2]).features.shape == (2, 16, 3)


def test_a_detector_with_a_backbone(detector):
    alone = RegionExtractor(detector("d_fine"), regions=4)(photos())
    both = RegionExtractor(detector("d_fine"), backbone=Colours(), regions=4)(photos())
    torch.testing.assert_close(both.boxes, alone.boxes)
    assert both.features.shape == (5, 4, 3)
    assert 0 <= both.features.min() <= both.features.max() <= 255


def test_it_is_recorded_and_pickled_without_its_weights(detector):
    extractor = RegionExtractor(detector("detr"), backbone=Colours(2), regions=3)
    expected = extractor(photos())
    data = pickle.dumps(extractor)
    assert len(data) < 2000
    for other in (pickle.loads(data), build(extractor.spec, RegionExtractor)):
        assert other._detector is None
        torch.testing.assert_close(other(photos()).features, expected.features)
    assert json.dumps(extractor.spec)


def test_weights_are_loaded_once(detector, monkeypatch):
    extractor = RegionExtractor(detector("detr"))
    extractor(photos()[:1])
    monkeypatch.setattr("itmatch.vision.extractor.load_detector", None)
    extractor(photos()[:1])


def test_paths_and_images(detector, tmp_path):
    photos()[0].save(tmp_path / "a.png")
    extractor = RegionExtractor(detector("yolos"))
    torch.testing.assert_close(extractor([tmp_path / "a.png"]).features, extractor(photos()[:1]).features)


def test_relations_of_boxes(detector):
    found = RegionExtractor(detector("detr"), regions=4, relations=3)(photos()[:2])
    assert len(found.graph) == 2
    assert found.graph.edge_index.shape == (2, 24)
    assert found.graph.predicate.max() < len(BOX_PREDICATES)
    assert isinstance(found[0], PhotoRegions)
    assert found[0].sizes.tolist() == [[60, 40]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": None}, "neither a detector nor a backbone"),
        (
            {"detector": None, "backbone": "x", "regions": 5},
            "regions: 5, expected a square number for a grid",
        ),
        ({"regions": 0}, "regions: 0, expected a whole number"),
        ({"regions": None}, "regions: 0, expected a whole number"),
        ({"min_score": 2}, "min_score: 2, expected"),
    ],
)
def test_settings_that_are_no_good(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegionExtractor(**arguments)


def test_repr_shows_the_settings():
    made = RegionExtractor("some/detector", backbone=PretrainedBackbone("b"), regions=9)
    assert repr(made).startswith("RegionExtractor(detector='some/detector', backbone=PretrainedBackbone(name='b', ")
    assert "regions=9" in repr(made)
    shown = repr(PhotoPatches(image_size=32, patch_size=16))
    assert shown.startswith("PhotoPatches(image_size=32, patch_size=16, fit='crop', mean=[0.48")


def test_what_is_not_there_is_told_of(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"detector '.*gone': no such folder here"):
        RegionExtractor(str(tmp_path / "gone"))(photos())
    with pytest.raises(FileNotFoundError, match=r"gone\.png: no such file"):
        RegionExtractor(detector("detr"))([tmp_path / "gone.png"])
    with pytest.raises(ValueError, match="photos: none"):
        RegionExtractor(detector("detr"))([])
    with pytest.raises(ValueError, match=r"backbone: list, expected floats of shape \(5, C, H, W\)"):
        RegionExtractor(None, backbone=lambda images: [], regions=1)(photos())


def test_a_model_runs_no_code_and_unpickles_nothing(detector, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(detector("detr"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForObjectDetection": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    RegionExtractor(str(folder))(photos()[:1])
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"detector .*: the folder holds none"):
        RegionExtractor(str(folder))(photos()[:1])
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_recorded_by_its_whole_path(detector, monkeypatch):
    folder = Path(detector("detr"))
    monkeypatch.chdir(folder.parent)
    made = RegionExtractor(folder.name, backbone=PretrainedBackbone(folder.name))
    assert made.spec["init_args"]["detector"] == str(folder)
    assert made.spec["init_args"]["backbone"]["init_args"]["name"] == str(folder)
    assert RegionExtractor("detector").spec["init_args"]["detector"] == "detector"  # a name of the Hub


def test_one_photo_is_a_list_of_one(detector, tmp_path):
    photos()[0].save(tmp_path / "a.png")
    extractor = RegionExtractor(detector("detr"), regions=4)
    for one in (tmp_path / "a.png", str(tmp_path / "a.png"), photos()[0]):
        torch.testing.assert_close(extractor(one).features, extractor(photos()[:1]).features)


def test_a_device_that_is_not_there_is_one_line(detector):
    for name in ("foo", "cuda:7"):
        with pytest.raises(ValueError, match=f"device: '{name}', which this machine does not have"):
            RegionExtractor(detector("detr"), device=name)(photos()[:1])


@pytest.mark.parametrize(
    "made",
    [
        lambda: RegionExtractor("a", regions=10_001),
        lambda: RegionExtractor(None, backbone="a", regions=30_000**2),
        lambda: PretrainedBackbone("a", image_size=5000),
        lambda: PhotoPatches(image_size=40_000, patch_size=20_000),
    ],
)
def test_no_settings_ask_for_any_amount_of_memory(made):
    with pytest.raises(ValueError, match=r"(regions|image_size): \d+, expected at most (10000|4096)"):
        made()
