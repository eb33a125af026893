"""Dependency parses by spaCy, where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from itmatch.data.caption_graphs.base import CaptionParser, relations_array
from itmatch.data.caption_graphs.dependencies import Wanted, Word, relations_of
from itmatch.formats.arrays import Array
from itmatch.ops.checks import check_choice

_LABELS = {
    "nsubjpass": "nsubj:pass",
    "auxpass": "aux:pass",
    "dobj": "obj",
    "relcl": "acl:relcl",
    "acomp": "xcomp",
    "prt": "compound:prt",
    "poss": "nmod:poss",
}  # spaCy's English labels are those of ClearNLP; its labels of other languages are those of Universal Dependencies
_PREPOSITIONS = ("prep", "agent", "dative")
_NOUNS = ("NOUN", "PROPN", "PRON", "NUM")


class SpacyParser(CaptionParser):
    """Parses with spaCy (https://spacy.io), which is not installed with itmatch: ``pip install "itmatch[spacy]"``.

    Args:
        model: name of an installed pipeline with a parser, or a folder; ``python -m spacy download`` installs one.
        relations: "triples", who does what to whom, or "edges", the edges of the tree
            (:func:`itmatch.data.caption_graphs.dependencies.relations_of` tells more).
    """

    def __init__(self, model: str = "en_core_web_sm", relations: Wanted = "triples") -> None:
        self.model = model
        self.relations: Wanted = check_choice("SpacyParser.relations", relations, "triples", "edges")

    def parse(self, captions: Sequence[str]) -> list[Array]:
        """The relations of each caption, (K, 3, 2) int32.

        Raises:
            ImportError: spaCy is not installed.
            OSError: the model is not installed.
            ValueError: the model does not parse.
        """
        documents = self._pipeline.pipe(captions)
        return [relations_array(relations_of(_tree(list(document)), self.relations)) for document in documents]

    @cached_property
    def _pipeline(self) -> Any:
        try:
            import spacy  # here, since it is optional
        except ImportError as error:
            raise ImportError('SpacyParser needs spaCy; install it with: pip install "itmatch[spacy]"') from error
        try:
            pipeline = spacy.load(self.model, exclude=["ner", "lemmatizer"])
        except OSError as error:
            raise OSError(
                f"spaCy has no model {self.model!r}; install it with: python -m spacy download {self.model}"
            ) from error
        if "parser" not in pipeline.pipe_names:
            there = ", ".join(pipeline.pipe_names) or "nothing"
            raise ValueError(f"spaCy's model {self.model!r} has no parser, only {there}; take one that has")
        return pipeline


def _tree(tokens: Sequence[Any]) -> list[Word]:
    """The tokens of a document as words with the labels of Universal Dependencies; white space is left out."""
    heads = {token.i: -1 if token.head.i == token.i else token.head.i for token in tokens}
    labels = {token.i: _LABELS.get(token.dep_, token.dep_) for token in tokens}
    for token in tokens:
        if token.dep_ == "pobj":
            _turn(token, heads, labels)
    written = [token for token in tokens if not token.is_space]
    place = {token.i: number for number, token in enumerate(written)}
    return [
        Word(
            (token.idx, token.idx + len(token.text)),
            token.text,
            place.get(heads[token.i], -1),
            labels[token.i],
            passive=token.tag_ == "VBN" and labels[token.i] == "acl",
        )
        for token in written
    ]


def _turn(noun: Any, heads: dict[int, int], labels: dict[int, str]) -> None:
    """Hang a noun below the head of its preposition ("bench" below "sits"), and the preposition below the noun."""
    prepositions = [noun.head]
    while prepositions[-1].dep_ in _PREPOSITIONS and prepositions[-1].head.dep_ in _PREPOSITIONS:  # "out of"
        prepositions.append(prepositions[-1].head)
    outer = prepositions[-1]
    if outer.dep_ not in _PREPOSITIONS or outer.head.i == outer.i:
        return
    of_noun = outer.head.pos_ in _NOUNS
    heads[noun.i] = outer.head.i
    labels[noun.i] = "obl:agent" if outer.dep_ == "agent" else "nmod" if of_noun else "obl"
    for preposition in prepositions:
        heads[preposition.i], labels[preposition.i] = noun.i, "case"
