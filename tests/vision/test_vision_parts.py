import errno
import json
import os

import numpy as np
import pytest
import torch
from helpers_detectors import photos
from PIL import Image

from itmatch.errors import PhotoError
from itmatch.vision import PhotoRegions, RegionExtractor
from itmatch.vision.parts import Plan, extract_parts, read_part
from itmatch.vision.photos import find_photos


class Stand(RegionExtractor):
    """Says the size of a photo; the values are as large as ``large`` where the photo is 40 pixels wide."""

    def __init__(self, large: float = 1.0, refuse: bool = False) -> None:
        super().__init__(None, backbone="none", regions=1)
        self.large, self.refuse = large, refuse

    def load(self) -> None:
        pass

    def __call__(self, images):
        if self.refuse and any(image.size[0] == 33 for image in images):
            raise PhotoError("it is 33 pixels wide")
        values = [[[self.large if image.size[0] == 40 else 1.0, image.size[1]]] for image in images]
        return PhotoRegions(torch.tensor(values), sizes=torch.tensor([image.size for image in images]))


@pytest.fixture
def plan(tmp_path):
    for number, image in enumerate(photos()):
        image.save(tmp_path / f"{number}.png")
    return lambda extractor, **sizes: Plan(tmp_path / "parts", find_photos(tmp_path), extractor, **sizes)


def test_one_photo_of_which_nothing_can_be_made_ends_nothing(plan):
    found, told = plan(Stand(refuse=True), batch_size=3, part_size=5), []
    assert [done for done, _ in extract_parts(found, [0], told.append)] == [3, 5]
    part = read_part(found.file(0))
    assert part["good"].tolist() == [True, True, True, False, True]
    assert part["errors"] == {"3.png": f"{found.photos[3].place}: it is 33 pixels wide"}
    assert told == list(part["errors"].values())
    assert part["features"].tolist() == [[[1, 40]], [[1, 60]], [[1, 40]], [[1, 40]]]


def test_a_feature_beyond_float16_is_told_of(plan):
    found = plan(Stand(70_000.0))
    list(extract_parts(found, [0]))
    assert list(read_part(found.file(0))["errors"].values()) == [
        f"{found.photos[1].place}: a feature of 70000 is beyond float16"
    ]


def test_other_mistakes_end_the_run(plan):
    found = plan(RegionExtractor(None, backbone=lambda images: images, regions=1))
    with pytest.raises(ValueError, match="backbone: list, expected floats"):
        list(extract_parts(found, [0]))
    assert found.missing() == [0]


def test_an_error_of_the_disk_ends_the_run(plan, monkeypatch):
    found, opened = plan(Stand()), Image.open

    def broken(file, **settings):
        if file == tmp / "3.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(file, **settings)

    tmp = found.folder.parent
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(OSError, match=rf"Input/output error: '{tmp}/3.png'"):
        list(extract_parts(found, [0]))
    assert found.missing() == [0]
    monkeypatch.setattr(Image, "open", opened)
    (tmp / "2.png").write_bytes((tmp / "2.png").read_bytes()[:80])
    (tmp / "4.png").unlink()
    list(extract_parts(found, [0]))
    assert list(read_part(found.file(0))["errors"]) == ["2.png", "4.png"]


def test_the_parts_of_shards(plan):
    found = plan(Stand(), part_size=2)
    assert len(found) == 3
    assert [found.missing(shard, 2) for shard in range(2)] == [[0, 2], [1]]
    list(extract_parts(found, [2]))
    assert found.missing() == [0, 1]
    found.record()
    assert json.loads((found.folder / "plan.json").read_text())["photos"] == [f"{i}.png" for i in range(5)]
    assert read_part(found.file(2))["lengths"].dtype == np.int32
