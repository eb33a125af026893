"""Recalls, median and mean ranks as a function of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itmatch.evaluation.ranks import RetrievalRanks
from itmatch.ops.arrays import ArrayLike, as_tensor
from itmatch.ops.checks import check_list, check_whole


def retrieval_metrics(ranks: RetrievalRanks, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recalls and rank statistics of both directions.

    Args:
        ranks: as from :func:`itmatch.evaluation.retrieval_ranks`, its two parts tensors or numpy arrays; images without
            captions (rank -1) are left out.
        ks: the K of R@K.

    Returns:
        For ``i2t`` (an image looks for captions) and ``t2i`` (a caption looks for its image): ``i2t_r1``, ``i2t_r5``,
        ``i2t_r10`` in percent; ``i2t_medr`` and ``i2t_meanr``, median (rounded down) and mean rank counted from 1.
        ``rsum`` is the sum of all the recalls, so at most 600 for three ``ks``.

    Raises:
        ValueError: a direction without any query.

    Example:
        >>> metrics = retrieval_metrics(RetrievalRanks(torch.tensor([0, 7]), torch.tensor([0, 0, 2, 0])))
        >>> metrics["i2t_r1"], metrics["t2i_r1"], metrics["t2i_r5"], metrics["rsum"]
        (50.0, 75.0, 100.0, 475.0)
    """
    check_ks(ks)
    metrics: dict[str, float] = {}
    for direction, values in (("i2t", ranks.image_to_text), ("t2i", ranks.text_to_image)):
        values = check_ranks(direction, values)
        values = values[values >= 0].sort().values
        count = len(values)
        if count == 0:
            raise ValueError(f"{direction}: no query to average over")
        for k in ks:
            metrics[f"{direction}_r{k}"] = 100 * int((values < k).sum()) / count
        metrics[f"{direction}_medr"] = float((values[(count - 1) // 2] + values[count // 2]) // 2 + 1)
        metrics[f"{direction}_meanr"] = int(values.sum()) / count + 1
    metrics["rsum"] = sum(metrics[f"{direction}_r{k}"] for direction in ("i2t", "t2i") for k in ks)
    return metrics


def check_ks(ks: Sequence[int]) -> Sequence[int]:
    """The K of R@K, one or more whole numbers."""
    if not check_list("ks", ks):
        raise ValueError("ks: none, expected at least one K")
    for place, k in enumerate(ks):
        check_whole(f"ks[{place}]", k)
    return ks


def check_ranks(name: str, given: ArrayLike) -> Tensor:
    """Ranks (N,) as int64."""
    ranks = as_tensor(f"{name} ranks", given)
    if ranks.ndim != 1 or ranks.is_floating_point() or ranks.dtype == torch.bool:
        raise TypeError(f"{name} ranks: {tuple(ranks.shape)} {ranks.dtype}, expected one dimension of integers")
    return ranks.detach().long()
