import numpy as np
import pytest
from helpers_detectors import photos

from itmatch.vision import RegionExtractor

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("ray.data", reason="Ray is installed without what Ray Data needs")


def test_ray_gives_the_regions_of_one_process(detector, tmp_path):
    class Extract:
        """As in docs/vision.md. It is sent to the workers, who cannot import a file of tests."""

        def __init__(self, folder):
            self.extractor = RegionExtractor(folder, regions=4)

        def __call__(self, batch):
            found = self.extractor([str(path) for path in batch["path"]])
            columns = {"features": found.features, "boxes": found.boxes, "mask": found.mask}
            return {"path": batch["path"], **{name: column.numpy() for name, column in columns.items()}}

    for number, image in enumerate(photos()):
        image.save(tmp_path / f"{number}.png")
    paths = ray.data.from_items([{"path": str(path)} for path in sorted(tmp_path.glob("*.png"))])
    options = {"fn_constructor_args": [detector("rt_detr")], "batch_size": 2, "concurrency": 1}
    try:
        rows = {row["path"][-5]: row for row in paths.map_batches(Extract, **options).take_all()}
    finally:
        ray.shutdown()
    expected = RegionExtractor(detector("rt_detr"), regions=4)(photos())
    for place in range(5):
        assert rows[str(place)]["mask"].tolist() == expected.mask[place].tolist()
        np.testing.assert_allclose(rows[str(place)]["features"], expected.features[place], atol=1e-5)
