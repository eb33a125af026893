"""TReG: the relations between words as fragments of their own."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.batch import SceneGraph
from itmatch.hostcopies import on_host, sent
from itmatch.nn.relations._nodes import RelationNodes
from itmatch.nn.relations.base import Related, Relation, check_heads
from itmatch.ops.checks import check_choice, check_dropout


class TextualRelationGraph(Relation):
    r"""Makes one fragment per relation of a caption, and lets the words take from their relations.

    The encoder that has this among its ``relations`` returns the words first and the relations behind them, told apart
    by ``Fragments.is_relation``; :class:`itmatch.nn.GraphMatchingSimilarity` matches the two apart. The words come from
    a GRU or a transformer, which has gone over them in the order of the sentence already.

    Relations are those of ``Captions.graph``: a subject word, an object word, and the word of the predicate, or none (a
    dependency, for instance). Where captions come without parses (``Captions.graph`` is None), every word has a
    relation with the next one.

    Args:
        embed_dim: size D of the fragments.
        unparsed: what captions without parses have: ``"adjacent"`` relations of neighbouring words, or ``"none"``.
        num_heads: heads of the attention of a word over its relations; they divide ``embed_dim``.
        dropout: probability, on the vectors of the relations and on what the words take.

    Shape:
        As every :class:`Relation`; the result is a :class:`~itmatch.nn.relations.base.Related` with Q the most
        relations of a caption of the batch.

    Formula:
        .. math::
            q_{ij} = (t_i + t_j) / 2 + W_2\, \mathrm{ReLU}(W_1 [t_i; t_p; t_j]), \qquad
            t_i \leftarrow t_i + W_o \sum_{q \in E(i)} \alpha_{iq} W_q\, q

        with a learned vector instead of :math:`t_p` where no word stands for the predicate; the attention is that
        of :class:`VisualRelationGraph`.

    Source:
        See :class:`VisualRelationGraph`. Relations of neighbouring words are our default.

    Example:
        >>> relation = TextualRelationGraph(8, num_heads=2)
        >>> related = relation(torch.randn(1, 4, 8), torch.tensor([[True, True, True, False]]))
        >>> related.nodes.shape
        torch.Size([1, 2, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        unparsed: Literal["adjacent", "none"] = "adjacent",
        num_heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("TextualRelationGraph", embed_dim, num_heads)
        check_choice("TextualRelationGraph.unparsed", unparsed, "adjacent", "none")
        check_dropout("TextualRelationGraph.dropout", dropout)
        self.embed_dim, self.unparsed = embed_dim, unparsed
        self.no_word = nn.Parameter(0.1 * torch.randn(embed_dim))  # the predicate that no word stands for
        self.relations = RelationNodes(embed_dim, embed_dim, num_heads, dropout)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Related:
        """Make the fragments of the relations, and update those of the words."""
        features, mask = self.prepared(features, mask, self.embed_dim)
        row, ends, predicate = self.edges(mask, graph)
        words = self.no_word.to(features.dtype).expand(len(row), -1)
        if predicate is not None:
            there = features[row, predicate.clamp(min=0)]
            words = torch.where(predicate[:, None] < 0, words, there)
        related = self.relations(features, row, ends, words)
        return Related(self.zero_padding(related.features, mask), related.nodes, related.nodes_mask)

    def edges(self, mask: Tensor, graph: SceneGraph | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Rows (E,), ends (2, E) and, where they are known, places (E,) of the predicates of all relations."""
        if graph is None:
            return self._unparsed(mask)
        graph.check_nodes(mask)
        return graph.row, graph.edge_index, graph.predicate

    def _unparsed(self, mask: Tensor) -> tuple[Tensor, Tensor, None]:
        if self.unparsed == "none" or mask.shape[1] < 2:
            nothing = torch.zeros(0, dtype=torch.int64, device=mask.device)
            return nothing, nothing.expand(2, 0), None
        here = on_host(mask)
        row, word = (here[:, :-1] & here[:, 1:]).nonzero(as_tuple=True)
        return sent(row, mask.device), sent(torch.stack((word, word + 1)), mask.device), None
