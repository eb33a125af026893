"""The language of :class:`itmatch.data.RelationScenes`: statements about two objects, and the captions that make them.

A statement can be worded in either order ("a red dog is chasing a pink cat", "a pink cat is chased by a red dog"), so
neither the object that is named first nor the bag of words tells who does what to whom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

CATEGORIES = (
    "dog", "cat", "horse", "cow", "sheep", "bear", "fox", "rabbit", "monkey", "pig", "duck", "goose",
    "frog", "mouse", "tiger", "lion", "boy", "girl", "man", "woman", "robot", "clown", "wizard", "pirate",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "pink")
SIZES = ("small", "medium", "large")

PASSIVES = {
    "holding": "held by",
    "riding": "ridden by",
    "chasing": "chased by",
    "pushing": "pushed by",
    "pulling": "pulled by",
    "feeding": "fed by",
    "watching": "watched by",
    "carrying": "carried by",
    "following": "followed by",
    "kicking": "kicked by",
}
PREDICATES = tuple(PASSIVES)  # every one of them makes sense either way round, and none is symmetric
CONVERSES = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "overlapping": "overlapping",
}
SPATIAL_RELATIONS = tuple(CONVERSES)

_WORDINGS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "overlapping": ("overlapping", "overlapping with"),
}
_LED_IN = "to the "  # says nothing of the relation
_FRAMES = (
    ("", "is"),
    ("", ""),
    ("", "can be seen"),
    ("there is", ""),
    ("we see", ""),
    ("in this picture", "is"),
)  # opening, copula
_ARTICLES = ("a", "the")
_JOINTS = ("and", "while")

Item = TypeVar("Item")
Span: TypeAlias = tuple[int, int]


class ObjectName(NamedTuple):
    """What a caption calls an object; ``size`` is None where it is left out. Colour and category are enough."""

    size: str | None
    colour: str
    category: str


class Statement(NamedTuple):
    """``subject predicate object``; the predicate is one of PREDICATES or SPATIAL_RELATIONS."""

    subject: ObjectName
    predicate: str
    object: ObjectName


def pick(options: Sequence[Item], draws: Iterator[float]) -> Item:
    """The option at the next draw, a number in [0, 1)."""
    return options[int(next(draws) * len(options))]


def compose(statements: Sequence[Statement], draws: Iterator[float]) -> str:
    """Word one or two statements as a caption; at most 20 draws are taken.

    Example:
        >>> dog, cat = ObjectName("small", "red", "dog"), ObjectName("large", "pink", "cat")
        >>> compose([Statement(dog, "chasing", cat)], iter([0.9] * 20))
        'in this picture the pink cat is chased by the red dog'
    """
    opening, copula = pick(_FRAMES, draws)
    clauses = [_clause(statements[0], copula, draws)]
    for statement in statements[1:]:
        clauses += [pick(_JOINTS, draws), _clause(statement, "is", draws)]
    return " ".join(part for part in (opening, *clauses) if part)


def parse_caption(caption: str) -> tuple[Statement, ...]:
    """The statements of a caption, the inverse of :func:`compose`: for oracles.

    A passive is turned round; spatial relations stay as they are worded.

    Raises:
        ValueError: the caption is not of this grammar.

    Example:
        >>> parse_caption("we see a pink cat chased by the small red dog")[0].subject
        ObjectName(size='small', colour='red', category='dog')
    """
    statements = []
    for match in _clauses(caption):
        *first, phrase, size, colour, category = match.groups()
        one, other = ObjectName(*first), ObjectName(size, colour, category)
        predicate, turned = _PHRASES[phrase]
        statements.append(Statement(other, predicate, one) if turned else Statement(one, predicate, other))
    return tuple(statements)


def relation_spans(caption: str) -> list[tuple[Span, Span, Span]]:
    """Where the statements of a caption stand: characters [start, end) of subject, predicate and object.

    Of the objects it is the word of the category. A passive is turned round, as in :func:`parse_caption`: the subject
    of "a cat chased by a dog" is the dog. Of "to the left of" the predicate is "left of", whose first word tells left
    from right.

    Example:
        >>> caption = "we see a pink cat chased by the small red dog"
        >>> [[caption[start:end] for start, end in relation] for relation in relation_spans(caption)]
        [['dog', 'chased by', 'cat']]
    """
    relations = []
    for match in _clauses(caption):
        first, second = match.span(3), match.span(7)
        start, end = match.span(4)
        if match[4].startswith(_LED_IN):
            start += len(_LED_IN)
        relations.append((second, (start, end), first) if _PHRASES[match[4]][1] else (first, (start, end), second))
    return relations


def words() -> list[str]:
    """Every word that a caption can have, sorted."""
    texts = (
        *CATEGORIES,
        *COLOURS,
        *SIZES,
        *_ARTICLES,
        *_JOINTS,
        *_PHRASES,
        *(part for frame in _FRAMES for part in frame),
    )
    return sorted({word for text in texts for word in text.split()})


def _clauses(caption: str) -> Iterator[re.Match[str]]:
    if not _CAPTION.fullmatch(caption):
        raise ValueError(f"caption {caption!r}: not of the grammar of RelationScenes")
    return _CLAUSE.finditer(caption)


def _clause(statement: Statement, copula: str, draws: Iterator[float]) -> str:
    first, second = _name(statement.subject, draws), _name(statement.object, draws)
    turned = next(draws) >= 0.5
    if turned:
        first, second = second, first
    if statement.predicate in PASSIVES:
        phrase = PASSIVES[statement.predicate] if turned else statement.predicate
    else:
        phrase = pick(_WORDINGS[CONVERSES[statement.predicate] if turned else statement.predicate], draws)
    return " ".join(part for part in (first, copula, phrase, second) if part)


def _name(name: ObjectName, draws: Iterator[float]) -> str:
    article = pick(_ARTICLES, draws)
    sized = next(draws) < 0.5 and name.size is not None
    return (
        f"{article} {name.size} {name.colour} {name.category}" if sized else f"{article} {name.colour} {name.category}"
    )


def _either(options: Sequence[str]) -> str:
    return "|".join(
        sorted(filter(None, options), key=len, reverse=True)
    )  # longest first: "left of" begins nothing else


_PHRASES = {
    **{predicate: (predicate, False) for predicate in PREDICATES},
    **{passive: (predicate, True) for predicate, passive in PASSIVES.items()},
    **{wording: (relation, False) for relation, wordings in _WORDINGS.items() for wording in wordings},
}
_NAME = rf"(?:{_either(_ARTICLES)}) (?:({_either(SIZES)}) )?({_either(COLOURS)}) ({_either(CATEGORIES)})"
_COPULAS, _OPENINGS = _either([copula for _, copula in _FRAMES]), _either([opening for opening, _ in _FRAMES])
_CLAUSE = re.compile(rf"{_NAME} (?:(?:{_COPULAS}) )?({_either(list(_PHRASES))}) {_NAME}\b")
_CAPTION = re.compile(rf"(?:(?:{_OPENINGS}) )?{_CLAUSE.pattern}(?: (?:{_either(_JOINTS)}) {_CLAUSE.pattern})*")
