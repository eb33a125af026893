"""Graph matching: regions are aligned with words, and relations with relations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.hostcopies import on_host, sent
from itmatch.nn.pooling import MeanPooling, Pooling
from itmatch.nn.similarity.base import Similarity
from itmatch.nn.similarity.hard_aligning import HardAligningSimilarity
from itmatch.ops.checks import check_not_negative


class GraphMatchingSimilarity(Similarity):
    r"""Hard alignment at two levels: of regions with words, and of the relations of the one with those of the other.

    The encoders make fragments of relations by :class:`~itmatch.nn.VisualRelationGraph` and
    :class:`~itmatch.nn.TextualRelationGraph`. Where an image or a caption has no relation, or the encoder of a side
    makes none, the second level adds 0.

    Args:
        query: what looks for its best partner: the words (and the relations of the caption), the regions (and the
            relations of the image), or both; then the two scores are averaged.
        pooling: over the words or regions; by default their mean.
        relation_pooling: over the relations; by default their mean.
        relation_weight: :math:`\lambda`; 0 leaves the second level out.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        .. math::
            S_{it} = \mathrm{pool}_w \max_r \, n_r \cdot t_w + \lambda\, \mathrm{pool}_q \max_p \, p_p \cdot q_q

    Source:
        Matching nodes at the level of objects and of relations is what ReSG (IEEE Transactions on Cybernetics 54(2),
        2024) and, before it, SGM (WACV 2020) do; the hard alignment is that of CHAN (CVPR 2023).

    Example:
        >>> import torch
        >>> mask = torch.ones(2, 4, dtype=torch.bool)
        >>> relations = torch.tensor([[False, False, False, True]]).expand(2, 4)
        >>> nodes = Fragments(torch.randn(2, 4, 8), mask, is_relation=relations)
        >>> GraphMatchingSimilarity()(nodes, nodes).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        query: Literal["words", "regions", "both"] = "words",
        pooling: Pooling | None = None,
        relation_pooling: Pooling | None = None,
        relation_weight: float = 1.0,
        *,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.relation_weight = check_not_negative("relation_weight", relation_weight)
        self.nodes = HardAligningSimilarity(query, pooling or MeanPooling(), chunk_size=chunk_size)
        self.edges = HardAligningSimilarity(query, relation_pooling or MeanPooling(), chunk_size=chunk_size)

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        scores: Tensor = self.nodes(image.objects(), text.objects())
        if torch.compiler.is_compiling():
            return self._with_padded_relations(scores, image.relations(), text.relations())
        found = self._relations(image, text)
        if found is None:
            return scores
        (rows, image), (columns, text) = found
        if len(rows) == 0 or len(columns) == 0:
            return scores
        level = self.relation_weight * self.edges(image[rows], text[columns])
        return scores.index_put((rows[:, None], columns), level, accumulate=True)

    def _with_padded_relations(self, scores: Tensor, image: Fragments | None, text: Fragments | None) -> Tensor:
        """Both levels where torch.compile cannot leave rows out: those without relations get a stand-in, worth 0."""
        if image is None or text is None or self.relation_weight == 0:
            return scores
        some = image.mask.any(1)[:, None] & text.mask.any(1)
        level: Tensor = self.edges(_never_empty(image), _never_empty(text))
        return scores + (self.relation_weight * level).masked_fill(~some, 0)

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """Scores of the winners, (R, W), the relations behind regions and words; the two levels do not meet."""
        self.check_pair(image, text)
        shown = self.nodes.align(image.objects(), text.objects())
        found = self._relations(image, text)
        if found is None or not len(found[0][0]) or not len(found[1][0]):
            return shown
        return shown + self.relation_weight * self.edges.align(found[0][1], found[1][1])

    def _relations(
        self, image: Fragments, text: Fragments
    ) -> tuple[tuple[Tensor, Fragments], tuple[Tensor, Fragments]] | None:
        """The relations of both sides, and which rows have some; None without a second level."""
        of_image, of_text = image.relations(), text.relations()
        if of_image is None or of_text is None or self.relation_weight == 0:
            return None
        return (_not_empty(of_image), of_image), (_not_empty(of_text), of_text)


def _not_empty(fragments: Fragments) -> Tensor:
    """Which rows have any."""
    return sent(on_host(fragments.mask).any(1).nonzero()[:, 0], fragments.mask.device)


def _never_empty(fragments: Fragments) -> Fragments:
    """The fragments, with a vector of zeros as the first one of rows that have none."""
    mask = fragments.mask
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    features = fragments.features.masked_fill(~mask[..., None], 0)
    return Fragments.unchecked(features, mask | (first & ~mask.any(1, keepdim=True)))
