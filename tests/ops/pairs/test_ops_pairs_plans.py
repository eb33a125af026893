import pytest
import torch

from itmatch.ops.pairs import plans
from itmatch.ops.pairs.plans import Plan, used_pairs
from itmatch.ops.pairs.tiles import PairTile
from itmatch.ops.ragged import Ragged


def side(lengths, size=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.as_tensor(lengths)
    values = torch.randn(int(lengths.sum()), size, generator=generator, dtype=torch.double)
    return Ragged(values, lengths, lengths.cumsum(0) - lengths)


IMAGES = [4, 2, 4, 3, 4]
CAPTIONS = [2, 5, 3, 2, 1, 3]
USED = torch.tensor(
    [
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 1],
        [1, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
    ],
    dtype=torch.bool,
)


def parts_of(copied, monkeypatch):
    monkeypatch.setattr(plans, "_COPIED", {"cpu": copied})
    images, captions = side(IMAGES), side(CAPTIONS, seed=1)
    plan = Plan.make(lambda tile: tile.scores, "pair", 0, images, captions, None, 0)
    grad = torch.arange(30.0).view(5, 6, 1) * USED[..., None]
    return images, captions, grad, list(used_pairs(plan, grad, USED, 3))


@pytest.mark.parametrize("copied", [1, 40, 10**6])
def test_every_pair_with_a_gradient_once_and_images_in_common(copied, monkeypatch):
    _, _, grad, parts = parts_of(copied, monkeypatch)
    found = []
    for part in parts:
        assert part.image_of.tolist() == sorted(part.image_of.tolist())
        assert set(part.image_of.tolist()) == set(range(len(part.images.index)))
        pairs = list(zip(part.images.index[part.image_of].tolist(), part.captions.index.tolist(), strict=True))
        assert part.grad[0, :, 0].tolist() == [grad[pair].item() for pair in pairs]
        found += pairs
    assert sorted(found) == [tuple(pair) for pair in USED.nonzero().tolist()]
    if copied == 10**6:
        assert [len(part.images.index) for part in parts] == [4]  # for 9 pairs
    if copied == 1:
        assert len(parts) == 9


def test_images_whose_longest_captions_are_alike_are_together(monkeypatch):
    *_, (part,) = parts_of(10**6, monkeypatch)
    assert part.images.index.tolist() == [2, 4, 0, 3]  # 5, 5, 3 and 2 words


@pytest.mark.parametrize("copied", [40, 10**6])
def test_scores_of_single_pairs_and_those_made_of_copies(copied, monkeypatch):
    """A GPU multiplies copies of the images; both ways are right, with the same gradients."""
    images, captions, _, parts = parts_of(copied, monkeypatch)
    assert any(part.captions.mask is not None for part in parts)
    for part in parts:
        given = [
            rows.packed(s.values).requires_grad_() for rows, s in ((part.images, images), (part.captions, captions))
        ]
        tile = part.tile(*given, 0)
        copies = PairTile(tile.images, tile.captions, part.image_of).scores[0]
        torch.testing.assert_close(tile.scores[0], copies)
        for place, (image, caption) in enumerate(zip(part.image_of, part.captions.index, strict=True)):
            own = [
                s.values[s.starts[row] : s.starts[row] + s.lengths[row]]
                for s, row in ((images, part.images.index[image]), (captions, caption))
            ]
            torch.testing.assert_close(tile.scores[0, place, : len(own[1]), : len(own[0])], own[1] @ own[0].T)
        weights = torch.rand_like(copies)
        ours, theirs = (torch.autograd.grad(x, given, weights, retain_graph=True) for x in (tile.scores[0], copies))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)
