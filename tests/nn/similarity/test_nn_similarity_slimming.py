"""Patch slimming: the public numbers, a loop over pairs, and what no similarity may depend on."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_textbook import LAYOUTS, all_pairs, assert_padding_does_not_matter, gradients, lay_out, ragged_pair
from torch.nn.functional import leaky_relu, normalize

from itmatch.batch import Fragments
from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import PatchSlimmingSimilarity
from itmatch.nn.similarity import slimming
from itmatch.ops import lengths_to_mask
from itmatch.ops.pairs.tiles import FragmentGroup, PairTile

REFERENCE = Path(__file__).parents[2] / "reference"
CLOSE = {"atol": 1e-9, "rtol": 1e-9}
CASES = ["vit", "swin", "odd_cls", "odd", "allkept", "square", "full"]
LAYERS = {"ln": 0, "w1": 1, "w2": 3}
OPTIONS = {
    "class token": {},
    "no class token": {"class_token": False},
    "most kept": {"kept": 0.9, "merged": 0.3},
    "all kept": {"kept": 1.0},
    "all kept, empty rest": {"kept": 1.0, "class_token": False, "empty_rest": True},
}


def build(size=6, num_patches=9, seed=1, **options):
    torch.manual_seed(seed)
    similarity = PatchSlimmingSimilarity(size, num_patches, **options).double()
    with torch.no_grad():
        for parameter in similarity.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        similarity.scale.fill_(2.5)
    return similarity


def patches_and_words(**sizes):
    """Ragged sides; the first region of an image, its class token, is real."""
    image, text = ragged_pair(**{"regions": 9, "seed": 3, "garbage": False} | sizes)
    mask = image.mask.clone()
    mask[:, 0] = True
    dirty = [f.masked_fill(~m[..., None], torch.nan) for f, m in ((image.features, mask), (text.features, text.mask))]
    return Fragments(dirty[0].detach().requires_grad_(), mask), Fragments(dirty[1].detach().requires_grad_(), text.mask)


def unit(x):
    return normalize(x, dim=-1, eps=1e-12)


def loop(similarity, image, text):
    """One pair at a time, with its real fragments alone; every token is built."""

    def pair(regions, words):
        first = int(similarity.class_token)
        whole, patches = regions[:first], regions[first:]
        z = (unit(patches) @ unit(patches.mean(0)) + unit(patches) @ unit(words.mean(0))).detach()
        order = z.argsort(descending=True)
        count = math.ceil(len(patches) * similarity.kept)
        kept, rest = order[:count], order[count:]
        logits = similarity.scale * similarity.weight(patches)
        tokens = [whole]
        if count:
            tokens.append(logits[kept].softmax(0).T @ patches[kept])
        if len(rest):
            tokens.append(z[rest].softmax(0)[None] @ patches[rest])
        elif similarity.empty_rest:
            tokens.append(torch.zeros_like(words[:1]))
        met = leaky_relu(unit(words) @ unit(torch.cat(tokens)).T, 0.1)
        return met.amax(1).mean() + met.amax(0).mean()

    return all_pairs(image, text, pair)


def public(case):
    arrays = np.load(REFERENCE / "laps.npz", allow_pickle=False)
    patches, words = (torch.from_numpy(arrays[f"{case}.{name}"]).requires_grad_() for name in ("patches", "words"))
    flag = "has_cls" if case == "loss" else "treated_as_cls"
    settings = [arrays[f"{case}.{name}"].item() for name in ("num_patches", "rho", "aggr")]
    similarity = PatchSlimmingSimilarity(
        patches.shape[2], *settings, class_token=bool(arrays[f"{case}.{flag}"]), empty_rest=True
    )
    weights = {"scale": similarity.scale}
    for name, place in LAYERS.items():
        weights |= {f"{name}.{part}": getattr(similarity.weight[place], part) for part in ("weight", "bias")}
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(torch.from_numpy(arrays[f"{case}.{name}"]))
    mask = lengths_to_mask(torch.from_numpy(arrays[f"{case}.word_lengths"]), words.shape[1])
    return arrays, similarity, Fragments(patches), Fragments(words, mask), weights


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_public_code_of_laps(case):
    arrays, similarity, image, text, weights = public(case)
    assert similarity.num_tokens == arrays[f"{case}.n_aggregated"]
    scores = similarity(image, text)
    torch.testing.assert_close(scores.detach(), torch.from_numpy(arrays[f"{case}.scores"]), atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(similarity(image, text), scores, atol=1e-6, rtol=0)
    if f"{case}.cotangent" not in arrays:
        return
    scores.backward(torch.from_numpy(arrays[f"{case}.cotangent"]))
    for name, value in {"patches": image.features, "words": text.features, **weights}.items():
        expected = torch.from_numpy(arrays[f"{case}.grad.{name}"]).view_as(value)
        torch.testing.assert_close(value.grad, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)


@pytest.mark.parametrize(("name", "negatives"), [("sum", "all"), ("hardest", "hardest")])
def test_the_objective_agrees_with_the_public_code_of_laps(name, negatives):
    """There an image that occurs twice loses by its own caption alone; the term of the kept patches is constant, 0."""
    arrays, similarity, image, text, weights = public("loss")
    ids = torch.from_numpy(arrays["loss.image_ids"])
    scores = similarity(image, text)
    torch.testing.assert_close(scores.detach(), torch.from_numpy(arrays["loss.scores"]), atol=1e-5, rtol=0)
    same = ids[:, None] == ids
    row, column = same.nonzero(as_tuple=True)
    lost = HardNegativeTripletLoss(float(arrays["loss.margin"]), negatives, "none")(scores, same)
    value = lost[row == column].sum()
    value.backward()
    for total in ("triplet", "total"):
        assert value.item() == pytest.approx(float(arrays[f"loss.{name}.{total}"]), rel=1e-5)
    assert arrays["loss.ratio_term"] == 0
    if name == "hardest":  # a term of an objective may have a weight that grows
        assert 0.25 * value.item() == pytest.approx(float(arrays["loss.hardest.total_warmup_alpha_0.25"]), rel=1e-5)
    for key, leaf in {"patches": image.features, "words": text.features, "w2.weight": weights["w2.weight"]}.items():
        expected = torch.from_numpy(arrays[f"loss.{name}.grad.{key}"]).view_as(leaf)
        torch.testing.assert_close(leaf.grad, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)


def test_the_public_gradients_are_read():
    arrays = np.load(REFERENCE / "laps.npz", allow_pickle=False)
    assert [case for case in CASES if f"{case}.cotangent" in arrays] == ["vit", "odd_cls", "odd"]


@pytest.mark.parametrize("case", [*CASES, "loss"])
def test_the_public_choice_of_patches_and_their_tokens(case, monkeypatch):
    arrays, similarity, image, text, _ = public(case)
    found, largest, first = [], slimming._largest, int(similarity.class_token)
    monkeypatch.setattr(slimming, "_largest", lambda *given: found.append((*given, largest(*given))) or found[-1][-1])
    tile = PairTile(
        FragmentGroup(image.features, None, similarity.image_values(image)),
        FragmentGroup(text.features.masked_fill(~text.mask[..., None], 0), text.mask),
    )
    weights, _ = similarity._tokens(tile)  # (I, T, J, R)
    ((salience, *_, kept),) = found
    salience, kept = salience.detach()[..., first:].transpose(0, 1), kept[..., first:].transpose(0, 1)  # (T, I, N)
    if case == "loss":
        own = torch.arange(len(kept))
        assert kept[own, own].float().mean().item() == pytest.approx(float(arrays["loss.keep_fraction"]))
        return
    close_to(salience, arrays[f"{case}.image_saliency"] + arrays[f"{case}.text_saliency"])
    assert torch.equal(kept, torch.from_numpy(arrays[f"{case}.kept"]))
    assert (kept.sum(2) == int(arrays[f"{case}.n_kept"])).all()
    if f"{case}.fused" in arrays:
        tokens = (weights @ image.features[:, None]).detach().transpose(0, 1)  # (T, I, J, D)
        close_to(tokens[:, :, first:-1], arrays[f"{case}.aggregated"])
        close_to(tokens[:, :, -1], arrays[f"{case}.fused"])


def close_to(found, expected):
    expected = torch.from_numpy(expected)
    torch.testing.assert_close(found, expected, atol=1e-5 * max(1, float(expected.abs().max())), rtol=0)


@pytest.mark.parametrize("options", OPTIONS)
def test_agrees_with_a_loop(options):
    similarity, (image, text) = build(**OPTIONS[options]), patches_and_words()
    ours, theirs = similarity(image, text), loop(similarity, image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    with torch.no_grad():
        torch.testing.assert_close(similarity(image, text), theirs, **CLOSE)
    inputs = image.features, text.features, *similarity.parameters()
    torch.manual_seed(1)
    for share in (1.0, 0.3):  # most pairs have no gradient after hard-negative mining
        weights = torch.randn(5, 7, dtype=torch.double) * (torch.rand(5, 7) < share)
        for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
            torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", ["class token", "all kept, empty rest"])
def test_layout_does_not_matter(options, layout, monkeypatch):
    similarity, (image, text) = build(**OPTIONS[options]), patches_and_words(images=7, captions=9)
    lay_out(monkeypatch, layout)
    ours, theirs = similarity(image, text), loop(similarity, image, text)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.manual_seed(1)
    weights = torch.randn(7, 9, dtype=torch.double) * (torch.rand(7, 9) < 0.3)
    inputs = image.features, text.features, *similarity.parameters()
    for a, b in zip(gradients(ours, inputs, weights), gradients(theirs, inputs, weights), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_and_single_pairs(chunk_size):
    image, text = patches_and_words()
    scores = build()(image, text)
    torch.testing.assert_close(build(chunk_size=chunk_size)(image, text), scores, **CLOSE)
    torch.testing.assert_close(build()(image[1:2], text[4:5]), scores[1:2, 4:5], **CLOSE)


@pytest.mark.parametrize("options", OPTIONS)
def test_padding_does_not_matter(options):
    class_token = OPTIONS[options].get("class_token", True)
    assert_padding_does_not_matter(build(**OPTIONS[options] | {"class_token": class_token}), CLOSE)


def test_the_order_of_patches_and_words_does_not_matter():
    similarity, (image, text) = build(class_token=False), patches_and_words()
    places = torch.randperm(9)
    shuffled = Fragments(image.features[:, places], image.mask[:, places])
    torch.testing.assert_close(similarity(shuffled, text), similarity(image, text), **CLOSE)
    words = Fragments(text.features.flip(1), text.mask.flip(1))
    torch.testing.assert_close(similarity(image, words), similarity(image, text), **CLOSE)


@pytest.mark.parametrize("options", ["class token", "all kept"])
@pytest.mark.parametrize("pair", [(0, 0), (1, 2)])
def test_gradcheck(options, pair, monkeypatch):
    image, text = ragged_pair(images=2, captions=3, size=4, regions=5, words=3, seed=5, holes=False, garbage=False)
    (v, v_mask), (t, t_mask) = (
        (x.features[[n]].detach(), x.mask[[n]]) for x, n in zip((image, text), pair, strict=True)
    )
    similarity = build(4, 5, merged=0.8, **{"kept": 0.5} | OPTIONS[options])
    found = []
    with monkeypatch.context() as spy:  # no gradient goes through what chooses: it is measured once
        salience = PatchSlimmingSimilarity._salience
        spy.setattr(PatchSlimmingSimilarity, "_salience", lambda *given: found.append(salience(*given)) or found[-1])
        similarity(Fragments(v, v_mask), Fragments(t, t_mask))
    monkeypatch.setattr(PatchSlimmingSimilarity, "_salience", lambda *_: found[0])
    function = lambda v, t, *_: similarity(Fragments(v, v_mask), Fragments(t, t_mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, (v.requires_grad_(), t.requires_grad_(), *similarity.parameters()))


def test_an_image_without_patches_has_its_class_token():
    image, text = patches_and_words(seed=4)
    image.mask[1, 1:] = False
    similarity = build()
    scores = similarity(image, text)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores, loop(similarity, image, text), **CLOSE)


def test_a_missing_rest_is_no_zero_vector():
    image, text = patches_and_words()
    with_zero = build(kept=1.0, empty_rest=True)(image, text)
    assert ((build(kept=1.0)(image, text) - with_zero).abs() > 1e-3).any()
    torch.testing.assert_close(build(kept=0.5, empty_rest=True)(image[:1], text), build(kept=0.5)(image[:1], text))


def test_the_caption_chooses():
    image = Fragments(torch.eye(4)[None])
    words = Fragments(torch.tensor([[[1.0, 0.1, 0, 0]], [[0, 0, 0.1, 1.0]]]))
    similarity = PatchSlimmingSimilarity(4, 4, kept=0.5, merged=0.5, class_token=False)
    with torch.no_grad():
        similarity.scale.zero_()
    shown = [similarity.align(image, words[i : i + 1])[:, 0] > 0.1 for i in range(2)]
    assert shown[0].tolist() == [True, True, False, False]
    assert shown[1].tolist() == [False, False, True, True]


@pytest.mark.parametrize("class_token", [True, False])
def test_align_shares_out_the_scores_of_the_words(class_token):
    similarity, (image, text) = build(class_token=class_token), patches_and_words()
    shown = similarity.align(image[1:2], text[2:3])
    assert shown.shape == (9, 8)
    real = image.mask[1][:, None] & text.mask[2]
    assert (shown[~real] == 0).all()
    regions, words = image.features[1, image.mask[1]], text.features[2, text.mask[2]]
    first = int(class_token)
    patches = regions[first:]
    z = unit(patches) @ unit(patches.mean(0)) + unit(patches) @ unit(words.mean(0))
    order = z.argsort(descending=True)
    kept, rest = order[: math.ceil(len(z) / 2)], order[math.ceil(len(z) / 2) :]
    logits = similarity.scale * similarity.weight(patches)
    tokens = torch.cat(
        (regions[:first], logits[kept].softmax(0).T @ patches[kept], z[rest].softmax(0)[None] @ patches[rest])
    )
    best = leaky_relu(unit(words) @ unit(tokens).T, 0.1).amax(1)
    torch.testing.assert_close(shown[:, text.mask[2]].sum(0), best)


def test_half_precision():
    image, text = (Fragments(side.features.detach().nan_to_num().half(), side.mask) for side in patches_and_words())
    similarity = build().float()
    scores = similarity(image, text)
    assert scores.dtype == torch.float32
    wide = [Fragments(side.features.double(), side.mask) for side in (image, text)]
    torch.testing.assert_close(scores.double(), similarity.double()(*wide), atol=1e-4, rtol=0)
    assert similarity.half()(image, text).isfinite().all()


def test_what_does_not_fit():
    image, text = patches_and_words()
    with pytest.raises(ValueError, match="fragments of size 6, expected embed_dim 8"):
        PatchSlimmingSimilarity(8)(image, text)
    with pytest.raises(ValueError, match=r"num_patches 4 \* merged 0.2 \* kept 0.5: no token, expected 1 or more"):
        PatchSlimmingSimilarity(8, 4, merged=0.2)
    with pytest.raises(ValueError, match=r"kept: 1\.5, expected a number between 0 and 1"):
        PatchSlimmingSimilarity(8, kept=1.5)
    image.mask[2, 0] = False
    with pytest.raises(ValueError, match="image: row 2 has no class token"):
        build()(image, text)
