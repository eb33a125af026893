import threading
import time

import pytest
import torch
from helpers_textbook import gradients, lay_out, ragged_pair

from itmatch.nn import TiledSimilarity
from itmatch.ops import threads


class Slow(TiledSimilarity):
    """Reads a parameter before and after another thread has had its time."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, dtype=torch.double))
        self.seen = set()

    def score_tile(self, tile):
        self.seen.add(threading.get_ident())
        first = self.weight[0] * tile.scores.square().sum((2, 3))
        time.sleep(0.02)
        return (first + self.weight[1] * (self.weight[2] * tile.scores).sin().sum((2, 3)))[..., None]


@pytest.mark.skipif(not threads._openmp(), reason="this PyTorch has one number of threads for all")
@pytest.mark.parametrize("layout", ["small tiles", "single pairs in small parts"])
def test_two_threads_give_parameters_the_gradient_of_one(layout, monkeypatch):
    """A thread lends the module other parameters for a while, and the other thread must not meet these."""
    torch.manual_seed(0)
    similarity, (image, text) = Slow(), ragged_pair(images=3, captions=4)
    lay_out(monkeypatch, layout)
    monkeypatch.setattr(threads, "_WORTH_THREADS", 0)
    weight, inputs = similarity.weight, (image.features, text.features, similarity.weight)
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        similarity.seen.clear()
        scores = similarity(image, text)
        assert layout != "small tiles" or len(similarity.seen) == count
        similarity.seen.clear()
        found.append([scores, *gradients(scores, inputs, torch.arange(12).view(3, 4))])
        assert len(similarity.seen) == count
        assert similarity.weight is weight
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one, atol=1e-12, rtol=1e-12)
