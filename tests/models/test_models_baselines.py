"""VSE++, VSE-infinity, SCAN, SGRAF: the compositions are what they say, learn, and survive saving."""

import pytest
import torch
from helpers_systems import learns

from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import CaptionItem, Collator
from itmatch.models import MatchingModel, scan_gru, sgraf_gru, vse_infty_bert, vse_infty_gru, vse_pp_gru
from itmatch.nn import (
    CrossAttentionSimilarity,
    GeneralizedPooling,
    GRUTextEncoder,
    LastPooling,
    LogSumExpPooling,
    SimilarityFiltration,
    SimilarityReasoning,
)
from itmatch.ops import lengths_to_mask

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "black", "white", "dog", "cat"]
TEXTS = ["a black dog", "a white dog", "a black cat", "a white cat sits"]
SIZES = {"region_dim": 6, "embed_dim": 16}
MODELS = {
    "vse++": lambda _: vse_pp_gru(WORDS, **SIZES, word_dim=8),
    "vse_infty": lambda _: vse_infty_gru(WORDS, **SIZES, word_dim=8),
    "vse_infty_bert": lambda bert: vse_infty_bert(bert, **SIZES),
    "scan_t2i": lambda _: scan_gru(WORDS, **SIZES, word_dim=8),
    "scan_i2t": lambda _: scan_gru(WORDS, "regions", pooling=LogSumExpPooling(1 / 5), **SIZES, word_dim=8),
    "sgr": lambda _: sgraf_gru(WORDS, SimilarityReasoning(8), **SIZES, word_dim=8),
    "saf": lambda _: sgraf_gru(WORDS, SimilarityFiltration(8), **SIZES, word_dim=8),
}


@pytest.fixture(params=MODELS)
def model(request, tiny_bert):
    torch.manual_seed(0)
    return MODELS[request.param](tiny_bert)


def test_learns(model):
    regions = Regions(torch.randn(4, 3, 6), lengths_to_mask(torch.tensor([3, 2, 3, 2])))
    captions = Collator(model.tokenizer)([CaptionItem(i, i, text) for i, text in enumerate(TEXTS)]).captions
    assert learns(model, regions, captions, steps=60, margin=0.1)  # SGR takes its time


def test_saved_and_loaded(model, tmp_path):
    features = torch.randn(3, 4, 6)
    model.save_pretrained(tmp_path)
    assert torch.equal(MatchingModel.from_pretrained(tmp_path).score(features, TEXTS), model.score(features, TEXTS))


def test_parts():
    scan = scan_gru(WORDS, "regions", **SIZES).similarity
    assert isinstance(scan, CrossAttentionSimilarity)
    assert (scan.query, scan.temperature) == ("regions", None)
    infinity = vse_infty_gru(WORDS, **SIZES)
    assert isinstance(infinity.image_encoder.pooling, GeneralizedPooling)
    assert infinity.image_encoder.mlp is not None
    assert isinstance(sgraf_gru(WORDS, **SIZES).similarity.head, SimilarityReasoning)
    assert sgraf_gru(WORDS, positions=36, **SIZES).similarity.region_pooling.positions == 36


def test_one_direction_reads_no_later_word():
    encoder = GRUTextEncoder(9, 8, word_dim=4, bidirectional=False, pooling=LastPooling())
    ids, mask = torch.tensor([[1, 4, 5, 2]]), torch.ones(1, 4, dtype=torch.bool)
    found = encoder(Captions(ids, mask))
    changed = encoder(Captions(torch.tensor([[1, 4, 7, 2]]), mask))
    assert torch.equal(found.features[:, :2], changed.features[:, :2])
    assert not torch.equal(found.features[:, 2], changed.features[:, 2])
    torch.testing.assert_close(found.pooled, found.features[:, -1])
    assert encoder.rnn.weight_hh_l0.shape == (24, 8)


def test_the_last_real_value():
    values = torch.randn(3, 4, 5)
    mask = torch.tensor([[True, True, False, False], [True, False, True, False], [False] * 4])
    expected = torch.stack([values[0, 1], values[1, 2], torch.zeros(5)])
    assert torch.equal(LastPooling()(values, mask[..., None], dim=1), expected)
    assert torch.equal(LastPooling()(values.movedim(1, 2), mask[:, None]), expected)
    assert Fragments(values[:2], mask[:2], pooled=expected[:2]).pooled.shape == (2, 5)
