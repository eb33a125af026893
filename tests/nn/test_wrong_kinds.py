"""Blocks of others, and blocks of ours in the code of others, say in one line what they were given."""

import pytest
import torch
from torch import nn

from itmatch.batch import Captions, Fragments, Regions
from itmatch.nn import (
    CosineSimilarity,
    CrossAttentionSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    ImageEncoder,
    MeanPooling,
    RegionEncoder,
    Similarity,
    TextEncoder,
)


@pytest.mark.parametrize(
    "similarity", [CosineSimilarity(), CrossAttentionSimilarity(), HardAligningSimilarity(pooling=MeanPooling())]
)
def test_a_similarity_of_tensors_names_fragments(similarity):
    values = torch.randn(2, 3, 4)
    with pytest.raises(TypeError, match=r"^image: a Tensor, expected an itmatch.batch.Fragments$"):
        similarity(values, values)
    with pytest.raises(TypeError, match=r"^text: a Tensor, expected an itmatch.batch.Fragments$"):
        similarity(Fragments(values), values)


def test_an_encoder_names_what_it_reads():
    with pytest.raises(TypeError, match=r"^regions: a Tensor, expected an itmatch.batch.Regions$"):
        RegionEncoder(4, embed_dim=8)(torch.randn(2, 3, 4))
    with pytest.raises(TypeError, match=r"^captions: a list, expected an itmatch.batch.Captions$"):
        GRUTextEncoder(7, embed_dim=8)(["a dog"])


class Bare(ImageEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = 8
        self.linear = nn.Linear(4, 8)

    def forward(self, regions):
        return self.linear(regions.features)


class BareText(TextEncoder):
    embed_dim = 8

    def forward(self, captions):
        return None


def test_an_encoder_that_returns_no_fragments_is_named():
    with pytest.raises(TypeError, match=r"^Bare returned: a Tensor, expected an itmatch.batch.Fragments$"):
        Bare()(Regions(torch.randn(2, 3, 4)))
    with pytest.raises(TypeError, match=r"^BareText returned: a NoneType, expected an itmatch.batch.Fragments$"):
        BareText()(Captions(torch.tensor([[1, 2]])))


class Transposed(Similarity):
    def forward(self, image, text):
        return torch.einsum("ird,twd->ti", image.features, text.features)


class NoScores(Similarity):
    pass


def test_a_similarity_that_returns_no_scores_is_named():
    image, text = Fragments(torch.randn(2, 3, 4)), Fragments(torch.randn(5, 3, 4))
    told = r"^Transposed returned \(5, 2\), expected \(2, 5\) \(images, captions\): they are transposed$"
    with pytest.raises(ValueError, match=told):
        Transposed()(image, text)
    with pytest.raises(TypeError, match=r"^NoScores returned: a NoneType, expected a torch.Tensor$"):
        NoScores()(image, text)
