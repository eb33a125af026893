"""Parsers, and the whole way: from what a parser finds to the graph of a batch."""

import numpy as np
import pytest
import torch

from itmatch.data import (
    AdjacentWords,
    CaptionDataset,
    CaptionParser,
    CaptionRelations,
    Collator,
    HuggingFaceTokenizer,
    PrecompFolder,
    RelationScenes,
    SizeAugmentation,
    Triples,
    WordTokenizer,
)
from itmatch.data.relation_scenes.grammar import PASSIVES, parse_caption
from itmatch.spec import build


def test_adjacent_words():
    captions = ['A dog\'s "ball", red.', "one", "..."]
    tables = AdjacentWords().parse(captions)
    assert [table.shape for table in tables] == [(3, 3, 2), (0, 3, 2), (0, 3, 2)]
    assert tables[0].dtype == np.int32
    found = [[captions[0][start:end] for start, end in row[::2]] for row in tables[0].tolist()]
    assert found == [["A", "dog's"], ["dog's", "ball"], ["ball", "red"]]
    assert (tables[0][:, 1] == -1).all()
    assert AdjacentWords().counts == {}
    assert isinstance(build(AdjacentWords().spec, CaptionParser), AdjacentWords)


def words_of_graph(captions, words):
    """The words at the tokens of every edge: row, subject, predicate, object."""
    graph = captions.graph
    places = torch.stack([graph.edge_index[0], graph.predicate, graph.edge_index[1]], 1)
    ids = captions.input_ids.tolist()
    return [
        (row, *(words[ids[row][place]] if place >= 0 else "" for place in edge))
        for row, edge in zip(graph.row.tolist(), places.tolist(), strict=True)
    ]


@pytest.fixture(scope="module")
def scenes():
    return RelationScenes("medium", num_train=2, num_val=20, num_test=2, text_graphs=True)


@pytest.fixture(scope="module")
def tokenizer(scenes):
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(scenes.words())
    return tokenizer


FIRST_WORDS = {"above": {"above", "over"}, "below": {"below", "under"}}


def expected_of(caption):
    """Subject, what the predicate may begin with, and object of every statement."""
    for statement in parse_caption(caption):
        wordings = {statement.predicate, PASSIVES.get(statement.predicate, statement.predicate)}
        first = {wording.split()[0] for wording in wordings} | FIRST_WORDS.get(statement.predicate, set())
        yield statement.subject.category, first, statement.object.category


def check(batch, captions, words):
    found = words_of_graph(batch.captions, words)
    for row, index in enumerate(batch.caption_index.tolist()):
        edges = [edge[1:] for edge in found if edge[0] == row]
        expected = list(expected_of(captions[index]))
        assert len(edges) == len(expected)
        for (subject, predicate, other), (one, predicates, two) in zip(edges, expected, strict=True):
            assert (subject, other) == (one, two)
            assert predicate in predicates
    return len(found)


def test_scenes_to_batches_of_words(scenes, tokenizer):
    dataset = scenes.split("val")
    items = CaptionDataset(dataset)
    batch = Collator(tokenizer)([items[i] for i in range(0, 100, 3)])
    assert check(batch, dataset.captions, tokenizer.vocabulary.words) > 34
    assert batch.captions.graph.num_rows == len(batch.captions) == 34


def test_scenes_to_batches_of_word_pieces(scenes, tmp_path):
    from transformers import BertTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *scenes.words()]
    pieces.remove("chasing")
    pieces.remove("pirate")
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces, "chas", "##ing", "pir", "##ate"]) + "\n")
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    dataset = scenes.split("val")
    words = dict(enumerate([*pieces, "chas", "##ing", "pir", "##ate"]))
    words |= {i: {"chas": "chasing", "pir": "pirate"}.get(word, word) for i, word in words.items()}
    batch = Collator(tokenizer)([CaptionDataset(dataset)[i] for i in range(100)])
    check(batch, dataset.captions, words)
    assert {"chasing", "pirate"} <= {word for edge in words_of_graph(batch.captions, words) for word in edge[1:]}


def test_augmented_scenes_state_nothing_else(scenes, tokenizer):
    dataset = scenes.split("val")
    items = [CaptionDataset(dataset)[i] for i in range(100)]
    words = tokenizer.vocabulary.words
    augmentation = SizeAugmentation(token_rate=0.3, token_mask=0.0, token_replace=0.0, token_drop=1.0)
    torch.manual_seed(0)
    whole = set(words_of_graph(Collator(tokenizer)(items).captions, words))
    whole |= {(row, subject, "", other) for row, subject, _, other in whole}
    found = words_of_graph(Collator(tokenizer, augmentation=augmentation)(items).captions, words)
    assert set(found) <= whole
    assert 0.3 * len(whole) / 2 < len(found) < 0.7 * len(whole) / 2
    assert any(predicate == "" for _, _, predicate, _ in found)


def test_file_of_triples_to_batches(tmp_path):
    captions = [" Two men wearing a red hat.", "a dog", "the hat of a man"]
    (tmp_path / "dev_caps.txt").write_text("\n".join(captions) + "\n")
    (tmp_path / "dev_t.jsonl").write_text(
        '[["man", "wear", "hat"]]\n[]\n[["hat", "of", "man"], ["man", "have", "hat"]]\n'
    )
    np.save(tmp_path / "dev_ims.npy", np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32))
    texts = [caption.strip() for caption in captions]
    tables = Triples(tmp_path / "dev_t.jsonl").parse(texts)
    CaptionRelations.pack(tables).save(tmp_path / "dev_caption_relations.npz", texts)
    dataset = PrecompFolder(tmp_path).split("val")
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(dataset.captions)
    batch = Collator(tokenizer)([CaptionDataset(dataset)[i] for i in range(3)])
    assert words_of_graph(batch.captions, tokenizer.vocabulary.words) == [
        (0, "men", "wearing", "hat"),
        (2, "hat", "of", "man"),
        (2, "man", "", "hat"),
    ]
