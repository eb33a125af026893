"""Implicit relations: self-attention over the fragments of one image or caption."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from itmatch.batch import SceneGraph
from itmatch.nn.relations._geometry import GeometryPerceptron
from itmatch.nn.relations.base import Relation, check_heads
from itmatch.ops.checks import check_dropout, check_whole, check_whole_or_none
from itmatch.ops.geometry import edge_geometry


class ImplicitRelationAttention(Relation):
    r"""Multi-head self-attention over the regions of an image, or over the words of a caption.

    The layers leave the fragments as they are at the start, because what they add begins at 0.

    Args:
        embed_dim: size D of the fragments.
        num_heads: heads of the attention; they divide ``embed_dim``.
        feedforward_dim: hidden size of the feed-forward network; None = 2 * ``embed_dim``, 0 = no such network.
        dropout: probability, on the attention weights, in the feed-forward network, and on what is added.
        geometry: add to the attention logits of each head a learned function of how the two boxes lie to each other.
        num_layers: layers, one after the other.

    Shape:
        As every :class:`Relation`: (N, L, D) -> (N, L, D). ``boxes`` are needed with ``geometry`` alone; ``graph`` is
        not looked at.

    Formula:
        .. math::
            x \leftarrow x + \mathrm{MHA}(\mathrm{LN}(x)), \qquad x \leftarrow x + W_2 \mathrm{ReLU}(W_1 \mathrm{LN}(x))

        With ``geometry``, the logits of a head are :math:`q_i \cdot k_j / \sqrt{d} + b(g_{ij})`, where :math:`g_{ij}`
        are offset, size ratios, direction, IoU and distance of box j as seen from box i.

    Source:
        Hire (2024) has multi-head self-attention over the regions before the explicit relations. Its text at hand
        gives no formula; the pre-norm layer with a feed-forward network, and its size, are our choice. So is
        ``geometry``, after the relation networks of object detection (Hu et al., CVPR 2018).

    Deviation:
        The two output projections start at 0 (a common way to add a layer to a model that works without it), so that a
        model with this layer starts as the model without it.

    Example:
        >>> relation = ImplicitRelationAttention(8, num_heads=2)
        >>> features, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, True], [True, False, False]])
        >>> torch.equal(relation(features, mask)[mask], features[mask])
        True
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        feedforward_dim: int | None = None,
        dropout: float = 0.0,
        geometry: bool = False,
        num_layers: int = 1,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_heads(name, embed_dim, num_heads)
        check_dropout(f"{name}.dropout", dropout)
        given = check_whole_or_none(f"{name}.feedforward_dim", feedforward_dim, 0)
        hidden = 2 * embed_dim if given is None else given
        self.embed_dim, self.geometry = embed_dim, geometry
        layers = range(check_whole(f"{name}.num_layers", num_layers))
        self.layers = nn.ModuleList(_Layer(embed_dim, num_heads, hidden, dropout, geometry=geometry) for _ in layers)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, boxes: Tensor | None = None, graph: SceneGraph | None = None
    ) -> Tensor:
        """Attend; ``graph`` is not looked at."""
        features, mask = self.prepared(features, mask, self.embed_dim)
        if self.geometry and boxes is None:
            raise ValueError(
                "ImplicitRelationAttention: no boxes, expected some for geometry=True; words need geometry=False"
            )
        geometry = None
        if self.geometry and boxes is not None:
            boxes = self.zero_padding(boxes, mask)
            geometry = edge_geometry(boxes[:, :, None], boxes[:, None])  # (N, L, L, 8)
        keys = (mask | ~mask.any(1, keepdim=True))[:, None, None]  # a row of padding alone attends to its zeros
        for layer in self.layers:
            features = layer(features, keys, geometry)
        return self.zero_padding(features, mask)


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward network, both residual."""

    def __init__(self, embed_dim: int, num_heads: int, hidden: int, dropout: float, *, geometry: bool) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, dropout
        self.norm = nn.LayerNorm(embed_dim)
        self.projection = nn.Linear(embed_dim, 3 * embed_dim)  # queries, keys, values
        self.output = _zero(nn.Linear(embed_dim, embed_dim))
        self.dropout = nn.Dropout(dropout)
        self.bias = GeometryPerceptron(num_heads) if geometry else None
        if self.bias is not None:
            _zero(self.bias.output)
        self.feedforward: nn.Sequential | None = None
        if hidden:
            self.feedforward = nn.Sequential(
                nn.LayerNorm(embed_dim),
                nn.Linear(embed_dim, hidden),
                nn.ReLU(),
                nn.Dropout(dropout),
                _zero(nn.Linear(hidden, embed_dim)),
                nn.Dropout(dropout),
            )

    def forward(self, features: Tensor, keys: Tensor, geometry: Tensor | None) -> Tensor:
        """(N, L, D) features, (N, 1, 1, L) bool keys."""
        features = features + self.dropout(self.output(self._attend(self.norm(features), keys, geometry)))
        return features if self.feedforward is None else features + self.feedforward(features)

    def _attend(self, features: Tensor, keys: Tensor, geometry: Tensor | None) -> Tensor:
        n, length, size = features.shape
        heads = self.projection(features).view(n, length, 3, self.num_heads, size // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (N, H, L, D / H)
        allowed = keys
        if self.bias is not None:
            bias = self.bias(geometry).permute(0, 3, 1, 2)  # (N, H, L, L)
            allowed = bias.masked_fill(~keys, -torch.inf).to(query.dtype)
        dropout = self.attention_dropout if self.training else 0.0
        # keeps its softmax in float32 for half-precision inputs, on every backend
        attended = F.scaled_dot_product_attention(query, key, value, allowed, dropout_p=dropout)
        return attended.transpose(1, 2).reshape(n, length, size)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
