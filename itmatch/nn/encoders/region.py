"""The image encoder for region features of a detector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments, Regions
from itmatch.nn.class_embedding import UNKNOWN, ClassEmbedding
from itmatch.nn.encoders._output import RelationList, takes_no_rows, to_fragments
from itmatch.nn.encoders.base import ImageEncoder
from itmatch.nn.linear import Perceptron, xavier_linear
from itmatch.nn.pooling import Pooling
from itmatch.nn.relations.base import Relation, check_heads
from itmatch.ops.checks import check_choice, check_dropout, check_kind_or_none, check_whole
from itmatch.ops.masking import l2_normalize


class RegionEncoder(ImageEncoder):
    r"""Image encoder: a linear projection of each region; then, if wanted, self-attention and relations of the regions.

    Args:
        in_features: size F of a region feature (2048 for bottom-up attention).
        embed_dim: size D of the shared space.
        self_attention: add one pre-norm self-attention, with residual and without feed-forward.
        num_heads: heads of the self-attention; they divide ``embed_dim``.
        mask_attention: padded regions receive no attention. False reproduces the published code, in which they
            take part as regions whose feature is zero; the result then depends on how far a batch is padded.
        input_norm: what is done to the raw features: nothing, L2 (``"l2"``) or a LayerNorm (``"layer"``).
        normalize: L2-normalise each region at the end.
        dropout: probability, on the projected regions and on the attention weights.
        pooling: makes ``Fragments.pooled``, from the regions before their normalisation; None makes none.
        relations: blocks through which the regions learn from each other, in this order, after the self-attention and
            before pooling and normalisation; they are given the boxes and the scene graphs too.
        labels: vectors of the object classes, put beside the features before the projection; needs ``Regions.labels``.
        mlp: add to the projection that of a perceptron with one hidden layer of ``embed_dim // 2`` and batch
            normalisation, as VSE-infinity has it.

    Shape:
        ``Regions`` with features (I, R, F) of any float type -> ``Fragments`` with features (I, R, D). Padded
        positions are never read and come out as 0.

    Formula:
        .. math::
            x = W f + b, \qquad x \leftarrow x + \mathrm{MHA}(\mathrm{LN}(x)), \qquad v = x / \|x\|

    Source:
        CHAN (CVPR 2023) and its public code: plain for the BERT model, with self-attention for the GRU model.
        The parameters ``fc`` have the public names; ``norm`` and ``attention`` stand there as ``feedforward.ln`` and
        ``feedforward.attn``. With ``mlp`` and a pooling: Chen et al., "Learning the Best Pooling Strategy for Visual
        Semantic Embedding", CVPR 2021, and its public code.

    Deviation:
        The public code does not mask the attention; see ``mask_attention``. The statistics of the batch normalisation
        in ``mlp`` are those of real regions; in the public code padding enters them.

    Example:
        >>> import torch
        >>> encoder = RegionEncoder(16, 8, self_attention=True, num_heads=2)
        >>> regions = Regions(torch.randn(2, 3, 16), torch.tensor([[True, True, True], [True, False, False]]))
        >>> encoder(regions).features.shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        in_features: int,
        embed_dim: int = 1024,
        *,
        self_attention: bool = False,
        num_heads: int = 8,
        mask_attention: bool = True,
        input_norm: Literal["l2", "layer"] | None = None,
        normalize: bool = True,
        dropout: float = 0.0,
        pooling: Pooling | None = None,
        relations: list[Relation] | None = None,
        labels: ClassEmbedding | None = None,
        mlp: bool = False,
    ) -> None:
        super().__init__()
        check_choice("RegionEncoder.input_norm", input_norm, None, "l2", "layer")
        check_whole("RegionEncoder.in_features", in_features)
        check_whole("RegionEncoder.embed_dim", embed_dim)
        check_dropout("RegionEncoder.dropout", dropout)
        if self_attention:
            check_heads("RegionEncoder", embed_dim, num_heads)
        self.in_features, self.embed_dim = in_features, embed_dim
        self.mask_attention, self.input_norm, self.normalize = mask_attention, input_norm, normalize
        self.input_layer_norm = nn.LayerNorm(in_features) if input_norm == "layer" else None
        self.labels = labels
        self.fc = xavier_linear(in_features + (0 if labels is None else labels.dim), embed_dim)
        self.mlp = Perceptron(self.fc.in_features, embed_dim) if mlp else None
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embed_dim) if self_attention else None
        self.attention: nn.MultiheadAttention | None = None
        if self_attention:
            self.attention = nn.MultiheadAttention(embed_dim, num_heads, dropout=dropout, batch_first=True)
        self.pooling = check_kind_or_none("pooling", pooling, Pooling)
        self.relations = RelationList(relations)

    @takes_no_rows
    def forward(self, regions: Regions) -> Fragments:
        """Encode the regions of a batch of images."""
        features, mask = regions.features, regions.mask
        if features.shape[-1] != self.in_features:
            raise ValueError(f"RegionEncoder: features of size {features.shape[-1]}, expected {self.in_features}")
        features = features.masked_fill(~mask[..., None], 0.0).to(self.fc.weight.dtype)  # (I, R, F)
        features = self._with_labels(self._normalized_input(features), regions)
        encoded = self.fc(features)  # (I, R, D)
        if self.mlp is not None:
            encoded = self.mlp.added_to(encoded, features, mask)
        encoded = self.dropout(encoded)
        related = self.relations(self._attend(encoded, mask), mask, regions.boxes, regions.graph)
        return to_fragments(related, mask, normalize=self.normalize, pooling=self.pooling)

    def _normalized_input(self, features: Tensor) -> Tensor:
        if self.input_norm == "l2":
            return l2_normalize(features)
        return features if self.input_layer_norm is None else self.input_layer_norm(features)

    def _with_labels(self, features: Tensor, regions: Regions) -> Tensor:
        if self.labels is None:
            return features
        if regions.labels is None:
            raise ValueError(
                "RegionEncoder: no labels, expected those of the regions; data without them need labels=None"
            )
        vectors = self.labels(regions.labels.masked_fill(~regions.mask, UNKNOWN))
        return torch.cat((features, vectors.to(features.dtype)), -1)

    def _attend(self, encoded: Tensor, mask: Tensor) -> Tensor:
        if self.attention is None or self.norm is None:
            return encoded
        query = self.norm(encoded)
        ignored = ~mask if self.mask_attention else None
        attended, _ = self.attention(query, query, query, key_padding_mask=ignored, need_weights=False)
        result: Tensor = encoded + attended
        return result
