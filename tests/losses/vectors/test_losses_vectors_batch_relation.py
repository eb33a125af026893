"""Relations among the samples of a batch: the public code, the formula in loops, and what must not matter."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from helpers_hrem import beginning, mask_of, reference

from itmatch.batch import Fragments
from itmatch.losses import (
    BatchRelationLoss,
    DistanceWeightedNegatives,
    HardNegativeTripletLoss,
    LadderLoss,
    Loss,
    Matches,
    ScoreLoss,
    hard_negative_triplet_loss,
)
from itmatch.losses.vectors._fragment_relevance import fragment_alignments
from itmatch.losses.vectors.batch_relation import consistency
from itmatch.spec import build

ORDER = ["base", "image_fusedtext", "fusedimage_text", "fused_fused"]
IDS = reference("image_ids")
SAME = IDS[:, None] == IDS


def near(found, name, bound=1e-5):
    expected = reference(name)
    assert (found.detach() - expected).abs().max() <= bound * max(1.0, expected.abs().max().item()), name


def sides_of(case):
    """Fragments of both sides of a case of the file."""
    if case == "chain":
        image = reference("image.fragments"), mask_of("region_lengths", "image.fragments"), "image.vector"
        text = reference("text.fragments"), mask_of("token_lengths", "text.fragments"), "text.vector"
    else:
        every = torch.ones(10, 12, dtype=torch.bool)
        image = reference("long.fragments"), every, "long.image_vectors"
        text = reference("long.words"), mask_of("long.word_lengths", "long.words"), "long.text_vectors"
    return [
        Fragments.unchecked(features, mask, reference(name).clone().requires_grad_())
        for features, mask, name in (image, text)
    ]


def public(case, loss=None, **settings):
    """The loss with the weights of a case; only in the first do padding and short captions meet."""
    made = BatchRelationLoss(
        len(reference("fusion.layers.0.norm1.bias")) if case == "chain" else 24,
        loss,
        num_heads=4,
        dropout=0.0,
        warmup_epochs=0,
        padding_counts=case == "chain",
        **settings,
    )
    for part in ("i2t", "t2i"):
        getattr(made, f"mlp_{part}").load_state_dict(beginning(f"{case}.adjacency.mlp_{part}."))
    if case == "chain":
        made.fusion.load_state_dict(beginning("fusion.layers.0."))
    return made


class Diagonal(ScoreLoss):
    """The public triplet: of captions of the same image the own one counts, and no other is a negative."""

    def __init__(self, negatives):
        super().__init__()
        self.negatives = negatives

    def forward(self, scores, positives=None):
        total = scores.new_zeros(())
        for rows, mask in ((scores, positives), (scores.T, positives.T)):
            hinge = (0.2 + rows - rows.diagonal()[:, None]).clamp(min=0).masked_fill(mask, 0)
            total = total + (hinge.amax(1) if self.negatives == "hardest" else hinge).sum()
        return total


def draw(monkeypatch, names, sides=("image", "text")):
    """The published loss, which draws what the public code has drawn, on both sides of each name in turn."""
    drawn = iter([reference(f"{name}.{side}.negatives") for name in names for side in sides])
    monkeypatch.setattr(torch, "multinomial", lambda *_: next(drawn)[:, None])
    return HardNegativeTripletLoss(0.2, DistanceWeightedNegatives(512, far=1.7, sample=True))


@pytest.mark.parametrize("case", ["chain", "long"])
def test_the_graph_agrees_with_the_public_code(case):
    image, text = sides_of(case)
    loss, n = public(case), len(image.features)
    regions, words = fragment_alignments(image, text, padding_counts=case == "chain", chunk_size=5)
    for found, name in ((regions, "i2t"), (words, "t2i")):
        mean, largest = (found.mean, found.largest) if name == "i2t" else (found.mean.T, found.largest.transpose(0, 1))
        near(mean, f"{case}.mean.{name}")
        near(largest, f"{case}.top10.{name}")
    across = loss.relevances(regions, words)
    graph = loss.graph(image.pooled, text.pooled, regions, words, across)
    blocks = {"i2i": (0, 0), "i2t": (0, n), "t2i": (n, 0), "t2t": (n, n)}
    for name, (row, column) in blocks.items():
        near(graph.relevance[row : row + n, column : column + n], f"{case}.relevance.{name}")
        found = graph.connected[row : row + n, column : column + n]
        assert torch.equal(found, reference(f"{case}.connected.{name}"))
    near(consistency(image.pooled, text.pooled, *across), f"{case}.regulariser")
    if case == "chain":
        raw = []
        loss.fusion.register_forward_hook(lambda *given: raw.append(given[-1][0]))
        for weight in (1.0, 1.5):
            near(graph.bias(weight).clamp(min=-1e9), f"w{weight}.attention_bias")
            loss.relevance_weight = weight
            for found, side in zip(loss.fused(image.pooled, text.pooled, graph), ("image", "text"), strict=True):
                near(found, f"w{weight}.fused.{side}")
            near(raw[-1], f"w{weight}.fused_raw")


def test_without_padding_both_forms_are_one():
    image, text = sides_of("long")
    forms = [fragment_alignments(image, text, padding_counts=both) for both in (True, False)]
    for first, second in zip(*forms, strict=True):
        torch.testing.assert_close(first.mean, second.mean)
        torch.testing.assert_close(first.largest, second.largest)


def test_the_masked_form_agrees_with_the_public_code():
    """There padding is 0 and padded regions are left out, and short captions end in zeros."""
    image = Fragments.unchecked(reference("masked.fragments"), mask_of("masked.region_lengths", "masked.fragments"))
    text = Fragments.unchecked(reference("masked.words"), mask_of("masked.word_lengths", "masked.words"))
    loss = BatchRelationLoss(24, num_heads=4, dropout=0.0)
    for part in ("i2t", "t2i"):
        getattr(loss, f"mlp_{part}").load_state_dict(beginning(f"masked.adjacency.mlp_{part}."))
    regions, words = fragment_alignments(image, text)
    near(regions.mean, "masked.mean.i2t")
    near(words.mean.T, "masked.mean.t2i")
    of_captions, of_images = loss.relevances(regions, words)
    near(of_captions, "masked.relevance.i2t")
    near(of_images.T, "masked.relevance.t2i")


def tangent(gradient, vectors):
    """Without the part along the vectors, which the encoders' normalisation takes away."""
    return gradient - (gradient * vectors).sum(1, keepdim=True) * vectors


