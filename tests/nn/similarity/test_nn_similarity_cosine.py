import pytest
import torch
import torch.nn.functional as F

from itmatch.batch import Fragments
from itmatch.nn import CosineSimilarity, Similarity
from itmatch.ops import lengths_to_mask


def make(pooled):
    torch.manual_seed(0)
    sides = []
    for rows, length in ((3, 4), (5, 6)):
        mask = lengths_to_mask(torch.randint(1, length + 1, (rows,)), length)
        features = torch.randn(rows, length, 7).masked_fill(~mask[..., None], torch.nan)
        sides.append(Fragments(features, mask, torch.randn(rows, 7) if pooled else None))
    return sides


@pytest.mark.parametrize("pooled", [True, False])
def test_equals_loop(pooled):
    image, text = make(pooled)
    scores = CosineSimilarity()(image, text)
    assert scores.shape == (3, 5)
    for i in range(3):
        for t in range(5):
            v = image.pooled[i] if pooled else image.features[i, image.mask[i]].mean(0)
            w = text.pooled[t] if pooled else text.features[t, text.mask[t]].mean(0)
            torch.testing.assert_close(scores[i, t], F.cosine_similarity(v, w, dim=0))


def test_gradient_ignores_padding():
    image, text = make(pooled=False)
    features = image.features.clone().requires_grad_()
    CosineSimilarity()(Fragments(features, image.mask), text).sum().backward()
    assert torch.isfinite(features.grad).all()
    assert (features.grad[~image.mask] == 0).all()


def test_align_is_the_cosine_map():
    image, text = make(pooled=True)
    image, text = image[1:2], text[2:3]
    shown = CosineSimilarity().align(image, text)
    assert shown.shape == (4, 6)
    for r in range(4):
        for w in range(6):
            if image.mask[0, r] and text.mask[0, w]:
                expected = F.cosine_similarity(image.features[0, r], text.features[0, w], dim=0)
                torch.testing.assert_close(shown[r, w], expected)
            else:
                assert shown[r, w] == 0


def test_one_side_pooled_and_the_other_not():
    image, text = make(pooled=True)
    scores = CosineSimilarity()(Fragments(image.features, image.mask), text)
    mean = torch.stack([image.features[i, image.mask[i]].mean(0) for i in range(3)])
    torch.testing.assert_close(scores, F.normalize(mean, dim=1) @ F.normalize(text.pooled, dim=1).T)


def test_sizes_must_agree():
    image, text = make(pooled=False)
    with pytest.raises(ValueError, match="embedding sizes differ: image 7, text 3"):
        CosineSimilarity()(image, Fragments(text.features[..., :3], text.mask))


def test_own_similarity_without_pictures_says_so():
    class Constant(Similarity):
        def forward(self, image, text):
            return image.features.new_ones(len(image), len(text))

    image, text = make(pooled=False)
    assert Constant()(image, text).shape == (3, 5)
    assert Constant().chunk_size is None
    with pytest.raises(NotImplementedError, match="Constant"):
        Constant().align(image[:1], text[:1])
