"""How much of the captions a tokenizer knows: captions of unknown words teach a model nothing, and no error tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from itmatch.data.tokenizers.base import Tokenizer

_DOUBTFUL, _HOPELESS = 0.2, 0.9  # shares of unknown tokens
_SAMPLE = 1_000  # captions, some ten thousand words: enough to tell 20 % from 10 %


@dataclass(frozen=True)
class Coverage:
    """What a tokenizer does not know of the captions of a split. As a string it is one sentence.

    Args:
        where: the split.
        share: of the tokens that are unknown.
        tokenizer: which tokenizer it is, for the sentence.
    """

    where: str
    share: float
    tokenizer: str

    @property
    def doubtful(self) -> bool:
        """Whether a person should look at it."""
        return self.share > _DOUBTFUL

    @property
    def hopeless(self) -> bool:
        """Whether nothing can be learned from the captions."""
        return self.share > _HOPELESS

    def __str__(self) -> str:
        found = f"{self.where}: {100 * self.share:.1f} % of the tokens are unknown to {self.tokenizer}"
        if not self.doubtful:
            return found
        return (
            f"{found}, expected below {100 * _DOUBTFUL:g} %; take a vocabulary of such captions, or a lower min_count; "
            "captions without blanks between words (Chinese, Japanese, Thai) need a tokenizer for their language: "
            "HuggingFaceTokenizer with a model of it, or CharacterTokenizer"
        )


def measure_coverage(tokenizer: Tokenizer, captions: Sequence[str], where: str) -> Coverage | None:
    """The share of unknown tokens in the captions of a split, or None where the tokenizer knows everything.

    At most 1 000 captions are looked at, evenly spaced and always the same ones.

    Args:
        tokenizer: fitted.
        captions: of the split.
        where: the split, for messages.

    Example:
        >>> from itmatch.data import WordTokenizer
        >>> tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"])
        >>> print(measure_coverage(tokenizer, ["A dog.", "a dog and a dog"], "dev"))
        dev: 14.3 % of the tokens are unknown to WordTokenizer (7 entries)
    """
    step = max(1.0, len(captions) / _SAMPLE)
    chosen = [captions[int(number * step)] for number in range(min(len(captions), _SAMPLE))]
    share = tokenizer.unknown_share(chosen)
    name = f"{type(tokenizer).__qualname__} ({tokenizer.vocab_size} entries)"
    return None if share is None else Coverage(where, share, name)
