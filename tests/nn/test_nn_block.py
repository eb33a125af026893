import pytest
import torch
from torch import nn

from itmatch.losses import ScoreLoss
from itmatch.nn import Block, HardAligningSimilarity, LogSumExpPooling, MeanPooling
from itmatch.spec import build


class Projection(Block):
    def __init__(self, size: int, pooling: Block | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.pooling = pooling

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.linear(values)


def test_is_a_module_and_rebuilds_itself():
    block = Projection(3, pooling=LogSumExpPooling(0.2, scaled=False))
    assert len(list(block.parameters())) == 2
    again = build(block.spec, Block)
    assert type(again) is Projection
    assert again.linear.weight.shape == (3, 3)
    assert again.pooling.temperature == 0.2
    assert again.pooling.scaled is False
    assert again.spec == block.spec


def test_similarity_rebuilds_itself_with_its_pooling():
    similarity = HardAligningSimilarity("both", MeanPooling(), region_pooling=LogSumExpPooling(), chunk_size=3)
    again = build(similarity.spec, HardAligningSimilarity)
    assert again.query == "both"
    assert type(again.pooling) is MeanPooling
    assert type(again.region_pooling) is LogSumExpPooling
    assert again.chunk_size == 3


class Bare(Block):
    """What forgets the constructor of its base, and goes on."""

    def __init__(self, layer: bool = False) -> None:
        if layer:
            self.layer = nn.Linear(2, 2)


class BareLoss(ScoreLoss):
    def __init__(self) -> None:
        self.weight = 0.5

    def forward(self, scores, positives=None):
        return scores.mean()


class Below(Projection):
    def __init__(self) -> None:
        self.size = 3


@pytest.mark.parametrize("build_it", [Bare, lambda: Bare(layer=True), BareLoss, Below])
def test_a_block_that_leaves_its_base_out_is_told_so(build_it):
    with pytest.raises(TypeError, match=r"^(Bare|BareLoss|Below)\.__init__ has to begin with super\(\)\.__init__\(\)$"):
        build_it()


def test_other_errors_of_a_constructor_stay():
    class Wrong(Block):
        def __init__(self) -> None:
            super().__init__()
            self.size = self.nothing

    with pytest.raises(AttributeError, match="nothing"):
        Wrong()
