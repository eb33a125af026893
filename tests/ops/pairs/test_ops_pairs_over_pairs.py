import threading
import time
import weakref

import pytest
import torch

from itmatch.ops import PairTile, over_pairs, threads
from itmatch.ops.pairs import bands, plans
from itmatch.ops.pairs import over_pairs as pairs

SMALL = {"bands._BAND": {"cpu": 6}, "bands._TILE": {"cpu": 6}, "bands._LEAST": {"cpu": 6}, "bands._FEW": {"cpu": 2}}
IN_BANDS = {
    "bands._BAND": {"cpu": 12},
    "bands._TILE": {"cpu": 12},
    "bands._LEAST": {"cpu": 6},
    "bands._FEW": {"cpu": 9},
}
LARGE = {"bands._BAND": {"cpu": 10**6}, "bands._TILE": {"cpu": 10**12}, "bands._FEW": {"cpu": 10**6}}


def lay_out(monkeypatch, layout):
    for setting, value in layout.items():
        monkeypatch.setattr(f"itmatch.ops.pairs.{setting}", value)


def sides(images=5, captions=7, regions=4, words=6, size=3, seed=0):
    """Float64 fragments with holes in their masks and NaN in padded places."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for rows, length in ((images, regions), (captions, words)):
        mask = torch.rand(rows, length, generator=generator) > 0.4
        mask[torch.arange(rows), torch.randint(length, (rows,), generator=generator)] = True
        features = torch.randn(rows, length, size, generator=generator, dtype=torch.double)
        found += [features.masked_fill(~mask[..., None], torch.nan).requires_grad_(), mask]
    return found


def words_kernel(tile: PairTile, scale):
    """Each word: its products with the regions, squared and summed, plus what the Gram matrix of the regions says."""
    gram = tile.times_region_gram(tile.scores)
    return scale * (tile.scores.square().sum(3) + (tile.scores * gram).sum(3))


def regions_kernel(tile: PairTile, scale):
    gram = torch.bmm(tile.word_gram, tile.scores.flatten(0, 1)).view_as(tile.scores)
    return scale * (tile.scores.square().sum(2) + (tile.scores * gram).sum(2))


def pair_kernel(tile: PairTile, scale):
    region_means = tile.per_image(tile.images.gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True))  # (i, 1, 1)
    return scale * (tile.scores.sum((2, 3))[..., None] * region_means).tanh()


KERNELS = {"words": words_kernel, "regions": regions_kernel, "pair": pair_kernel}


def naive(output, image, image_mask, text, text_mask, scale):
    shape = {"words": text_mask.shape[1:], "regions": image_mask.shape[1:], "pair": ()}[output]
    rows = []
    for v_all, v_mask in zip(image, image_mask, strict=True):
        for t_all, t_mask in zip(text, text_mask, strict=True):
            v, t = v_all[v_mask], t_all[t_mask]
            s = t @ v.T
            values = s.new_zeros(shape)
            if output == "words":
                values = values.index_put((t_mask.nonzero()[:, 0],), (s.square() + s * (s @ v @ v.T)).sum(1))
            elif output == "regions":
                values = values.index_put((v_mask.nonzero()[:, 0],), (s.square() + s * (t @ t.T @ s)).sum(0))
            else:
                values = (s.sum() * v.square().sum()).tanh()
            rows.append(scale * values)
    return torch.stack(rows).view(len(image), len(text), *shape)


def gradients(values, weights, inputs):
    return torch.autograd.grad((values * weights).sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("chunk", [None, 1, 2])
@pytest.mark.parametrize("share", [1.0, 0.2])
@pytest.mark.parametrize("output", KERNELS)
def test_values_and_gradients_of_a_loop_over_pairs(output, share, chunk):
    """With a gradient in all pairs (whole tiles are recomputed) and in a few (single pairs are)."""
    image, image_mask, text, text_mask = sides()
    scale = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
    options = {"output": output, "parameters": (scale,), "chunk_size": chunk}
    values = over_pairs(KERNELS[output], image, image_mask, text, text_mask, **options)
    expected = naive(output, image, image_mask, text, text_mask, scale)
    torch.testing.assert_close(values, expected)
    torch.manual_seed(1)
    weights = torch.randn_like(values)
    weights[torch.rand(values.shape[:2]) > share] = 0
    assert (weights.flatten(2).any(2) if weights.ndim > 2 else weights != 0).float().mean() > 0.05
    for ours, theirs in zip(
        gradients(values, weights, (image, text, scale)),
        gradients(expected, weights, (image, text, scale)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("layout", [SMALL, IN_BANDS, LARGE, {"plans._COPIED": {"cpu": 8}}])
@pytest.mark.parametrize("dense", [0.0, 1.0])
def test_neither_tiles_nor_the_way_back_matter(layout, dense, monkeypatch):
    image, image_mask, text, text_mask = sides(images=9, captions=11)
    scale = torch.tensor(1.0, dtype=torch.double)

    def run():
        values = over_pairs(words_kernel, image, image_mask, text, text_mask, output="words", parameters=(scale,))
        return [values, *gradients(values, values.detach(), (image, text))]

    expected = run()
    lay_out(monkeypatch, layout)
    monkeypatch.setattr(pairs, "_DENSE", dense)
    for ours, theirs in zip(run(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_only_the_pairs_with_a_gradient_are_recomputed():
    image, image_mask, text, text_mask = sides(images=6, captions=6)
    seen = []

    def kernel(tile, scale):
        if torch.is_grad_enabled():
            seen.append((tile.image_of is not None, *tile.scores.shape[:2]))
        return pair_kernel(tile, scale)

    scale = torch.tensor(1.0, dtype=torch.double)
    scores = over_pairs(kernel, image, image_mask, text, text_mask, output="pair", parameters=(scale,))
    scores.diagonal().sum().backward()
    assert sum(i * t for single, i, t in seen if single) == 6
    assert all(single for single, _, _ in seen)


def test_a_budget_a_pair_bounds_the_tiles(monkeypatch):
    monkeypatch.setattr(plans, "_MADE", {"cpu": 900})
    image, image_mask, text, text_mask = sides(images=20, captions=30)
    seen = []

    def kernel(tile):
        seen.append(tile.scores.shape[0] * tile.scores.shape[1])
        return tile.scores.sum((2, 3))[..., None]

    with torch.no_grad():
        over_pairs(kernel, image, image_mask, text, text_mask, output="pair", numbers_per_pair=100)
    assert max(seen) <= 9
    assert sum(seen) == 600


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("output", KERNELS)
def test_no_images_or_no_captions(output, shape):
    image, text = torch.zeros(shape[0], 2, 3, requires_grad=True), torch.zeros(shape[1], 4, 3)
    masks = torch.ones(shape[0], 2, dtype=torch.bool), torch.ones(shape[1], 4, dtype=torch.bool)
    scale = torch.tensor(1.0)
    values = over_pairs(KERNELS[output], image, masks[0], text, masks[1], output=output, parameters=(scale,))
    assert values.shape == (*shape, *{"words": (4,), "regions": (2,), "pair": ()}[output])
    values.sum().backward()
    assert image.grad.shape == image.shape


def test_a_row_without_fragments_is_named():
    image, text = torch.zeros(2, 2, 3), torch.zeros(1, 2, 3)
    mask = torch.tensor([[True, True], [False, False]])
    with pytest.raises(ValueError, match="image: row 1 has no valid fragment"):
        over_pairs(pair_kernel, image, mask, text, torch.ones(1, 2, dtype=torch.bool), output="pair")


def test_the_gradient_keeps_the_type_of_the_input():
    image, image_mask, text, text_mask = sides()
    image, text = (x.detach().bfloat16().requires_grad_() for x in (image, text))
    scale = torch.tensor(1.0)
    values = over_pairs(words_kernel, image, image_mask, text, text_mask, output="words", parameters=(scale,))
    values.sum().backward()
    assert values.dtype == torch.float32
    assert image.grad.dtype == torch.bfloat16
    assert torch.isfinite(image.grad[image_mask]).all()
    assert (image.grad[~image_mask] == 0).all()


@pytest.mark.parametrize("output", KERNELS)
def test_a_compiled_program_leaves_the_tiles_as_they_are(output):
    """Sizes that change make no new graphs of what is done with a tile; there is one break."""

    def scores(image, image_mask, text, text_mask, scale):
        return over_pairs(
            KERNELS[output], 2 * image, image_mask, text, text_mask, output=output, parameters=(scale,)
        ).sin()

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(scores, backend="aot_eager")
    for captions in (2, 3, 5, 7):
        given = *sides(captions=captions, words=captions), torch.tensor(0.3, dtype=torch.double, requires_grad=True)
        expected, found = scores(*given), compiled(*given)
        torch.testing.assert_close(found, expected)
        for a, b in zip(*(gradients(x, 1, (given[0], given[2], given[4])) for x in (found, expected)), strict=True):
            torch.testing.assert_close(a, b)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4  # before and after, sizes fixed and not


@pytest.mark.parametrize("output", KERNELS)
@pytest.mark.parametrize("images", [2, 40])
def test_either_side_may_be_the_larger_one(output, images):
    given = *sides(images=images), torch.tensor(0.3, dtype=torch.double)
    found = over_pairs(KERNELS[output], *given[:4], output=output, parameters=given[4:])
    torch.testing.assert_close(found, naive(output, *given))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("images", "captions"), [(2, 200), (200, 30)])
def test_of_the_larger_side_one_band_is_held_at_a_time(images, captions, threads, monkeypatch):
    """In each thread one."""
    gathered, alive, lock = [], weakref.WeakSet(), threading.Lock()
    gather = bands.Band._gather

    def counted(band):
        packed, groups = gather(band)
        with lock:
            gathered.append(sum(len(group.features) for group in groups))
            alive.update(groups)
        return packed, groups

    monkeypatch.setattr(bands.Band, "_gather", counted)
    lay_out(monkeypatch, {"bands._BAND": {"cpu": 16}, "bands._TILE": {"cpu": 16}, "bands._LEAST": {"cpu": 8}})
    held = []

    def kernel(tile):
        with lock:
            held.append((len(gathered), sum(len(group.features) for group in alive)))
        return tile.scores.sum((2, 3))[..., None]

    torch.set_num_threads(threads)
    monkeypatch.setattr("itmatch.ops.threads._WORTH_THREADS", 0)
    image, image_mask, text, text_mask = sides(images=images, captions=captions)
    over_pairs(kernel, image, image_mask, text, text_mask, output="pair")
    assert sum(gathered) == images + captions  # each was gathered once
    assert held[0][0] <= 2 * threads  # bands, when they are needed
    assert len(gathered) > 10
    assert max(rows for _, rows in held) <= min(images, captions) + threads * max(gathered)
    assert max(gathered) <= 32


@pytest.mark.parametrize("output", KERNELS)
@pytest.mark.parametrize("chunk", [None, 2])
def test_padded_tiles_of_a_graph_are_exact_too(output, chunk):
    """Holes in the masks stay where they are, and what lies there is not read."""
    given = *sides(), torch.tensor(0.3, dtype=torch.double)
    with torch.no_grad():
        found = pairs._in_padded_tiles(KERNELS[output], given[:4], output, given[4:], None, chunk)
        torch.testing.assert_close(found, naive(output, *given))


def beside_kernel(tile):
    """What each word meets, weighted by numbers that the regions bring along."""
    weights = tile.per_image(tile.images.values.transpose(1, 2))  # (i, t, S, R)
    grams = tile.images.gram.sum((1, 2))[:, None]
    return (tile.scores[:, :, None] * weights[:, :, :, None]).sum((2, 4)) * tile.per_image(grams)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        SMALL,
        IN_BANDS,
        IN_BANDS | {"bands._PADDING": 100.0},
        {"bands._PADDING": 100.0, "over_pairs._DENSE": 1.0},
        {"over_pairs._DENSE": 0.0},
    ],
)
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_numbers_beside_the_regions(layout, share, monkeypatch):
    image, image_mask, text, text_mask = sides()
    beside = torch.randn(5, 4, 2, dtype=torch.double).masked_fill(~image_mask[..., None], 0).requires_grad_()
    lay_out(monkeypatch, layout)
    found = over_pairs(beside_kernel, image, image_mask, text, text_mask, output="words", image_values=beside)
    v, t = (x.masked_fill(~mask[..., None], 0) for x, mask in ((image, image_mask), (text, text_mask)))
    grams = (v @ v.mT).sum((1, 2))  # without what is beside
    expected = torch.einsum("ird,twd,irs,i->itw", v, t, beside, grams)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found) * (torch.rand(5, 7, 1) < share)
    inputs = image, text, beside
    for a, b in zip(gradients(found, weights, inputs), gradients(expected, weights, inputs), strict=True):
        torch.testing.assert_close(a.nan_to_num(), b.nan_to_num())
    with torch.no_grad():
        padded = pairs._in_padded_tiles(beside_kernel, (image, image_mask, text, text_mask), "words", (), beside, None)
        torch.testing.assert_close(padded, expected)


@pytest.mark.skipif(not threads._openmp(), reason="this PyTorch has one number of threads for all")
@pytest.mark.parametrize("share", [1.0, 0.2])
@pytest.mark.parametrize("layout", [SMALL, IN_BANDS])
@pytest.mark.parametrize("output", KERNELS)
def test_two_threads_find_what_one_finds(output, layout, share, monkeypatch):
    image, image_mask, text, text_mask = sides(images=15, captions=20)
    scale = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
    lay_out(monkeypatch, layout | {"plans._COPIED": {"cpu": 100}})
    torch.manual_seed(1)
    weights = torch.randn(15, 20, dtype=torch.double) * (torch.rand(15, 20) < share)
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        monkeypatch.setattr(threads, "_WORTH_THREADS", 0)
        seen, meeting, mine = set(), threading.Barrier(count), threading.local()

        def kernel(tile, scale, seen=seen, meeting=meeting, mine=mine):
            if not hasattr(mine, "been_here"):
                mine.been_here = True
                seen.add((threading.get_ident(), torch.is_grad_enabled()))
                meeting.wait(20)  # so that each thread has a part
            return KERNELS[output](tile, scale)

        values = over_pairs(kernel, image, image_mask, text, text_mask, output=output, parameters=(scale,))
        assert len(seen) == count
        given = weights.view(15, 20, *[1] * (values.ndim - 2))
        found.append([values, *gradients(values, given, (image, text, scale))])
        assert count == 1 or [grad for _, grad in sorted(seen, key=lambda pair: pair[1])] == [False] * 2 + [True] * 2
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.2])
def test_a_kernel_need_not_read_what_wants_a_gradient(share):
    image, image_mask, text, text_mask = (x.detach() for x in sides())
    scale = torch.tensor(1.0, dtype=torch.double, requires_grad=True)
    scores = over_pairs(
        lambda tile, scale: tile.scores.sum((2, 3))[..., None],
        image, image_mask, text, text_mask, output="pair", parameters=(scale,),
    )  # fmt: skip
    (scores * (torch.rand(scores.shape) < share)).sum().backward()
    assert scale.grad == 0


@pytest.mark.skipif(not threads._openmp(), reason="this PyTorch has one number of threads for all")
def test_gradients_are_the_same_whichever_thread_is_done_first(monkeypatch):
    lay_out(monkeypatch, SMALL | {"plans._COPIED": {"cpu": 30}})
    monkeypatch.setattr(threads, "_WORTH_THREADS", 0)
    torch.set_num_threads(2)
    given = [x.detach().float() if x.is_floating_point() else x for x in sides(images=20, captions=20)]
    image, text = given[0].requires_grad_(), given[2].requires_grad_()
    used = torch.rand(20, 20) < 0.3

    def run():
        delays = iter(torch.rand(1000).tolist())

        def kernel(tile):
            time.sleep(0.002 * next(delays))
            return pair_kernel(tile, 1.0)

        scores = over_pairs(kernel, image, given[1], text, given[3], output="pair")
        return torch.autograd.grad((scores * used).sum(), (image, text))

    first = run()
    assert all(torch.equal(a, b) for _ in range(3) for a, b in zip(run(), first, strict=True))
