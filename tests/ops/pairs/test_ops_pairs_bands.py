import pytest
import torch

from itmatch.ops.pairs import bands
from itmatch.ops.pairs.bands import Band, band_sizes, met, tiles
from itmatch.ops.ragged import Ragged


def side(lengths, size=3):
    lengths = torch.as_tensor(lengths)
    values = torch.randn(int(lengths.sum()), size, dtype=torch.double)
    return Ragged(values, lengths, lengths.cumsum(0) - lengths)


def cut(images, captions, most):
    return bands.cut(images, captions, most, band_sizes(images, captions))


def limits(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setattr(bands, name, value if name == "_PADDING" else {"cpu": value})


def test_small_groups_are_padded_and_large_ones_are_not():
    most = bands._FEW["cpu"]
    lengths = torch.tensor([3] * most + [4] * 2 + [5] * 2)
    groups = bands._groups(side(lengths), len(lengths), most)
    assert sorted(torch.cat([group.index for group in groups]).tolist()) == list(range(most + 4))
    assert [group.mask is None for group in groups][:-1] == [True] * (len(groups) - 1)
    assert groups[-1].longest == 5
    assert groups[-1].mask is not None
    assert all(len(group.index) * group.longest <= most for group in groups)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_tiles_are_within_the_limits(most, monkeypatch):
    limits(monkeypatch, _BAND=40, _TILE=600, _LEAST=10)
    images, captions = cut(side([4] * 30), side([2] * 50), (most, 2 * most))
    assert {len(rows.index) for rows in images[:-1]} == {min(most, 10)}
    assert {len(rows.index) for rows in captions[:-1]} == {min(2 * most, 7)}  # 40 times 15 scores
    assert sum(len(rows.index) for rows in images) == 30
    assert sum(len(rows.index) for rows in captions) == 50


def test_a_tile_of_few_images_has_more_captions(monkeypatch):
    limits(monkeypatch, _BAND=40, _TILE=600, _LEAST=10)
    torch.set_num_threads(1)
    for images, most in ((1, 20), (10, 15), (500, 7)):  # fragments of a band: 4, 20, 40
        assert len(cut(side([4] * images), side([2] * 50), (500, 500))[1][0].index) == most
    limits(monkeypatch, _LEAST=20)
    assert len(cut(side([4] * 500), side([2] * 50), (500, 500))[1][0].index) == 10


def test_bands_are_of_about_the_same_size_and_not_of_too_many_rows(monkeypatch):
    limits(monkeypatch, _BAND=40, _TILE=600, _LEAST=10)
    captions = side([2] * 50 + [3] * 7 + [4])  # 125 fragments
    groups = cut(side([4] * 30), captions, (1000, 1000))[1]
    found = list(bands.bands(captions.values, groups, 0, 1000, 40))
    assert [rows for band in found for rows in band.rows] == groups
    sizes = [sum(len(rows.places) for rows in band.rows) for band in found]
    assert len(sizes) == 4
    assert max(len(band.rows) for band in found) > 1
    assert max(sizes) < 125 / 4 + 15  # a group more
    few = list(bands.bands(captions.values, groups, 0, 9, 40))
    assert [rows for band in few for rows in band.rows] == groups
    assert max(sum(len(rows.index) for rows in band.rows) for band in few) <= 9


def test_a_group_that_fills_a_band_nearly_is_a_band():
    captions = side([2] * 60)
    groups = bands._groups(captions, 1000, 38)  # 38, 38, 38 and 6 of 120, in 3 bands of about 40
    sizes = [[len(rows.places) for rows in band.rows] for band in bands.bands(captions.values, groups, 0, 1000, 40)]
    assert sizes == [[38], [38], [38], [6]]


@pytest.mark.parametrize(("images", "captions"), [(128, 128), (1000, 20), (20, 1000)])
@pytest.mark.parametrize("threads", [1, 2, 16])
def test_there_is_work_for_all_threads(threads, images, captions):
    torch.set_num_threads(threads)
    sides = side([36] * images), side([13] * captions)
    sizes = band_sizes(*sides)
    assert max(sizes) <= bands._BAND["cpu"]
    assert min(sizes) >= bands._LEAST["cpu"] // 2  # a product of fewer is slow
    cuts = bands.cut(*sides, (1000, 1000), sizes)
    counts = [
        len(list(bands.bands(s.values, groups, 0, 1000, size)))
        for s, groups, size in zip(sides, cuts, sizes, strict=True)
    ]
    assert counts[0] * counts[1] >= (2 * threads if min(images, captions) > 100 else threads)


def test_no_rows_make_no_band():
    assert list(bands.bands(torch.zeros(0, 3), [], 0, 5, 40)) == []


@pytest.mark.parametrize("padding", [1.0, 100.0])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("shuffled", [True, False])
def test_a_band_holds_the_fragments_of_its_groups(padding, extra, shuffled, monkeypatch):
    limits(monkeypatch, _BAND=40, _TILE=200, _LEAST=6, _PADDING=padding)
    lengths = torch.arange(20) // 5 + 1
    captions = side(lengths[torch.randperm(20)] if shuffled else lengths, 4)
    before = captions.values.clone()
    groups = bands._groups(captions, 1000, 12)
    found = list(bands.bands(captions.values, groups, extra, 1000, 40))
    assert len(found) == 2
    assert any(rows.mask is not None for rows in groups) == (padding > 1)
    for band in found:
        assert len(band.rows) > 1
        vectors, parts = band.gathered()
        assert band.gathered()[0] is vectors
        assert torch.equal(torch.cat([part.features.flatten(0, 1) for part in parts]), vectors)
        for rows, part in zip(band.rows, parts, strict=True):
            assert part.mask is rows.mask
            for place, row in enumerate(rows.index):
                start, length = captions.starts[row], captions.lengths[row]
                own = captions.values[start : start + length]
                assert torch.equal(part.features[place, :length], own[:, : 4 - extra])
                assert (part.features[place, length:] == 0).all()
                if extra:
                    assert torch.equal(part.values[place, :length], own[:, 4 - extra :])
    assert torch.equal(captions.values, before)


def test_what_lies_in_order_is_not_copied():
    captions = side([2, 2, 2])
    (band,) = bands.bands(captions.values, bands._groups(captions, 3, 2), 0, 3, 40)
    assert band.gathered()[0].data_ptr() == captions.values.data_ptr()


@pytest.mark.parametrize("hold_images", [True, False])
def test_all_pairs_of_bands_meet(hold_images):
    drawn = []

    def some(name, count):
        for number in range(count):
            drawn.append(name)
            yield Band(torch.zeros(0, number), [], 0)

    pairs = met(some("image", 2), some("caption", 3), hold_images=hold_images)
    first = next(pairs)
    held, other = ("image", "caption") if hold_images else ("caption", "image")
    assert drawn == [held] * (2 if hold_images else 3) + [other]
    found = [(image._values.shape[1], caption._values.shape[1]) for image, caption in (first, *pairs)]
    assert sorted(found) == [(i, t) for i in range(2) for t in range(3)]
    assert len(drawn) == 5


@pytest.mark.parametrize("asked", [True, False])
def test_one_product_makes_the_scores_of_all_tiles_of_two_bands(asked, monkeypatch):
    limits(monkeypatch, _FEW=10, _PADDING=100.0)
    images, captions = side([3, 3, 2, 4, 4]), side([2, 1, 5, 5, 5, 6])
    image_band, text_band = (
        next(bands.bands(x.values, bands._groups(x, 1000, 10), 0, 1000, 1024)) for x in (images, captions)
    )
    assert min(len(band.rows) for band in (image_band, text_band)) > 1
    assert any(rows.mask is not None for rows in (*image_band.rows, *text_band.rows))
    products, product = [], torch.Tensor.__matmul__

    def counted(a, b):
        products.append(a.shape[0] * b.shape[1])
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counted)
    seen = 0
    for image_rows, text_rows, tile in tiles(image_band, text_band):
        seen += 1
        if asked:
            sides = [
                rows.group(rows.packed(side.values), 0).features
                for rows, side in ((image_rows, images), (text_rows, captions))
            ]
            expected = torch.einsum("ird,twd->itwr", *sides)
            torch.testing.assert_close(tile.scores, expected)
            assert tile.scores.is_contiguous()
    assert seen == len(image_band.rows) * len(text_band.rows)
    sizes = [sum(len(rows.places) for rows in band.rows) for band in (image_band, text_band)]
    assert products == ([sizes[0] * sizes[1]] if asked else [])
