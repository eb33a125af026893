from itertools import pairwise

import pytest

from itmatch.data import WordTokenizer
from itmatch.data.tokenizers.coverage import measure_coverage

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "dog"]


@pytest.mark.parametrize(
    ("unknown", "doubtful", "hopeless"),
    [(0, False, False), (20, False, False), (21, True, False), (90, True, False), (91, True, True)],
)
def test_bounds(unknown, doubtful, hopeless):
    found = measure_coverage(WordTokenizer(WORDS), ["cat"] * unknown + ["dog"] * (100 - unknown), "dev")
    assert (found.doubtful, found.hopeless) == (doubtful, hopeless)
    assert str(found).startswith(f"dev: {unknown}.0 % of the tokens are unknown to WordTokenizer (6 entries)")
    assert ("HuggingFaceTokenizer" in str(found)) == doubtful
    assert "\n" not in str(found)


def test_large_splits_are_sampled_evenly():
    class Counting(WordTokenizer):
        seen: tuple[str, ...] = ()

        def unknown_share(self, texts):
            self.seen += tuple(texts)
            return super().unknown_share(texts)

    tokenizer = Counting(WORDS)
    captions = [f"dog {number}" for number in range(12_345)]
    assert measure_coverage(tokenizer, captions, "x").share == 0.5
    numbers = [int(text.split()[1]) for text in tokenizer.seen]
    assert len(set(numbers)) == 1_000
    assert numbers[0] == 0
    assert numbers[-1] >= 12_332
    assert {b - a for a, b in pairwise(numbers)} == {12, 13}


def test_captions_without_words():
    assert measure_coverage(WordTokenizer(WORDS), ["..."], "x") is None
