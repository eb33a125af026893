"""Explicit relations: messages along spatial and semantic edges between the regions of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from itmatch.batch import SceneGraph
from itmatch.nn.relations.base import Relation, check_heads
from itmatch.ops.checks import check_choice, check_share, check_whole, check_whole_or_none
from itmatch.ops.geometry import edge_geometry
from itmatch.ops.graphs import Edges, SpatialWeight, semantic_graph, spatial_graph

_WHERE = (  # an option, in Python and in a YAML
    "{0}=False, which is {0}: false in model.image_encoder.init_args.relations[...].init_args of a YAML"
)

if TYPE_CHECKING:
    from itmatch.nn.relations._layers import Branch

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
    (:func:`itmatch.ops.semantic_graph`). Each has a branch of its own, and the mean of the updates is added. A node at
    which no edge of a branch ends gets nothing from that branch. At the start the whole module leaves the fragments as
    they are.

    Where there are few edges, a layer is a ``torch_geometric.nn.MessagePassing`` along a list of them; where there are
    many, it multiplies matrices (N, L, L). The results agree.

    Args:
        embed_dim: size D of the fragments.
        spatial: use the boxes. Words have none: False there.
        semantic: use the scene graph.
        num_layers: layers of each branch.
        threshold: smallest IoU that makes a spatial edge; 0 joins all boxes (take ``spatial_weight="ones"`` then).
        spatial_weight: weight of a spatial edge, ``"iou"`` or ``"ones"``.
        geometry: factors of spatial edges by a small network from how the two boxes lie to each other. Without it an
            edge says that boxes overlap, not which one is left or above.
        num_predicates: number of classes of the semantic edges, each with learned factors per direction; None =
            untyped: an edge says that there is a relation, not which.
        min_confidence: leave semantic edges below it out.
        num_heads: factors of an edge; each scales its share D / num_heads of a message. They divide ``embed_dim``.

    Shape:
        As every :class:`Relation`: (N, L, D) -> (N, L, D). ``boxes`` are needed with ``spatial``, ``graph`` with
        ``semantic``.

    Formula:
        .. math::
            v_i \leftarrow v_i + W_o \mathrm{LN}\Big(\sum_j \hat A_{ij}\, h_{ij} \odot W_v v_j\Big), \qquad
            \hat A_{ij} = \frac{w_{ij}}{\sum_k w_{ik}}

        The sums run over the edges that end at node i; w is the IoU, 1, or the confidence. Semantic edges carry
        messages both ways. The factors h are 1, or one number per head: learned per predicate and direction, or
        :math:`1 + \mathrm{MLP}(g_{ij})` of offset, size ratios, direction, IoU and distance of box j as seen from
        box i.

    Source:
        CMSEI (WACV 2023) and Hire (2024) reason over a spatial and a semantic graph of the regions. Their texts at hand
        give no formulas; threshold, weights, layer and merging are our choice, close to the relation reasoning of VSRN
        (ICCV 2019). Types of edges and their factors are ours.

    Deviation:
        The norm stands before :math:`W_o` and not after it: all :math:`W_o` start at 0, which makes the module the
        identity at the start, and a norm has no useful gradient at a vector of zeros.

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
        num_layers: int = 1,
        threshold: float = 0.4,
        spatial_weight: SpatialWeight = "iou",
        geometry: bool = False,
        num_predicates: int | None = None,
        min_confidence: float = 0.0,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        from itmatch.nn.relations._layers import Branch, GeometryFactors, GraphConvolution, TypeFactors

        if not (spatial or semantic):
            raise ValueError("SpatialSemanticGCN: spatial and semantic are both off, expected one of them at least")
        check_choice("SpatialSemanticGCN.spatial_weight", spatial_weight, "iou", "ones")
        check_heads("SpatialSemanticGCN", embed_dim, num_heads)
        layers = range(check_whole("SpatialSemanticGCN.num_layers", num_layers))
        self.embed_dim, self.spatial_weight, self.geometry = embed_dim, spatial_weight, geometry
        self.threshold = check_share("SpatialSemanticGCN.threshold", threshold)
        self.num_predicates = check_whole_or_none("SpatialSemanticGCN.num_predicates", num_predicates)
        self.min_confidence = check_share("SpatialSemanticGCN.min_confidence", min_confidence)

        def branch(factors: Callable[[], nn.Module] | None) -> Branch:
            made = [None if factors is None else factors() for _ in layers]
            return Branch(GraphConvolution(embed_dim, num_heads, one) for one in made)

        self.branches = nn.ModuleDict()
        if spatial:
            self.branches["spatial"] = branch(partial(GeometryFactors, num_heads) if geometry else None)
        if semantic:
            types = None if num_predicates is None else partial(TypeFactors, 2 * num_predicates, num_heads)
            self.branches["semantic"] = branch(types)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor:
        """Send messages along the edges."""
        features, mask = self.prepared(features, mask, self.embed_dim)
        updates = []
        for name, branch in self.branches.items():
            edges = self._spatial(mask, boxes) if name == "spatial" else self._semantic(mask, graph)
            edges = replace(edges, edge_weight=edges.edge_weight.to(torch.promote_types(features.dtype, torch.float32)))
            is_list, factors = edges.edge_index is not None, edges.edge_attr is not None
            dense = not (is_list and _is_sparse(len(edges.edge_weight), mask, factors=factors))
            updates.append(branch(features, edges, dense=dense))
        return self.zero_padding(features + torch.stack(updates).mean(0), mask)

    def _spatial(self, mask: Tensor, boxes: Tensor | None) -> Edges:
        if boxes is None:
            raise ValueError(
                "SpatialSemanticGCN: no boxes, expected those of the regions for the spatial edges; data without boxes "
                f"(or words) need {_WHERE.format('spatial')}"
            )
        edges = spatial_graph(boxes, mask, self.threshold, self.spatial_weight)
        # on other devices making a list of the edges would wait for the device
        if mask.device.type == "cpu" and _is_sparse(
            int(edges.edge_weight.count_nonzero()), mask, factors=self.geometry
        ):
            edges = edges.as_list()
        if not self.geometry:
            return edges
        return replace(edges, edge_attr=edge_geometry(*edges.ends(self.zero_padding(boxes, mask))))

    def _semantic(self, mask: Tensor, graph: SceneGraph | None) -> Edges:
        if graph is None:
            raise ValueError(
                "SpatialSemanticGCN: no graph, expected scene graphs for the semantic edges; data without relations "
                f"need {_WHERE.format('semantic')}"
            )
        # leaving edges out waits for a GPU; there they stay, with weight 0
        least = self.min_confidence if mask.device.type == "cpu" else 0.0
        edges = semantic_graph(graph, mask, least, num_predicates=self.num_predicates)
        weight = edges.edge_weight
        return replace(edges, edge_weight=weight.masked_fill(weight < self.min_confidence, 0))


def _is_sparse(num_edges: int, mask: Tensor, *, factors: bool) -> bool:
    """Whether a list of the edges is faster than matrices."""
    return num_edges < SPARSE_BELOW["factors" if factors else "plain"] * mask.numel() * mask.shape[1]