@pytest.mark.parametrize("weight", [1.0, 1.5])
@pytest.mark.parametrize("negatives", ["hardest", "sum", "weighted"])
def test_the_loss_agrees_with_the_public_code(weight, negatives, monkeypatch):
    (image, text), name, parts = sides_of("chain"), f"w{weight}.{negatives}", []
    inner = draw(monkeypatch, [f"{name}.{part}" for part in ORDER]) if negatives == "weighted" else Diagonal(negatives)
    inner.register_forward_hook(lambda *given: parts.append(given[-1]))
    loss = public("chain", inner, relevance_weight=weight).eval()
    value = loss.of(Matches(positives=SAME, fragments=(image, text)))
    value.backward()
    near(value, f"{name}.total")
    for part, found in zip(ORDER, parts, strict=True):
        near(found, f"{name}.loss.{part}")
    near((value - sum(parts)) / 10, f"{name}.loss.regulariser")
    for side, fragments in (("image", image), ("text", text)):
        expected = tangent(reference(f"{name}.grad.{side}_vectors"), fragments.pooled.detach())
        bound = 1e-5 * max(1.0, expected.abs().max().item())
        assert (tangent(fragments.pooled.grad, fragments.pooled.detach()) - expected).abs().max() <= bound
    if negatives == "hardest":
        for part, start in (
            (loss.fusion, "fusion.layers.0."),
            (loss.mlp_i2t, "adjacency.mlp_i2t."),
            (loss.mlp_t2i, "adjacency.mlp_t2i."),
        ):
            given = beginning(f"{name}.grad.{start}")
            assert given
            for key in given:
                near(part.get_parameter(key).grad, f"{name}.grad.{start}{key}")


@pytest.mark.parametrize("weight", [1.0, 1.5])
@pytest.mark.parametrize("negatives", ["hardest", "sum"])
def test_the_first_epochs_agree_with_the_public_code(negatives, weight):
    image, text = sides_of("chain")
    loss = public("chain", Diagonal(negatives), relevance_weight=weight)
    loss.warmup_epochs = 1
    matches = Matches(positives=SAME, fragments=(image, text))
    value = loss.of(matches)
    near(value, f"w{weight}.{negatives}.total_in_warmup")
    value.backward()
    assert all(not parameter.grad.any() for parameter in loss.parameters())  # there, and 0
    loss.set_epoch(1)
    near(loss.of(matches), f"w{weight}.{negatives}.total")


