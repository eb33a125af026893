"""What a look at data brought to light."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from itmatch.data.tokenizers.base import Tokenizer
from itmatch.data.tokenizers.coverage import measure_coverage
from itmatch.data.tokenizers.words import WordTokenizer
from itmatch.formats.messages import counted

_T = TypeVar("_T")
_SHOWN = 50  # problems that are printed; the report holds all


@dataclass
class CheckReport:
    """What :func:`itmatch.data.check_path` saw.

    Args:
        path: where it looked.
        kind: what it took the path for.
        found: sentences on what is there.
        missing: optional files that are not there.
        problems: sentences on what a reader or a run refuses.
        warnings: sentences on what is read and may be wrong.
        not_ready: what ``itmatch fit`` lacks, and how to name it; empty where nothing is, and for what is no dataset.
    """

    path: str
    kind: str
    found: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_ready: str = ""
    lacking: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False)  # what is missing, by split

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; optional files may be missing, and so may splits."""
        return not self.problems

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong, and ``itmatch fit`` finds all splits that it needs."""
        return self.ok and not self.not_ready

    def as_dict(self) -> dict[str, Any]:
        """All that it holds, as json may say it."""
        content = {name: value for name, value in asdict(self).items() if name != "lacking"}
        return {**content, "ok": self.ok, "ready": self.ready}

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.kind}", *(f"  {line}" for line in self.found)]
        missing = _in_short(self.lacking) or self.missing
        lines += [f"  not there (optional): {', '.join(missing)}"] if missing else []
        lines += [f"  WARNING {line}" for line in self.warnings]
        lines += [f"  PROBLEM {line}" for line in self.problems[:_SHOWN]]
        count = len(self.problems)
        lines += [f"  and {count - _SHOWN} more"] if count > _SHOWN else []
        lines += [counted(count, "problems")] if count else []
        lines += [f"not ready: {self.not_ready}"] if self.not_ready else []
        return "\n".join(lines if count or self.not_ready else [*lines, "ok"])

    def add_part(self, name: str, part: CheckReport) -> None:
        """Take over what was seen of a split."""
        self.found += [f"{name}: {line}" for line in part.found]
        self.missing += [", ".join(part.missing)] if part.missing else []
        self.lacking[name] = part.missing
        self.problems += part.problems
        self.warnings += part.warnings

    def attempt(self, function: Callable[[], _T]) -> _T | None:
        """What a reader gives, its warnings noted; or None, and its error noted as a problem."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                return function()
            except (ValueError, OSError, ImportError) as error:
                self.problems.append(str(error))
                return None
            finally:
                self.warnings += [str(warning.message) for warning in caught if warning.category is UserWarning]

    def note_splits(
        self, there: Sequence[str], names: Mapping[Any, str], *, galleries: Sequence[str] = (), nameable: bool = True
    ) -> None:
        """Note which of the splits that ``itmatch fit`` needs are not there, and how others are named for it.

        Args:
            there: names of the splits.
            galleries: those of them that have no captions, and are no splits to fit on.
            names: what each stage is called unless a user says otherwise.
            nameable: whether a user can say so.
        """
        there = [split for split in there if split not in galleries]
        lacking = [stage for stage in names if names[stage] not in there]
        if not lacking:
            return
        lacks = "no split " + ", ".join(f"{names[stage]} ({stage})" for stage in lacking)
        how = f"name {'it' if len(lacking) == 1 else 'them'} by "
        how += " ".join(f"--data.source.{stage} NAME" for stage in lacking)
        self.not_ready = f"{lacks}; {how if nameable else 'the names are fixed'}; there: {', '.join(there) or 'none'}"
        if galleries:
            self.not_ready += f"; without captions, for `itmatch predict` alone: {', '.join(galleries)}"

    def add_coverage(
        self, captions: Mapping[str, Sequence[str]], training: Sequence[str], tokenizer: Tokenizer | None
    ) -> None:
        """Note how much of the captions a tokenizer does not know.

        Args:
            captions: of each split.
            training: the splits that a vocabulary is made from.
            tokenizer: None = a :class:`WordTokenizer`. One that has to learn words learns those of the training splits.
        """
        tokenizer = copy.deepcopy(tokenizer) or WordTokenizer()
        if not tokenizer.fitted:
            learned = [caption for split in training for caption in captions.get(split, ())]
            if not learned:
                return
            tokenizer.fit(learned)
        for split, texts in captions.items():
            coverage = measure_coverage(tokenizer, texts, split) if texts else None
            if coverage is not None:
                where = self.problems if coverage.hopeless else self.warnings if coverage.doubtful else self.found
                where.append(str(coverage))


def _in_short(lacking: Mapping[str, Sequence[str]]) -> list[str]:
    """The files that splits lack, without their endings; those that all of several splits lack once, without a name.

    Example:
        >>> _in_short({"train": ["train_ids.txt"], "dev": ["dev_ids.txt", "dev_boxes.npy"]})
        ['ids', 'dev_boxes']
        >>> _in_short({"a.b": ["a.b_ids.txt"]})
        ['a.b_ids']
    """
    stems = {split: [name.removeprefix(f"{split}_").partition(".")[0] for name in lacking[split]] for split in lacking}
    first, *others = stems.values() if stems else [[]]
    everywhere = [stem for stem in first if others and all(stem in other for other in others)]
    alone = [f"{split}_{stem}" for split, found in stems.items() for stem in found if stem not in everywhere]
    return everywhere + alone
