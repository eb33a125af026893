import torch

from itmatch.ops.distances import exact_distances, inner_products, square_root, squared_distances


def test_equal_the_textbook():
    torch.manual_seed(0)
    first, second = torch.randn(30, 5), torch.randn(40, 5)
    difference = (first[:, None] - second).square().sum(2)
    torch.testing.assert_close(squared_distances(first, second), difference)
    torch.testing.assert_close(exact_distances(first, second), difference.sqrt())
    torch.testing.assert_close(inner_products(first, second), first @ second.T)


def test_a_vector_is_at_0_from_itself_in_batches_of_any_size():
    vectors = torch.nn.functional.normalize(torch.randn(100, 64), dim=1).requires_grad_()
    distances = exact_distances(vectors, vectors)
    assert not distances.diagonal().any()
    distances.sum().backward()
    assert vectors.grad.isfinite().all()


def test_full_precision_under_autocast():
    first = torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inner_products(first, first), first @ first.T) is False  # autocast rounds the plain product
        assert inner_products(first, first).dtype == torch.float32
        assert exact_distances(first.bfloat16(), first).dtype == torch.float32


def test_the_root_of_0_has_a_gradient():
    squares = torch.tensor([0.0, 4.0], requires_grad=True)
    roots = square_root(squares)
    roots.sum().backward()
    assert roots.tolist() == [0.0, 2.0]
    assert squares.grad.tolist() == [0.0, 0.25]
