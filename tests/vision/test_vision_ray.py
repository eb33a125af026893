import numpy as np
import pytest
from helpers_detectors import photos

from itmatch.vision import RegionExtractor

ray = pytest.importorskip("ray.data")


class Extract:
    """As in docs/vision.md."""

    def __init__(self, folder):
        self.extractor = RegionExtractor(folder, regions=4)

    def __call__(self, batch):
        from PIL import Image

        found = self.extractor([Image.fromarray(image) for image in batch["image"]])
        return {"path": batch["path"], "features": found.features.numpy(), "boxes": found.boxes.numpy()}


def test_ray_gives_the_regions_of_one_process(detector, tmp_path):
    for number, image in enumerate(photos()):
        image.save(tmp_path / f"{number}.png")
    images = ray.read_images(str(tmp_path), mode="RGB", include_paths=True)
    options = {"fn_constructor_args": [detector("rt_detr")], "batch_size": 2, "concurrency": 1}
    rows = {row["path"][-5]: row for row in images.map_batches(Extract, **options).take_all()}
    expected = RegionExtractor(detector("rt_detr"), regions=4)(photos())
    for place in range(5):
        np.testing.assert_allclose(rows[str(place)]["features"], expected.features[place], atol=1e-5)
