"""One question of a test of understanding, and the file that holds many."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.formats.files import write_text

Span = tuple[int, int]
Triples = tuple[tuple[Span, Span, Span], ...]
"""Where subject, predicate and object of the relations of one caption stand; see :class:`CaptionRelations`."""


@dataclass(frozen=True)
class Choice:
    """An image, captions that describe it, and captions that do not.

    Args:
        image: its id, or the name of its file.
        right: one caption, or several of the same meaning; none where only a wrong caption is judged.
        wrong: captions of something else; none where only a right caption is judged.
        kind: what the wrong captions differ in, such as "swap".
        group: questions with one name here are two images with two captions, each right for one of the images.
        relations: of each right and then each wrong caption, for models that read them; none where they are unknown.

    Example:
        >>> Choice("a.jpg", ("a dog chases a cat",), ("a cat chases a dog",), "swap").kind
        'swap'
    """

    image: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    kind: str = ""
    group: str = ""
    relations: tuple[Triples, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a question without captions, blank captions, and relations that do not fit them."""
        if not self.right and not self.wrong:
            raise ValueError("no captions, expected right or wrong ones")
        for text in self.captions:
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"caption {text!r}, expected a text that is not blank")
        if self.relations:
            packed = CaptionRelations.pack([list(table) for table in self.relations], "relations")
            for problem in packed.problems(self.captions, "relations"):
                raise ValueError(problem)

    @property
    def captions(self) -> tuple[str, ...]:
        """The right ones, then the wrong ones."""
        return (*self.right, *self.wrong)


def write_choices(path: Path, choices: Iterable[Choice]) -> None:
    """Write questions as json, a line each, whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(choice), ensure_ascii=False) + "\n" for choice in choices))
