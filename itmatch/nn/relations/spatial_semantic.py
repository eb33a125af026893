"""Explicit relations: messages along spatial and semantic edges between the regions of an image."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.batch import SceneGraph
from itmatch.nn.relations._graphs import DenseGraph, Edges, Graph, SparseGraph
from itmatch.nn.relations._layers import (
    Branch,
    GeometryFactors,
    GraphLayer,
    MakeFactors,
    Merge,
    NoFactors,
    TypeFactors,
    make_merge,
)
from itmatch.nn.relations.base import Relation, check_heads
from itmatch.ops.checks import check_choice, check_dropout, check_share, check_whole, check_whole_or_none
from itmatch.ops.graphs import SpatialWeight, semantic_graph, spatial_adjacency

Implementation = Literal["auto", "sparse", "dense"]

# Edges over N * L * L from which matrices are faster than lists. Measured on one CPU core, forward and backward pass of
# the messages alone, ms dense / sparse for 128 images of 36 regions, D = 512, at these shares:
#               0.5 %     1 %       2 %       5 %       10 %      20 %       100 %
#   no factors   9 / 7     9 / 10    9 / 13    9 / 23    9 / 92   10 / 199   12 / 1005
#   8 heads     34 / 8    38 / 11   41 / 18   35 / 31   45 / 97   37 / 262   49 / 1253
# The two meet at 1 % and 13 % for 64 images and D = 128, at 1 % and 3 % for 128 images and D = 1024.
SPARSE_BELOW = {"plain": 0.01, "factors": 0.05}


class SpatialSemanticGCN(Relation):
    r"""Graph convolutions over the regions of an image, along spatial edges, semantic edges, or both.

    Spatial edges join boxes that overlap (:func:`itmatch.ops.spatial_graph`), semantic edges come from the scene graph
    (:func:`itmatch.ops.semantic_graph`). Each has a branch of its own, and the two updates are merged; with
    ``merge="union"`` there is one branch over all edges. A node at which no edge of a branch ends gets nothing from
    that branch. At the start the whole module leaves the fragments as they are.

    Args:
        embed_dim: size D of the fragments.
        spatial: use the boxes. Words have none: False there.
        semantic: use the scene graph.
        merge: ``"mean"`` of the two updates; ``"concat"``: a linear layer on both; ``"gate"``: a mixture, weighed for
            every node and feature; ``"union"``: one graph. Without meaning where one kind of edges is off.
        num_layers: layers of each branch.
        threshold: smallest IoU that makes a spatial edge; 0 joins all boxes (take ``spatial_weight="ones"`` then).
        spatial_weight: weight of a spatial edge, ``"iou"`` or ``"ones"``.
        geometry: factors of spatial edges by a small network from how the two boxes lie to each other. Without it an
            edge says that boxes overlap, not which one is left or above.
        num_predicates: number of classes of the semantic edges, each with learned factors, one set a direction; None =
            untyped: an edge says that there is a relation, not which.
        min_confidence: leave semantic edges below it out.
        inverse: send messages from object to subject too, as edges of types of their own.
        affinity: multiply the weights of edges by ``exp`` of how well the two fragments go together.
        num_heads: factors of an edge; each scales its share D / num_heads of a message. They divide ``embed_dim``.
        dropout: probability, on what a layer adds.
        implementation: ``"sparse"``: lists of edges and ``torch_geometric``; ``"dense"``: matrices (N, L, L);
            ``"auto"``: whichever is faster at this density of edges. They agree, and share their parameters.

    Shape:
        As every :class:`Relation`: (N, L, D) -> (N, L, D). ``boxes`` are needed with ``spatial``, ``graph`` with
        ``semantic``.

    Formula:
        .. math::
            v_i \leftarrow v_i + W_o \mathrm{LN}\Big(\sum_j \hat A_{ij}\, h_{ij} \odot W_v v_j\Big), \qquad
            \hat A_{ij} = \frac{a_{ij}}{\sum_k a_{ik}}, \qquad
            a_{ij} = w_{ij} \exp(\theta(v_i) \cdot \phi(v_j) / \sqrt{D})

        The sums run over the edges that end at node i; w is the IoU, 1, or the confidence; the exponential is there
        with ``affinity`` alone. The factors h are 1, or one number a head: learned per type of edge, or
        :math:`1 + \mathrm{MLP}(g_{ij})` of offset, size ratios, direction, IoU and distance of box j as seen from
        box i.

    Source:
        CMSEI (WACV 2023) and Hire (2024) reason over a spatial and a semantic graph of the regions. Their texts at hand
        give no formulas; threshold, weights, layer and merging are our choice, close to the relation reasoning of VSRN
        (ICCV 2019) over one complete graph with affinities. Types of edges and their factors are ours.

    Deviation:
        The norm stands before :math:`W_o` and not after it: all :math:`W_o` start at 0, which makes the module the
        identity at the start, and a norm has no useful gradient at a vector of zeros. ``"concat"`` and ``"gate"`` start
        as the mean, because two zero layers in a row would never learn.

    Example:
        >>> relation = SpatialSemanticGCN(8, num_heads=2, threshold=0.1)
        >>> features, mask = torch.randn(1, 3, 8), torch.ones(1, 3, dtype=torch.bool)
        >>> boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.3, 0.0, 0.8, 1.0], [0.9, 0.0, 1.0, 1.0]]])
        >>> graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 1)
        >>> torch.equal(relation(features, mask, boxes, graph), features)
        True
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        spatial: bool = True,
        semantic: bool = True,
        merge: Merge = "mean",
        num_layers: int = 1,
        threshold: float = 0.4,
        spatial_weight: SpatialWeight = "iou",
        geometry: bool = False,
        num_predicates: int | None = None,
        min_confidence: float = 0.0,
        inverse: bool = True,
        affinity: bool = False,
        num_heads: int = 8,
        dropout: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        _check_choices(merge, implementation, spatial=spatial, semantic=semantic)
        _check_edges(threshold, spatial_weight, num_predicates, min_confidence)
        check_heads("SpatialSemanticGCN", embed_dim, num_heads)
        check_whole("SpatialSemanticGCN.num_layers", num_layers)
        check_dropout("SpatialSemanticGCN.dropout", dropout)
        self.embed_dim, self.implementation = embed_dim, implementation
        self.threshold, self.spatial_weight = threshold, spatial_weight
        self.geometry = geometry
        self.num_predicates, self.min_confidence, self.inverse = num_predicates, min_confidence, inverse
        factors = self._factors(num_heads, spatial=spatial, semantic=semantic, merge=merge)
        groups = [list(factors)] if merge == "union" else [[kind] for kind in factors]
        self.kinds: dict[str, list[str]] = {"_".join(group): group for group in groups}
        self.branches = nn.ModuleDict()
        for name, group in self.kinds.items():
            make = partial(GraphLayer, embed_dim, [factors[kind] for kind in group], num_heads)
            self.branches[name] = Branch([make(affinity=affinity, dropout=dropout) for _ in range(num_layers)])
        self.merge = make_merge(merge, embed_dim) if len(groups) == 2 else None

    def _factors(self, num_heads: int, *, spatial: bool, semantic: bool, merge: Merge) -> dict[str, MakeFactors]:
        """For each kind of edges, what makes its factors."""
        found: dict[str, MakeFactors] = {}
        typed = semantic and self.num_predicates is not None
        if spatial:
            one_more_type = typed and merge == "union"
            plain = partial(TypeFactors, 1, num_heads) if one_more_type else NoFactors
            found["spatial"] = partial(GeometryFactors, num_heads) if self.geometry else plain
        if semantic:
            types = (self.num_predicates or 0) * (2 if self.inverse else 1)
            found["semantic"] = partial(TypeFactors, types, num_heads) if typed else NoFactors
        return found

    def forward(
        self, features: Tensor, mask: Tensor, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor:
        """Send messages along the edges."""
        self.check_size(features, self.embed_dim)
        features = self.zero_padding(features, mask)
        dtype = torch.promote_types(features.dtype, torch.float32)
        boxes = None if boxes is None else boxes.to(dtype)
        updates = []
        for name, group in self.kinds.items():
            messages, edges = self._graph(group, mask, boxes, graph, dtype)
            updates.append(self.branches[name](features, messages, edges))
        update = updates[0] if self.merge is None else self.merge(features, updates)
        return self.zero_padding(features + update, mask)

    def _graph(
        self, kinds: list[str], mask: Tensor, boxes: Tensor | None, graph: SceneGraph | None, dtype: torch.dtype
    ) -> tuple[Graph, list[Edges]]:
        """The graph of a branch, and its edges by kind."""
        adjacency = self._adjacency(mask, boxes) if "spatial" in kinds else None
        semantic = self._semantic(mask, graph) if "semantic" in kinds else None
        sparse = self._is_sparse(mask, adjacency, semantic)
        edges = []
        if adjacency is not None and boxes is not None:
            edges.append(Edges.spatial(adjacency, boxes, mask, geometry=self.geometry, as_list=sparse))
        if semantic is not None:
            edges.append(semantic)
        make = SparseGraph if sparse else DenseGraph
        n, length = mask.shape
        return make(edges, (n, length), dtype), edges

    def _adjacency(self, mask: Tensor, boxes: Tensor | None) -> Tensor:
        if boxes is None:
            raise ValueError(
                "SpatialSemanticGCN: no boxes, expected those of the regions for the spatial edges; data without boxes "
                "(or words) need spatial=False"
            )
        return spatial_adjacency(boxes, mask, self.threshold, self.spatial_weight)

    def _semantic(self, mask: Tensor, graph: SceneGraph | None) -> Edges:
        if graph is None:
            raise ValueError(
                "SpatialSemanticGCN: no graph, expected scene graphs for the semantic edges; data without relations "
                "need semantic=False"
            )
        # leaving edges out waits for a GPU; there they stay, with weight 0
        least = self.min_confidence if mask.device.type == "cpu" else 0.0
        edges = semantic_graph(graph, mask, least, num_predicates=self.num_predicates, inverse=self.inverse)
        weight = edges.edge_weight.masked_fill(edges.edge_weight < self.min_confidence, 0)
        return Edges(weight, edges.edge_index, edges.edge_type)

    def _is_sparse(self, mask: Tensor, adjacency: Tensor | None, semantic: Edges | None) -> bool:
        if self.implementation != "auto":
            return self.implementation == "sparse"
        if adjacency is not None and adjacency.device.type != "cpu":
            return False  # making a list of the edges would wait for the device
        count = 0 if adjacency is None else int(adjacency.count_nonzero())
        count += 0 if semantic is None else len(semantic.weight)
        typed = semantic is not None and self.num_predicates is not None
        factors = typed or (adjacency is not None and self.geometry)
        return count < SPARSE_BELOW["factors" if factors else "plain"] * mask.numel() * mask.shape[1]


def _check_choices(merge: str, implementation: str, *, spatial: bool, semantic: bool) -> None:
    if not (spatial or semantic):
        raise ValueError("SpatialSemanticGCN: spatial and semantic are both off, expected one of them at least")
    check_choice("SpatialSemanticGCN.merge", merge, "mean", "concat", "gate", "union")
    check_choice("SpatialSemanticGCN.implementation", implementation, "auto", "sparse", "dense")


def _check_edges(threshold: float, weight: str, num_predicates: int | None, min_confidence: float) -> None:
    check_share("SpatialSemanticGCN.threshold", threshold)
    check_share("SpatialSemanticGCN.min_confidence", min_confidence)
    check_choice("SpatialSemanticGCN.spatial_weight", weight, "iou", "ones")
    check_whole_or_none("SpatialSemanticGCN.num_predicates", num_predicates)
