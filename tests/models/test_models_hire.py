"""Hire: what the composition consists of, how it relates to CMSEI, that it learns, and that it is saved."""

import pytest
import torch
from helpers_systems import TEXTS, WORDS, captions, change_start, learns, regions

from itmatch.models import MatchingModel, cmsei_gru, hire_bert, hire_gru
from itmatch.nn import ImplicitRelationAttention, InteractiveSimilarity, SpatialSemanticGCN, TransformerTextEncoder

SMALL = {"region_dim": 6, "embed_dim": 16}


def gru(**options):
    torch.manual_seed(0)
    return hire_gru(WORDS, **SMALL, word_dim=8, **options)


@pytest.fixture(params=["gru", "bert", "bert with word attention"])
def model(request, tiny_bert):
    torch.manual_seed(0)
    if request.param == "gru":
        return gru()
    return hire_bert(tiny_bert, **SMALL, word_attention="attention" in request.param)


def parts(relations):
    return [type(part) for part in relations or []]


def test_composition(tiny_bert):
    for build in (lambda **o: hire_bert(tiny_bert, **o), lambda **o: hire_gru(WORDS, **o)):
        model = build()
        encoder = model.image_encoder
        assert (encoder.in_features, encoder.embed_dim, model.text_encoder.embed_dim) == (2048, 1024, 1024)
        assert parts(encoder.relations) == [
            ImplicitRelationAttention,
            SpatialSemanticGCN,
        ]  # the implicit one comes first
        assert parts(model.text_encoder.relations) == []
        assert isinstance(model.similarity, InteractiveSimilarity)
        assert parts(build(word_attention=True).text_encoder.relations) == [ImplicitRelationAttention]
    assert isinstance(hire_bert(tiny_bert, **SMALL).text_encoder, TransformerTextEncoder)


def test_it_begins_as_cmsei_does():
    """The implicit relation starts as the identity, so with equal weights the two agree."""
    hire = gru()
    cmsei = cmsei_gru(WORDS, **SMALL, word_dim=8)
    state = {name.replace("relations.1.", "relations.0."): value for name, value in hire.state_dict().items()
             if "relations.0." not in name}  # fmt: skip
    cmsei.load_state_dict(state)
    text = captions(hire)
    torch.testing.assert_close(hire.score(regions(), text), cmsei.score(regions(), text))


def test_implicit_relations_need_no_edge():
    """Regions of an image without overlaps and without relations still learn from each other."""
    model = change_start(gru(spatial=False))
    text, before = captions(model), model.score(regions(), captions(model))
    features = regions().features.clone()
    features[2, 0] += 1
    hire = model.image_encoder(regions(features=features)).features[2, 1:]
    assert not torch.allclose(hire, model.image_encoder(regions()).features[2, 1:])
    assert torch.equal(before, model.score(regions(), text))
    cmsei = change_start(cmsei_gru(WORDS, **SMALL, word_dim=8, spatial=False)).image_encoder
    assert torch.equal(cmsei(regions(features=features)).features[2, 1:], cmsei(regions()).features[2, 1:])


def test_learns(model):
    assert learns(model, regions(), captions(model), steps=20, margin=0.2)


def test_saved_and_loaded(model, tmp_path):
    change_start(model).save_pretrained(tmp_path)
    loaded = MatchingModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.score(regions(), TEXTS), model.score(regions(), TEXTS))