@pytest.mark.parametrize(("weight", "far"), [(1.0, 1.7), (1.5, 1.9)])
def test_the_chances_of_negatives_agree_with_the_public_code(weight, far):
    rule = DistanceWeightedNegatives(512, far=far, sample=True)
    image = {"": reference("image.vector"), "fused": reference(f"w{weight}.fused.image")}
    text = {"": reference("text.vector"), "fused": reference(f"w{weight}.fused.text")}
    for name, (first, second) in zip(ORDER, (("", ""), ("", "fused"), ("fused", ""), ("fused", "fused")), strict=True):
        scores = image[first] @ text[second].T
        for side, rows in (("image", scores), ("text", scores.T)):
            row = SAME.nonzero()[:, 0]
            near(rule.weights(rows[row], ~SAME[row]), f"w{weight}.weighted.{name}.{side}.probabilities", 2e-4)


@pytest.mark.parametrize("case", ["edge", "opposite"])
def test_a_row_of_its_own_kind_does_not_silence_the_others(case):
    """There the loss of a whole direction is 0 where a row has no allowed negative, or an opposite one."""
    scores = reference(f"{case}.image_vectors") @ reference(f"{case}.text_vectors").T
    own = torch.eye(6, dtype=torch.bool)
    for side, rows in (("image", scores), ("text", scores.T)):
        found = DistanceWeightedNegatives(512, far=1.7).weights(rows, ~own)
        torch.testing.assert_close(found.sum(1), torch.ones(6))
        expected = reference(f"{case}.{side}.probabilities")
        drawable = (expected.sum(1) - 1).abs() < 1e-5
        assert drawable.all() == bool(reference(f"{case}.{side}.drawn"))
        assert (found - expected)[drawable].abs().max() <= 2e-4


def test_the_side_that_is_not_silenced_loses_what_it_does_in_the_public_code(monkeypatch):
    scores = reference("edge.image_vectors") @ reference("edge.text_vectors").T
    rule = draw(monkeypatch, ["edge"], ["text"]).negatives  # there the images lose 0
    lost = rule.of_rows(scores.T, torch.eye(6, dtype=torch.bool), 0.2, diagonal=True)
    near(lost.sum(), "edge.loss")


