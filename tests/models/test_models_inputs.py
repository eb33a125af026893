"""What a model takes: images with different numbers of regions, arrays, and nothing at all."""

import numpy as np
import pytest
import torch

from itmatch.batch import Captions, Fragments, Regions, SceneGraph
from itmatch.data import WordTokenizer
from itmatch.models import MatchingModel
from itmatch.nn import (
    ClassEmbedding,
    ClipImageEncoder,
    ClipTextEncoder,
    ContextualOrder,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GeneralizedPooling,
    GlobalAttentionPooling,
    GraphMatchingSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    ImplicitRelationAttention,
    InteractiveSimilarity,
    MaxPooling,
    RegionEncoder,
    SoftAligningSimilarity,
    SpatialSemanticGCN,
    TextualRelationGraph,
    TransformerTextEncoder,
    VectorSimilarity,
    VisualRelationGraph,
)
from itmatch.ops import lengths_to_mask

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "black", "dog", "cat"]
TEXTS = ["a black dog", "cat", "a cat"]


def make(similarity=None):
    torch.manual_seed(0)
    return MatchingModel(
        RegionEncoder(6, 8, self_attention=True, num_heads=2, pooling=GeneralizedPooling(8, 4), mlp=True),
        GRUTextEncoder(len(WORDS), 8, word_dim=4, pooling=MaxPooling()),
        HardAligningSimilarity() if similarity is None else similarity,
        WordTokenizer(WORDS),
    ).eval()


def features(*counts, kind=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 6, generator=generator).to(kind) for count in counts]


def padded(rows):
    whole = torch.zeros(len(rows), max(map(len, rows)), 6)
    for target, row in zip(whole, rows, strict=True):
        target[: len(row)] = row
    return Regions(whole, lengths_to_mask(torch.tensor([len(row) for row in rows])))


@pytest.mark.parametrize(
    "give",
    [
        lambda rows: rows,
        tuple,
        lambda rows: [row.numpy() for row in rows],
        lambda rows: [row.numpy()[::-1].copy()[::-1] for row in rows],
        lambda rows: [row.tolist() for row in rows],
        lambda rows: np.array([*[row.numpy() for row in rows], None], dtype=object)[:-1],
        lambda rows: [rows[0].double(), *rows[1:]],
    ],
)
def test_images_of_different_numbers_of_regions(give):
    model, rows = make(), features(5, 1, 3)
    expected = model.score(padded(rows), TEXTS)
    torch.testing.assert_close(model.score(give(rows), TEXTS), expected, atol=1e-6, rtol=0)
    encoded = model.encode_images(give(rows), batch_size=2)
    assert encoded.mask.sum(1).tolist() == [5, 1, 3]
    torch.testing.assert_close(model.score(encoded, TEXTS), expected, atol=1e-6, rtol=0)
    assert model.align(give(rows)[:1], "a dog").shape == (5, 4)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([torch.zeros(3, 6), torch.zeros(3, 5)], ValueError, r"images\[1\]: shape \(3, 5\), expected \(regions, 6\)"),
        ([torch.zeros(3, 6), torch.zeros(6)], ValueError, r"images\[1\]: shape \(6,\)"),
        ([torch.zeros(6)], ValueError, r"images\[0\]: shape \(6,\), expected \(regions, features\)"),
        ([torch.zeros(3, 6), torch.zeros(0, 6)], ValueError, r"images\[1\]: shape \(0, 6\).* one region at least"),
        ([torch.zeros(3, 6), None], TypeError, r"images\[1\]: None, expected an array of numbers"),
        ([padded(features(2))], ValueError, r"images\[0\]: a Regions"),
        ([torch.full((2, 6), float("nan"))], ValueError, "NaN or inf at row 0, place 0"),
        ([torch.zeros(2, 6, dtype=torch.int64)], ValueError, "torch.int64, expected float"),
        (
            np.zeros((48, 64, 3), np.uint8),
            ValueError,
            r"images: uint8 of shape \(48, 64, 3\), expected features; of",
        ),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], ValueError, r"images\[0\]: uint8 of shape \(3, 8, 8\), expected"),
        ("a dog", ValueError, "this model reads region features of 6 numbers, not photos"),
        (None, TypeError, "images: a NoneType"),
        (7, TypeError, "images: a int"),
        (iter([]), TypeError, "images: a list_iterator"),
    ],
)
def test_what_is_no_image(images, error, message):
    with pytest.raises(error, match=message) as caught:
        make().encode_images(images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1])
def test_blocks_have_a_row_at_least(value):
    model = make()
    for name, call in (
        ("batch_size", lambda: model.encode_images(features(2), batch_size=value)),
        ("batch_size", lambda: model.encode_texts(TEXTS, batch_size=value)),
        ("chunk_size", lambda: model.score(features(2), TEXTS, chunk_size=value)),
    ):
        with pytest.raises(ValueError, match=f"{name}: {value}, expected a whole number, 1 or more"):
            call()


