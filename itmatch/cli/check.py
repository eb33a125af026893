"""``itmatch data check``: says what folders and files of data hold, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from itmatch.data.sources.check import check_path
from itmatch.data.tokenizers.huggingface import HuggingFaceTokenizer
from itmatch.data.tokenizers.words import Tokenizer, WordTokenizer


def check(paths: list[Path], *, tokenizer: Path | None = None) -> int:
    """Say what PATH holds, what is missing, and what is wrong; the exit status is 1 if something is.

    Args:
        paths: folders of precomputed features, Karpathy json, vocabulary json or .npy files, or word vectors.
        tokenizer: tell of the tokens that this one does not know: a vocabulary json, or the name or folder of a
            pretrained tokenizer; the default is the vocabulary that training makes of the training captions.
    """
    known = None if tokenizer is None else _tokenizer(tokenizer)
    reports = [check_path(path, known) for path in paths]
    print("\n\n".join(str(report) for report in reports))
    return 0 if all(report.ok for report in reports) else 1


def _tokenizer(path: Path) -> Tokenizer:
    tokenizer = WordTokenizer(path) if path.suffix == ".json" else HuggingFaceTokenizer(str(path))
    tokenizer.fit([])
    return tokenizer
