"""Many images at once are what they are one by one."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from itmatch.data import (
    Collator,
    FeatureStore,
    ImageDataset,
    ImageTextSplit,
    PairDataset,
    SizeAugmentation,
    WordTokenizer,
    open_array,
    save_array,
)
from itmatch.data.batching.padding import padded_regions
from itmatch.data.reading import read_regions


class OneByOne(FeatureStore):
    """Images of different numbers of regions, two of them without any."""

    feature_dim, num_regions = 4, None

    def __init__(self, dtype=np.float32):
        rng = np.random.default_rng(0)
        self.arrays = [rng.standard_normal((count, 4)).astype(dtype) for count in (3, 0, 6, 1, 0, 5)]
        self.asked = []

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.arrays[index]


def split_of(features, count=6, regions=6, **given):
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.random((count, regions, 2, 2), np.float32), 2).reshape(count, regions, 4)
    return ImageTextSplit(
        features,
        [f"photo {number}" for number in range(2 * count)],
        np.arange(2 * count) // 2,
        **{
            "boxes": boxes,
            "labels": rng.integers(0, 9, (count, regions)).astype(np.uint8),
            "relations": np.concatenate([rng.integers(-1, 1, (count, 8, 3)), np.full((count, 2, 3), -1)], 1),
            "relation_scores": rng.random((count, 10)),
            "lengths": np.array([6, 1, 4, 6, 2, 3], np.uint64),
            **given,
        },
    )


def arrays(tmp_path=None, dtype=np.float16, **given):
    features = np.random.default_rng(0).standard_normal((6, 6, 4)).astype(dtype)
    if tmp_path is not None:
        save_array(tmp_path / "x.npy", features)
        features = open_array(tmp_path / "x.npy")
    return split_of(features, **given)


def same(first, second):
    assert torch.equal(first.features, second.features)
    assert first.features.dtype == second.features.dtype
    assert torch.equal(first.mask, second.mask)
    for name in ("boxes", "labels"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        assert one is None or (torch.equal(one, other) and one.dtype == other.dtype)
    if first.graph is None:
        assert second.graph is None
        return
    for name in ("edge_index", "row", "predicate", "confidence"):
        assert torch.equal(getattr(first.graph, name), getattr(second.graph, name))
    assert first.graph.num_rows == second.graph.num_rows


ROWS = [4, 0, 4, 2, 5, 0]  # two images twice


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_batch_is_what_its_images_are_one_by_one(tmp_path, dtype):
    split = arrays(tmp_path, dtype)
    found = read_regions(split, ROWS)
    same(found, padded_regions([split.image(row) for row in ROWS]))
    assert found.features.dtype == (torch.float16 if dtype == np.float16 else torch.float32)
    lengths = split.lengths[ROWS]
    assert found.mask.sum(1).tolist() == lengths.tolist()
    for row, (image, length) in enumerate(zip(ROWS, lengths, strict=True)):
        stored = torch.from_numpy(np.array(split.features[image][:length])).to(found.features.dtype)
        assert torch.equal(found.features[row, :length], stored)
        assert not found.features[row, length:].any()
        assert (found.labels[row, length:] == -1).all()


def test_stores_that_read_image_by_image_read_each_once():
    store = OneByOne()
    store.arrays[1] = np.ones((2, 4), np.float32)
    split = split_of(store, lengths=None, relations=None, relation_scores=None)
    with pytest.warns(UserWarning, match="without regions get one of zeros"):
        found = read_regions(split, ROWS)
    assert sorted(store.asked) == sorted(set(ROWS))
    with pytest.warns(UserWarning, match="without regions"):
        same(found, padded_regions([split.image(row) for row in ROWS]))
    assert found.mask.sum(1).tolist() == [1, 3, 1, 6, 5, 3]
    assert not found.features[0].any()
    assert found.labels[0].tolist() == [-1] * 6
    assert not found.boxes[0].any()


@pytest.mark.filterwarnings("ignore:.*without regions")
def test_images_without_regions_are_zeros():
    split = arrays(lengths=np.array([0, 2, 0, 1, 1, 1]), relations=None, relation_scores=None)
    found = read_regions(split, [0, 1, 2])
    assert found.mask.tolist() == [[True, False], [True, True], [True, False]]
    assert not found.features[[0, 2]].any()
    assert found.labels[:, 0].tolist() == [-1, split.labels[1, 0], -1]
    alone = read_regions(split, [2, 0])
    assert alone.features.shape == (2, 1, 4)
    kept = read_regions(split, [0, 1, 2], lambda mask: mask)
    same(found, kept)


@pytest.mark.parametrize("kind", [np.float16, np.float64, "one by one"])
def test_what_is_left_out_is_not_read_and_the_rest_is_the_same(kind):
    split = arrays(dtype=kind) if kind != "one by one" else split_of(OneByOne(np.float16), lengths=None)
    split.relations[split.lengths == 0 if split.lengths is not None else [1, 4]] = -1
    rows = [0, 2, 5, 2, 3]
    split.relations[[3, 5]] = -1
    augmentation = SizeAugmentation(region_drop=0.5)
    for seed in range(10):
        first, second = (torch.Generator().manual_seed(seed) for _ in range(2))
        found = read_regions(split, rows, lambda mask, first=first: augmentation.kept(mask, first))
        same(found, augmentation.regions(read_regions(split, rows), second))


def test_not_finite_features_are_named():
    for dtype, value, told in [
        (np.float16, np.inf, "NaN or inf"),
        (np.float16, -np.inf, "NaN or inf"),
        (np.float16, np.nan, "NaN or inf"),
        (np.float32, np.nan, "NaN or inf"),
        (np.float64, 1e300, "float64 too large for float32"),
    ]:
        split = arrays(dtype=dtype, name="toy")
        split.features._array[2, 3, 1] = value
        with pytest.raises(ValueError, match=f"toy: image '2' region 3: {told} in the features"):
            read_regions(split, [0, 2])
        split.features._array[2, 3, 1] = 0
        split.features._array[2, 5] = value  # beyond its length
        read_regions(split, [0, 2])


def test_the_largest_numbers_are_taken():
    for dtype in (np.float16, np.float32):
        split = arrays(dtype=dtype)
        split.features._array[:] = np.finfo(dtype).max
        split.features._array[:, :, 1] = np.finfo(dtype).min
        assert (
            read_regions(split, ROWS).features.abs().max() == torch.finfo(torch.from_numpy(np.ones(1, dtype)).dtype).max
        )


def test_columns_that_do_not_fit_are_named():
    split = split_of(OneByOne(), regions=3, lengths=None, relations=None, relation_scores=None, name="toy")
    with pytest.raises(ValueError, match="toy: image '2' has 6 regions and 3 boxes"):
        read_regions(split, [0, 2])
    split = split_of(OneByOne(), lengths=None, relations=np.full((6, 1, 3), 4), relation_scores=None, name="toy")
    with pytest.raises(ValueError, match="toy: image '0' has 3 regions, a relation names another"):
        read_regions(split, [2, 0])
    for wrong in (-1, 6):
        with pytest.raises(IndexError, match=f"image {wrong} of 6"):
            read_regions(split, [2, wrong])


@pytest.fixture
def tokenizer():
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(["photo 1 2 3"])
    return tokenizer


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_reads_batches_at_once(tmp_path, tokenizer, workers, monkeypatch):
    split = arrays(tmp_path)
    pairs, collate = PairDataset(split), Collator(tokenizer)
    expected = [collate([pairs[i] for i in range(start, start + 4)]) for start in (0, 4, 8)]
    monkeypatch.setattr(PairDataset, "__getitem__", None)  # not asked for single ones
    for found, wanted in zip(DataLoader(pairs, 4, collate_fn=collate, num_workers=workers), expected, strict=True):
        same(found.regions, wanted.regions)
        assert torch.equal(found.captions.input_ids, wanted.captions.input_ids)
        assert torch.equal(found.positives(), wanted.positives())
        assert found.caption_index.tolist() == wanted.caption_index.tolist()
        assert found.regions.features.is_shared() == bool(workers)  # written where both processes see it


def test_parts_of_a_split_and_functions_that_take_items(tmp_path, tokenizer):
    split = arrays(tmp_path)
    loader = DataLoader(Subset(ImageDataset(split), [5, 1, 3]), 2, collate_fn=Collator(tokenizer))
    assert [batch.image_index.tolist() for batch in loader] == [[5, 1], [3]]
    items = next(iter(DataLoader(PairDataset(split), 3, collate_fn=list)))
    assert [(image.index, caption.index) for image, caption in items] == [(0, 0), (0, 1), (1, 2)]
