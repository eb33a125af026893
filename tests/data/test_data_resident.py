"""Regions that lie on a device as a whole: the device of these tests is the CPU."""

from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from test_data_reading import ROWS, OneByOne, arrays, same, split_of

from itmatch.data import RegionRows, ResidentRegions, SharedFeatures, SizeAugmentation
from itmatch.data.reading import read_regions
from itmatch.data.resident import region_rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_gathered_is_what_is_read(tmp_path, dtype, shared):
    split = arrays(tmp_path, dtype)
    held = ResidentRegions(split, CPU, shared=shared)
    assert held.features.is_shared() == shared
    carried = region_rows(split, ROWS, None, "train")
    assert isinstance(carried, RegionRows)
    assert carried.resident == "train"
    assert carried.features.numel() == 0
    same(held.regions(carried), read_regions(split, ROWS))
    augmentation = SizeAugmentation(region_drop=0.5)
    for seed in range(10):
        keeps = [lambda mask, seed=seed: augmentation.kept(mask, torch.Generator().manual_seed(seed)) for _ in range(2)]
        same(held.regions(region_rows(split, ROWS, keeps[0], "")), read_regions(split, ROWS, keeps[1]))


@pytest.mark.filterwarnings("ignore:.*without regions")
def test_images_without_regions_and_splits_without_columns():
    lengths = np.array([0, 2, 0, 1, 1, 1])
    split = arrays(lengths=lengths, boxes=None, labels=None, relations=None, relation_scores=None)
    held = ResidentRegions(split, CPU)
    same(held.regions(region_rows(split, [2, 1, 2], None, "")), read_regions(split, [2, 1, 2]))
    assert held.regions(region_rows(split, [2], None, "")).boxes is None
    split = arrays(lengths=None, relations=None, relation_scores=None)
    same(ResidentRegions(split, CPU).regions(region_rows(split, ROWS, None, "")), read_regions(split, ROWS))


def test_more_images_than_are_read_at_a_time(monkeypatch):
    monkeypatch.setattr("itmatch.data.resident._AT_A_TIME", 4)
    split = arrays()
    same(ResidentRegions(split, CPU).regions(region_rows(split, ROWS, None, "")), read_regions(split, ROWS))


def test_bad_features_are_named_before_a_run_begins():
    split = arrays(name="toy")
    split.features._array[5, 1] = np.nan
    with pytest.raises(ValueError, match="toy: image '5' region 1: NaN or inf"):
        ResidentRegions(split, CPU)
    split = split_of(OneByOne(), lengths=None, relations=None, relation_scores=None, name="toy")
    with pytest.raises(ValueError, match=r"toy: features are read image by image \(OneByOne\), expected one array"):
        ResidentRegions(split, CPU)


def test_rows_travel_as_other_regions_do():
    split = arrays()
    carried = region_rows(split, ROWS, lambda mask: mask, "train").to("cpu")
    assert carried.resident == "train"
    assert carried[1:3].rows.tolist() == ROWS[1:3] if carried.graph is None else len(carried) == len(ROWS)


def test_a_process_is_not_sent_a_copy_of_shared_features():
    split = arrays()
    held = ResidentRegions(split, CPU, shared=True)
    before = read_regions(split, ROWS)
    split.features = SharedFeatures(held.features)
    same(read_regions(split, ROWS), before)
    sent = bytes(ForkingPickler.dumps(split.features))
    assert len(sent) < 1000
    found = ForkingPickler.loads(sent)
    np.testing.assert_array_equal(found[3], split.features[3])
    held.features[3] = 7
    assert (found[3] == 7).all()  # the same memory
