"""Size augmentation: training sees images with fewer regions and captions with hidden, wrong or missing words."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from itmatch.data.items import ImageItem
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.ops.checks import check_share
from itmatch.spec import Configurable


class SizeAugmentation(Configurable):
    """Drop regions; mask, replace or drop tokens.

    At least one region and one token of the text always stay. Relations follow their regions and tokens; those that
    lost an end are dropped, and one that lost the token of its predicate goes on without (-1). Tokens that frame a
    sentence are left alone. Randomness comes from the generator given, otherwise from torch's own, which
    ``seed_everything`` and the seeds of workers set.

    Args:
        region_drop: probability that a region is dropped.
        token_rate: probability that a token is picked.
        token_mask: share of the picked tokens that become the mask token; they stay when the tokenizer has none.
        token_replace: share that become a random token.
        token_drop: share that disappear. What the three leave of 1 stays as it was.

    Source:
        Chen et al., Learning the Best Pooling Strategy for Visual Semantic Embedding, CVPR 2021. CHAN uses the same.

    Deviation:
        Word pieces are picked one by one; the published code picks whole words.

    Example:
        >>> item = ImageItem(0, torch.randn(36, 8))
        >>> SizeAugmentation(region_drop=1.0).regions(item).features.shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        region_drop: float = 0.2,
        token_rate: float = 0.2,
        token_mask: float = 0.5,
        token_replace: float = 0.1,
        token_drop: float = 0.4,
    ) -> None:
        shares = {"token_mask": token_mask, "token_replace": token_replace, "token_drop": token_drop}
        for name, value in {"region_drop": region_drop, "token_rate": token_rate, **shares}.items():
            check_share(f"SizeAugmentation.{name}", value)
        if sum(shares.values()) > 1 + 1e-6:
            raise ValueError(f"SizeAugmentation: {' + '.join(shares)} is {sum(shares.values()):g}, expected at most 1")
        self.region_drop, self.token_rate = region_drop, token_rate
        self.token_mask, self.token_replace, self.token_drop = token_mask, token_replace, token_drop

    def regions(self, item: ImageItem, generator: torch.Generator | None = None) -> ImageItem:
        """The image without the regions that were drawn."""
        count = len(item.features)
        draw = torch.rand(count, generator=generator)
        keep = draw >= self.region_drop
        if bool(keep.all()):
            return item
        if not bool(keep.any()):
            keep[int(draw.argmax())] = True  # any region with equal chance, and no second draw
        relations, scores = item.relations, item.relation_scores
        if relations is not None:
            relations, scores = _follow(relations, scores, keep)
        return replace(
            item,
            features=item.features[keep],
            boxes=None if item.boxes is None else item.boxes[keep],
            labels=None if item.labels is None else item.labels[keep],
            relations=relations,
            relation_scores=scores,
        )

    def tokens(self, ids: list[int], tokenizer: Tokenizer, generator: torch.Generator | None = None) -> list[int]:
        """The caption with the drawn tokens masked, replaced or dropped."""
        return [token for _, token in self._drawn(ids, tokenizer, generator)]

    def related_tokens(
        self,
        ids: list[int],
        relations: list[tuple[int, int, int]],
        tokenizer: Tokenizer,
        generator: torch.Generator | None = None,
    ) -> tuple[list[int], list[tuple[int, int, int]]]:
        """The caption of :meth:`tokens`, at the same draws, and its relations at their new places.

        Relations are the places of subject, predicate (-1 = none) and object in ``ids``; those whose subject or object
        was dropped are left out.
        """
        drawn = self._drawn(ids, tokenizer, generator)
        now = {old: new for new, (old, _) in enumerate(drawn)}
        moved = [(now[s], now.get(p, -1), now[o]) for s, p, o in relations if s in now and o in now]
        return [token for _, token in drawn], moved

    def _drawn(self, ids: list[int], tokenizer: Tokenizer, generator: torch.Generator | None) -> list[tuple[int, int]]:
        """What is left of a caption: the old place of each token, and the token."""
        special, mask = tokenizer.special_ids, tokenizer.mask_id
        real = [place for place, token in enumerate(ids) if token not in special]
        if not real:
            return list(enumerate(ids))
        pick, kind, other = torch.rand(3, len(ids), generator=generator).tolist()
        result: list[tuple[int, int]] = []
        survivors = 0
        for place, token in enumerate(ids):
            if token not in special and pick[place] < self.token_rate:
                if kind[place] < self.token_mask:
                    token = token if mask is None else mask
                elif kind[place] < self.token_mask + self.token_replace:
                    token = _ordinary(other[place], tokenizer.vocab_size, special)
                elif kind[place] < self.token_mask + self.token_replace + self.token_drop:
                    continue
            result.append((place, token))
            survivors += token not in special
        if survivors:
            return result
        kept = max(real, key=lambda place: other[place])  # nothing of the text is left: leave one token as it was
        return [(place, token) for place, token in enumerate(ids) if place == kept or token in special]


def _follow(relations: Tensor, scores: Tensor | None, keep: Tensor) -> tuple[Tensor, Tensor | None]:
    place = keep.cumsum(0) - 1  # (R,) where a kept region stands now
    alive = keep[relations[:, 0]] & keep[relations[:, 2]]
    moved = relations[alive]
    moved[:, 0], moved[:, 2] = place[moved[:, 0]], place[moved[:, 2]]
    return moved, None if scores is None else scores[alive]


def _ordinary(draw: float, vocab_size: int, special: frozenset[int]) -> int:
    """A token that is not special, all with equal chance, from a number in [0, 1)."""
    token = int(draw * (vocab_size - len(special)))
    for barrier in sorted(special):
        token += token >= barrier
    return token
