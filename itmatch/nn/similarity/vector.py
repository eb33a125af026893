"""Similarity vectors between words and what they attend to, reduced by a learned head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from itmatch.batch import Fragments
from itmatch.hostcopies import followed
from itmatch.nn.attention_pooling import GlobalAttentionPooling
from itmatch.nn.linear import xavier_linear
from itmatch.nn.pooling import Pooling
from itmatch.nn.similarity.heads import SimilarityHead, SimilarityReasoning
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.checks import check_above_zero, check_whole, check_whole_or_none
from itmatch.ops.masking import at_least_float32, l2_normalize
from itmatch.ops.pairs.attention import Normalization, attention_weights, check_normalization
from itmatch.ops.pairs.sides import check_sides
from itmatch.ops.pairs.tiles import PairTile


class VectorSimilarity(TiledSimilarity):
    r"""SGRAF: compares each word with what it attends to by a vector instead of a number, and reduces these by a head.

    Args:
        embed_dim: size D of the fragments.
        head: reduces the similarity vectors of a pair to one; :class:`SimilarityReasoning` (SGR, the default) or
            :class:`SimilarityFiltration` (SAF). Its ``similarity_dim`` is the size S of the vectors.
        region_pooling: makes the vector of an image from its regions; by default :class:`GlobalAttentionPooling` with
            batch normalisation.
        word_pooling: makes the vector of a caption from its words; by default :class:`GlobalAttentionPooling`.
        temperature: of the attention of words over regions; its inverse is the lambda of the paper.
        normalization: as in :class:`~itmatch.nn.CrossAttentionSimilarity`.
        chunk_size: images per block; by default one that fits the cache.

    Formula:
        .. math::
            x_0 = \frac{W_g (\bar v - \bar t)^2}{\|\cdot\|}, \qquad
            x_w = \frac{W_l (d_w / \|d_w\| - t_w)^2}{\|\cdot\|}, \qquad
            S = \sigma(u^\top \mathrm{head}(x_0, \dots, x_W) + b)

        with :math:`d_w = \sum_r \beta_{rw} v_r`, the attention of SCAN, squares element by element, biases left out.

    Source:
        Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code, with
        which the scores of both heads agree to 1e-5.

    Example:
        >>> image = Fragments(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> VectorSimilarity(8, SimilarityReasoning(4))(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        head: SimilarityHead | None = None,
        region_pooling: Pooling | None = None,
        word_pooling: Pooling | None = None,
        *,
        temperature: float = 1 / 9,
        normalization: Normalization = "clipped_l2norm",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = check_whole("embed_dim", embed_dim)
        self.head = SimilarityReasoning() if head is None else head
        self.region_pooling = region_pooling or GlobalAttentionPooling(embed_dim, batch_norm=True)
        self.word_pooling = word_pooling or GlobalAttentionPooling(embed_dim)
        self.temperature = check_above_zero("temperature", temperature)
        self.normalization = check_normalization(normalization)
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.local = xavier_linear(embed_dim, self.head.similarity_dim)
        self.whole = xavier_linear(embed_dim, self.head.similarity_dim)
        self.score = xavier_linear(self.head.similarity_dim, 1)

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        check_sides(image.features, image.mask, text.features, text.mask, self.chunk_size)  # before the whole is added
        if image.features.shape[2] != self.embed_dim:
            raise ValueError(f"fragments of size {image.features.shape[2]}, expected embed_dim {self.embed_dim}")
        return super().forward(_with_whole(image, self.region_pooling), _with_whole(text, self.word_pooling))

    def numbers_per_pair(self, image: Fragments, text: Fragments) -> int:
        """The attended vectors and the similarity vectors."""
        return text.features.shape[1] * (text.features.shape[2] + self.head.similarity_dim)

    def score_tile(self, tile: PairTile) -> Tensor:
        """(i, t, 1) scores of a tile of pairs whose first region and first word stand for the whole."""
        regions, words = tile.images.vectors[:, 1:], tile.captions.vectors[None, :, 1:]
        weights = attention_weights(
            tile.scores[:, :, 1:, 1:],
            "words",
            self.temperature,
            self.normalization,
            None if tile.region_mask is None else tile.region_mask[..., 1:],
            None if tile.word_mask is None else tile.word_mask[..., 1:],
        )  # (i, t, W, R)
        attended = l2_normalize(tile.attended(weights, regions))  # (i, t, W, D)
        image, text = tile.per_image(tile.images.vectors[:, 0]), tile.captions.vectors[None, :, 0]
        dtype = self.local.weight.dtype  # half, where the whole model is
        whole = self.whole((image - text).square().to(dtype))[:, :, None]
        vectors = torch.cat((whole, self.local((attended - words).square().to(dtype))), 2)  # (i, t, 1 + W, S)
        mask = vectors.new_ones(vectors.shape[:3], dtype=torch.bool)
        if tile.word_mask is not None:
            mask = mask & tile.word_mask
        reduced = self.head(l2_normalize(vectors).flatten(0, 1), mask.flatten(0, 1))  # (i t, S)
        scores: Tensor = at_least_float32(self.score(reduced)).sigmoid().view(*vectors.shape[:2], 1)
        return scores

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """The attention of the words over the regions, (R, W)."""
        return self.on_real_fragments(image, text, self._attention)

    def _attention(self, scores: Tensor) -> Tensor:
        weights = attention_weights(scores.T[None, None], "words", self.temperature, self.normalization)
        return weights[0, 0].T


def _with_whole(fragments: Fragments, pooling: Pooling) -> Fragments:
    """The fragments with the vector of the whole, of length 1, as the first of them."""
    mask = followed(lambda mask: mask[..., None], fragments.mask)
    whole = l2_normalize(pooling(fragments.features, mask, dim=1))[:, None]
    features = torch.cat((whole.to(fragments.features.dtype), fragments.features), 1)
    return Fragments.unchecked(features, followed(lambda mask: pad(mask, (1, 0), value=True), fragments.mask))
