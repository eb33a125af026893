"""Patch slimming: for each caption an image keeps the patches that matter, and merges them into a few tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from itmatch.batch import Fragments
from itmatch.nn.similarity.tiled import TiledSimilarity
from itmatch.ops.checks import check_share, check_whole, check_whole_or_none
from itmatch.ops.masking import at_least_float32, masked_max, masked_mean, masked_softmax
from itmatch.ops.pairs.attention import WORDS
from itmatch.ops.pairs.lengths import cosine, directed, root
from itmatch.ops.pairs.tiles import FragmentGroup, PairTile

_SLOPE = 0.1  # of the leaky ReLU that clips the cosines
_HIDDEN = 0.2  # share of the embedding size


class PatchSlimmingSimilarity(TiledSimilarity):
    r"""LAPS: a caption chooses the patches of an image; these are merged into a few tokens, and met by the words.

    Patches that fit the image as a whole and the caption are kept. A small network, which reads a patch alone, says how
    the kept patches are merged into S tokens; all others become one more token. Which patches are kept has no gradient.
    Nothing of the embedding size is made for a pair: inner products, the Gram matrices of both sides and the network's
    output for each image are enough.

    Patches and words are read as they are: their lengths count in the means and in what is merged, so let the encoders
    leave them (``normalize=False``), as published.

    Args:
        embed_dim: size D of the fragments.
        num_patches: patches of an image of the usual size, 196 or 576 for a ViT, 49 or 144 for Swin; it says how many
            tokens there are, ``S = int(num_patches * merged * kept)``. Images may have other numbers of patches.
        kept: share of its patches that an image keeps for a caption, rounded up; 0.5 for ViT, 0.8 for Swin.
        merged: number of tokens for each kept patch; 0.4 for ViT, 0.6 for Swin.
        class_token: the first fragment of an image stands for the whole: it is no patch, and met as it is.
        empty_rest: where an image keeps all its patches, let a zero vector stand for the others, as published. It beats
            tokens that fit no word, and lowers the mean. By default there is no such token.
        chunk_size: images per block; by default one that fits the cache.

    Shape:
        image (I, R, D), text (T, W, D) -> (I, T), between -0.2 and 2

    Formula:
        With the mean patch :math:`\bar p` and the mean word :math:`\bar t` of a pair:

        .. math::
            z_p &= \cos(\bar p, p) + \cos(\bar t, p), \qquad K = \text{the } \lceil \rho N \rceil \text{ largest } z \\
            q_s &= \sum_{p \in K} \mathrm{softmax}_{p \in K}(l_{ps})\, p, \qquad
            l_p = c\, (W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(p) + b_1) + b_2) \\
            f &= \sum_{p \notin K} \mathrm{softmax}_{p \notin K}(z_p)\, p \\
            m_{wj} &= \mathrm{LeakyReLU}_{0.1}(\cos(t_w, j)), \quad j \in \{\mathrm{CLS}, q_1, \dots, q_S, f\} \\
            S_{it} &= \mathrm{mean}_w \max_j m_{wj} + \mathrm{mean}_j \max_w m_{wj}

        with a learned number :math:`c`.

    Source:
        Fu et al., "Linguistic-Aware Patch Slimming Framework for Fine-grained Cross-Modal Alignment", CVPR 2024
        (LAPS), and its public code, with which values and gradients agree to 1e-5.

    Deviation:
        The public code takes an image to have a class token where the number of its fragments is no square;
        ``class_token`` says it. See also ``empty_rest``. A term of its loss, of the share of kept patches, is constant
        and left out.

    Example:
        >>> image = Fragments(torch.randn(3, 17, 8), torch.ones(3, 17, dtype=torch.bool))
        >>> text = Fragments(torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool))
        >>> PatchSlimmingSimilarity(8, num_patches=16)(image, text).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        embed_dim: int = 512,
        num_patches: int = 196,
        kept: float = 0.5,
        merged: float = 0.4,
        *,
        class_token: bool = True,
        empty_rest: bool = False,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim, self.num_patches = check_whole("embed_dim", embed_dim), check_whole("num_patches", num_patches)
        self.kept, self.merged = check_share("kept", kept), check_share("merged", merged)
        self.class_token, self.empty_rest = class_token, empty_rest
        self.chunk_size = check_whole_or_none("chunk_size", chunk_size)
        self.num_tokens, hidden = int(num_patches * merged * kept), max(1, int(embed_dim * _HIDDEN))
        if not self.num_tokens:
            raise ValueError(f"num_patches {num_patches} * merged {merged} * kept {kept}: no token, expected 1 or more")
        self.weight = nn.Sequential(
            nn.LayerNorm(embed_dim), nn.Linear(embed_dim, hidden), nn.GELU(), nn.Linear(hidden, self.num_tokens)
        )
        self.scale = nn.Parameter(torch.ones(1))

    def numbers_per_pair(self, image: Fragments, text: Fragments) -> int:
        """The weights of the tokens, twice: with the Gram matrix too."""
        return 2 * (self.num_tokens + 1) * image.features.shape[1]

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """All scores."""
        self.check(image, text)
        if image.features.shape[2] != self.embed_dim:
            raise ValueError(f"fragments of size {image.features.shape[2]}, expected embed_dim {self.embed_dim}")
        if self.class_token and not torch.compiler.is_compiling() and not bool(image.mask[:, 0].all()):
            row = int((~image.mask[:, 0]).nonzero()[0])
            raise ValueError(f"image: row {row} has no class token: its first fragment is padding; class_token=False?")
        return super().forward(image, text)

    def image_values(self, image: Fragments) -> Tensor:
        """(I, R, S) logits of the patches in the tokens."""
        patches = image.features.masked_fill(~image.mask[..., None], 0).to(self.scale.dtype)
        logits = at_least_float32(self.scale) * at_least_float32(self.weight(patches))
        return logits.masked_fill(~image.mask[..., None], 0)

    def score_tile(self, tile: PairTile) -> Tensor:
        """(i, t, 1) scores of a tile of pairs."""
        _, met, real = self._met(tile)
        words = None if tile.word_mask is None else tile.word_mask[..., None]
        of_words = masked_mean(masked_max(met, real[:, :, None], 3), tile.word_mask, 2)
        return (of_words + masked_mean(masked_max(met, words, 2), real, 2))[..., None]

    def align(self, image: Fragments, text: Fragments) -> Tensor:
        """The score of each word with its best token, shared out among the patches of this token, (R, W)."""
        self.check_pair(image, text)
        regions, words = image.mask[0].nonzero(), text.mask[0].nonzero()  # (r, 1), (w, 1)
        dtype = torch.promote_types(torch.promote_types(image.features.dtype, text.features.dtype), torch.float32)
        sides = image.features[:, regions[:, 0]].to(dtype), text.features[:, words[:, 0]].to(dtype)
        with torch.autocast(image.features.device.type, enabled=False):
            values = self.image_values(Fragments(sides[0])).to(dtype)
            tile = PairTile(FragmentGroup(sides[0], None, values), FragmentGroup(sides[1], None))
            weights, met, real = self._met(tile)
        best = met[0, 0].masked_fill(~real[0, 0], -torch.inf).max(1)  # of (w, j)
        shown = (best.values[:, None] * weights[0, 0, best.indices]).T
        return shown.new_zeros(image.mask.shape[1], text.mask.shape[1]).index_put((regions, words.T), shown)

    def _met(self, tile: PairTile) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (i, t, J, R) that make the tokens, clipped cosines (i, t, W, J), and which tokens exist (i, t, J)."""
        weights, real = self._tokens(tile)
        products = tile.scores @ weights.transpose(2, 3)  # (i, t, W, J)
        squares = tile.attended_squares(weights)  # (i, t, J)
        words = tile.captions.vectors.square().sum(2)[None, ..., None]  # (1, t, W, 1)
        return weights, leaky_relu(cosine(products, words, squares[:, :, None]), _SLOPE), real

    def _tokens(self, tile: PairTile) -> tuple[Tensor, Tensor]:
        """Weights (i, t, J, R) of the patches in the tokens, and which tokens exist."""
        patches = self._patches(tile)  # (i, t, R), which broadcasts
        salience = self._salience(tile, patches)
        kept = _largest(salience, patches, self.kept)
        rest = patches & ~kept
        assert tile.images.values is not None
        logits = tile.per_image(tile.images.values.transpose(1, 2))  # (i, t, S, R), which broadcasts
        weights = masked_softmax(logits, kept[:, :, None], 3)
        parts = [weights, masked_softmax(salience, rest, 2)[:, :, None]]
        some = kept.any(2, keepdim=True)
        exist = [some.expand(-1, -1, self.num_tokens), rest.any(2, keepdim=True) | self.empty_rest]
        if self.class_token:
            whole = torch.zeros_like(weights[:, :, :1])
            whole[..., 0] = 1
            parts, exist = [whole, *parts], [torch.ones_like(some), *exist]
        return torch.cat(parts, 2), torch.cat(exist, 2)

    def _patches(self, tile: PairTile) -> Tensor:
        """Which fragments are patches, broadcasts to (i, t, R)."""
        real = tile.region_mask
        if real is None:
            real = torch.ones(1, 1, tile.scores.shape[3], dtype=torch.bool, device=tile.scores.device)
        first = torch.arange(real.shape[2], device=real.device) == 0
        return real & ~first if self.class_token else real

    def _salience(self, tile: PairTile, patches: Tensor) -> Tensor:
        """(i, t, R), without gradient: cosine of each patch with the mean patch, and with the mean word."""
        regions, words = tile.images.vectors.detach(), tile.captions.vectors.detach()
        own = (regions @ regions[:, int(self.class_token) :].sum(1)[..., None])[..., 0]  # (images, R)
        to_image, length = tile.per_image(own), tile.per_image(regions.square().sum(2))
        image, text = (to_image * patches).sum(2, keepdim=True), words.sum(1).square().sum(1)[None, :, None]
        return _cosine(to_image, image, length) + _cosine(tile.scores.detach().sum(WORDS), text, length)


def _cosine(product: Tensor, whole: Tensor, square: Tensor) -> Tensor:
    """From inner products and squared lengths; 0 where a vector is 0."""
    return directed(whole) * directed(square) * (product / (root(whole) * root(square)))


def _largest(values: Tensor, mask: Tensor, share: float) -> Tensor:
    """Bool (i, t, R): the largest of the real values, a share of them that is rounded up; the first of equal ones."""
    most = (mask.sum(2, keepdim=True).double() * share).ceil()
    order = values.masked_fill(~mask, -torch.inf).sort(dim=2, descending=True, stable=True).indices
    places = torch.arange(values.shape[2], device=values.device)
    return torch.zeros_like(order, dtype=torch.bool).scatter(2, order, (places < most).expand_as(order))
