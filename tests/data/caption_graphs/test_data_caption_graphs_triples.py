import json

import pytest

from itmatch.data import Triples
from itmatch.spec import build


@pytest.fixture
def placed(tmp_path):
    """The words that are found for the triples of one caption, and what is counted."""

    def parse(caption, triples):
        path = tmp_path / "dev_triples.jsonl"
        path.write_text(json.dumps(triples) + "\n", "utf-8")
        parser = Triples(path)
        (table,) = parser.parse([caption])
        assert table.shape[1:] == (3, 2)
        return table.tolist(), list(parser.counts.values())

    return parse


def words(caption, table):
    return [[caption[start:end] if start >= 0 else "" for start, end in row] for row in table]


@pytest.mark.parametrize(
    ("caption", "triple", "expected"),
    [
        ("Two men wearing a hat", ["man", "wear", "hat"], ["men", "wearing", "hat"]),
        ("the boys sit quietly on leaves", ["boy", "sit on", "leaf"], ["boys", "sit", "leaves"]),
        ("boys sat on a bench", ["boy", "sit on", "bench"], ["boys", "sat", "bench"]),
        ("a man and his son's kite", ["man", "have", "kite"], ["man", "", "kite"]),
        ("a girl in a T-shirt", ["girl", "in", "t-shirt"], ["girl", "in", "T-shirt"]),
        ("a girl in a T-shirt", ["girl", "in", "shirt"], ["girl", "in", "shirt"]),
        ("a girl's shirt", ["girl", "have", "shirt"], ["girl", "", "shirt"]),
        ("a girl with red hair", ["girl", "with", "red-hair"], ["girl", "with", "red"]),
        ("ice cream on a plate", ["ice cream", "on", "plate"], ["ice", "on", "plate"]),
        ("a dog on grass", ["dog", "lie on", "grass"], ["dog", "on", "grass"]),
        ("standing in front of it, a dog", ["dog", "in front of", "it"], ["dog", "in", "it"]),
    ],
)
def test_forms_of_words(placed, caption, triple, expected):
    table, counts = placed(caption, [triple])
    assert words(caption, table) == [expected]
    assert counts == [1, 0, int(not expected[1])]


def test_who_does_it_comes_first(placed):
    for caption, triple, places in (
        ("A dog chases a dog", ["dog", "chase", "dog"], [2, 6, 15]),
        ("A man helps another man", ["man", "help", "man"], [2, 6, 20]),
    ):
        ((found,), _) = placed(caption, [triple])
        assert [start for start, _ in found] == places


def test_the_nearest_places(placed):
    caption = "a dog in a box sees a dog in a hat near a box in a house"
    table, _ = placed(
        caption, [["dog", "in", "hat"], ["dog", "in", "box"], ["box", "in", "house"], ["dog", "see", "dog"]]
    )
    assert [[start for start, _ in row] for row in table] == [
        [22, 26, 31],
        [2, 6, 11],
        [42, 46, 51],
        [2, 15, 22],  # two different dogs
    ]


def test_the_predicate_before_the_object(placed):
    caption = "the man on skis on a hill"
    table, _ = placed(caption, [["man", "on", "hill"]])
    assert table == [[[4, 7], [16, 18], [21, 25]]]


def test_objects_keep_their_order(placed):
    caption = "a man with dirty hair and red hair in a park"
    relations = [[0, "with", 1], [0, "with", 2], [2, "in", 3]]
    table, _ = placed(caption, {"objects": ["man", "hair", "hair", "park"], "relations": relations, "attributes": []})
    assert [[row[0][0], row[2][0]] for row in table] == [[2, 17], [2, 30], [30, 40]]
    fewer, _ = placed(caption, {"objects": ["hair", "park"], "relations": [[0, "in", 1]]})  # which one, nobody says
    assert fewer[0][0][0] == 30


def test_what_is_not_found_is_counted(placed):
    triples = [["dog", "see", "cat"], ["dog", "on", "dog"], ["dog", "fly over", "tree"], ["dog", "", "tree"]]
    table, counts = placed("a dog at a tree", triples)
    assert words("a dog at a tree", table) == [["dog", "", "tree"]] * 2
    assert counts == [4, 2, 2]
    assert placed("a dog", []) == ([], [0, 0, 0])


BAD = {
    r"triples\.jsonl:1: not json": "[[",
    r"triples\.jsonl:1: expected a list of \[subject, predicate, object\]": '[["a", "b"]]',
    r"jsonl:1: \['a', 1, 'b'\], expected .* as words": '[["a", 1, "b"]]',
    r"jsonl:1: expected 'objects', a list of words": '{"relations": []}',
    r"jsonl:1: \[0, 'on', 2\], expected .* 0\.\.1": '{"objects": ["a", "b"], "relations": [[0, "on", 2]]}',
    r"jsonl:1: \[-1, 'on', 0\]": '{"objects": ["a", "b"], "relations": [[-1, "on", 0]]}',
    r"jsonl:1: \[True, 'on', 0\]": '{"objects": ["a", "b"], "relations": [[true, "on", 0]]}',
    r"jsonl:1: expected a list": "3",
    r"jsonl: 2 lines, expected 1 \(captions\)": "[]\n[]",
}


@pytest.mark.parametrize("message", BAD)
def test_wrong_files(tmp_path, message):
    path = tmp_path / "dev_triples.jsonl"
    path.write_text(BAD[message] + "\n")
    with pytest.raises(ValueError, match=message):
        Triples(path).parse(["a dog"])


def test_no_file_and_spec(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such file"):
        Triples(tmp_path / "none.jsonl").parse([])
    assert build(Triples(tmp_path / "x").spec, Triples).path == tmp_path / "x"


@pytest.mark.parametrize(
    ("line", "message"), [("[" * 5000 + "]" * 5000, "nested more than"), ("7" * 5000, "an integer of more than")]
)
def test_json_that_no_parser_writes(tmp_path, line, message):
    (tmp_path / "triples.jsonl").write_text(f"[]\n{line}\n")
    with pytest.raises(ValueError, match=rf"triples\.jsonl:2: {message}"):
        Triples(tmp_path / "triples.jsonl").parse(["a", "b"])
