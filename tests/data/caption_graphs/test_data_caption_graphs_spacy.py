"""spaCy is not installed here: a small module stands in its place, with the attributes of its tokens."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from itmatch.data import SpacyParser
from itmatch.spec import build

# word/head/label/part of speech/tag as en_core_web_sm gives them; heads counted from 1
PARSES = {
    "a dog is chased by cats": "a/2/det dog/4/nsubjpass is/4/auxpass chased/4/ROOT/VERB by/4/agent cats/5/pobj/NOUN",
    "men sit on chairs": "men/2/nsubj/NOUN sit/2/ROOT/VERB on/2/prep/ADP chairs/3/pobj/NOUN",
    "men in hats": "men/1/ROOT/NOUN in/1/prep hats/2/pobj/NOUN",
    "dogs jump out of water": "dogs/2/nsubj jump/2/ROOT/VERB out/2/prep of/3/prep water/4/pobj",
    "men are ready for it": "men/2/nsubj are/2/ROOT/AUX ready/2/acomp/ADJ for/3/prep it/4/pobj/PRON",
    "yard closed by fences": "yard/1/ROOT/NOUN closed/1/acl/VERB/VBN by/2/agent fences/3/pobj",
    "a  man throws balls": "a/3/det _/1/dep man/4/nsubj throws/4/ROOT/VERB balls/4/dobj",
    "give it to dogs": "give/1/ROOT/VERB it/1/dobj/PRON to/1/dative dogs/3/pobj",
}


class Pipeline:
    pipe_names = ("tok2vec", "tagger", "parser")

    def pipe(self, captions):
        return map(self.document, captions)

    def document(self, caption):
        tokens, place = [], 0
        for i, part in enumerate(PARSES[caption].split(" ")):
            text, head, label, pos, tag = [*part.replace("_", " ").split("/"), "X", "X"][:5]
            place = caption.index(text, place)
            tokens.append(
                SimpleNamespace(i=i, idx=place, text=text, head=int(head) - 1, dep_=label, pos_=pos, tag_=tag)
            )
            place += len(text)
        for token in tokens:
            token.head, token.is_space = tokens[token.head], token.text.isspace()
        return tokens


@pytest.fixture
def spacy(monkeypatch):
    module = ModuleType("spacy")
    module.loaded = []

    def load(name, exclude):
        module.loaded.append(name)
        if name == "missing":
            raise OSError("[E050] Can't find model 'missing'.")
        pipeline = Pipeline()
        pipeline.pipe_names = ("tok2vec",) if name == "blank" else Pipeline.pipe_names
        return pipeline

    module.load = load
    monkeypatch.setitem(sys.modules, "spacy", module)
    return module


def parsed(*captions, **options):
    tables = SpacyParser(**options).parse(captions)
    return [
        [[caption[start:end] if start >= 0 else "" for start, end in row] for row in table.tolist()]
        for caption, table in zip(captions, tables, strict=True)
    ]


def test_triples(spacy):
    assert parsed(*PARSES) == [
        [["cats", "chased", "dog"]],
        [["men", "sit on", "chairs"]],
        [["men", "in", "hats"]],
        [["dogs", "jump out of", "water"]],
        [["men", "ready for", "it"]],
        [["fences", "closed", "yard"]],
        [["man", "throws", "balls"]],
        [],
    ]
    assert spacy.loaded == ["en_core_web_sm"]


def test_edges(spacy):
    (edges,) = parsed("a  man throws balls", relations="edges", model="other")
    assert edges == [["man", "", "a"], ["throws", "", "man"], ["throws", "", "balls"]]
    assert spacy.loaded == ["other"]


def test_what_is_missing_is_said(spacy, monkeypatch):
    with pytest.raises(OSError, match="no model 'missing'; install it with: python -m spacy download missing"):
        parsed("men in hats", model="missing")
    with pytest.raises(ValueError, match="'blank' has no parser, only tok2vec"):
        parsed("men in hats", model="blank")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r'install it with: pip install "itmatch\[spacy\]"'):
        parsed("men in hats")
    with pytest.raises(ValueError, match=r"SpacyParser\.relations: 'all'"):
        SpacyParser(relations="all")


def test_spec_loads_nothing(spacy):
    assert build(SpacyParser("x", "edges").spec, SpacyParser).relations == "edges"
    assert spacy.loaded == []
