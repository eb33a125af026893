"""CMSEI: what the composition consists of, that its relations matter, that it learns, and that it is saved."""

import pytest
import torch
from helpers_systems import TEXTS, WORDS, captions, change_start, learns, regions

from itmatch.data import HuggingFaceTokenizer, WordTokenizer
from itmatch.models import MatchingModel, cmsei_bert, cmsei_gru
from itmatch.nn import GRUTextEncoder, InteractiveSimilarity, SpatialSemanticGCN, TransformerTextEncoder

SMALL = {"region_dim": 6, "embed_dim": 16}


def gru(**options):
    torch.manual_seed(0)
    return cmsei_gru(WORDS, **SMALL, word_dim=8, **options)


@pytest.fixture(params=["gru", "bert"])
def model(request, tiny_bert):
    torch.manual_seed(0)
    return gru() if request.param == "gru" else cmsei_bert(tiny_bert, **SMALL)


def test_composition(tiny_bert):
    model = cmsei_gru(WORDS)
    encoder = model.image_encoder
    assert (encoder.in_features, encoder.embed_dim, model.text_encoder.embed_dim) == (2048, 1024, 1024)
    assert encoder.attention is None
    (relation,) = encoder.relations
    assert isinstance(relation, SpatialSemanticGCN)
    assert set(relation.branches) == {"spatial", "semantic"}
    assert (model.text_encoder.word_dim, type(model.text_encoder)) == (300, GRUTextEncoder)
    assert isinstance(model.tokenizer, WordTokenizer)
    assert isinstance(model.similarity, InteractiveSimilarity)
    bert = cmsei_bert(tiny_bert, **SMALL)
    assert isinstance(bert.text_encoder, TransformerTextEncoder)
    assert isinstance(bert.tokenizer, HuggingFaceTokenizer)
    assert [type(part) for part in bert.image_encoder.relations] == [SpatialSemanticGCN]
    number = cmsei_gru(12, **SMALL)
    assert number.tokenizer is None
    assert number.text_encoder.vocabulary_size == 12


@pytest.mark.parametrize(("spatial", "semantic"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("num_predicates", [None, 3])
def test_each_relation_matters_if_it_is_there(spatial, semantic, num_predicates):
    model = change_start(gru(spatial=spatial, semantic=semantic, num_predicates=num_predicates))
    text, whole = captions(model), torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 3, 4)
    before = model.score(regions(), text)
    moved = model.score(regions(boxes=whole), text)
    assert torch.equal(before, moved) != spatial
    turned = regions()
    object.__setattr__(turned.graph, "edge_index", torch.tensor([[0, 1, 1, 1], [2, 2, 0, 0]]))
    assert torch.equal(before[:2], model.score(turned, text)[:2]) != semantic
    assert torch.equal(before[2:], model.score(turned, text)[2:])


def test_what_is_not_used_need_not_be_there():
    text = captions(gru())
    assert gru(spatial=False).score(regions(boxes=None), text).shape == (4, 4)
    assert gru(semantic=False).score(regions(graph=None), text).shape == (4, 4)
    with pytest.raises(
        ValueError,
        match=r"no boxes, expected.* spatial: false in model\.image_encoder\.init_args\.relations",
    ):
        gru().score(regions(boxes=None), text)
    with pytest.raises(
        ValueError,
        match=r"no graph, expected.* semantic: false in model\.image_encoder\.init_args\.relations",
    ):
        gru().score(regions(graph=None), text)


def test_relations_of_little_confidence_are_passed_over():
    default, all_of_them = change_start(gru()), change_start(gru(min_confidence=0.0))
    all_of_them.load_state_dict(default.state_dict())
    text = captions(default)
    same = (default.score(regions(), text) == all_of_them.score(regions(), text)).all(1)
    assert same.tolist() == [False, True, True, True]  # the first image has one of confidence 0.2


def test_learns(model):
    assert learns(model, regions(), captions(model), steps=20, margin=0.2)
    assert all(
        parameter.grad is not None and bool((parameter.grad != 0).any())
        for parameter in model.image_encoder.relations.parameters()
    )


def test_saved_and_loaded(model, tmp_path):
    change_start(model).save_pretrained(tmp_path)
    loaded = MatchingModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.score(regions(), TEXTS), model.score(regions(), TEXTS))
