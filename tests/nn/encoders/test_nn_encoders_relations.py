"""Relations inside the three encoders: when they act, what they are given, and how they are built again."""

import pytest
import torch
from helpers_relations import LENGTHS, MASK, SIZE, WIDTH, moved, random_boxes, random_features, scene_graph
from jsonargparse import ArgumentParser

from itmatch.batch import Captions, Regions
from itmatch.nn import (
    Block,
    GRUTextEncoder,
    ImplicitRelationAttention,
    MeanPooling,
    RegionEncoder,
    Relation,
    SpatialSemanticGCN,
    TransformerTextEncoder,
)
from itmatch.ops import l2_normalize
from itmatch.spec import build

BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
MAKE = {
    "regions": lambda **kwargs: RegionEncoder(SIZE, SIZE, self_attention=True, num_heads=2, **kwargs),
    "gru": lambda **kwargs: GRUTextEncoder(20, SIZE, word_dim=6, **kwargs),
    "transformer": lambda **kwargs: TransformerTextEncoder(embed_dim=SIZE, config=BERT, **kwargs),
}


class Recorded(Relation):
    """Adds a number, and notes what it was given."""

    def __init__(self, add: float = 1.0) -> None:
        super().__init__()
        self.add, self.seen = add, []

    def forward(self, features, mask, boxes=None, graph=None):
        self.seen.append((features, mask, boxes, graph))
        return features * 2 + self.add


def data(name):
    if name == "regions":
        return Regions(random_features(torch.float32), MASK, random_boxes(torch.float32), graph=scene_graph())
    torch.manual_seed(3)
    return Captions(torch.randint(1, 20, MASK.shape), MASK, graph=scene_graph())


def encoder(name, relations=None, **kwargs):
    torch.manual_seed(0)
    return MAKE[name](relations=relations, **kwargs).eval()


@pytest.mark.parametrize("name", list(MAKE))
def test_relations_act_in_order_and_before_pooling_and_normalisation(name):
    first, second, inputs = Recorded(1.0), Recorded(-3.0), data(name)
    plain = encoder(name, normalize=False)(inputs).features
    found = encoder(name, [first, second], pooling=MeanPooling())(inputs)
    expected = ((plain * 2 + 1) * 2 - 3).masked_fill(~MASK[..., None], 0)
    torch.testing.assert_close(found.features, l2_normalize(expected))
    mean = expected.sum(1) / MASK.sum(1, keepdim=True)
    torch.testing.assert_close(found.pooled, l2_normalize(mean))
    for relation in (first, second):
        _, mask, boxes, graph = relation.seen[0]
        assert mask is inputs.mask
        assert boxes is (inputs.boxes if name == "regions" else None)
        assert graph is inputs.graph


@pytest.mark.parametrize("name", list(MAKE))
def test_the_relations_of_the_library(name):
    spatial = name == "regions"
    relations = [
        ImplicitRelationAttention(SIZE, 2, geometry=spatial),
        SpatialSemanticGCN(SIZE, spatial=spatial, num_predicates=3, num_heads=2),
    ]
    ours, inputs = encoder(name, relations, normalize=False), data(name)
    plain = encoder(name, normalize=False)(inputs).features
    torch.testing.assert_close(ours(inputs).features, plain)  # they start as the identity
    moved(ours.relations)
    found = ours(inputs).features
    assert (found - plain)[MASK].abs().max() > 0.1
    for row, length in enumerate(LENGTHS):
        assert found[row, length:].eq(0).all()
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in ours.relations.parameters())


@pytest.mark.parametrize("name", list(MAKE))
def test_without_relations_nothing_is_new(name):
    ours = encoder(name)
    assert not any("relations" in key for key in ours.state_dict())
    assert torch.equal(ours(data(name)).features, encoder(name, [])(data(name)).features)


@pytest.mark.parametrize("name", list(MAKE))
def test_rebuilt_from_spec(name):
    relations = [SpatialSemanticGCN(SIZE, spatial=False), ImplicitRelationAttention(SIZE, 4)]
    ours = encoder(name, relations)
    moved(ours)
    again = build(ours.spec, Block).eval()
    again.load_state_dict(ours.state_dict())
    assert again.spec == ours.spec
    assert [type(relation) for relation in again.relations] == [SpatialSemanticGCN, ImplicitRelationAttention]
    assert torch.equal(again(data(name)).features, ours(data(name)).features)
    assert {key.split(".")[1] for key in ours.state_dict() if key.startswith("relations.")} == {"0", "1"}


class Model(torch.nn.Module):
    def __init__(self, encoder: Block):
        super().__init__()
        self.encoder = encoder


@pytest.mark.parametrize("cls", [RegionEncoder, GRUTextEncoder, TransformerTextEncoder])
def test_command_line(cls):
    own = {"regions": {"in_features": 4}, "gru": {"vocabulary": 9}, "transformer": {"config": BERT}}
    kind = {RegionEncoder: "regions", GRUTextEncoder: "gru", TransformerTextEncoder: "transformer"}[cls]
    relations = [
        {"class_path": "itmatch.nn.ImplicitRelationAttention", "init_args": {"embed_dim": 8, "num_heads": 2}},
        {"class_path": "SpatialSemanticGCN", "init_args": {"embed_dim": 8, "spatial": False, "threshold": 0.2}},
    ]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Model, "model")
    arguments = {"embed_dim": 8, "relations": relations, **own[kind]}
    encoder = {"class_path": f"itmatch.nn.{cls.__name__}", "init_args": arguments}
    model = {"class_path": f"{__name__}.Model", "init_args": {"encoder": encoder}}
    built = parser.instantiate(parser.parse_object({"model": model})).model.encoder
    assert type(built) is cls
    assert [type(relation) for relation in built.relations] == [ImplicitRelationAttention, SpatialSemanticGCN]


def test_padding_in_the_middle_of_a_batch():
    regions = data("regions")
    ours = encoder("regions", [SpatialSemanticGCN(SIZE, num_predicates=3, num_heads=2)])
    moved(ours)
    garbage = ~MASK[..., None]
    dirty = Regions(
        regions.features.masked_fill(garbage, torch.nan),
        MASK,
        regions.boxes.masked_fill(garbage, torch.nan),
        graph=regions.graph,
    )
    assert torch.equal(ours(dirty).features, ours(regions).features)
    assert ours(dirty).features.shape == (len(LENGTHS), WIDTH, SIZE)
