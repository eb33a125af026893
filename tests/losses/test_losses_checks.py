import pytest
import torch

from itmatch.losses import check_scores, check_vectors, paired


def test_dtypes():
    assert check_scores(torch.zeros(2, 2, dtype=torch.float16), None)[0].dtype == torch.float32
    assert check_scores(torch.zeros(2, 2, dtype=torch.float64), None)[0].dtype == torch.float64


@pytest.mark.parametrize(
    ("scores", "positives", "error", "message"),
    [
        (torch.zeros(3), None, ValueError, r"shape \(3,\)"),
        (torch.zeros(0, 2), None, ValueError, "not empty"),
        (torch.zeros(2, 2, dtype=torch.int64), None, TypeError, "torch.int64, expected a floating"),
        (torch.zeros(2, 3), None, ValueError, "2 images and 3 captions"),
        (torch.zeros(2, 3), torch.ones(2, 3), TypeError, "torch.float32, expected torch.bool"),
        (torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool), ValueError, r"positives: shape \(3, 2\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool), ValueError, "no caption describes"),
    ],
)
def test_bad_inputs(scores, positives, error, message):
    with pytest.raises(error, match=message):
        check_scores(scores, positives)


def test_dtypes_of_vectors():
    half, whole, double = (torch.ones(2, 3, dtype=d) for d in (torch.float16, torch.float32, torch.float64))
    assert [x.dtype for x in check_vectors(half, half, None)] == [torch.float32, torch.float32, torch.int64]
    assert check_vectors(half, whole, None)[0].dtype == torch.float32
    assert check_vectors(whole, double, None)[0].dtype == torch.float64
    groups = torch.tensor([4, 4])
    assert check_vectors(whole, whole, groups)[2] is groups


@pytest.mark.parametrize(
    ("image", "text", "groups", "error", "message"),
    [
        (torch.zeros(3), torch.zeros(3), None, ValueError, r"image: shape \(3,\)"),
        (torch.zeros(0, 3), torch.zeros(0, 3), None, ValueError, "not empty"),
        (torch.zeros(2, 3), torch.zeros(3, 3), None, ValueError, r"text: shape \(3, 3\), expected .* \(2, 3\)"),
        (torch.zeros(2, 3).long(), torch.zeros(2, 3), None, TypeError, "image: torch.int64"),
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), None, TypeError, "text: torch.int64"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2), TypeError, "groups: torch.float32"),
        (torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3).long(), ValueError, r"groups: shape \(3,\)"),
    ],
)
def test_bad_vectors(image, text, groups, error, message):
    with pytest.raises(error, match=message):
        check_vectors(image, text, groups)


def test_paired():
    positives = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 0]]).bool()  # caption 1 has two images
    image, text = torch.randn(3, 2, requires_grad=True), torch.randn(4, 2)
    first, second, rows = paired(image, text, positives)
    assert rows.tolist() == [1, 0, 2, 0]
    assert torch.equal(first, image[[1, 0, 2, 0]])
    assert second is text
    first.sum().backward()
    assert image.grad[:, 0].tolist() == [2, 1, 1]
    with pytest.raises(ValueError, match="caption 2 describes none"):
        paired(image[:2], text, positives[:2])
    with pytest.raises(ValueError, match=r"positives: shape \(3, 4\), expected .*\(3, 3\)"):
        paired(image, text[:3], positives)
