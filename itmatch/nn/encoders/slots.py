"""Encoders that make a set of K vectors of each row."""

from __future__ import annotations

from itmatch.batch import Captions, Fragments, Regions
from itmatch.nn.encoders.base import ImageEncoder, TextEncoder
from itmatch.nn.slots import SlotPooling
from itmatch.ops.checks import check_kind


class SlotImageEncoder(ImageEncoder):
    """An image encoder whose fragments are gathered by slots: K vectors an image, for :class:`SetSimilarity`.

    Args:
        encoder: makes the fragments that the slots read, and the vector of the whole that is added to each; so it needs
            a pooling. As published: ``normalize=False`` and the maximum over the regions,
            :class:`~itmatch.nn.MaxPooling`.
        slots: :class:`SlotPooling` for fragments and vectors of the encoder's size.

    Shape:
        ``Regions`` with features (I, R, F) -> ``Fragments`` with features (I, K, D)

    Source:
        Kim, Kim and Kwak, "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023 (DivE).

    Example:
        >>> import torch
        >>> from itmatch.nn import MaxPooling, RegionEncoder
        >>> regions = RegionEncoder(16, 8, normalize=False, pooling=MaxPooling())
        >>> encoder = SlotImageEncoder(regions, SlotPooling(8, head_dim=4))
        >>> encoder(Regions(torch.randn(2, 3, 16))).features.shape
        torch.Size([2, 4, 8])
    """

    offset = None  # a vector of a set stands for no single one

    def __init__(self, encoder: ImageEncoder, slots: SlotPooling) -> None:
        super().__init__()
        self.encoder, self.slots = check_kind("encoder", encoder, ImageEncoder), _fitting(slots, encoder)

    @property
    def embed_dim(self) -> int:  # type: ignore[override]
        """D, that of the slots."""
        return self.slots.embed_dim

    @property
    def in_features(self) -> int | None:
        """F, where the encoder says it."""
        return getattr(self.encoder, "in_features", None)

    def forward(self, regions: Regions) -> Fragments:
        """Encode a batch of images."""
        return _gathered(self.slots, self.encoder(regions))


class SlotTextEncoder(TextEncoder):
    """A text encoder whose words are gathered by slots: K vectors a caption, as :class:`SlotImageEncoder`.

    Args:
        encoder: makes the words that the slots read, and the vector of the whole; it needs a pooling.
        slots: with ``positions="caption"`` as published, but by the length of the caption.

    Shape:
        ``Captions`` with input_ids (T, W) -> ``Fragments`` with features (T, K, D)

    Source:
        Kim, Kim and Kwak, "Improving Cross-Modal Retrieval with Set of Diverse Embeddings", CVPR 2023 (DivE).

    Example:
        >>> import torch
        >>> from itmatch.nn import GRUTextEncoder, LastPooling
        >>> words = GRUTextEncoder(50, 8, word_dim=4, normalize=False, pooling=LastPooling())
        >>> encoder = SlotTextEncoder(words, SlotPooling(8, head_dim=4, positions="caption"))
        >>> encoder(Captions(torch.tensor([[2, 7, 3]]))).features.shape
        torch.Size([1, 4, 8])
    """

    offset = None  # a vector of a set stands for no single one

    def __init__(self, encoder: TextEncoder, slots: SlotPooling) -> None:
        super().__init__()
        self.encoder, self.slots = check_kind("encoder", encoder, TextEncoder), _fitting(slots, encoder)

    @property
    def embed_dim(self) -> int:  # type: ignore[override]
        """D, that of the slots."""
        return self.slots.embed_dim

    def forward(self, captions: Captions) -> Fragments:
        """Encode a batch of captions."""
        return _gathered(self.slots, self.encoder(captions))


def _fitting(slots: SlotPooling, encoder: ImageEncoder | TextEncoder) -> SlotPooling:
    check_kind("slots", slots, SlotPooling)
    if (slots.context_dim, slots.embed_dim) != (encoder.embed_dim, encoder.embed_dim):
        raise ValueError(
            f"slots: context_dim {slots.context_dim} and embed_dim {slots.embed_dim}, expected those of the encoder, "
            f"{encoder.embed_dim}"
        )
    return slots


def _gathered(slots: SlotPooling, fragments: Fragments) -> Fragments:
    if fragments.pooled is None:
        raise ValueError("the encoder makes no vector of the whole, which the slots need: give it a pooling")
    return Fragments(slots(fragments.features, fragments.mask, fragments.pooled))
