"""What a model sees between one image and one caption."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from itmatch.formats.arrays import Array
from itmatch.formats.messages import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Relation:
    """A relation between two regions of an image, as the model takes it.

    Args:
        subject: row of the region that it goes from.
        name: of its predicate, or None where it has none.
        object: row of the region that it goes to.
        weight: its confidence in [0, 1].
    """

    subject: int
    name: str | None
    object: int
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image and one caption, as :func:`itmatch.pages.explain` finds them to meet.

    Args:
        text: the caption.
        score: that the model gives the pair.
        alignment: (R, W) float32 of regions and shown words, what ``similarity.align`` says; None where the similarity
            has no alignment.
        words: W pieces of the caption; the tokens of the frame and padding are left out.
        joined: whether a piece goes on with the word of the one before it.
        regions: R names of the regions.
        boxes: (R, 4) x1 y1 x2 y2 as fractions of width and height, or None.
        picture: the path of a photo, or a drawing (SVG, it begins with ``<svg``), or None.
        relations: between the regions, those that the model takes.
        phrases: the relations of the caption, where the model matches relations with relations.
        relation_alignment: (relations, phrases) float32, or None.
    """

    text: str
    score: float
    alignment: Array | None
    words: list[str]
    joined: list[bool]
    regions: list[str]
    boxes: Array | None = None
    picture: str | None = None
    relations: list[Relation] = field(default_factory=list)
    phrases: list[str] = field(default_factory=list)
    relation_alignment: Array | None = None

    def __repr__(self) -> str:
        counts = [counted(len(getattr(self, name)), name) for name in ("regions", "words", "relations")]
        return f"Explanation({self.text!r}: score {self.score:.4f}, {', '.join(counts)})"

    def figure(self) -> Figure:
        """The picture with its boxes beside a heat map of regions and words, as a figure of matplotlib.

        Raises:
            ImportError: there is no matplotlib.
        """
        from itmatch.pages.figure import draw

        return draw(self)

    def fragment(self, **settings: Any) -> str:
        """A ``<div>`` for a page that has the style and the script of :func:`itmatch.pages.page`.

        Args:
            settings: ``source``, what the picture is called in the page (a URL); by default it is put into the page.
        """
        from itmatch.pages.html import fragment

        return fragment(self, **settings)

    def html(self) -> str:
        """A page of its own: a word under the mouse lights its regions up, and the other way round."""
        from itmatch.pages.page import page

        return page(self.text, self.fragment())

    def _repr_html_(self) -> str:
        """What a notebook shows: the page in a frame, so that its style and script stay there."""
        from itmatch.pages.page import framed

        return framed(self.text, self.fragment())
