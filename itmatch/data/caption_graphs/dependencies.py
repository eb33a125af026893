"""Dependency trees of captions, whoever parsed them, and the relations that they hold.

Labels are those of Universal Dependencies (https://universaldependencies.org).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from itmatch.data.caption_graphs.base import Relation, Span
from itmatch.data.caption_graphs.relations import NOWHERE

Wanted = Literal["triples", "edges"]
_BE = frozenset(("be", "am", "is", "are", "was", "were", "been", "being", "'s", "'re", "'m"))
_RELATIVE = frozenset(("who", "whom", "which", "that"))
_SHARES_SUBJECT = frozenset(("conj", "xcomp", "advcl"))


@dataclass(frozen=True)
class Word:
    """A word of a tree.

    Args:
        span: its characters [start, end) in the caption.
        text: as it is written.
        head: place of its head in the tree, -1 = none (a root).
        label: what it is to its head: "nsubj", "obl", "nsubj:pass", ...
        passive: whether it is marked as a passive.
    """

    span: Span
    text: str
    head: int
    label: str
    passive: bool = False

    @property
    def base(self) -> str:
        """The label without its subtype."""
        return self.label.partition(":")[0]


def relations_of(tree: Sequence[Word], wanted: Wanted) -> list[Relation]:
    """The relations of a tree, each once.

    - "edges": every word and its head, which is the subject; without a predicate, and without punctuation.
    - "triples": a verb joins its subject to its object ("man wears hat") and to what follows by a preposition ("man
      sits on bench"); a noun is joined to another one by a preposition ("hat of man"). The agent of a passive is the
      subject, what suffers it the object. Coordinated words share ("man and woman", "hat and coat", "sits and
      reads"); a clause belongs to its noun ("man wearing", "man who wears"). The predicate is the verb, with the
      preposition that follows at once; the preposition alone where it stands before the verb ("in this picture"), or
      where there is no verb but "be".
    """
    if wanted == "edges":
        real = [word for word in tree if word.head >= 0 and "punct" not in (word.base, tree[word.head].base)]
        return [(tree[word.head].span, NOWHERE, word.span) for word in real]
    names = {word.span for word in tree if any(map(str.isalnum, word.text))}  # parsers take a dash for a noun at times
    found = {triple for triple in _Triples(tree).all() if triple[0] != triple[2] and names.issuperset(triple[::2])}
    return sorted(found, key=lambda triple: (triple[0], triple[2], triple[1]))


class _Triples:
    """Reads triples off a tree. Words are named by their places."""

    def __init__(self, tree: Sequence[Word]) -> None:
        self.tree = tree
        self.children: list[list[int]] = [[] for _ in tree]
        for place, word in enumerate(tree):
            if word.head >= 0:
                self.children[word.head].append(place)

    def all(self) -> Iterator[Relation]:
        for place in range(len(self.tree)):
            yield from self.of_verb(place)
            yield from self.of_noun(place)

    def of_verb(self, verb: int) -> Iterator[Relation]:
        subjects = self.subjects(verb)
        passive = self.is_passive(verb)
        for child in self.children[verb]:
            if passive and self.is_agent(child):
                for agent in self.coordinated(child):
                    yield from self.joined([agent], self.tree[verb].span, subjects)
            elif self.tree[child].base == "obj":
                yield from self.joined(subjects, self.tree[verb].span, self.coordinated(self.meant(child)))
            elif self.tree[child].base == "obl":
                for other, preposition in self.with_prepositions(child):
                    yield from self.joined(subjects, self.phrase(verb, preposition), [self.meant(other)])

    def of_noun(self, noun: int) -> Iterator[Relation]:
        if self.labelled(noun, "nsubj"):  # "the dogs are in the snow": snow is the head of the sentence
            for other, preposition in self.with_prepositions(noun):
                yield from self.joined(self.subjects(noun), self.phrase(None, preposition), [other])
        for child in self.labelled(noun, "nmod"):
            if self.tree[child].label != "nmod:poss":  # whose 's is a preposition, too
                for other, preposition in self.with_prepositions(child):
                    yield from self.joined([noun], self.phrase(None, preposition), [other])

    def joined(self, subjects: Sequence[int], predicate: Span, objects: Sequence[int]) -> Iterator[Relation]:
        for subject in subjects:
            for other in objects:
                yield self.tree[subject].span, predicate, self.tree[other].span

    def labelled(self, place: int, base: str) -> list[int]:
        return [child for child in self.children[place] if self.tree[child].base == base]

    def coordinated(self, place: int) -> list[int]:
        """A word and those that "and" joins to it, in the order of the tree."""
        found, waiting = [], [place]  # no recursion: a damaged parse may be a chain of a thousand words
        while waiting:
            found.append(waiting.pop())
            waiting += reversed(self.labelled(found[-1], "conj"))
        return found

    def with_prepositions(self, place: int) -> Iterator[tuple[int, list[int]]]:
        """A word and those coordinated with it, each with the words of its preposition or else the last one's."""
        preposition: list[int] = []
        for other in self.coordinated(place):
            cases = self.labelled(other, "case")
            preposition = (
                sorted([*cases, *(fixed for case in cases for fixed in self.labelled(case, "fixed"))]) or preposition
            )
            if preposition:
                yield other, preposition

    def subjects(self, verb: int) -> list[int]:
        """Its own subjects, else those of the word that its clause belongs to."""
        while not (own := self.labelled(verb, "nsubj")):
            word = self.tree[verb]
            if word.head < 0 or word.base == "acl":
                return [] if word.head < 0 else [word.head]
            if word.base not in _SHARES_SUBJECT:
                return []
            controlled = self.labelled(word.head, "obj") if word.base == "xcomp" else []  # "lets the dog drink"
            if controlled:
                return controlled
            verb = word.head
        return [other for subject in own for other in self.coordinated(self.meant(subject))]

    def meant(self, place: int) -> int:
        """The noun that a relative pronoun stands for; any other word itself."""
        if self.tree[place].text.lower() not in _RELATIVE:
            return place
        clause = self.tree[place].head
        while clause >= 0 and self.tree[clause].base in _SHARES_SUBJECT:
            clause = self.tree[clause].head
        noun = self.tree[clause].head if clause >= 0 and self.tree[clause].base == "acl" else -1
        return noun if noun >= 0 else place

    def is_passive(self, verb: int) -> bool:
        marks = ("nsubj:pass", "aux:pass", "obl:agent")
        return self.tree[verb].passive or any(self.tree[child].label in marks for child in self.children[verb])

    def is_agent(self, place: int) -> bool:
        word = self.tree[place]
        by = any(self.tree[case].text.lower() == "by" for case in self.labelled(place, "case"))
        return word.label == "obl:agent" or (word.base == "obl" and by)

    def phrase(self, verb: int | None, preposition: list[int]) -> Span:
        """From the verb to the end of the preposition, as far as they stand together."""
        if verb is None or preposition[0] < verb or self.tree[verb].text.lower() in _BE:
            last = first = preposition[0]
        else:
            last = first = verb
        particles = [] if verb is None else self.labelled(verb, "compound")
        for word in sorted({*preposition, *particles}):
            last = word if word == last + 1 else last
        return self.tree[first].span[0], self.tree[last].span[1]
