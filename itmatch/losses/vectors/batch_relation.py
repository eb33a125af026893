"""Relations among the samples of a batch: a graph that training has, and a trained model does not need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.losses.base import Loss, ScoreLoss
from itmatch.losses.hinge.triplet import HardNegativeTripletLoss
from itmatch.losses.matches import Matches
from itmatch.losses.vectors._fragment_relevance import LARGEST, Alignments, fragment_alignments
from itmatch.ops.checks import check_above_zero, check_dropout, check_kind, check_not_negative, check_share, check_whole
from itmatch.ops.distances import exact_distances, inner_products
from itmatch.ops.masking import at_least_float32, l2_normalize

_EQUAL = 1e-6  # differences of cosines and mean alignments that are rounding


@dataclass(frozen=True)
class BatchGraph:
    """How the I images and T captions of a batch are connected, images first.

    Args:
        relevance: (I + T, I + T), how much each one has to say to each other one.
        connected: (I + T, I + T) bool, whom each one, a row, listens to.
    """

    relevance: Tensor
    connected: Tensor

    def bias(self, weight: float) -> Tensor:
        """What is added to the logits of an attention."""
        return (weight * self.relevance).masked_fill(~self.connected, -torch.inf)


class BatchRelationLoss(Loss):
    r"""HREM: a loss of the cosines, and the same of vectors that the samples of a batch have enriched each other's by.

    Formula:
        Let :math:`v` and :math:`t` be the vectors of images and captions, of length 1, and :math:`L(v, t)` a loss of
        their cosines. They are the nodes of a graph. A node listens to the nearest half of the images and the nearest
        half of the captions: by the cosines of vectors within a side, by the mean alignment :math:`m` of the fragments
        across. The relevance of one node for another is :math:`e^{-\|x - y\|}` within a side; across it is
        :math:`m + f(\text{the ten best alignments})` with a small perceptron :math:`f` for each direction. One
        Transformer layer, whose logits are raised by the relevances, gives :math:`v'` and :math:`t'`, again of length
        1, and

        .. math:: L(v, t) + L(v, t') + L(v', t) + L(v', t') + \lambda R

        where :math:`R` is how far the softmax of the relevances across is from that of
        :math:`e^{-\|v - t\|}`, as the sum of a Kullback-Leibler divergence per direction. In the first epochs the loss
        is :math:`L(v, t)` alone. A word is aligned :math:`\alpha_w = \max_r S_{wr} / \|S_{\cdot r}\|`, a region
        :math:`\beta_r = \max_w S_{wr} / \|S_{w \cdot}\|`, with
        :math:`S_{wr} = \mathrm{LeakyReLU}_{0.1}(\cos(w, r))`. No gradient passes through the fragments, nor through
        :math:`e^{-\|v - t\|}` and the choice of neighbours.

    The parameters of the graph are those of the loss: a training's checkpoint holds them, a saved model does not, since
    retrieval ranks by the cosines of :math:`v` and :math:`t` (:class:`itmatch.nn.CosineSimilarity`). On several
    processes the graph is that of all their batches. Both encoders need ``pooling``.

    Args:
        embed_dim: D, the size of the vectors, and the width of the perceptron in the layer.
        loss: L; by default the triplet with the hardest negatives. The published one is
            ``HardNegativeTripletLoss(negatives=DistanceWeightedNegatives(512, far=1.7, sample=True))`` (1.9 for COCO),
            whatever ``embed_dim`` is.
        num_heads: of the layer; they divide ``embed_dim``.
        dropout: probability, in layer and perceptrons.
        relevance_weight: of the relevances in the logits; published: 1 for Flickr30K, 1.5 for COCO.
        neighbours: share of the images, and of the captions, that a node listens to.
        consistency_weight: of :math:`R`.
        warmup_epochs: epochs with :math:`L(v, t)` alone. Published: 8000 batches of 128, 7 epochs of Flickr30K or 2 of
            COCO.
        padding_counts: as in the public code, padded regions are aligned too, and so are, of a caption with less than
            ten words, the places behind them up to ten; what stands there is for the encoder to say.
        chunk_size: images whose fragments are aligned at a time; the result does not depend on it.

    Shape:
        ``Fragments`` of I images and T captions, with ``pooled`` (I, D) and (T, D) -> scalar

    Source:
        Fu et al., "Learning Semantic Relationship Among Instances for Image-Text Matching", CVPR 2023 (HREM), and its
        public code, with which values and gradients agree to 1e-5.

    Deviation:
        An image with several captions is one node, where the public code has one for each. Padding is no part of the
        graph (``padding_counts``); where there are less than ten words or regions, 0 stands for the missing ones. The
        distance of a vector to itself is 0 in batches of any size.

    Example:
        >>> loss = BatchRelationLoss(8, num_heads=2, warmup_epochs=0)
        >>> image = Fragments(torch.randn(3, 4, 8), pooled=torch.randn(3, 8))
        >>> text = Fragments(torch.randn(6, 5, 8), pooled=torch.randn(6, 8))
        >>> positives = torch.arange(6) // 2 == torch.arange(3)[:, None]
        >>> loss.of(Matches(positives=positives, fragments=(image, text))).shape
        torch.Size([])
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        loss: ScoreLoss | None = None,
        num_heads: int = 16,
        dropout: float = 0.1,
        relevance_weight: float = 1.0,
        neighbours: float = 0.5,
        consistency_weight: float = 10.0,
        warmup_epochs: int = 2,
        *,
        padding_counts: bool = False,
        chunk_size: int = 32,
    ) -> None:
        super().__init__()
        if check_whole("embed_dim", embed_dim) % check_whole("num_heads", num_heads):
            raise ValueError(f"embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
        check_dropout("dropout", dropout)
        self.embed_dim = embed_dim
        self.loss: ScoreLoss = HardNegativeTripletLoss() if loss is None else check_kind("loss", loss, ScoreLoss)
        self.relevance_weight = check_above_zero("relevance_weight", relevance_weight)
        self.neighbours = check_share("neighbours", neighbours)
        self.consistency_weight = check_not_negative("consistency_weight", consistency_weight)
        self.warmup_epochs = check_whole("warmup_epochs", warmup_epochs, 0)
        self.padding_counts, self.chunk_size = padding_counts, check_whole("chunk_size", chunk_size)
        self.mlp_i2t, self.mlp_t2i = _perceptron(dropout), _perceptron(dropout)
        self.fusion = nn.TransformerEncoderLayer(embed_dim, num_heads, embed_dim, dropout, batch_first=True)
        self.fusion.activation_relu_or_gelu = 0  # PyTorch's fast path of evaluation reads numbers in a mask as bool
        self.epoch = 0

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Fragments, which hold the vectors too, and what else the loss of the cosines needs."""
        return (self.loss.needs - {"scores"}) | {"fragments", "positives"}

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        """What the loss of the cosines reads where there is some."""
        return self.loss.uses

    @property
    def is_sum(self) -> bool:
        """Whether the loss of the cosines is a sum over the pairs of a batch."""
        return self.loss.is_sum

    def set_epoch(self, epoch: int) -> None:
        """Tell the loss which epoch begins, counted from 0; before the first call it is epoch 0."""
        self.epoch = epoch
        self.loss.set_epoch(epoch)

    def of(self, matches: Matches) -> Tensor:
        """Loss of the vectors and fragments of a batch."""
        image, text = matches.both_sides(self)
        device = image.features.device.type
        with torch.autocast(device, enabled=False):
            vectors, captions = self._vectors(image, "image"), self._vectors(text, "text")
            loss = self._of_cosines(matches, vectors, captions)
            if self.epoch < self.warmup_epochs:  # the graph has a gradient, of 0, for other processes to meet
                return loss + sum(parameter.flatten()[:0].sum() for parameter in self.parameters())
            regions, words = fragment_alignments(
                image, text, padding_counts=self.padding_counts, chunk_size=self.chunk_size
            )
            across = self.relevances(regions, words)
            graph = self.graph(vectors, captions, regions, words, across)
            enriched = self.fused(vectors, captions, graph)
            for first, second in ((vectors, enriched[1]), (enriched[0], captions), enriched):
                loss = loss + self._of_cosines(matches, first, second)
            return loss + self.consistency_weight * consistency(vectors, captions, *across)

    def relevances(self, regions: Alignments, words: Alignments) -> tuple[Tensor, Tensor]:
        """Learned relevance (I, T) of captions for images, by the regions; and of images for captions, by the words."""
        pairs = ((self.mlp_i2t, regions), (self.mlp_t2i, words))
        dtype = self.fusion.linear1.weight.dtype
        first, second = (mlp(one.largest.to(dtype)).squeeze(2) + one.mean for mlp, one in pairs)
        return first, second

    def graph(
        self,
        image: Tensor,
        text: Tensor,
        regions: Alignments,
        words: Alignments,
        across: tuple[Tensor, Tensor],
    ) -> BatchGraph:
        """The graph of a batch, from its vectors and alignments and the relevances across."""
        relevance = _blocks(_nearness(image, image), across[0], across[1].T, _nearness(text, text))
        with torch.no_grad():
            near = inner_products(image, image), regions.mean, words.mean.T, inner_products(text, text)
            connected = _blocks(*(_largest_of_rows(block, self.neighbours) for block in near))
        return BatchGraph(relevance, connected)

    def fused(self, image: Tensor, text: Tensor, graph: BatchGraph) -> tuple[Tensor, Tensor]:
        """What the nodes have become after they have listened to each other."""
        nodes = torch.cat((image, text)).to(self.fusion.linear1.weight.dtype)
        bias = graph.bias(self.relevance_weight).to(nodes.dtype)
        fused = l2_normalize(at_least_float32(self.fusion(nodes[None], src_mask=bias)[0]))
        return fused[: len(image)], fused[len(image) :]

    def _of_cosines(self, matches: Matches, image: Tensor, text: Tensor) -> Tensor:
        return self.loss.of(replace(matches, scores=inner_products(image, text)))

    def _vectors(self, fragments: Fragments, side: str) -> Tensor:
        if fragments.pooled is None:
            raise ValueError(f"{type(self).__name__} takes one vector per {side}; the encoder needs `pooling=`")
        if fragments.pooled.shape[1] != self.embed_dim:
            raise ValueError(
                f"{side}: vectors of size {fragments.pooled.shape[1]}, expected embed_dim={self.embed_dim}"
            )
        return l2_normalize(at_least_float32(fragments.pooled))


def consistency(image: Tensor, text: Tensor, of_captions: Tensor, of_images: Tensor) -> Tensor:
    """How far learned relevances (I, T), over the captions and over the images, are from the distances of vectors."""
    near = _nearness(image.detach(), text.detach())
    total = near.new_zeros(())
    for learned, given in ((of_captions, near), (of_images.T, near.T)):
        log = learned.log_softmax(1)
        total = total + (log.exp() * (log - given.log_softmax(1))).sum(1).mean()
    return total


def _perceptron(dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(LARGEST, LARGEST), nn.ReLU(), nn.Dropout(dropout), nn.Linear(LARGEST, 1))


def _nearness(first: Tensor, second: Tensor) -> Tensor:
    """From 1 for equal vectors down to 0, (N, M)."""
    return (-exact_distances(first, second)).exp()


def _largest_of_rows(values: Tensor, share: float) -> Tensor:
    """True at a share of each row, the largest, and at what equals the least of them but for rounding; at one at least.

    A caption of one word is aligned alike with every image: rounding must not choose among them.
    """
    count = max(1, int(values.shape[1] * share))
    return values >= values.topk(count, dim=1).values[:, -1:] - _EQUAL


def _blocks(*blocks: Tensor) -> Tensor:
    """A matrix of four blocks: images with images, images with captions, captions with images, with captions."""
    return torch.cat((torch.cat(blocks[:2], 1), torch.cat(blocks[2:], 1)))
