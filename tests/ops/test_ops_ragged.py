import pytest
import torch

from itmatch.batch import Fragments
from itmatch.ops import lengths_to_mask
from itmatch.ops.ragged import Ragged, at_places


def make(lengths, width, *, holes=False, extras=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = lengths_to_mask(torch.tensor(lengths), width)
    if holes:
        mask = mask.flip(1)
    features = torch.randn(*mask.shape, 3, generator=generator).masked_fill(~mask[..., None], 0)
    pooled = torch.randn(len(mask), 3, generator=generator) if extras else None
    is_relation = (torch.rand(mask.shape, generator=generator) < 0.4) & mask if extras else None
    return Fragments.unchecked(features, mask, pooled, is_relation)


def rows_of(fragments):
    """Each row as a list of what is real in it."""
    found = []
    for row in range(len(fragments)):
        mask = fragments.mask[row]
        parts = [fragments.features[row, mask]]
        parts += [] if fragments.pooled is None else [fragments.pooled[row]]
        parts += [] if fragments.is_relation is None else [fragments.is_relation[row, mask]]
        found.append([part.tolist() for part in parts])
    return found


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("lengths", [[3, 1, 4, 2], [4, 4, 4, 4], [1]])
def test_rows_come_back(lengths, holes, extras):
    fragments = make(lengths, 4, holes=holes, extras=extras)
    packed = Ragged.of(fragments)
    assert len(packed) == len(lengths)
    assert len(packed.values) == sum(lengths)
    generator = torch.Generator().manual_seed(1)
    shuffled = torch.randperm(len(lengths), generator=generator)
    none = torch.tensor([], dtype=torch.int64)
    for rows in (slice(None), slice(1, 3), slice(0, 1), shuffled, torch.tensor([0, 0]), none):
        part = packed[rows]
        assert rows_of(part) == rows_of(fragments[rows])
        assert part.mask.any(0).all()  # no wider than the longest row
        assert not part.features[~part.mask].any()
        if isinstance(rows, torch.Tensor):
            assert rows_of(packed.select(rows)[:]) == rows_of(part)


def test_parts_are_joined_and_given_up():
    parts = [make([2, 3], 3, seed=0), make([1, 4, 4], 6, seed=1), make([5], 5, seed=2)]
    packed = [Ragged.of(part) for part in parts]
    whole = Ragged.cat(packed)
    assert packed == []
    assert rows_of(whole[:]) == [row for part in parts for row in rows_of(part)]
    assert rows_of(whole.gathered()[:]) == rows_of(whole[:])  # of one process
    selected = whole.select(torch.tensor([4, 1]))
    both = Ragged.cat([Ragged.of(parts[2]), selected])
    assert rows_of(both[:]) == rows_of(parts[2]) + rows_of(whole[torch.tensor([4, 1])])
    with pytest.raises(ValueError, match="a selection of rows; gather first, then select"):
        selected.gathered()
    with pytest.raises(ValueError, match="no parts"):
        Ragged.cat([])
    with pytest.raises(ValueError, match="some parts have pooled or is_relation and some have none"):
        Ragged.cat([Ragged.of(part) for part in (parts[0], make([1], 1, extras=False))])


def test_gradients_go_to_real_fragments_alone():
    fragments = make([3, 1], 4)
    fragments.features.requires_grad_()
    Ragged.of(fragments)[torch.tensor([1, 0, 1])].features.sum().backward()
    expected = (fragments.mask.float() * torch.tensor([[1.0], [2.0]]))[..., None].expand(-1, -1, 3)
    assert torch.equal(fragments.features.grad, expected)


def test_half_precision_is_kept():
    fragments = make([2, 4], 4)
    ragged = Ragged.of(fragments, torch.float16)
    assert ragged.values.dtype == ragged.pooled.dtype == torch.float16
    torch.testing.assert_close(ragged[:].features.float(), fragments.features, atol=2e-3, rtol=1e-3)


def test_without_padding_nothing_is_copied():
    fragments = make([4, 4, 4], 4)
    ragged = Ragged.of(fragments)
    assert ragged.values.data_ptr() == ragged[:].features.data_ptr() == fragments.features.data_ptr()
    assert ragged[1:].features.data_ptr() == fragments.features[1:].data_ptr()


@pytest.mark.parametrize("holes", [False, True])
def test_what_is_padded_again_is_not_copied_first(holes):
    fragments = make([3, 1, 4], 5)
    features, mask = fragments.features, fragments.mask
    if holes:
        features, mask = features.flip(1), mask.flip(1)
    ragged = Ragged.over(features, mask)
    assert (ragged.values.data_ptr() == features.data_ptr()) is not holes
    assert rows_of(ragged[:]) == rows_of(Ragged.from_padded(features, mask)[:])
    features = features.clone().requires_grad_()
    Ragged.over(features, mask)[1:].features.sum().backward()
    assert torch.equal(features.grad[..., 0] != 0, mask & (torch.arange(3)[:, None] > 0))


def test_padding_takes_memory_once():
    """Forward and back make the padded rows, their gradient and that of the values: nothing is copied beside."""
    features = torch.randn(8, 64, 512, requires_grad=True)
    mask = torch.arange(64) < torch.tensor([64, *range(10, 45, 5)])[:, None]
    gradient = torch.ones(8, 64, 512)
    with torch.profiler.profile(profile_memory=True) as found:
        torch.autograd.grad(Ragged.over(features, mask)[:].features, features, gradient)
    made = sum(max(0, event.self_cpu_memory_usage) for event in found.events())
    assert made < 3.2 * features.nbytes


def test_values_are_grouped_by_row():
    values, row = torch.arange(5.0)[:, None], torch.tensor([2, 0, 2, 0, 2])
    part = Ragged.grouped(values, row, 4)[:]
    assert part.mask.tolist() == [[True, True, False], [False] * 3, [True] * 3, [False] * 3]
    assert part.features[part.mask][:, 0].tolist() == [1, 3, 0, 2, 4]
    assert Ragged.grouped(values[:0], row[:0], 2)[:].features.shape == (2, 0, 1)
    assert Ragged.grouped(values[:0], row[:0], 0)[:].features.shape == (0, 0, 1)


def test_blocks_have_rows_of_like_length():
    ragged = Ragged.of(make([2, 6, 3, 3, 1], 6))
    blocks = [rows.tolist() for rows in ragged.blocks(lambda rows, *_: rows <= 2)]
    assert blocks == [[4, 0], [2, 3], [1]]
    assert [rows.tolist() for rows in ragged.blocks(lambda *_: False)] == [[4], [0], [2], [3], [1]]
    asked = []
    assert len(list(ragged.blocks(lambda *numbers: asked.append(numbers) or True))) == 1
    assert asked == [(2, 1, 2, 3), (3, 1, 3, 6), (4, 1, 3, 9), (5, 1, 6, 15)]
    asked.clear()
    list(ragged.blocks(lambda *numbers: asked.append(numbers) or numbers[0] <= 2))
    assert asked == [(2, 1, 2, 3), (3, 1, 3, 6), (2, 3, 3, 6), (3, 3, 6, 12)]  # each block counts its own fragments
    assert list(ragged.select(slice(0, 0)).blocks(lambda *_: True)) == []


@pytest.mark.parametrize("full", [False, True])
def test_values_go_to_their_places(full):
    mask = torch.tensor([[True, False, True], [False, True, True]]) | full
    values = torch.randn(2, int(mask.sum()), 4)
    placed = at_places(values, mask, 1)
    assert placed.shape == (2, 2, 3, 4)
    assert torch.equal(placed[:, mask], values)
    assert not placed[:, ~mask].any()
