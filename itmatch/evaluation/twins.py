"""Accuracy on twins: does a caption prefer its image to one that differs in a single relation?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from itmatch.errors import NonFiniteError
from itmatch.ops.arrays import ArrayLike, as_tensor


def twin_accuracy(own: ArrayLike, twin: ArrayLike, kinds: Sequence[str]) -> dict[str, float]:
    """Percentage of captions that score their own image above its twin; a tie is wrong. Chance is 50.

    Args:
        own: (T,) score of each caption with its image, a tensor or a numpy array.
        twin: (T,) score of each caption with the twin of its image.
        kinds: kind of the relation that differs, for each caption.

    Returns:
        ``twin_accuracy`` over all captions, and ``twin_accuracy_<kind>`` for every kind, in alphabetical order.

    Raises:
        ValueError: a score is NaN or infinite, lengths differ, there is no caption, or a caption has no kind.

    Example:
        >>> own, twin = torch.tensor([0.9, 0.5, 0.4, 0.8]), torch.tensor([0.1, 0.5, 0.3, 0.2])
        >>> twin_accuracy(own, twin, ["spatial", "spatial", "semantic", "semantic"])
        {'twin_accuracy': 75.0, 'twin_accuracy_semantic': 100.0, 'twin_accuracy_spatial': 50.0}
    """
    own, twin = as_tensor("own", own), as_tensor("twin", twin)
    if own.ndim != 1 or own.shape != twin.shape or len(kinds) != len(own):
        raise ValueError(f"own {tuple(own.shape)}, twin {tuple(twin.shape)}, {len(kinds)} kinds: expected one length")
    if len(own) == 0:
        raise ValueError("twin_accuracy: no caption has a twin")
    for name, scores in (("own", own), ("twin", twin)):
        bad = (~torch.isfinite(scores)).nonzero()
        if len(bad):
            raise NonFiniteError(
                f"{name}: score of caption {int(bad[0])} is {scores[bad[0]].item()}; it must be finite"
            )
    if "" in kinds:
        raise ValueError(f"kinds: caption {list(kinds).index('')} has none; leave out captions without a twin")
    right = (own > twin).tolist()
    result = {"twin_accuracy": 100 * sum(right) / len(right)}
    for kind in sorted(set(kinds)):
        answers = [correct for correct, other in zip(right, kinds, strict=True) if other == kind]
        result[f"twin_accuracy_{kind}"] = 100 * sum(answers) / len(answers)
    return result
