import pytest
import torch

from itmatch.ops.pairs.lengths import cosine, directed, squared_lengths
from itmatch.ops.pairs.products import gram, products_of_pairs


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.double, requires_grad=True)


def test_the_gram_matrix_and_its_gradient():
    features = drawn(3, 4, 5)
    torch.testing.assert_close(gram(features), features @ features.transpose(1, 2))
    assert torch.autograd.gradcheck(gram, features)  # with a gradient that is not symmetric


def test_squared_lengths_and_their_gradient():
    features = drawn(3, 4, 5)
    torch.testing.assert_close(squared_lengths(features), features.square().sum(2))
    assert torch.autograd.gradcheck(squared_lengths, features)


@pytest.mark.parametrize("function", [gram, squared_lengths])
def test_a_second_derivative_is_refused(function):
    features = drawn(2, 3, 4)
    with pytest.raises(RuntimeError, match="second derivatives"):
        torch.autograd.grad(function(features).sum(), features, create_graph=True)


@pytest.mark.parametrize("regions", [[3, 3], [1, 4]])
@pytest.mark.parametrize("needed", [(True, True), (True, False), (False, True)])
def test_products_of_pairs_and_their_gradients(regions, needed):
    words, size = [5, 2], 3
    images, captions = drawn(sum(regions), size), drawn(sum(words), size, seed=1)
    images.requires_grad_(needed[0])
    captions.requires_grad_(needed[1])
    found = products_of_pairs(images, regions, captions, words)
    assert found.shape == (7, max(regions))
    first, last = captions[:5] @ images[: regions[0]].T, captions[5:] @ images[regions[0] :].T
    torch.testing.assert_close(found[:5, : regions[0]], first)
    torch.testing.assert_close(found[5:, : regions[1]], last)
    assert (found[:5, regions[0] :] == 0).all()
    assert torch.autograd.gradcheck(lambda a, b: products_of_pairs(a, regions, b, words), (images, captions))


def test_an_image_without_words_has_a_gradient_of_0():
    images, captions = drawn(4, 3), drawn(2, 3, seed=1)
    products_of_pairs(images, [2, 2], captions, [2, 0]).sum().backward()
    torch.testing.assert_close(images.grad[:2], captions.detach().sum(0).expand(2, 3))
    assert (images.grad[2:] == 0).all()


def test_directed_tells_zero_vectors():
    square = torch.tensor([1.0, 1e-20, 0.0, -1e-9, torch.nan], requires_grad=True)
    assert directed(square).tolist()[:4] == [1.0, 1.0, 0.0, 0.0]
    assert not directed(square).requires_grad


def test_a_cosine_with_a_vector_that_is_still_to_be_divided():
    generator = torch.Generator().manual_seed(0)
    product, square, other = (torch.rand(50, generator=generator, dtype=torch.double) for _ in range(3))
    for size in (1e-9, 1.0, 1e6):  # the product of the lengths is below the smallest at first
        total = size * (1 + torch.rand(50, generator=generator, dtype=torch.double))
        divided = cosine(product * size / total, square, other * (size / total) ** 2)
        torch.testing.assert_close(cosine(product * size, square, other * size**2, total), divided)


def test_nan_does_not_become_a_cosine():
    nan = torch.tensor(torch.nan)
    one = torch.tensor(1.0)
    assert cosine(nan, one, one).isnan()
    assert cosine(one, nan, one).isnan()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6, 1e9])
def test_a_cosine_of_long_and_short_vectors(size):
    """Against float64: nothing overflows on the way."""
    generator = torch.Generator().manual_seed(0)
    a, b = (size * torch.randn(50, 8, generator=generator, dtype=torch.double) for _ in range(2))
    expected = torch.nn.functional.cosine_similarity(a, b)
    given = [x.float() for x in ((a * b).sum(1), a.square().sum(1), b.square().sum(1))]
    torch.testing.assert_close(cosine(*given).double(), expected, atol=1e-5, rtol=1e-5)
    total = torch.full((50,), 1e5)
    divided = cosine(given[0] * total, given[1], given[2] * total.square(), total)
    torch.testing.assert_close(divided.double(), expected, atol=1e-5, rtol=1e-5)


def test_two_squares_that_rounding_made_negative_are_no_vectors():
    negative = torch.tensor(-1e-9)
    assert cosine(torch.tensor(1e-9), negative, negative) == 0
