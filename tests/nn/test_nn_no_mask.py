"""Without a mask everything is real."""

import pytest
import torch
from helpers_relations import SIZE, moved, random_boxes, random_features, scene_graph

from itmatch import nn

POOLINGS = {
    "mean": nn.MeanPooling(),
    "sum": nn.SumPooling(),
    "max": nn.MaxPooling(),
    "last": nn.LastPooling(),
    "top k": nn.TopKPooling(),
    "softmax": nn.SoftmaxPooling(),
    "lse": nn.LogSumExpPooling(length_normalized=True),
    "generalized": nn.GeneralizedPooling(8, 4),
}
RELATIONS = {
    "order": lambda: nn.ContextualOrder(SIZE, "raster"),
    "implicit": lambda: nn.ImplicitRelationAttention(SIZE, 2, geometry=True),
    "explicit": lambda: nn.SpatialSemanticGCN(SIZE, num_heads=2, threshold=0.1),
    "textual": lambda: nn.TextualRelationGraph(SIZE, num_heads=2),
    "visual": lambda: nn.VisualRelationGraph(SIZE, 3, num_heads=2, neighbours=1),
}


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("dim", [1, 2, -1])
def test_poolings(name, dim):
    values = torch.randn(2, 3, 5)
    real = torch.ones(2, 3, 5, dtype=torch.bool)
    torch.testing.assert_close(POOLINGS[name](values, dim=dim), POOLINGS[name](values, real, dim))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_attention_pooling(batch_norm):
    pooling, values = nn.GlobalAttentionPooling(5, 0.0, batch_norm=batch_norm), torch.randn(2, 3, 5)
    real = torch.ones(2, 3, 1, dtype=torch.bool)
    torch.testing.assert_close(pooling(values, dim=1), pooling(values, real, 1))


@pytest.mark.parametrize("name", RELATIONS)
def test_relations(name):
    relation = moved(RELATIONS[name]().double())
    given = random_features(), torch.ones(3, 6, dtype=torch.bool), random_boxes(), scene_graph()
    found = [relation(given[0], mask, *given[2:]) for mask in (None, given[1])]
    found = [one if isinstance(one, torch.Tensor) else torch.cat((one.features, one.nodes), 1) for one in found]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("head", [nn.SimilarityReasoning(4), nn.SimilarityFiltration(4)])
def test_heads(head):
    vectors = torch.randn(2, 3, 4)
    torch.testing.assert_close(head(vectors), head(vectors, torch.ones(2, 3, dtype=torch.bool)))
