"""Questions about who does what to whom, made of captions whose relations are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from itmatch.data.caption_graphs.relations import NOWHERE, CaptionRelations
from itmatch.data.choices.rows import Choice, Span, Triples
from itmatch.formats.arrays import Array

# Relations that say the same with subject and object exchanged.
_BOTH_WAYS = frozenset(
    {"and", "or", "with", "near", "beside", "by", "next to", "next", "along", "alongside", "between"}
)
_PREPOSITIONS = frozenset(
    {"in", "on", "at", "above", "over", "under", "below", "beneath", "underneath", "behind", "inside", "outside"}
    | {"into", "onto", "across", "through", "against", "around", "along", "past", "toward", "towards", "from", "off"}
    | {"in front of", "on top of", "out of", "up", "down", "near", "beside", "by", "next to", "between", "among"}
    | {"with", "without"}
)
_Edits = list[tuple[Span, str]]  # parts of a caption, and what stands in their places
_SMALL = frozenset({"of", "to", "for", "as", "like", "that", "than", "is", "are"})  # no predicates worth a question


def make_choices(
    images: Sequence[str], captions: Sequence[str], relations: CaptionRelations, *, seed: int = 0, most: int = 1
) -> Iterator[Choice]:
    """Wrong captions of each caption that differ in one relation.

    - *swap*: the subject and the object have changed places. Left out are relations that say the same both ways
      ("next to"), and words that are equal or belong together.
    - *replace*: another predicate of the same kind (a preposition, or a verb of the same form) stands in its place,
      drawn by how often it occurs in the captions. The number of words hardly changes, so it gives no answer away.

    Nobody looked at the wrong captions: some fit their image all the same, and some are no good English. They are as
    many in every model's test; compare models by them, and with the control of another image. The relations of a wrong
    caption are those of the right one, at the places where their words would stand.

    Args:
        images: the image of each caption.
        captions: T texts.
        relations: of the captions.
        seed: of the draws.
        most: questions of a kind and caption.

    Example:
        >>> from itmatch.data.caption_graphs.relations import CaptionRelations
        >>> found = CaptionRelations.pack([[[(2, 5), (6, 12), (15, 18)]]])
        >>> list(make_choices(["a.jpg"], ["a dog chases a cat"], found))[0].wrong
        ('a cat chases a dog',)
    """
    random = np.random.default_rng(seed)
    kinds: dict[str, Counter[str]] = {}
    for text, table in zip(captions, relations, strict=True):
        for predicate in _predicates(text, table):
            kinds.setdefault(_kind(predicate), Counter())[predicate] += 1
    for image, text, table in zip(images, captions, relations, strict=True):
        own = _edited(text, table, [])[1]
        for kind, edits in (("swap", _swapped(text, table)), ("replace", _replaced(text, table, kinds, random))):
            found: dict[str, Triples] = {}
            for one in edits:
                wrong, moved = _edited(text, table, one)
                if wrong.casefold() != text.casefold():
                    found.setdefault(wrong, moved)
            for wrong, moved in list(found.items())[:most]:
                yield Choice(image, (text,), (wrong,), kind, relations=(own, moved))


def _predicates(text: str, table: Array) -> Iterator[str]:
    for _, span, _ in table.tolist():
        if tuple(span) != NOWHERE:
            yield text[slice(*span)].casefold()


def _kind(predicate: str) -> str:
    """Predicates of one kind may stand in each other's places."""
    if predicate in _PREPOSITIONS:
        return "preposition"
    if predicate in _SMALL:
        return ""
    last = predicate.split()[-1]
    ends = f" {last}" if last in _PREPOSITIONS else ""  # "sitting on": the same preposition follows
    verb = predicate.split()[0]
    form = next((ending for ending in ("ing", "ed", "s") if verb.endswith(ending)), "plain")
    return f"verb {form}{ends}"


def _swapped(text: str, table: Array) -> Iterator[_Edits]:
    for subject, predicate, target in table.tolist():
        if tuple(predicate) == NOWHERE or text[slice(*predicate)].casefold() in _BOTH_WAYS | _SMALL:
            continue
        first, second = sorted((tuple(subject), tuple(target)))
        if first[1] < second[0] and text[slice(*first)].casefold() != text[slice(*second)].casefold():
            yield [(first, text[slice(*second)]), (second, text[slice(*first)])]


def _replaced(text: str, table: Array, kinds: dict[str, Counter[str]], random: np.random.Generator) -> Iterator[_Edits]:
    for _, (start, end), _ in table.tolist():
        own = text[start:end].casefold()
        kind = _kind(own) if (start, end) != NOWHERE else ""
        others = [(one, count) for one, count in sorted(kinds.get(kind, Counter()).items()) if one != own]
        if kind and others:
            names, counts = zip(*others, strict=True)
            drawn = names[int(random.choice(len(names), p=np.array(counts) / sum(counts)))]
            yield [((start, end), drawn)]


def _edited(text: str, table: Array, edits: _Edits) -> tuple[str, Triples]:
    """A caption with parts replaced, from the left, and its relations at the places where they stand then."""
    for (start, end), new in reversed(edits):
        text = text[:start] + new + text[end:]

    def moved(span: list[int]) -> Span:
        if tuple(span) == NOWHERE:
            return NOWHERE
        begin, stop = span
        for (start, end), new in reversed(edits):
            longer = len(new) - (end - start)
            if begin >= end:
                begin, stop = begin + longer, stop + longer
            elif stop > start:  # they share words: all of the new ones belong to it
                begin, stop = min(begin, start), max(stop, end) + longer
        return begin, stop

    return text, tuple((moved(s), moved(p), moved(o)) for s, p, o in table.tolist())
