"""Heads of VectorSimilarity: they reduce the similarity vectors of a pair to one vector."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from itmatch.nn.block import Block
from itmatch.nn.linear import xavier_linear
from itmatch.ops.checks import check_whole
from itmatch.ops.masking import at_least_float32, l2_normalize
from itmatch.ops.pairs.sides import real_or_all


class SimilarityHead(Block):
    """Base class: reduces the similarity vectors of a pair to one; the first is that of the whole image and caption.

    Args:
        similarity_dim: size S of a similarity vector.

    Shape:
        vectors (N, L, S) and mask (N, L) bool, the first position always real, or None = all real -> (N, S)
    """

    def __init__(self, similarity_dim: int = 256) -> None:
        super().__init__()
        self.similarity_dim = check_whole("similarity_dim", similarity_dim)

    @abstractmethod
    def forward(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reduce to one vector per pair."""


class SimilarityReasoning(SimilarityHead):
    r"""SGR: steps of graph convolution over the complete graph of a pair's similarity vectors.

    Args:
        similarity_dim: size S of a similarity vector.
        steps: number of steps.

    Formula:
        .. math::
            x \leftarrow \mathrm{ReLU}(W (\mathrm{softmax}((W_q x) (W_k x)^\top)\, x))

        ``steps`` times, each with weights of its own; the result is what the first vector has become.

    Source:
        Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code.

    Example:
        >>> SimilarityReasoning(8)(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 8])
    """

    def __init__(self, similarity_dim: int = 256, steps: int = 3) -> None:
        super().__init__(similarity_dim)
        check_whole("SimilarityReasoning.steps", steps)
        names = ("query", "key", "out")
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: xavier_linear(similarity_dim, similarity_dim) for name in names}) for _ in range(steps)
        )

    def forward(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reduce to one vector per pair."""
        real = real_or_all(mask, vectors)[:, None]  # (N, 1, L)
        real = vectors.new_zeros(real.shape).masked_fill(~real, -torch.inf)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            read = vectors[:, :1] if layer is self.layers[-1] else vectors  # of the last step, that of the whole alone
            edges = torch.baddbmm(real, layer["query"](read), layer["key"](vectors).transpose(1, 2)).softmax(2)
            vectors = layer["out"](torch.bmm(edges, vectors)).relu()
        return vectors[:, 0]


class SimilarityFiltration(SimilarityHead):
    r"""SAF: a weighted sum of a pair's similarity vectors, in which a gate says how much each one counts.

    Formula:
        .. math::
            g_l = \sigma\Bigl(\gamma \frac{u^\top x_l + b - \mu}{\sqrt{s + \epsilon}} + \beta\Bigr), \qquad
            x = \frac{\sum_l g_l x_l}{\sum_l g_l}, \qquad x \leftarrow x / \|x\|

    Source:
        Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching", AAAI 2021, and its public code.

    Deviation:
        In the public code :math:`\mu` and :math:`s` are the statistics of a batch normalisation: in training, of all
        images with one caption, so that the score of a pair depends on which other images are in the batch. Here they
        are constants, 0 and 1, or those of loaded weights; :math:`\gamma` and :math:`\beta` learn. In evaluation
        the two are the same.

    Example:
        >>> SimilarityFiltration(8)(torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 8])
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, similarity_dim: int = 256) -> None:
        super().__init__(similarity_dim)
        self.gate = xavier_linear(similarity_dim, 1)
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("variance", torch.ones(1))

    def forward(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reduce to one vector per pair."""
        logits = at_least_float32(self.gate(vectors)[..., 0])  # (N, L); half precision has no 1e-8
        spread = (at_least_float32(self.variance) + 1e-5).sqrt()
        gates = ((logits - self.mean) / spread * self.scale + self.shift).sigmoid() * real_or_all(mask, vectors)
        gates = (gates / gates.sum(1, keepdim=True).clamp(min=1e-8)).to(vectors.dtype)
        return l2_normalize(torch.bmm(gates[:, None], vectors)[:, 0])
