import pytest
import torch

from itmatch.ops import hard_alignment
from itmatch.ops.pairs import few


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("words", "regions"), [(5, 7), (40, 7), (5, 2)])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
@pytest.mark.parametrize("dim", [16, 600])
@pytest.mark.parametrize("same", [True, False])
def test_neither_blocks_nor_threads_change_what_is_best(monkeypatch, threads, words, regions, stored, dim, same):
    torch.manual_seed(0)
    image, text = torch.randn(40, regions, dim).to(stored), torch.randn(4, words, dim)
    real = torch.ones(40, regions, dtype=torch.bool)
    real[3:30:4, 1:] = same
    expected = torch.einsum("ird,twd->itrw", image.float(), text)
    expected = expected.masked_fill(~real[:, None, :, None], -torch.inf).amax(2)
    torch.set_num_threads(threads)
    torch.testing.assert_close(hard_alignment(image, real, text, None), expected, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(few, "_CONVERTED_BYTES", 4 * 3 * 7 * 20)
    monkeypatch.setattr(few, "_FEW_BYTES", 4 * 5 * 7 * 20)
    monkeypatch.setattr("itmatch.ops.pairs.blocks._BLOCK_BYTES", {"cpu": 4 * 3 * 7 * 160})
    monkeypatch.setattr("itmatch.ops.threads._WORTH_THREADS", 0)
    torch.testing.assert_close(hard_alignment(image, real, text, None), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dim", [16, 600])
@pytest.mark.parametrize("same", [True, False])
def test_a_nan_is_never_lost(dim, same):
    image, real = torch.randn(9, 5, dim), torch.ones(9, 5, dtype=torch.bool)
    image[4, 2, 3] = torch.nan
    real[::3, 4] = same
    found = hard_alignment(image, real, torch.randn(2, 3, dim), None).isnan()
    assert found[4].all()
    assert found.sum() == found[4].numel()
