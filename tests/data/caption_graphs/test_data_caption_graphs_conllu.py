import pytest

from itmatch.data import ConlluParses
from itmatch.spec import build


def sentence(*rows, comments=()):
    """Rows "form head label [features]" as CoNLL-U; a row of its own with tabs is taken as it is."""
    lines, number = [f"# {comment}" for comment in comments], 0
    for row in rows:
        if "\t" in row:
            lines.append(row)
            continue
        number += 1
        form, head, label, features = [*row.split(), "_"][:4]
        lines.append(f"{number}\t{form}\t_\t_\t_\t{features}\t{head}\t{label}\t_\t_")
    return "\n".join(lines) + "\n\n"


DOG = sentence(
    "A 2 det", "dog 3 nsubj", "sees 0 root", "cats 3 obj", comments=["text = A dog sees cats", "sent_id = 1"]
)
RUNS = sentence("It 2 nsubj", "rides 0 root", "bikes 2 obj", ". 2 punct")


@pytest.fixture
def parse(tmp_path):
    def parsed(content, captions, **options):
        path = tmp_path / "dev.conllu"
        path.write_text(content, "utf-8")
        tables = ConlluParses(path, **options).parse(captions)
        return [
            [[caption[start:end] if start >= 0 else "" for start, end in row] for row in table.tolist()]
            for table, caption in zip(tables, captions, strict=True)
        ]

    return parsed


def test_a_sentence_a_caption(parse):
    assert parse(DOG + "\n" + RUNS.rstrip(), ["a DOG  sees cats", "It rides bikes."]) == [
        [["DOG", "sees", "cats"]],
        [["It", "rides", "bikes"]],
    ]
    assert parse(DOG, ["A dog sees cats"], relations="edges") == [
        [["dog", "", "A"], ["sees", "", "dog"], ["sees", "", "cats"]]
    ]


def test_a_document_a_caption(parse):
    content = "# newdoc id = 7\n" + DOG + RUNS + "# newdoc\n" + RUNS
    found = parse(content, ["A dog sees cats It rides bikes.", "It rides bikes ."])
    assert found == [[["dog", "sees", "cats"], ["It", "rides", "bikes"]], [["It", "rides", "bikes"]]]


def test_places_of_words_that_come_twice(tmp_path):
    (tmp_path / "x").write_text("# newdoc\n" + RUNS + RUNS)
    (table,) = ConlluParses(tmp_path / "x").parse(["It rides bikes. It rides bikes."])
    assert table.tolist() == [[[0, 2], [3, 8], [9, 14]], [[16, 18], [19, 24], [25, 30]]]


def test_quotes_as_treebanks_write_them(parse):
    content = sentence("`` 2 punct", "Dogs 4 nsubj", "'' 2 punct", "chase 0 root", "cats 4 obj")
    assert parse(content, ['"Dogs" chase cats']) == [[["Dogs", "chase", "cats"]]]


def test_passives(parse):
    by = ["by 4 case", "fences 2 obl"]
    for features in ("Tense=Past|VerbForm=Part|Voice=Pass", "_"):
        content = sentence("yard 0 root", f"closed 1 acl {features}", *by)
        expected = ["fences", "closed", "yard"] if features != "_" else ["yard", "closed by", "fences"]
        assert parse(content, ["yard closed by fences"]) == [[expected]]
    tagged = sentence("yard 0 root", "closed 1 acl", *by).replace("closed\t_\t_\t_", "closed\t_\t_\tVBN")
    assert parse(tagged, ["yard closed by fences"]) == [[["fences", "closed", "yard"]]]


def test_several_words_written_as_one(parse):
    row = "\t{}\t_\t_\t_\t_\t_\t_\t_\t_"
    content = sentence("3-4" + row.format("cannot"), "Dogs 4 nsubj", "of 1 x", "can 4 aux", "not 0 root")
    lines = content.splitlines()
    content = "\n".join([*lines[1:3], lines[0], *lines[3:]]) + "\n"
    assert parse(content, ["Dogs of cannot"], relations="edges") == [
        [["not", "", "Dogs"], ["Dogs", "", "of"], ["not", "", "can"]]
    ]
    french = sentence(
        "chien 0 root", "2-3" + row.format("du"), "de 4 case", "le 4 det", "voisin 1 nmod", "4.1" + row.format("x")
    )
    assert parse(french, ["chien du voisin"]) == [[["chien", "du", "voisin"]]]


