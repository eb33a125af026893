import pytest
import torch

from itmatch.ops import hard_alignment
from itmatch.ops.pairs import few


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("words", "regions"), [(5, 7), (40, 7), (5, 2)])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_neither_blocks_nor_threads_change_what_is_best(monkeypatch, threads, words, regions, stored):
    torch.manual_seed(0)
    image, text = torch.randn(40, regions, 16).to(stored), torch.randn(4, words, 16)
    expected = torch.einsum("ird,twd->itrw", image.float(), text).amax(2)
    torch.set_num_threads(threads)
    torch.testing.assert_close(hard_alignment(image, None, text, None), expected)
    monkeypatch.setattr(few, "_CONVERTED_BYTES", 4 * 3 * 7 * 20)
    monkeypatch.setattr(few, "_FEW_BYTES", 4 * 5 * 7 * 20)
    monkeypatch.setattr("itmatch.ops.pairs.blocks._BLOCK_BYTES", {"cpu": 4 * 3 * 7 * 160})
    monkeypatch.setattr("itmatch.ops.pairs.blocks._SHARED_BYTES", 4 * 5 * 7 * 160)
    torch.testing.assert_close(hard_alignment(image, None, text, None), expected)


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_blocks_of_several_threads_are_larger(stored):
    keys = few.Ragged.from_padded(torch.zeros(2, 3, 4, dtype=stored), torch.ones(2, 3, dtype=torch.bool))
    sizes = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sizes[threads] = [few._bytes(keys, torch.zeros(1, 4), few=count) for count in (True, False)]
    assert sizes[2][1] > sizes[1][1]
    assert (sizes[2][0] > sizes[1][0]) == (stored == torch.float16)  # what is not converted is in large ones anyway
