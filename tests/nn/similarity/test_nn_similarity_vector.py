"""SGR and SAF: the public numbers, a loop over pairs, and what no similarity may depend on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_textbook import LAYOUTS, lay_out

from itmatch.batch import Fragments
from itmatch.nn import (
    CosineSimilarity,
    GlobalAttentionPooling,
    InteractiveSimilarity,
    MeanPooling,
    SimilarityFiltration,
    SimilarityReasoning,
    VectorSimilarity,
)
from itmatch.ops import lengths_to_mask
from itmatch.ops.pairs import over_pairs as pairs

REFERENCE = Path(__file__).parents[2] / "reference"
RENAMED = [
    ("v_global_w", "region_pooling"), ("t_global_w", "word_pooling"), ("embedding_local.0", "local"),
    ("embedding_global.0", "whole"), ("embedding_local.1", "local_norm"), ("embedding_global.1", "whole_norm"),
    ("embedding_common.0", "common"), ("sim_tranloc_w", "local"), ("sim_tranglo_w", "whole"),
    ("sim_eval_w", "score"), ("SGR_module", "head.layers"), ("graph_query_w", "query"), ("graph_key_w", "key"),
    ("sim_graph_w", "out"), ("SAF_module.attn_sim_w", "head.gate"), ("SAF_module.bn.weight", "head.scale"),
    ("SAF_module.bn.bias", "head.shift"), ("SAF_module.bn.running_mean", "head.mean"),
    ("SAF_module.bn.running_var", "head.variance"),
]  # fmt: skip
HEADS = {"sgr": lambda: SimilarityReasoning(5, steps=2), "saf": lambda: SimilarityFiltration(5)}


def ragged(images=4, captions=5, regions=6, words=7, size=8, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    masks = torch.rand(images, regions) > 0.3, lengths_to_mask(torch.randint(1, words + 1, (captions,)), words)
    masks[0][:, 1] = True
    unit = torch.nn.functional.normalize
    image, text = torch.randn(images, regions, size, dtype=dtype), torch.randn(captions, words, size, dtype=dtype)
    return Fragments(unit(image, dim=2), masks[0]), Fragments(unit(text, dim=2), masks[1])


def build(head="sgr", **options):
    torch.manual_seed(1)
    similarity = VectorSimilarity(8, HEADS[head](), **options).double().eval()
    with torch.no_grad():
        for parameter in similarity.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return similarity


def loop(similarity, image, text):
    """One pair at a time, with its real fragments alone."""
    rows = []
    for i in range(len(image)):
        row = []
        for t in range(len(text)):
            v, w = image.features[i, image.mask[i]][None], text.features[t, text.mask[t]][None]
            real = [torch.ones(1, x.shape[1], 1, dtype=torch.bool) for x in (v, w)]
            clipped = torch.nn.functional.leaky_relu(v[0] @ w[0].T, 0.1)  # (r, w)
            weights = (9 * clipped / (clipped.norm(dim=1, keepdim=True) + 1e-8)).softmax(0)
            attended = torch.nn.functional.normalize(weights.T @ v[0], dim=1)
            v_bar = torch.nn.functional.normalize(similarity.region_pooling(v, real[0], 1), dim=1)
            t_bar = torch.nn.functional.normalize(similarity.word_pooling(w, real[1], 1), dim=1)
            vectors = [similarity.whole((v_bar - t_bar).square()), similarity.local((attended - w[0]).square())]
            vectors = torch.nn.functional.normalize(torch.cat(vectors), dim=1)[None]
            reduced = similarity.head(vectors, torch.ones(1, vectors.shape[1], dtype=torch.bool))
            row.append(similarity.score(reduced).sigmoid()[0, 0])
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["sgr", "saf"])
def test_the_public_numbers(name):
    with np.load(REFERENCE / f"sgraf_{name}.npz", allow_pickle=False) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    head = {"sgr": SimilarityReasoning, "saf": SimilarityFiltration}[name](16)
    similarity = VectorSimilarity(32, head, GlobalAttentionPooling(32, batch_norm=True, positions=36)).eval()
    state = {}
    for key, value in data.items():
        if key.startswith("similarity.") and not key.startswith("similarity.SAF_module.bn.num"):
            short = key.removeprefix("similarity.")
            for old, new in RENAMED:
                short = short.replace(old, new)
            state[short] = value
    similarity.load_state_dict(state)
    image, text = data["image_fragments"], data["text_fragments"]
    masks = torch.ones(image.shape[:2], dtype=torch.bool), lengths_to_mask(data["token_lengths"], text.shape[1])
    scores = similarity(Fragments(image, masks[0]), Fragments(text, masks[1]))
    torch.testing.assert_close(scores, data["scores"], atol=1e-5, rtol=1e-5)
    shorter = Fragments(image[:, :30], masks[0][:, :30])
    with pytest.raises(ValueError, match="30 to 30 fragments, expected 36 everywhere"):
        similarity(shorter, Fragments(text, masks[1]))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_scores_and_gradients_of_a_loop(head, chunk_size):
    similarity, (image, text) = build(head, chunk_size=chunk_size), ragged()
    leaves = [image.features.requires_grad_(), text.features.requires_grad_(), *similarity.parameters()]
    found, expected = similarity(image, text), loop(similarity, image, text)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    weight = torch.randn_like(found)
    weight[0, :3] = 0
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), leaves, allow_unused=True),
        torch.autograd.grad((expected * weight).sum(), leaves, allow_unused=True),
        strict=True,
    ):
        # a bias before the softmax of the pooling has no gradient in the loop, and one of 0 in the tiles
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_does_not_matter(head, layout, monkeypatch):
    similarity, (image, text) = build(head), ragged()
    lay_out(monkeypatch, layout)
    leaves = [image.features.requires_grad_(), text.features.requires_grad_(), *similarity.parameters()]
    found, expected = similarity(image, text), loop(similarity, image, text)
    weights = torch.zeros_like(found)
    weights[0, [0, 2, 3]] = torch.tensor([1.0, -2.0, 0.5], dtype=weights.dtype)  # an image with three captions
    weights[1, 3] = weights[3, 0] = 1.0
    ours, theirs = (torch.autograd.grad(x, leaves, weights, allow_unused=True) for x in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("head", HEADS)
def test_padding_is_not_read(head):
    similarity, (image, text) = build(head), ragged()
    expected = similarity(image, text)
    dirty = [Fragments(f.features.masked_fill(~f.mask[..., None], 7.0), f.mask) for f in (image, text)]
    torch.testing.assert_close(similarity(*dirty), expected, atol=1e-12, rtol=1e-12)
    wider = torch.nn.functional.pad(text.features, (0, 0, 0, 3)), torch.nn.functional.pad(text.mask, (0, 3))
    torch.testing.assert_close(similarity(image, Fragments(*wider)), expected, atol=1e-12, rtol=1e-12)


def test_in_training_a_pair_does_not_depend_on_the_other_captions():
    similarity, (image, text) = build("saf", region_pooling=MeanPooling(), word_pooling=MeanPooling()), ragged()
    similarity.train()
    whole = similarity(image, text)
    torch.testing.assert_close(similarity(image[1:3], text[2:4]), whole[1:3, 2:4])


def test_align_is_the_attention_of_the_words():
    similarity, (image, text) = build(), ragged()
    shown = similarity.align(image[:1], text[:1])
    assert shown.shape == (6, 7)
    torch.testing.assert_close(shown.sum(0), text.mask[0].double())


@pytest.mark.parametrize(
    "similarity",
    [
        VectorSimilarity(8, SimilarityReasoning(5)),
        InteractiveSimilarity(),
        InteractiveSimilarity(region_alignment=True, cross_level="score"),
    ],
)
def test_layers_take_half_precision_inner_products(similarity, monkeypatch):
    """As under CUDA autocast, which alone makes the products in half precision."""
    image, text = ragged(dtype=torch.float32)
    similarity.eval()
    expected = similarity(image, text)
    monkeypatch.setattr(pairs, "compute_dtype", lambda *_: torch.bfloat16)
    image.features.requires_grad_()
    found = similarity(image, text)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)
    found.sum().backward()
    assert image.features.grad.isfinite().all()


def test_a_model_in_half_precision():
    image, text = ragged(dtype=torch.bfloat16)
    similarity = build().to(torch.bfloat16)
    scores = similarity(image, text)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    wide = [Fragments(side.features.double(), side.mask) for side in (image, text)]
    torch.testing.assert_close(scores.double(), similarity.double()(*wide), atol=0.1, rtol=0.1)


def test_a_last_batch_of_one_image_trains():
    image, text = ragged(dtype=torch.float32)
    similarity = VectorSimilarity(8, SimilarityReasoning(5)).train()
    scores = similarity(image[:1], text)
    assert scores.isfinite().all()
    assert similarity.region_pooling.whole_norm.num_batches_tracked == 0
    assert similarity.region_pooling.local_norm.num_batches_tracked == 1


def test_what_does_not_fit():
    image, text = ragged()
    empty = Fragments.unchecked(image.features, image.mask & (torch.arange(4) != 2)[:, None])
    with pytest.raises(ValueError, match="image: row 2 has no valid fragment"):
        build()(empty, text)
    with pytest.raises(ValueError, match="fragments of size 8, expected embed_dim 4"):
        VectorSimilarity(4, SimilarityReasoning(5))(image, text)
    with pytest.raises(ValueError, match="steps: 0"):
        SimilarityReasoning(4, steps=0)
    with pytest.raises(ValueError, match="goes with batch_norm"):
        GlobalAttentionPooling(4, positions=36)
    with pytest.raises(ValueError, match=r"expected \(N, L, 4\) and dim=1"):
        GlobalAttentionPooling(4)(image.features, image.mask[..., None], 1)


def test_pooling_normalises_over_real_fragments():
    image, _ = ragged(dtype=torch.float32)
    pooling = GlobalAttentionPooling(8, dropout=0.0, batch_norm=True)
    mask = image.mask[..., None]
    found = pooling(image.features, mask, dim=1)
    dirty = image.features.masked_fill(~mask, 50.0)
    torch.testing.assert_close(pooling(dirty, mask, dim=1), found)
    assert found.shape == (4, 8)
    same = Fragments(image.features, image.mask, pooled=found)
    assert CosineSimilarity()(same, same).diagonal().allclose(torch.ones(4))
