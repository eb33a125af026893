import torch

from itmatch.ops.pairs.blocks import packed_blocks
from itmatch.ops.ragged import Ragged


def test_blocks_hold_every_fragment_once_place_by_place():
    mask = torch.arange(6) < torch.tensor([2, 6, 3, 3, 1])[:, None]
    ragged = Ragged.from_padded(torch.arange(30.0).view(5, 6, 1), mask)
    blocks = list(packed_blocks(ragged, 3))
    assert torch.equal(torch.cat([block.index for block in blocks]).sort().values, torch.arange(15))
    assert [block.row.tolist() for block in blocks] == [[2, 0, 4], [1, 3]]
    assert [block.runs for block in blocks] == [[(1, 3), (1, 2), (1, 1)], [(3, 2), (3, 1)]]
    assert ragged.values[blocks[0].index[:3], 0].tolist() == [12.0, 0.0, 24.0]  # the first fragments of rows 2, 0, 4
