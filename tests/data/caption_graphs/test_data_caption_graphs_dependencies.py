"""Triples from trees. A tree is written as "word/head/label", heads counted from 1, 0 = root."""

import pytest

from itmatch.data.caption_graphs.dependencies import Word, relations_of
from itmatch.data.caption_graphs.words import align_words


def tree(text):
    parts = [part.split("/") for part in text.split()]
    caption = " ".join(form for form, *_ in parts)
    spans = align_words([form for form, *_ in parts], caption)
    words = [
        Word(span, form, int(head) - 1, label.rstrip("!"), label.endswith("!"))
        for span, (form, head, label) in zip(spans, parts, strict=True)
    ]
    return caption, words


def named(caption, relations):
    return [" | ".join(caption[start:end] if start >= 0 else "" for start, end in relation) for relation in relations]


TREES = {
    "A/2/det man/3/nsubj wears/0/root a/5/det hat/3/obj and/7/cc gloves/5/conj": [
        "man | wears | hat",
        "man | wears | gloves",
    ],
    "A/2/det man/6/nsubj and/5/cc a/5/det boy/2/conj sit/0/root on/9/case a/9/det bench/6/obl": [
        "man | sit on | bench",
        "boy | sit on | bench",
    ],
    "dog/2/nsubj runs/0/root quickly/2/advmod through/5/case grass/2/obl": ["dog | runs | grass"],
    "dog/2/nsubj jumps/0/root out/5/case of/5/case water/2/obl": ["dog | jumps out of | water"],
    "dog/2/nsubj jumps/0/root because/5/case of/3/fixed water/2/obl": ["dog | jumps because of | water"],
    "dogs/5/nsubj are/5/cop in/5/case the/5/det snow/0/root": ["dogs | in | snow"],
    "there/2/expl is/0/root dog/2/nsubj on/5/case grass/2/obl": ["dog | on | grass"],
    "man/4/nsubj is/4/cop not/4/advmod ready/0/root for/6/case race/4/obl": ["man | ready for | race"],
    "man/0/root with/3/case hat/1/nmod of/5/case straw/3/nmod": ["man | with | hat", "hat | of | straw"],
    "man/3/nmod:poss 's/1/case dog/4/nsubj barks/0/root": [],
    "a/2/det cat/4/nsubj:pass is/4/aux:pass chased/0/root by/6/case dogs/4/obl:agent in/8/case parks/4/obl": [
        "cat | chased | parks",
        "dogs | chased | cat",
    ],
    "garden/0/root surrounded/1/acl! by/4/case fences/2/obl": ["fences | surrounded | garden"],
    "man/0/root standing/1/acl by/4/case fences/2/obl": ["man | standing by | fences"],
    "man/0/root wearing/1/acl hat/2/obj": ["man | wearing | hat"],
    "man/0/root who/3/nsubj wears/1/acl:relcl hat/3/obj": ["man | wears | hat"],
    "ball/0/root that/4/obj dogs/4/nsubj chase/1/acl:relcl": ["dogs | chase | ball"],
    "man/0/root who/3/nsubj tries/1/acl:relcl to/5/mark ride/3/xcomp bikes/5/obj": ["man | ride | bikes"],
    "man/2/nsubj sits/0/root and/4/cc reads/2/conj books/4/obj": ["man | reads | books"],
    "man/2/nsubj sits/0/root wearing/2/advcl hats/3/obj": ["man | wearing | hats"],
    "man/2/nsubj lets/0/root dogs/2/obj drink/2/xcomp water/4/obj": ["man | lets | dogs", "dogs | drink | water"],
    "man/2/nsubj picks/0/root up/2/compound:prt dogs/2/obj": ["man | picks | dogs"],
    "man/2/nsubj runs/0/root up/2/compound:prt to/5/case dogs/2/obl": ["man | runs up to | dogs"],
    "in/2/case pictures/4/obl man/4/nsubj rides/0/root horses/4/obj": ["man | in | pictures", "man | rides | horses"],
    "man/2/nsubj sits/0/root on/4/case chairs/2/obl or/7/cc at/7/case tables/4/conj": [
        "man | sits on | chairs",
        "man | sits | tables",
    ],
    "man/2/nsubj rides/0/root this/4/det morning/2/obl:tmod": [],
    "man/2/nsubj has/0/root -/2/obj": [],
    "rides/0/root horses/1/obj": [],
}


@pytest.mark.parametrize("text", TREES)
def test_triples(text):
    caption, words = tree(text)
    assert named(caption, relations_of(words, "triples")) == TREES[text]


def test_order_and_repetition():
    _, words = tree("b/2/nsubj sees/0/root a/2/obj c/2/nsubj d/4/conj d/2/obj")
    found = relations_of(words, "triples")
    assert found == sorted(found, key=lambda relation: (relation[0], relation[2]))
    assert len(set(found)) == len(found) == 6


def test_edges():
    caption, words = tree("A/2/det dog/3/nsubj barks/0/root ,/3/punct loudly/3/advmod !/3/punct")
    assert named(caption, relations_of(words, "edges")) == ["dog |  | A", "barks |  | dog", "barks |  | loudly"]
