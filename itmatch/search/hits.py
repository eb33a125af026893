"""What a search has found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from itmatch.formats.messages import counted


@dataclass(frozen=True, repr=False)
class Hit:
    """One answer to a query.

    Args:
        rank: 1 is the best.
        id: of the image or the caption.
        score: of the model; larger is more similar.
        text: of a caption; None of an image.
        picture: of an image, the path of a photo or an SVG drawing as text; None where there is none.
    """

    rank: int
    id: str
    score: float
    text: str | None = None
    picture: str | None = None

    def __repr__(self) -> str:
        """In one line: a drawing is long, so that its size stands for it."""
        parts = [f"rank={self.rank}", f"id={self.id!r}", f"score={self.score:.4f}"]
        if self.text is not None:
            parts.append(f"text={self.text!r}")
        if self.picture is not None:
            drawn = self.picture.startswith("<svg")
            parts.append(f"picture={f'<svg ... {len(self.picture)} characters>' if drawn else repr(self.picture)}")
        return f"Hit({', '.join(parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """The best answers to N queries, K each, the best first; of equal scores the lower row comes first.

    Args:
        kind: what was found.
        ids: N lists of K, or of fewer where a first stage proposed fewer.
        scores: (N, K) of the model; -inf behind the last answer.
        rows: (N, K) int64, rows of ``index.images`` or ``index.captions``; -1 behind the last answer.
        exact: of each query, whether it is known that nothing better is in the index: all of it was scored, or a bound
            proves it.
        unknown: of each query, the words that the model does not know: they say nothing, to it. Empty of images.
        texts: N lists of K, of captions; None of images.
        pictures: N lists of K, of images; None of captions.
        alignments: N lists of K, each (R, W), how regions and words meet; None where they were not asked for.

    Example:
        >>> import torch
        >>> hits = Hits("images", [["a", "b"]], torch.tensor([[0.5, 0.25]]), torch.tensor([[4, 2]]), [True], [[]])
        >>> hits[0][1]
        Hit(rank=2, id='b', score=0.2500)
        >>> hits
        Hits(1 query, 2 images each)
    """

    kind: Literal["images", "captions"]
    ids: list[list[str]]
    scores: Tensor
    rows: Tensor
    exact: list[bool]
    unknown: list[list[str]]
    texts: list[list[str]] | None = None
    pictures: list[list[str | None]] | None = None
    alignments: list[list[Tensor]] | None = None

    def __repr__(self) -> str:
        most = max(map(len, self.ids), default=0)
        return f"Hits({counted(len(self), 'queries')}, {counted(most, self.kind)} each)"

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.ids)

    def __getitem__(self, query: int) -> list[Hit]:
        """The answers to a query."""
        texts: list[Any] = [None] * len(self.ids[query]) if self.texts is None else list(self.texts[query])
        pictures: list[Any] = [None] * len(texts) if self.pictures is None else list(self.pictures[query])
        scores = self.scores[query, : len(texts)].tolist()  # of fewer answers than were wanted the rest is -inf
        answers = zip(self.ids[query], scores, texts, pictures, strict=True)
        return [Hit(rank, *answer) for rank, answer in enumerate(answers, 1)]

    def __iter__(self) -> Iterator[list[Hit]]:
        """Query by query."""
        return (self[query] for query in range(len(self)))

    def to_dicts(self) -> list[dict[str, Any]]:
        """Plain data, of which json can be made: a dict of each query, with its hits."""
        return [
            {"kind": self.kind, "exact": exact, "unknown": list(unknown), "hits": [asdict(hit) for hit in hits]}
            for exact, unknown, hits in zip(self.exact, self.unknown, self, strict=True)
        ]
