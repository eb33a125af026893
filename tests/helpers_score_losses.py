"""Cases that the tests of the score losses share."""

import torch


def random_case(seed, images=5, captions=9, spread=1.0):
    """Scores in float64 within [-spread, spread] and a mask with rows and columns of every kind."""
    generator = torch.Generator().manual_seed(seed)
    scores = (2 * torch.rand(images, captions, generator=generator, dtype=torch.float64) - 1) * spread
    positives = torch.rand(images, captions, generator=generator) < 0.3
    positives[0, 0], positives[0, 1] = True, False
    if seed % 2:
        positives[1] = True  # an image without negatives
        positives[:, 3] = True  # a caption without negatives
    else:
        positives[2] = False  # an image without positives
        positives[:, 5] = False  # a caption without positives
    return scores, positives


def grades_of(scores, seed=0):
    """A number from 0 to 1 for each pair, several of them equal."""
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.randint(0, 6, scores.shape, generator=generator).to(scores.dtype) / 5


def both_directions(*matrices):
    """The matrices as nested lists, rows as anchors; then transposed, columns as anchors."""
    yield tuple(matrix.tolist() for matrix in matrices)
    yield tuple(matrix.T.tolist() for matrix in matrices)


def split(row, mask):
    """The positives and the negatives of an anchor."""
    own = [s for s, positive in zip(row, mask, strict=True) if positive]
    others = [s for s, positive in zip(row, mask, strict=True) if not positive]
    return own, others
