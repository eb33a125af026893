"""Search for identities: every photo of the person, or thing, that a caption describes is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itmatch.evaluation.protocols import EvaluationProtocol, ScoredSplit
from itmatch.evaluation.recalls.figures import retrieval_metrics
from itmatch.evaluation.relevance import Relevance
from itmatch.formats.files import read_json
from itmatch.formats.messages import shown
from itmatch.formats.records import file_of_record


class IdentityRetrieval(EvaluationProtocol):
    r"""Recalls, mAP and mINP where all photos of one identity answer all its captions: text-based person search.

    Figures are ``identity_t2i_r1``, ``_r5``, ``_r10``, ``_map`` and ``_minp`` for captions that look for photos, which
    papers print, and the same of ``i2t``. With :math:`r_1 < \dots < r_n` the ranks of the right answers of a query,
    counted from 1, R@K is the share of queries with :math:`r_1 \le K`, mAP the mean of
    :math:`\frac1n \sum_m m / r_m`, and mINP the mean of :math:`n / r_n`. A tie counts against the model.

    Args:
        annotations: the json of the data set, which names the identity of each photo: records with ``file_path`` (as
            CUHK-PEDES and ICFG-PEDES have it) or ``img_path`` (RSTPReid) and ``id``; or identities by photo. A photo is
            known by the id of its image in the split, or by the last part of its path.

    Source:
        Li et al., *Person Search with Natural Language Description*, CVPR 2017 (CUHK-PEDES); mINP: Ye et al., *Deep
        Learning for Person Re-identification: A Survey and Outlook*, TPAMI 2021.
    """

    name = "identity"

    def __init__(self, annotations: str | Path) -> None:
        self.annotations = annotations

    def check(self, caption_image: Tensor, num_images: int) -> None:
        """Raise if the file is missing or no such json."""
        _identities(self.annotations)

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """The figures."""
        identity = self._of_images(split.image_ids).to(split.caption_image.device)
        captions = (split.caption_image >= 0).nonzero()[:, 0]
        same = identity[:, None] == identity[split.caption_image[captions]]  # (I, T)
        image, place = same.nonzero().unbind(1)
        pairs = torch.stack((image, captions[place]), 1)
        relevance = Relevance(pairs, pairs.flip(1)[pairs[:, 1].argsort(stable=True)])
        figures: dict[str, float] = {}
        everything = max(split.num_images, len(split.caption_image))
        for direction, hits in zip(("t2i", "i2t"), reversed(split.hits(relevance, places=everything)), strict=True):
            figures |= {f"identity_{direction}_r{k}": hits.recall(min(k, everything)) for k in (1, 5, 10)}
            figures |= {f"identity_{direction}_map": hits.mean_average_precision()}
            figures |= {f"identity_{direction}_minp": hits.mean_inverse_negative_penalty()}
        return figures

    def _of_images(self, image_ids: Sequence[str]) -> Tensor:
        """A number per image, the same for the same identity."""
        known = _identities(self.annotations)
        by_end = {Path(name).name: identity for name, identity in known.items()}
        found = [known.get(name, by_end.get(Path(name).name)) for name in image_ids]
        if None in found:
            missing = [name for name, identity in zip(image_ids, found, strict=True) if identity is None]
            raise ValueError(
                f"{self.annotations}: no identity of {len(missing)} of {len(found)} images, such as {shown(missing[0])}"
            )
        numbers = {identity: number for number, identity in enumerate(dict.fromkeys(found))}
        return torch.tensor([numbers[identity] for identity in found])


def _identities(path: str | Path) -> dict[str, str]:
    """The identity of each photo that a json names."""
    content: Any = read_json(path, object)
    if isinstance(content, dict):
        content = [{"image": name, "id": identity} for name, identity in content.items()]
    found: dict[str, str] = {}
    for number, record in enumerate(content if isinstance(content, list) else []):
        name = file_of_record(record, or_id=False) if isinstance(record, dict) else None
        if not isinstance(name, str) or not isinstance(record.get("id"), (str, int)):
            raise ValueError(f"{path}: record {number} is {shown(record)}, expected a photo (file_path) and an id")
        found[name] = str(record["id"])
    if not found:
        raise ValueError(f"{path}: no records, expected photos with their identities")
    return found


class MeanRecall(EvaluationProtocol):
    """Recalls of the whole split with ``mr``, their mean, by which papers on remote sensing compare.

    Any data will do; RSICD and RSITMD are in the layout of :class:`itmatch.data.KarpathyJson`.

    Source:
        Yuan et al., *Exploring a Fine-Grained Multiscale Method for Cross-Modal Remote Sensing Image Retrieval*, TGRS
        2022 (RSITMD): the mean of R@1, R@5 and R@10 of both directions.
    """

    name = "mean_recall"

    def measure(self, split: ScoredSplit) -> dict[str, float]:
        """Recalls and their mean."""
        figures = retrieval_metrics(split.ranks())
        return figures | {"mr": figures["rsum"] / 6}
