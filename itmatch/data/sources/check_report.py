"""What a look at data brought to light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from itmatch.data.tokenizers.coverage import measure_coverage
from itmatch.data.tokenizers.words import Tokenizer, WordTokenizer

_SHOWN = 50  # problems that are printed; the report holds all


@dataclass
class CheckReport:
    """What :func:`itmatch.data.check_path` saw.

    Args:
        path: where it looked.
        kind: what it took the path for.
        found: sentences on what is there.
        missing: optional files that are not there.
        warnings: sentences on what may be wrong.
        problems: sentences on what is wrong.
    """

    path: str
    kind: str
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; optional files may be missing."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind}", *(f"  {line}" for line in self.found)]
        lines += [f"  not there (optional): {line}" for line in self.missing]
        lines += [f"  WARNING {line}" for line in self.warnings]
        lines += [f"  PROBLEM {line}" for line in self.problems[:_SHOWN]]
        count = len(self.problems)
        lines += [f"  and {count - _SHOWN} more"] if count > _SHOWN else []
        return "\n".join([*lines, "ok" if self.ok else f"{count} problem{'s' if count > 1 else ''}"])

    def add_coverage(
        self, captions: Mapping[str, Sequence[str]], training: Sequence[str], tokenizer: Tokenizer | None
    ) -> None:
        """Note how much of the captions a tokenizer does not know.

        Args:
            captions: of each split.
            training: the splits that a vocabulary is made from.
            tokenizer: None = a :class:`WordTokenizer` as training makes it, from the captions of the training splits.
        """
        if tokenizer is None:
            tokenizer = WordTokenizer()
            learned = [caption for split in training for caption in captions.get(split, ())]
            if not learned:
                return
            tokenizer.fit(learned)
        for split, texts in captions.items():
            coverage = measure_coverage(tokenizer, texts, split) if texts else None
            if coverage is not None:
                where = self.problems if coverage.hopeless else self.warnings if coverage.doubtful else self.found
                where.append(str(coverage))
