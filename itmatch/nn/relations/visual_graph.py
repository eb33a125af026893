"""VReG: the relations between regions as fragments of their own."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import SceneGraph
from itmatch.hostcopies import followed
from itmatch.nn.class_embedding import UNKNOWN, ClassEmbedding
from itmatch.nn.relations._nodes import RelationNodes
from itmatch.nn.relations.base import Related, Relation, check_heads
from itmatch.nn.relations.context import ContextualOrder, Order
from itmatch.ops.checks import check_dropout, check_share, check_whole, check_whole_or_none
from itmatch.ops.geometry import GEOMETRY_SIZE, edge_geometry
from itmatch.ops.graphs import check_boxes, nearest_boxes, strongest_edges


class VisualRelationGraph(Relation):
    r"""Makes one fragment per relation of an image, and lets the regions take from their relations.

    The encoder that has this among its ``relations`` returns the regions first and the relations behind them, told
    apart by ``Fragments.is_relation``; :class:`itmatch.nn.GraphMatchingSimilarity` matches the two apart.

    Relations are the edges of the scene graph, those of boxes that lie next to each other (``neighbours``), or both. An
    image without any has no fragments of relations, and its regions stay as they are but for the contextual order.

    Args:
        embed_dim: size D of the fragments.
        predicates: number of classes of the relations, or a :class:`itmatch.nn.ClassEmbedding` with vectors of their
            names; None = the class does not matter.
        semantic: take the edges of the scene graph.
        min_confidence: leave edges of the scene graph below it out.
        max_relations: how many to keep per image, the most confident ones; None = all.
        neighbours: how many more relations each region has, of class "unknown", to the regions whose boxes' centres
            are nearest; 0 = none.
        geometry: relations know how the two boxes lie to each other.
        order: order of the regions for the bidirectional GRU that goes over them first: as ``"given"`` (detectors give
            them by confidence), ``"raster"`` (four bands from top to bottom, from left to right in a band), or None =
            no GRU.
        num_heads: heads of the attention of a region over its relations; they divide ``embed_dim``.
        dropout: probability, on the vectors of the relations and on what the regions take.

    Shape:
        As every :class:`Relation`; the result is a :class:`~itmatch.nn.relations.base.Related` with Q the most
        relations of an image of the batch.

    Formula:
        .. math::
            n_i &= v_i + W_c\, \mathrm{GRU}(v)_i \\
            p_{ij} &= (n_i + n_j) / 2 + W_2\, \mathrm{ReLU}(W_1 [n_i; e_{ij}; g_{ij}; n_j]) \\
            n_i &\leftarrow n_i + W_o \sum_{p \in E(i)} \alpha_{ip} W_p\, p, \qquad
            \alpha_{ip} = \mathrm{softmax}_p\; a^\top \mathrm{LeakyReLU}(W_n n_i + W_p\, p + d_{ip})

        :math:`E(i)` are the relations of which region i is the subject or the object, and d is a vector for which of
        the two it is. e is the embedding of the predicate, g the geometry of the object's box as seen from the
        subject's. :math:`W_c`, :math:`W_2` and :math:`W_o` start at 0: a relation begins as the mean of its two ends,
        so that the right pair of objects is found before what joins them is learnt.

    Source:
        ReSG (IEEE Transactions on Cybernetics 54(2), 2024) has two graph encoders for concepts and their relations, in
        a contextual order. Its text at hand has no formulas; ours follow the object and relation nodes of SGM (WACV
        2020), with the attention of GATv2 (ICLR 2022). Relations of neighbours are ours.

    Deviation:
        No norm before :math:`W_o`, where :class:`SpatialSemanticGCN` has one: with it, learning nearly stood still on
        RelationScenes. Our reading: what a region or a word took from its relations was soon larger than itself.

    Example:
        >>> relation = VisualRelationGraph(8, predicates=3, num_heads=2)
        >>> features, mask = torch.randn(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
        >>> boxes = torch.tensor([0.0, 0.0, 0.5, 0.5]).expand(2, 3, 4)
        >>> graph = SceneGraph(torch.tensor([[0, 2], [1, 1]]), torch.tensor([0, 0]), 2, torch.tensor([2, 0]))
        >>> related = relation(features, mask, boxes, graph)
        >>> related.nodes.shape, related.nodes_mask.tolist()
        (torch.Size([2, 2, 8]), [[True, True], [False, False]])
    """

    def __init__(
        self,
        embed_dim: int,
        predicates: int | ClassEmbedding | None = None,
        *,
        semantic: bool = True,
        min_confidence: float = 0.0,
        max_relations: int | None = None,
        neighbours: int = 0,
        geometry: bool = True,
        order: Order | None = "given",
        num_heads: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_heads("VisualRelationGraph", embed_dim, num_heads)
        check_dropout("VisualRelationGraph.dropout", dropout)
        _check(min_confidence, max_relations, neighbours, semantic=semantic)
        self.embed_dim, self.semantic, self.geometry = embed_dim, semantic, geometry
        self.min_confidence, self.max_relations, self.neighbours = min_confidence, max_relations, neighbours
        self.context = None if order is None else ContextualOrder(embed_dim, order)
        named = predicates if isinstance(predicates, ClassEmbedding) else None
        if predicates is not None and named is None:
            named = ClassEmbedding(check_whole("VisualRelationGraph.predicates", predicates), embed_dim // 4 or 1)
        self.predicates = named
        predicate_size = 0 if self.predicates is None else self.predicates.dim
        extra = predicate_size + (GEOMETRY_SIZE if geometry else 0)
        self.relations = RelationNodes(embed_dim, extra, num_heads, dropout)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Related:
        """Make the fragments of the relations, and update those of the regions."""
        features, mask = self.prepared(features, mask, self.embed_dim)
        if boxes is None and (self.geometry or self.neighbours or getattr(self.context, "order", None) == "raster"):
            raise ValueError(
                "VisualRelationGraph: no boxes, expected those of the regions; data without boxes need geometry=False, "
                "neighbours=0 and no order 'raster'"
            )
        if boxes is not None:
            check_boxes(boxes, mask)
        if self.context is not None:
            features = self.context(features, mask, boxes)
        row, ends, predicate, _ = self.edges(mask, boxes, graph)
        related = self.relations(features, row, ends, self._extra(features, boxes, row, ends, predicate))
        return Related(self.zero_padding(related.features, mask), related.nodes, related.nodes_mask)

    def edges(
        self, mask: Tensor, boxes: Tensor | None, graph: SceneGraph | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows (E,), ends (2, E), predicates (E,) and confidences (E,) of all relations that are taken."""
        found = []
        if self.semantic:
            if graph is None:
                raise ValueError(
                    "VisualRelationGraph: no graph, expected scene graphs; data without relations need semantic=False, "
                    "which is semantic: false in model.image_encoder.init_args.relations[...].init_args of a YAML"
                )
            graph.check_nodes(mask)
            edges = strongest_edges(graph, self.min_confidence, self.max_relations)
            predicate = graph.predicate
            if predicate is None and self.predicates is not None:
                raise ValueError("VisualRelationGraph: the scene graphs have no predicates; expected predicates=None")
            if predicate is None:
                predicate = torch.full_like(graph.row, UNKNOWN)
            row = followed(_picked, graph.row, edges)
            found.append((row, graph.edge_index[:, edges], predicate[edges], _confidence(graph)[edges]))
        if self.neighbours:
            assert boxes is not None
            row, ends = nearest_boxes(boxes, mask, self.neighbours)
            found.append((row, ends, torch.full_like(row, UNKNOWN), torch.ones(row.shape, device=row.device)))
        row, ends, predicate, confidence = (followed(_joined, *parts) for parts in zip(*found, strict=True))
        return row, ends, predicate, confidence

    def _extra(self, features: Tensor, boxes: Tensor | None, row: Tensor, ends: Tensor, predicate: Tensor) -> Tensor:
        """(E, X) what is known of the relations beside their two ends."""
        parts = [features.new_zeros(len(row), 0)]
        if self.predicates is not None:
            parts.append(self.predicates(predicate).to(features.dtype))
        if self.geometry and boxes is not None:
            parts.append(edge_geometry(boxes[row, ends[0]], boxes[row, ends[1]]).to(features.dtype))
        return torch.cat(parts, -1)


def _picked(values: Tensor, places: Tensor) -> Tensor:
    return values[places]


def _joined(*parts: Tensor) -> Tensor:
    return torch.cat(parts, -1)


def _confidence(graph: SceneGraph) -> Tensor:
    return torch.ones(graph.row.shape, device=graph.row.device) if graph.confidence is None else graph.confidence


def _check(min_confidence: float, max_relations: int | None, neighbours: int, *, semantic: bool) -> None:
    check_share("VisualRelationGraph.min_confidence", min_confidence)
    check_whole_or_none("VisualRelationGraph.max_relations", max_relations)
    check_whole("VisualRelationGraph.neighbours", neighbours, 0)
    if not semantic and not neighbours:
        raise ValueError("VisualRelationGraph: semantic is off and neighbours is 0, expected one of them at least")
