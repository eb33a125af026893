"""The heads of HREM's encoders: the public vectors of both sides, in both modes, and what must not matter."""

import pytest
import torch
import torch.nn.functional as F
from helpers_hrem import image_encoder, mask_of, pooling_of, reference

from itmatch.batch import Regions
from itmatch.nn import MaxPooling, MeanPooling, TopKPooling, TransformerPooling


def near(found, name):
    torch.testing.assert_close(found, reference(name), atol=1e-5, rtol=0)


def test_agrees_with_the_image_side_of_hrem():
    mask = mask_of("region_lengths", "regions")
    regions = Regions(reference("regions"), mask)
    near(image_encoder(normalize=True)(regions).pooled, "image.vector")
    raw = image_encoder(normalize=False)(regions)
    near(raw.pooled, "image.vector_unnormalised")
    torch.testing.assert_close(raw.features[mask], reference("image.fragments")[mask], atol=1e-5, rtol=0)
    near(TopKPooling()(raw.features, mask[..., None], 1), "image.max2")


def test_agrees_with_the_text_side_of_hrem():
    mask = mask_of("token_lengths", "bert_features")
    words = F.linear(
        reference("bert_features"), reference("text_encoder.linear.weight"), reference("text_encoder.linear.bias")
    )
    near(words, "text.fragments")
    vector = pooling_of("text")(words, mask[..., None], dim=1)
    near(vector, "text.vector_unnormalised")
    near(F.normalize(vector, dim=1), "text.vector")
    near(TopKPooling()(words, mask[..., None], 1), "text.max2")


def test_agrees_in_training_mode_where_padding_enters_the_statistics():
    """There padded regions count in the batch normalisation of the perceptron; here they do if they are called real."""
    mask = mask_of("region_lengths", "regions")
    encoder = image_encoder(normalize=False).train()
    fragments = encoder(Regions(reference("regions"), torch.ones_like(mask))).features
    near(fragments, "image.train_mode.fragments")
    near(F.normalize(encoder.pooling(fragments, mask[..., None], 1), dim=1), "image.train_mode.vector")


def test_sticky_k_is_that_of_the_public_code():
    values, mask = reference("max2.input"), mask_of("max2.lengths", "max2.input")[..., None]
    near(TopKPooling(sticky_k=True)(values, mask, 1), "max2.output")
    near(MeanPooling()(values, mask, 1), "max2.mean")
    apart = TopKPooling()(values, mask, 1)
    assert (apart - reference("max2.output")).abs().amax(1).gt(1e-3).any()
    for row in range(5):
        torch.testing.assert_close(
            TopKPooling(sticky_k=True)(values[row : row + 1], mask[row : row + 1], 1)[0], apart[row]
        )


def small(**settings):
    torch.manual_seed(0)
    pooling = TransformerPooling(8, num_heads=2, dropout=0.0, **settings).double()
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return pooling


def textbook(pooling, values):
    """One row (L, D), written out."""
    layer, heads = pooling.layer, []
    query, key, value = (values @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, 1)
    for q, k, v in zip(query.chunk(2, 1), key.chunk(2, 1), value.chunk(2, 1), strict=True):
        heads.append((q @ k.T / 2).softmax(1) @ v)
    h = layer.norm1(values + layer.self_attn.out_proj(torch.cat(heads, 1)))
    y = layer.norm2(h + layer.linear2(layer.linear1(h).relu()))
    return pooling.weight * values.sort(0).values[-2:].mean(0) + (1 - pooling.weight) * y.mean(0)


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_formula_row_by_row_and_ignores_padding(training):
    pooling = small(weight=0.3).train(training)
    values, lengths = torch.randn(4, 5, 8, dtype=torch.double), [5, 3, 1, 2]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    dirty = values.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    found = pooling(dirty, mask[..., None], dim=1)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row], textbook(pooling, values[row, :length]))
    found.sum().backward()
    assert dirty.grad.isfinite().all()
    assert (dirty.grad[~mask] == 0).all()
    assert all(parameter.grad.isfinite().all() for parameter in pooling.parameters())
    with torch.no_grad():  # another path of torch in evaluation
        torch.testing.assert_close(pooling(dirty, mask[..., None], dim=1), found)


def test_rows_without_anything_real_are_0():
    pooling = small()
    values = torch.full((2, 3, 8), torch.nan, dtype=torch.double).requires_grad_()
    found = pooling(values, torch.zeros(2, 3, 1, dtype=torch.bool), dim=1)
    assert torch.equal(found, torch.zeros(2, 8, dtype=torch.double))
    found.sum().backward()
    assert torch.equal(values.grad, torch.zeros_like(values))
    with torch.no_grad():
        assert not pooling.eval()(values, torch.zeros(2, 3, 1, dtype=torch.bool), dim=1).any()


def test_gradcheck():
    pooling, mask = small(), torch.tensor([[True] * 3, [True, True, False]])[..., None]
    values = torch.randn(2, 3, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pooling(x, mask, 1), values)


def test_weight_and_plain_pooling():
    values = torch.randn(2, 4, 8, dtype=torch.double)
    torch.testing.assert_close(small(weight=1.0, pooling=MaxPooling())(values, dim=1), values.amax(1))
    related = small(weight=0.0, pooling=MaxPooling())(values, dim=1)
    torch.testing.assert_close(related, small(weight=0.0)(values, dim=1))


def test_half_precision():
    pooling = small().float()
    values, mask = torch.randn(3, 4, 8), torch.tensor([4, 1, 2])[:, None, None] > torch.arange(4)[:, None]
    exact = pooling(values, mask, 1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooling(values.bfloat16(), mask, 1), exact, atol=0.05, rtol=0)
    assert pooling(values.half(), mask, 1).dtype == torch.float32
    torch.testing.assert_close(pooling.bfloat16()(values.bfloat16(), mask, 1), exact, atol=0.1, rtol=0)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"values \(2, 3, 4\), dim=1; expected \(N, L, 8\) and dim=1"):
        small()(torch.randn(2, 3, 4), dim=1)
    with pytest.raises(ValueError, match="embed_dim 8 is not divisible by num_heads 3"):
        TransformerPooling(8, 3)
    with pytest.raises(TypeError, match="pooling: a Linear"):
        TransformerPooling(8, 2, pooling=torch.nn.Linear(2, 2))
