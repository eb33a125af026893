"""ReSG: what the composition consists of, that its relations matter, that it learns, and that it is saved."""

import pytest
import torch
from helpers_systems import TEXTS, WORDS, captions, change_start, regions

from itmatch.batch import Captions, SceneGraph
from itmatch.data import HuggingFaceTokenizer, WordTokenizer
from itmatch.evaluation import rank_fragments
from itmatch.losses import CenterHingeLoss, HardNegativeTripletLoss, Objective, PositiveNegativeMarginLoss
from itmatch.models import MatchingModel, resg_bert, resg_gru
from itmatch.nn import (
    ClassEmbedding,
    GraphMatchingSimilarity,
    TextualRelationGraph,
    TransformerTextEncoder,
    VisualRelationGraph,
)

SMALL = {"region_dim": 6, "embed_dim": 16}


def gru(**options):
    torch.manual_seed(0)
    return resg_gru(WORDS, **SMALL, word_dim=8, **options)


@pytest.fixture(params=["gru", "bert"])
def model(request, tiny_bert):
    torch.manual_seed(0)
    options = {"predicates": 3, "min_confidence": 0.0}
    return gru(**options) if request.param == "gru" else resg_bert(tiny_bert, **SMALL, **options)


def test_composition(tiny_bert):
    model = resg_gru(WORDS)
    assert (model.image_encoder.in_features, model.image_encoder.embed_dim) == (2048, 1024)
    assert [type(part) for part in model.image_encoder.relations] == [VisualRelationGraph]
    assert [type(part) for part in model.text_encoder.relations] == [TextualRelationGraph]
    assert isinstance(model.tokenizer, WordTokenizer)
    assert isinstance(model.similarity, GraphMatchingSimilarity)
    bert = resg_bert(tiny_bert, **SMALL)
    assert isinstance(bert.text_encoder, TransformerTextEncoder)
    assert isinstance(bert.tokenizer, HuggingFaceTokenizer)
    assert resg_gru(12, **SMALL).tokenizer is None


def test_relations_on_both_sides_matter():
    model = change_start(gru(predicates=3))
    text = captions(model)
    before = model.score(regions(), text)
    turned = regions()
    object.__setattr__(turned.graph, "edge_index", torch.tensor([[0, 1, 1, 1], [2, 2, 0, 0]]))
    same = (model.score(turned, text) == before).all(1)
    assert same.tolist() == [False, False, True, True]
    edges = SceneGraph(torch.tensor([[3], [1]]), torch.tensor([2]), 4, torch.tensor([2]))
    parsed = Captions(text.input_ids, text.mask, edges)
    assert not torch.equal(model.score(regions(), parsed)[:2], before[:2])


def test_relations_of_little_confidence_are_passed_over():
    default, all_of_them = change_start(gru()), change_start(gru(min_confidence=0.0))
    all_of_them.load_state_dict(default.state_dict())
    text = captions(default)
    same = torch.isclose(default.score(regions(), text), all_of_them.score(regions(), text)).all(1)
    assert same.tolist() == [False, False, True, True]  # images 0 and 1 have one of 0.2 and 0.1


def test_labels():
    labels = torch.tensor([[0, 1, -1], [2, 0, -1], [1, 1, 1], [2, -1, -1]])
    model = gru(labels=ClassEmbedding(3, dim=4))
    text = captions(model)
    before = model.score(regions(labels=labels), text)
    other = labels.clone()
    other[0, 0], other[3, 1] = 2, 7  # the second is padding
    same = (model.score(regions(labels=other), text) == before).all(1)
    assert same.tolist() == [False, True, True, True]
    with pytest.raises(ValueError, match="no labels, expected"):
        model.score(regions(), text)


def test_learns_with_its_three_losses(model):
    objective = Objective(
        {
            "triplet": HardNegativeTripletLoss(margin=0.2, negatives="all"),
            "center": CenterHingeLoss(),
            "margin": PositiveNegativeMarginLoss(),
        }
    )
    images, text, losses = regions(), captions(model), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(20):
        image, words = model.image_encoder(images), model.text_encoder(text)
        scores = model.similarity(image, words)
        losses.append(objective(scores, None, image.pooled, words.pooled))
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    for part in (model.image_encoder, model.text_encoder):
        layer = part.relations[0].relations.hidden  # the last of them that learns, for what follows it starts at 0
        assert bool((layer.weight.grad != 0).any())


def test_ranks_are_those_of_all_scores(model):
    change_start(model)
    image, text = model.encode_images(regions()), model.encode_texts(TEXTS)
    own = torch.arange(4)
    small = rank_fragments(model.similarity, image, text, own, chunk_size=1, caption_chunk_size=3)
    whole = rank_fragments(model.similarity, image, text, own)
    assert torch.equal(small.image_to_text, whole.image_to_text)
    assert torch.equal(small.text_to_image, whole.text_to_image)


def test_saved_and_loaded(model, tmp_path):
    change_start(model).save_pretrained(tmp_path)
    loaded = MatchingModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.score(regions(), TEXTS), model.score(regions(), TEXTS))