# ------------------------------------------------------------------------------------------------------ no rows

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**SMALL, "vocab_size": 30, "max_position_embeddings": 8, "projection_dim": 16},
    "vision_config": {**SMALL, "image_size": 16, "patch_size": 8, "projection_dim": 16},
}
SIGLIP = {**CLIP, "model_type": "siglip"}
BERT = {"model_type": "bert", "vocab_size": 50, "max_position_embeddings": 16, **SMALL}
ENCODERS = {
    "regions": lambda: make().image_encoder,
    "labels": lambda: RegionEncoder(6, 8, labels=ClassEmbedding(4, 3), input_norm="layer"),
    "attention pooling": lambda: RegionEncoder(6, 8, pooling=GlobalAttentionPooling(8, batch_norm=True)),
    "order": lambda: RegionEncoder(6, 8, relations=[ContextualOrder(8, "raster")]),
    "implicit": lambda: RegionEncoder(6, 8, relations=[ImplicitRelationAttention(8, 2, geometry=True)]),
    "explicit": lambda: RegionEncoder(6, 8, relations=[SpatialSemanticGCN(8, num_heads=2)]),
    "nodes": lambda: RegionEncoder(6, 8, relations=[VisualRelationGraph(8, 3, num_heads=2, neighbours=2)]),
    "clip images": lambda: ClipImageEncoder(config=CLIP),
    "siglip images": lambda: ClipImageEncoder(config=SIGLIP),
    "gru": lambda: make().text_encoder,
    "word relations": lambda: GRUTextEncoder(9, 8, word_dim=4, relations=[TextualRelationGraph(8, num_heads=2)]),
    "bert": lambda: TransformerTextEncoder(embed_dim=8, config=BERT),
    "clip texts": lambda: ClipTextEncoder(config=CLIP),
    "siglip texts": lambda: ClipTextEncoder(config=SIGLIP),
}


def nothing(encoder, length):
    none = torch.zeros(0, dtype=torch.int64)
    mask, ids = torch.zeros(0, length, dtype=torch.bool), torch.zeros(0, length, dtype=torch.int64)
    graph = SceneGraph(none.expand(2, 0), none, 0, none, none.float())
    if hasattr(encoder, "in_features"):
        return Regions(torch.zeros(0, length, encoder.in_features), mask, torch.zeros(0, length, 4), ids, graph)
    return Captions(ids, mask)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_empty_batch_gives_fragments_of_no_rows(name, length, training):
    encoder = ENCODERS[name]().train(training)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    fragments = encoder(nothing(encoder, length))
    assert len(fragments) == 0
    assert fragments.features.shape[2] in (8, 16)
    total = fragments.features.sum() + (0 if fragments.pooled is None else fragments.pooled.sum())
    total.backward()
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in encoder.parameters())
    assert any(parameter.grad is not None for parameter in encoder.parameters())
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())  # no statistics
    assert all(module.training is training for module in encoder.modules())


SIMILARITIES = {
    "cosine": CosineSimilarity,
    "hard": lambda: HardAligningSimilarity("both", GeneralizedPooling(8, 4)),
    "soft": lambda: SoftAligningSimilarity(0.1, "both", normalize=True),
    "words": CrossAttentionSimilarity,
    "regions": lambda: CrossAttentionSimilarity("regions"),
    "interactive": lambda: InteractiveSimilarity(region_alignment=True),
    "vector": lambda: VectorSimilarity(8),
    "graph": GraphMatchingSimilarity,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_scores_of_nothing(name, training):
    similarity = SIMILARITIES[name]().train(training)
    for images, captions in ((0, 3), (3, 0), (0, 0)):
        for length in (4, 0):
            sides = []
            for rows in (images, captions):
                mask = torch.ones(rows, length if rows == 0 else 4, dtype=torch.bool)
                values = torch.randn(*mask.shape, 8, requires_grad=training)
                sides.append(Fragments(values, mask, is_relation=torch.zeros_like(mask) if name == "graph" else None))
            assert similarity(*sides).shape == (images, captions)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_empty_lists(name):
    model = make(SIMILARITIES[name]())
    assert model.score([], TEXTS).shape == (0, 3)
    assert model.score(features(4, 2), []).shape == (2, 0)
    assert model.score([], []).shape == (0, 0)
    assert len(model.encode_images([])) == len(model.encode_texts([])) == 0
    model.tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer"):
        model.encode_texts([])


def test_empty_lists_of_clip():
    model = MatchingModel(ClipImageEncoder(config=CLIP), ClipTextEncoder(config=CLIP), CosineSimilarity())
    texts = Captions(torch.tensor([[5, 7]]), torch.ones(1, 2, dtype=torch.bool))
    assert model.score([], texts).shape == (0, 1)
    assert model.score(torch.randn(2, 4, 192), texts[:0]).shape == (2, 0)
