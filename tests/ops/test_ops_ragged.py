import torch

from itmatch.ops.ragged import Ragged, packed_blocks


def test_there_and_back():
    torch.manual_seed(0)
    features, mask = torch.randn(4, 5, 3), torch.rand(4, 5) > 0.4
    mask[:, 0] = True
    ragged = Ragged.from_padded(features, mask)
    assert torch.equal(ragged.values, features[mask])
    padded = ragged.pad_columns(ragged.values.T)  # (3, 4, 5)
    assert torch.equal(padded, (features * mask[..., None]).permute(2, 0, 1))


def test_without_padding_nothing_is_copied():
    features = torch.randn(4, 5, 3)
    ragged = Ragged.from_padded(features, torch.ones(4, 5, dtype=torch.bool))
    assert ragged.values.data_ptr() == features.data_ptr()
    assert ragged.positions is None


def test_blocks_hold_every_fragment_once_place_by_place():
    mask = torch.arange(6) < torch.tensor([2, 6, 3, 3, 1])[:, None]
    ragged = Ragged.from_padded(torch.arange(30.0).view(5, 6, 1), mask)
    blocks = list(packed_blocks(ragged, 3))
    assert torch.equal(torch.cat([block.index for block in blocks]).sort().values, torch.arange(15))
    assert [block.row.tolist() for block in blocks] == [[1, 2, 3], [0, 4]]
    assert [block.runs for block in blocks] == [[(3, 3), (3, 1)], [(1, 2), (1, 1)]]
    assert ragged.values[blocks[0].index[:3], 0].tolist() == [6.0, 12.0, 18.0]  # the first fragments of rows 1, 2, 3