BROKEN = {
    r"dev\.conllu:3: 3 columns between tabs, expected 10": (
        DOG.replace("1\tA\t_\t_\t_\t_\t2\tdet\t_\t_", "1\tA\t2"),
        1,
    ),
    r"dev\.conllu:4: word '2' with head '_', expected word 2": (DOG.replace("\t3\tnsubj", "\t_\tnsubj"), 1),
    r"dev\.conllu:5: word '4' with head '0', expected word 3": (DOG.replace("3\tsees", "4\tsees"), 1),
    r"dev\.conllu:1: the heads of word 1 do not end at a root": (DOG.replace("\t0\troot", "\t2\tx"), 1),
    r"heads of word 4 do not end": (DOG.replace("\t3\tobj", "\t9\tobj"), 1),
    r"dev\.conllu:8: a sentence without words": (DOG + "# only a comment\n\n", 1),
    r"dev\.conllu:1: a sentence that ends before": (
        DOG.replace("4\tcats", "4-5\tcats\t_\t_\t_\t_\t_\t_\t_\t_\n4\tcats"),
        1,
    ),
    r"words '4-x', expected two numbers": (DOG.replace("4\tcats", "4-x\tcats"), 1),
    r"dev\.conllu: 1 sentences \(without # newdoc each is a caption\), expected 2": (DOG, 2),
    r"dev\.conllu: 1 documents \(# newdoc\), expected 2": ("# newdoc\n" + DOG + DOG, 2),
    r"dev\.conllu:8: caption 1: word 0 \('It'\) is not in 'A dog sees cats'": (DOG + RUNS, 2),
    r"dev\.conllu:1: caption 0: the parse lacks 'dog', expected all": (sentence("A 0 root", "sees 1 x", "cats 1 x"), 1),
    r"dev\.conllu:1: caption 0: the parse lacks 'cats'": (sentence("A 0 root", "dog 1 x", "sees 1 x"), 1),
}


@pytest.mark.parametrize("message", BROKEN)
def test_wrong_files(parse, message):
    content, count = BROKEN[message]
    with pytest.raises(ValueError, match=message) as caught:
        parse(content, ["A dog sees cats"] * count)
    assert "\n" not in str(caught.value)


def test_no_file_and_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        ConlluParses(tmp_path / "x").parse(["a"])
    with pytest.raises(ValueError, match=r"ConlluParses\.relations: 'all', expected 'triples' or 'edges'"):
        ConlluParses("x", relations="all")
    assert build(ConlluParses("x", relations="edges").spec, ConlluParses).relations == "edges"


def test_a_chain_of_hundreds_of_words(parse):
    subjects = ["sees 0 root", "w 1 nsubj", *(f"w {i} conj" for i in range(2, 989)), "cats 1 obj"]
    assert len(parse(sentence(*subjects), ["sees" + " w" * 988 + " cats"])[0]) == 988
    clauses = ["w 0 root", "I 1 nsubj", "w 1 xcomp", *(f"w {i} xcomp" for i in range(3, 989)), "cats 989 obj"]
    assert parse(sentence(*clauses), ["w I" + " w" * 987 + " cats"])[0] == [["I", "w", "cats"]]


def test_a_sentence_of_thousands_of_words(parse):
    rows = [f"w {i} {'conj' if i else 'root'}" for i in range(1001)]
    with pytest.raises(ValueError, match=r"dev\.conllu:1: a sentence of 1001 words, expected at most 1000"):
        parse(sentence(*rows), ["w " * 1001])


@pytest.mark.parametrize("head", ["\u00b2", "9" * 5000, "-1", ""])
def test_a_head_that_is_no_number(parse, head):
    with pytest.raises(ValueError, match=r"dev\.conllu:1: word '1' with head .* expected word 1") as caught:
        parse(f"1\tA\t_\t_\t_\t_\t{head}\troot\t_\t_\n", ["A"])
    assert len(str(caught.value)) < 500


def test_a_root_that_is_called_a_clause_has_no_noun(parse):
    assert parse(sentence("seen 0 acl", "dogs 1 obj", "cats 1 obj"), ["seen dogs cats"]) == [[]]
    rows = ("that 2 nsubj", "sees 0 acl", "cats 2 obj", "now 2 advmod")
    assert parse(sentence(*rows), ["that sees cats now"]) == [[["that", "sees", "cats"]]]
