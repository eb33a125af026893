"""Size augmentation: training sees images with fewer regions and captions with hidden, wrong or missing words."""

from __future__ import annotations

import torch
from torch import Tensor

from itmatch.batch import Captions, Regions
from itmatch.data.batching.keeping import keep_regions, keep_tokens
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.ops.checks import check_share
from itmatch.spec import Configurable


class SizeAugmentation(Configurable):
    """Drop regions; mask, replace or drop tokens; of a whole batch at once.

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
        >>> regions = Regions(torch.randn(2, 36, 8))
        >>> SizeAugmentation(region_drop=1.0).regions(regions).features.shape
        torch.Size([2, 1, 8])
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

    def kept(self, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(I, R) bool: which regions of a mask (I, R) stay."""
        draw = torch.rand(mask.shape, generator=generator)
        kept = mask & (draw >= self.region_drop)
        return kept | _best_of(draw, mask & ~kept.any(1, keepdim=True))  # any region with equal chance

    def regions(self, regions: Regions, generator: torch.Generator | None = None) -> Regions:
        """The images without the regions that were drawn."""
        return keep_regions(regions, self.kept(regions.mask, generator))

    def captions(self, captions: Captions, tokenizer: Tokenizer, generator: torch.Generator | None = None) -> Captions:
        """The captions with the drawn tokens masked, replaced or dropped."""
        ids, special = captions.input_ids, torch.tensor(sorted(tokenizer.special_ids), dtype=torch.int64)
        pick, kind, other = torch.rand(3, *ids.shape, generator=generator)
        text = captions.mask & ~torch.isin(ids, special)
        picked = text & (pick < self.token_rate)
        masked = picked & (kind < self.token_mask)
        replaced = picked & ~masked & (kind < self.token_mask + self.token_replace)
        dropped = picked & ~masked & ~replaced & (kind < self.token_mask + self.token_replace + self.token_drop)
        hidden = masked if tokenizer.mask_id in tokenizer.special_ids else torch.zeros_like(masked)
        bare = ((dropped | hidden) == text).all(1, keepdim=True)  # nothing of the text is left:
        stays = _best_of(other, text & bare)  # one token stays as it was, and is all that does
        dropped = torch.where(bare, text & ~stays, dropped)
        if tokenizer.mask_id is not None:
            ids = ids.masked_fill(masked & ~bare, tokenizer.mask_id)
        ids = torch.where(replaced, _ordinary(other, tokenizer.vocab_size, special), ids)
        drawn = Captions.unchecked(ids, captions.mask, captions.graph)
        return keep_tokens(drawn, captions.mask & ~dropped, tokenizer.pad_id)


def _best_of(draw: Tensor, among: Tensor) -> Tensor:
    """(N, L) bool: the place of the largest draw among some of each row; none in rows without any."""
    best = draw.masked_fill(~among, -1).argmax(1, keepdim=True)
    return among & (torch.arange(draw.shape[1]) == best)


def _ordinary(draws: Tensor, vocab_size: int, special: Tensor) -> Tensor:
    """Tokens that are not special, all with equal chance, from numbers in [0, 1)."""
    tokens = (draws.double() * (vocab_size - len(special))).long()
    for barrier in special.tolist():  # in rising order
        tokens += tokens >= barrier
    return tokens
