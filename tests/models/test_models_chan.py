"""CHAN: the compositions build and learn, and with the public weights give the public numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_systems import learns

from itmatch.batch import Captions, Regions
from itmatch.data import CaptionItem, Collator, HuggingFaceTokenizer, Vocabulary, WordTokenizer
from itmatch.losses import HardNegativeTripletLoss, InfoNCELoss
from itmatch.models import MatchingModel, chan_bert, chan_gru
from itmatch.nn import (
    GRUTextEncoder,
    HardAligningSimilarity,
    LogSumExpPooling,
    MaxPooling,
    MeanPooling,
    RegionEncoder,
    SoftAligningSimilarity,
    SoftmaxPooling,
    SumPooling,
    TransformerTextEncoder,
)
from itmatch.ops import lengths_to_mask

REFERENCE = Path(__file__).parents[1] / "reference"
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "black", "white", "dog", "cat"]
TEXTS = ["a black dog", "a white dog", "a black cat", "a white cat"]
CODINGS = {
    "VHA": lambda pooling: HardAligningSimilarity("words", pooling),
    "THA": lambda pooling: HardAligningSimilarity("regions", pooling),
    "VSA": lambda pooling: SoftAligningSimilarity(0.1, "regions", pooling, normalize=True),
}
POOLINGS = {
    "max": MaxPooling(),
    "mean": MeanPooling(),
    "sum": SumPooling(),
    "lse": LogSumExpPooling(0.1, scaled=False),
    "softmax": SoftmaxPooling(0.1),
}
# Names of the public state dict -> ours.
RENAMED = {
    "image_encoder.feedforward.ln.": "image_encoder.norm.",
    "image_encoder.feedforward.attn.": "image_encoder.attention.",
}


@pytest.fixture(scope="module", params=["chan_basic", "chan_selfattention"])
def public(request):
    """A model of ours with the public weights, its inputs, and the public numbers."""
    with np.load(REFERENCE / f"{request.param}.npz", allow_pickle=False) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    attention = request.param == "chan_selfattention"
    model = MatchingModel(
        RegionEncoder(48, 32, self_attention=attention, mask_attention=False),  # the public code does not mask
        GRUTextEncoder(97, 32, word_dim=24),
        HardAligningSimilarity("words", POOLINGS["lse"]),
    )
    state = {}
    for key, value in data.items():
        if key.startswith(("image_encoder.", "text_encoder.")) and not key.startswith(
            "text_encoder.fc."
        ):  # unused there
            old = next((prefix for prefix in RENAMED if key.startswith(prefix)), "")
            state[RENAMED.get(old, "") + key.removeprefix(old)] = value
    model.load_state_dict(state)
    regions = Regions(data["regions"], lengths_to_mask(data["region_lengths"], data["regions"].shape[1]))
    captions = Captions(data["token_ids"], lengths_to_mask(data["token_lengths"], data["token_ids"].shape[1]))
    return model, regions, captions, data


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_public_scores(public, coding, pooling):
    model, regions, captions, data = public
    similarity = CODINGS[coding](POOLINGS[pooling])
    other = MatchingModel(model.image_encoder, model.text_encoder, similarity)
    expected = data[f"scores.{coding}.{pooling}"]
    known = expected.isfinite()  # the public softmax pooling is NaN in rows with padding
    assert known.any()
    assert pooling == "softmax" or known.all()
    # An unscaled log-sum-exp or a sum is some ten times as large as a cosine, and so is its rounding.
    tolerance = {"atol": 1e-5, "rtol": 2e-6}
    torch.testing.assert_close(other.score(regions, captions)[known], expected[known], **tolerance)
    torch.testing.assert_close(other(regions, captions).detach()[known], expected[known], **tolerance)


def test_public_losses(public):
    model, regions, captions, data = public
    scores = model(regions, captions)
    hardest, every = HardNegativeTripletLoss(margin=0.05), HardNegativeTripletLoss(margin=0.05, negatives="all")
    assert hardest(scores).item() == pytest.approx(data["loss.max_margin0.05"].item(), rel=1e-5)
    assert every(scores).item() == pytest.approx(data["loss.sum_margin0.05"].item(), rel=1e-5)
    mean = MatchingModel(model.image_encoder, model.text_encoder, CODINGS["VHA"](MeanPooling()))(regions, captions)
    # The public code adds the two directions.
    assert 2 * InfoNCELoss(0.01)(mean).item() == pytest.approx(data["loss.infonce_t0.01_m0"].item(), rel=1e-5)


def test_scaled_pooling_is_a_tenth_and_so_is_its_loss(public):
    model, regions, captions, data = public
    paper = MatchingModel(model.image_encoder, model.text_encoder, HardAligningSimilarity())
    scores = paper(regions, captions)
    torch.testing.assert_close(10 * scores, data["scores.VHA.lse"], atol=1e-5, rtol=2e-6)
    loss = HardNegativeTripletLoss(margin=0.005)(scores).item()
    assert 10 * loss == pytest.approx(data["loss.max_margin0.05"].item(), rel=1e-5)


def test_public_names_load_into_the_composition(public):
    model, regions, captions, _ = public
    ours = chan_gru(
        97, region_dim=48, embed_dim=32, word_dim=24, self_attention=model.image_encoder.attention is not None
    )
    ours.load_state_dict(model.state_dict())
    full = regions.mask.all(1)  # without padding it does not matter that attention is masked here
    torch.testing.assert_close(ours.score(regions, captions)[full], model.score(regions, captions)[full])


def test_gru_composition():
    model = chan_gru(WORDS)
    encoder = model.image_encoder
    assert (encoder.in_features, encoder.embed_dim, model.text_encoder.embed_dim) == (2048, 1024, 1024)
    assert encoder.attention.num_heads == 8
    assert encoder.mask_attention
    assert (model.text_encoder.word_dim, model.text_encoder.vocabulary_size) == (300, len(WORDS) + 1)  # and <mask>
    assert model.similarity.query == "words"
    assert (model.similarity.pooling.temperature, model.similarity.pooling.scaled) == (0.1, False)
    assert isinstance(model.tokenizer, WordTokenizer)


def test_vocabularies():
    sizes = {"region_dim": 6, "embed_dim": 8, "word_dim": 4}
    for vocabulary in (WORDS, Vocabulary(WORDS), [*WORDS, "<mask>"], Vocabulary([*WORDS, "<mask>"])):
        model = chan_gru(vocabulary, **sizes)
        assert model.tokenizer.vocabulary.words == [*WORDS, "<mask>"]
        assert model.text_encoder.vocabulary_size == len(WORDS) + 1
    number = chan_gru(12, **sizes, self_attention=False)
    assert number.tokenizer is None
    assert number.text_encoder.vocabulary_size == 12
    assert number.image_encoder.attention is None
    with pytest.raises(ValueError, match="no <pad> among its 2 words"):
        chan_gru(["a", "dog"], **sizes)


def test_bert_composition(tiny_bert):
    model = chan_bert(tiny_bert, region_dim=6, embed_dim=8)
    assert isinstance(model.text_encoder, TransformerTextEncoder)
    assert model.text_encoder.transformer.config.hidden_size == 16
    assert model.image_encoder.attention is None
    assert isinstance(model.similarity.pooling, MeanPooling)
    assert isinstance(model.tokenizer, HuggingFaceTokenizer)
    assert model.score(torch.randn(3, 4, 6), ["a dog runs .", "cat"]).shape == (3, 2)


@pytest.fixture(params=["gru", "bert"])
def model(request, tiny_bert):
    torch.manual_seed(0)
    if request.param == "gru":
        return chan_gru(WORDS, region_dim=6, embed_dim=16, word_dim=8)
    return chan_bert(tiny_bert, region_dim=6, embed_dim=16)


def test_learns(model):
    regions = Regions(torch.randn(4, 3, 6), lengths_to_mask(torch.tensor([3, 2, 3, 1])))
    captions = Collator(model.tokenizer)([CaptionItem(i, i, text) for i, text in enumerate(TEXTS)]).captions
    assert learns(model, regions, captions, steps=12, margin=0.1)


def test_saved_and_loaded(model, tmp_path):
    features = torch.randn(3, 4, 6)
    model.save_pretrained(tmp_path)
    assert torch.equal(MatchingModel.from_pretrained(tmp_path).score(features, TEXTS), model.score(features, TEXTS))
