import numpy as np

from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.choices.making import make_choices


def relations(text, *triples):
    """Spans of the words of triples; None = no words stand for the predicate."""
    return [
        [(-1, -1) if word is None else (text.index(word), text.index(word) + len(word)) for word in t] for t in triples
    ]


def made(captions, triples, **options):
    packed = CaptionRelations.pack([relations(text, *some) for text, some in zip(captions, triples, strict=True)])
    images = [f"{number}.jpg" for number in range(len(captions))]
    return list(make_choices(images, captions, packed, **options))


def wrong(choices, kind):
    return [(one.image, one.wrong[0]) for one in choices if one.kind == kind]


def test_subject_and_object_change_places():
    found = made(["A dog chases two cats on grass"], [[("dog", "chases", "cats"), ("cats", "on", "grass")]], most=2)
    assert wrong(found, "swap") == [
        ("0.jpg", "A cats chases two dog on grass"),
        ("0.jpg", "A dog chases two grass on cats"),
    ]
    assert all(one.right == ("A dog chases two cats on grass",) for one in found)


def test_an_object_that_stands_first():
    assert wrong(made(["the hat a man wears"], [[("man", "wears", "hat")]]), "swap") == [
        ("0.jpg", "the man a hat wears")
    ]


def test_what_says_the_same_both_ways_is_not_turned_round():
    captions = ["a dog next to a cat", "a dog and a cat", "a man of honour", "a dog sees a dog", "a dog cat"]
    triples = [
        [("dog", "next to", "cat")],
        [("dog", "and", "cat")],
        [("man", "of", "honour")],
        [("dog", "sees", "dog")],
        [("dog", None, "cat")],
    ]
    assert wrong(made(captions, triples), "swap") == []


def test_a_predicate_is_replaced_by_one_of_its_kind():
    captions = ["a man sits on a horse", "a man stands under a tree", "a girl riding a bike", "a boy holding a cup"]
    triples = [
        [("man", "on", "horse"), ("man", "sits", "horse")],
        [("man", "under", "tree"), ("man", "stands", "tree")],
        [("girl", "riding", "bike")],
        [("boy", "holding", "cup")],
    ]
    found = made(captions, triples, most=2)
    assert wrong(found, "replace") == [
        ("0.jpg", "a man sits under a horse"),
        ("0.jpg", "a man stands on a horse"),
        ("1.jpg", "a man stands on a tree"),
        ("1.jpg", "a man sits under a tree"),
        ("2.jpg", "a girl holding a bike"),
        ("3.jpg", "a boy riding a cup"),
    ]


def test_the_draw_follows_the_seed_and_the_frequencies():
    captions = [f"a man {verb}s a thing" for verb in ["hold"] * 60 + ["see"] * 30 + ["like"] * 10]
    triples = [[("man", f"{text.split()[2]}", "thing")] for text in captions]
    first, again, other = (wrong(made(captions, triples, seed=seed), "replace") for seed in (0, 0, 1))
    assert first == again != other
    drawn = [text.split()[2] for _, text in first]
    assert "holds" not in drawn[:60]
    assert drawn[:60].count("sees") > 2 * drawn[:60].count("likes")


def test_captions_without_relations_give_no_questions():
    assert made(["nothing here"], [[]]) == []
    assert list(make_choices([], [], CaptionRelations(np.empty((0, 3, 2), int), np.zeros(1, int)))) == []


def words_of(choice):
    """The words at which the relations of the right, and of the wrong, caption stand."""
    return [
        [tuple(None if start < 0 else text[start:end] for start, end in one) for one in table]
        for text, table in zip(choice.captions, choice.relations, strict=True)
    ]


def test_relations_stand_where_their_words_went():
    triples = [("dog", "chases", "two cats"), ("two cats", "on", "grass"), ("dog", None, "grass")]
    swap, replaced = made(["A dog chases two cats on grass", "A dog under it"], [triples, [("dog", "under", "it")]])[:2]
    assert words_of(swap) == [
        triples,
        [("two cats", "chases", "dog"), ("dog", "on", "grass"), ("two cats", None, "grass")],
    ]
    assert replaced.wrong == ("A dog chases two cats under grass",)
    assert words_of(replaced)[1][1:] == [("two cats", "under", "grass"), ("dog", None, "grass")]


def test_a_relation_that_shares_words_with_what_changed():
    (swap,) = made(["a big dog near me sees a cat"], [[("dog", "sees", "cat"), ("big dog", "near", "me")]])
    assert words_of(swap)[1] == [("cat", "sees", "dog"), ("big cat", "near", "me")]