def random_sides(images=3, captions=5, dim=8, seed=0):
    """Both sides in float64, with padding that is not 0, an image of one region and a caption of one word."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for rows, width in ((images, 4), (captions, 13)):
        features = torch.randn(rows, width, dim, generator=generator, dtype=torch.float64)
        lengths = torch.randint(1, width + 1, (rows,), generator=generator)
        lengths[0], lengths[-1] = width, 1
        mask = torch.arange(width) < lengths[:, None]
        pooled = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
        made.append(Fragments.unchecked(features, mask, pooled))
    return made


def small(**settings):
    torch.manual_seed(0)
    settings = {"num_heads": 2, "dropout": 0.0, "warmup_epochs": 0, "relevance_weight": 1.5} | settings
    loss = BatchRelationLoss(8, **settings).double()
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return loss


def positives_of(images, captions):
    return torch.arange(captions) * images // captions == torch.arange(images)[:, None]


def written_out(loss, image, text, positives):
    """The formula, pair by pair and node by node."""
    v, t = F.normalize(image.pooled, dim=1), F.normalize(text.pooled, dim=1)
    images, captions = len(v), len(t)
    mean, learned = {}, {}
    for i in range(images):
        for k in range(captions):
            regions, words = image.features[i][image.mask[i]], text.features[k][text.mask[k]]
            s = F.leaky_relu(F.normalize(words, dim=1) @ F.normalize(regions, dim=1).T, 0.1)  # (W, R)
            of_words, of_regions = (s / s.norm(dim=0)).amax(1), (s / s.norm(dim=1, keepdim=True)).amax(0)
            for key, values, mlp in ((("t", k, i), of_words, loss.mlp_t2i), (("i", i, k), of_regions, loss.mlp_i2t)):
                filled = torch.cat((values, values.new_zeros(max(0, 10 - len(values)))))
                mean[key] = values.mean()
                learned[key] = mlp(filled.sort(descending=True).values[:10])[0] + mean[key]
    nodes, size = torch.cat((v, t)), images + captions
    bias = torch.full((size, size), -math.inf, dtype=torch.float64)
    relevance = torch.zeros(size, size, dtype=torch.float64)
    for row in range(size):
        first = [(nodes[row] @ v[i] if row < images else mean["t", row - images, i]) for i in range(images)]
        second = [(mean["i", row, k] if row < images else nodes[row] @ t[k]) for k in range(captions)]
        for start, values in ((0, torch.stack(first)), (images, torch.stack(second))):
            least = values.sort(descending=True).values[max(1, len(values) // 2) - 1]
            for place, value in enumerate(values):
                column = start + place
                if (row < images) == (column < images):
                    relevance[row, column] = (-(nodes[row] - nodes[column]).norm()).exp()
                elif row < images:
                    relevance[row, column] = learned["i", row, place]
                else:
                    relevance[row, column] = learned["t", row - images, place]
                if value >= least - 1e-6:
                    bias[row, column] = loss.relevance_weight * relevance[row, column]
    layer, heads = loss.fusion, []
    query, key, value = (nodes @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, 1)
    for q, k, x in zip(query.chunk(2, 1), key.chunk(2, 1), value.chunk(2, 1), strict=True):
        heads.append((q @ k.T / 2 + bias).softmax(1) @ x)
    h = layer.norm1(nodes + layer.self_attn.out_proj(torch.cat(heads, 1)))
    fused = F.normalize(layer.norm2(h + layer.linear2(layer.linear1(h).relu())), dim=1)
    total = torch.zeros((), dtype=torch.float64)
    for first in (v, fused[:images]):
        for second in (t, fused[images:]):
            total = total + hard_negative_triplet_loss(first @ second.T, positives)
    near_ = (-(v[:, None] - t).norm(dim=2)).exp()
    across = relevance[:images, images:], relevance[images:, :images]
    for learned_, given in ((across[0], near_), (across[1], near_.T)):
        for one, other in zip(learned_, given, strict=True):
            p, q = one.softmax(0), other.softmax(0)
            total = total + loss.consistency_weight * (p * (p.log() - q.log())).sum() / len(learned_)
    return total


@pytest.mark.parametrize(("images", "captions"), [(3, 5), (4, 4), (1, 3), (1, 1), (2, 9)])
def test_equals_the_formula(images, captions):
    image, text = random_sides(images, captions)
    loss, positives = small(chunk_size=2), positives_of(images, captions)
    value = loss.of(Matches(positives=positives, fragments=(image, text)))
    torch.testing.assert_close(value, written_out(loss, image, text, positives))


def value_and_gradients(loss, image, text, positives, **more):
    image.pooled, text.pooled = (side.pooled.detach().requires_grad_() for side in (image, text))
    loss.zero_grad()
    value = loss.of(Matches(positives=positives, fragments=(image, text), **more))
    value.backward()
    return value.detach(), image.pooled.grad, text.pooled.grad


def test_order_padding_and_chunks_do_not_matter():
    image, text = random_sides()
    loss, positives = small(), positives_of(3, 5)
    value, of_images, of_captions = value_and_gradients(loss, image, text, positives)
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([4, 1, 0, 3, 2])
    moved = value_and_gradients(loss, image[rows], text[columns], positives[rows][:, columns])
    for found, expected in zip(moved, (value, of_images[rows], of_captions[columns]), strict=True):
        torch.testing.assert_close(found, expected)
    dirty = [
        Fragments.unchecked(
            F.pad(side.features.masked_fill(~side.mask[..., None], 7.0), (0, 0, 0, 2), value=-3.0),
            F.pad(side.mask, (0, 2)),
            side.pooled.detach(),
        )
        for side in (image, text)
    ]
    loss.chunk_size = 1
    for found, expected in zip(
        value_and_gradients(loss, *dirty, positives), (value, of_images, of_captions), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_fragments_receive_no_gradient():
    image, text = random_sides()
    image.features.requires_grad_()
    text.features.requires_grad_()
    value_and_gradients(small(), image, text, positives_of(3, 5))
    assert image.features.grad is None
    assert text.features.grad is None


def test_gradcheck():
    image, text = random_sides(2, 3)
    loss = small(loss=Smooth(), consistency_weight=2.0).eval()

    def value(first, second, *parameters):
        sides = [Fragments.unchecked(s.features, s.mask, p) for s, p in ((image, first), (text, second))]
        named = dict(zip(dict(loss.named_parameters()), parameters, strict=True))
        matches = Matches(positives=positives_of(2, 3), fragments=tuple(sides))
        return torch.func.functional_call(loss, named, (matches,))

    loss.forward = loss.of
    inputs = image.pooled, text.pooled, *loss.parameters()
    leaves = tuple(x.detach().clone().requires_grad_() for x in inputs)
    loss.consistency_weight = 0.0  # its target is a constant, which the vectors move
    assert torch.autograd.gradcheck(value, leaves)


class Smooth(ScoreLoss):
    def forward(self, scores, positives=None):
        return torch.where(positives, -scores, scores).exp().sum()


def test_only_the_perceptrons_learn_from_the_consistency():
    image, text = random_sides()
    loss, matches = small(loss=Nothing()), None
    image.pooled.requires_grad_()
    matches = Matches(positives=positives_of(3, 5), fragments=(image, text))
    loss.of(matches).backward()
    assert not image.pooled.grad.any()
    assert loss.mlp_i2t[0].weight.grad.any()
    assert loss.mlp_t2i[0].weight.grad.any()
    assert not loss.fusion.linear1.weight.grad.any()
    loss.consistency_weight = 0.0
    assert loss.of(matches) == 0


class Nothing(ScoreLoss):
    def forward(self, scores, positives=None):
        return 0 * scores.sum()


def test_other_captions_of_an_image_are_no_negatives():
    image, text = random_sides(2, 4)
    loss = small(consistency_weight=0.0)
    every = torch.ones(2, 4, dtype=torch.bool)
    assert value_and_gradients(loss, image, text, every)[0] == 0
    assert value_and_gradients(loss, image, text, positives_of(2, 4))[0] > 0


def test_half_precision():
    image, text = random_sides()
    loss, positives = small().float(), positives_of(3, 5)
    half = [Fragments.unchecked(s.features.bfloat16(), s.mask, s.pooled.bfloat16()) for s in (image, text)]
    exact = [Fragments.unchecked(s.features.float(), s.mask, s.pooled.float()) for s in half]
    expected = value_and_gradients(loss, *exact, positives)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(loss, *half, positives)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_needs_what_its_loss_needs():
    image, text = random_sides()
    loss = small(loss=LadderLoss())
    assert loss.needs == {"fragments", "positives", "relevance"}
    assert loss.is_sum
    assert not small(loss=HardNegativeTripletLoss(reduction="mean")).is_sum
    relevance = torch.rand(3, 5, dtype=torch.float64)
    value = value_and_gradients(loss, image, text, positives_of(3, 5), relevance=relevance)[0]
    assert value.isfinite()
    inner = HardNegativeTripletLoss(warmup_epochs=2)
    outer = small(loss=inner)
    outer.set_epoch(1)
    assert outer.loss.current_negatives == "all"
    outer.set_epoch(2)
    assert outer.loss.current_negatives == "hardest"


def test_settings_are_recorded():
    loss = small(padding_counts=True)
    again = build(loss.spec, Loss)
    assert again.spec == loss.spec
    assert set(again.state_dict()) == set(loss.state_dict())
    assert repr(copy.deepcopy(loss)) == repr(loss)


def test_what_does_not_fit():
    image, text = random_sides()
    with pytest.raises(ValueError, match="fragments: None, but BatchRelationLoss reads them"):
        small().of(Matches(positives=positives_of(3, 5)))
    image.pooled = None
    with pytest.raises(ValueError, match="takes one vector per image; the encoder needs `pooling=`"):
        small().of(Matches(positives=positives_of(3, 5), fragments=(image, text)))
    image, text = random_sides(dim=6)
    with pytest.raises(ValueError, match="image: vectors of size 6, expected embed_dim=8"):
        small().of(Matches(positives=positives_of(3, 5), fragments=(image, text)))
    with pytest.raises(ValueError, match="embed_dim 8 is not divisible by num_heads 3"):
        BatchRelationLoss(8, num_heads=3)


def test_evaluation_without_a_gradient_has_the_same_value():
    """PyTorch's fast path of a layer, which only such an evaluation takes, would read the relevances as bool."""
    torch.manual_seed(0)
    loss = BatchRelationLoss(8, num_heads=2, warmup_epochs=0).eval()
    image = Fragments(torch.randn(3, 4, 8), pooled=torch.randn(3, 8))
    text = Fragments(torch.randn(3, 5, 8), pooled=torch.randn(3, 8))
    matches = Matches(positives=torch.eye(3, dtype=torch.bool), fragments=(image, text))
    with torch.no_grad():
        found = loss.of(matches)
    torch.testing.assert_close(found, loss.of(matches).detach())
