import pytest
from helpers_cli import error_of, run
from helpers_files import files_in, small_files

from itmatch.data import CaptionRelations

CAPTIONS = {"train": ["A dog sees cats ", "no relation here"], "dev": ["two dogs see one cat"]}
TRIPLES = {"train": '[["dog", "see", "cat"], ["dog", "on", "bus"]]\n[]\n', "dev": '[["dog", "see", "cat"]]\n'}
CONLLU = """1\tA\t_\t_\t_\t_\t2\tdet\t_\t_
2\tdog\t_\t_\t_\t_\t3\tnsubj\t_\t_
3\tsees\t_\t_\t_\t_\t0\troot\t_\t_
4\tcats\t_\t_\t_\t_\t3\tobj\t_\t_

1\tno\t_\t_\t_\t_\t2\tdet\t_\t_
2\trelation\t_\t_\t_\t_\t0\troot\t_\t_
3\there\t_\t_\t_\t_\t2\tadvmod\t_\t_
"""


@pytest.fixture
def folder(tmp_path):
    for split, captions in CAPTIONS.items():
        (tmp_path / f"{split}_caps.txt").write_text("".join(f"{caption}\n" for caption in captions))
        (tmp_path / f"{split}_caption_triples.jsonl").write_text(TRIPLES[split])
    (tmp_path / "parses.conllu").write_text(CONLLU)
    return tmp_path


def written(folder, split, name="caption_relations"):
    captions = [caption.strip() for caption in CAPTIONS[split]]
    relations = CaptionRelations.load(folder / f"{split}_{name}.npz", captions)
    return [
        [[caption[start:end] if start >= 0 else "" for start, end in row] for row in table.tolist()]
        for caption, table in zip(captions, relations, strict=True)
    ]


def test_triples(folder, capsys):
    assert run("data", "parse", folder, "train", "dev", "--triples") == 0
    assert capsys.readouterr().out.splitlines() == [
        "train: 1 relation of 2 captions, 1 caption without; 2 triples in the file; 1 left out (subject or object "
        "not found); 0 without the place of a predicate",
        "dev: 1 relation of 1 caption, 0 captions without; 1 triples in the file; 0 left out (subject or object not "
        "found); 0 without the place of a predicate",
    ]
    assert written(folder, "train") == [[["dog", "sees", "cats"]], []]
    assert written(folder, "dev") == [[["dogs", "see", "cat"]]]


@pytest.mark.parametrize("pattern", ["{split}_mine.jsonl", "{split}/{split}.jsonl"])
def test_files_by_a_pattern(folder, pattern):
    for split in CAPTIONS:
        file = folder / pattern.replace("{split}", split)
        file.parent.mkdir(exist_ok=True)
        (folder / f"{split}_caption_triples.jsonl").rename(file)
    assert run("data", "parse", folder, *CAPTIONS, "--triples", folder / pattern) == 0
    assert written(folder, "dev") == [[["dogs", "see", "cat"]]]


def test_other_default_name(folder):
    (folder / "dev_caption_triples.jsonl").unlink()
    graph = '{"objects": ["cat", "dog"], "relations": [[1, "see", 0]]}\n'
    (folder / "dev_caption_graphs.jsonl").write_text(graph)
    assert run("data", "parse", folder, "dev", "--triples") == 0
    assert written(folder, "dev") == [[["dogs", "see", "cat"]]]


def test_trees(folder):
    file = folder / "parses.conllu"
    assert run("data", "parse", folder, "train", "--conllu", file) == 0
    assert written(folder, "train") == [[["dog", "sees", "cats"]], []]
    assert run("data", "parse", folder, "train", "--conllu", file, "--relations", "edges", "--name", "trees") == 0
    assert len(written(folder, "train", "trees")[0]) == 3


def test_adjacent_words_and_overwriting(folder, capsys):
    assert run("data", "parse", folder, "dev", "--adjacent") == 0
    assert written(folder, "dev")[0][0] == ["two", "", "dogs"]
    assert "dev: 4 relations of 1 caption, 0 captions without\n" in capsys.readouterr().out
    message = error_of(capsys, "data", "parse", folder, "train", "dev", "--triples")
    assert message.endswith("dev_caption_relations.npz: there is one already; --overwrite replaces it")
    assert not (folder / "train_caption_relations.npz").exists()  # nothing is written before that is seen
    assert run("data", "parse", folder, "dev", "--triples", "--overwrite") == 0
    assert len(written(folder, "dev")[0]) == 1


def test_errors(folder, capsys, monkeypatch):
    def error(*args):
        return error_of(capsys, "data", "parse", folder, *args)

    assert "one of the arguments --triples --conllu --spacy --adjacent is required" in error("dev")
    assert "see itmatch data parse --help" in error("dev", "--triples", "--adjacent")
    assert "one file for 2 splits; write {split}" in error("train", "dev", "--conllu", folder / "parses.conllu")
    assert "x.conllu: no such file" in error("dev", "--conllu", folder / "x.conllu")
    assert "test_caps.txt: no such file" in error("test", "--triples")
    assert "--relations goes with --conllu or --spacy" in error("dev", "--adjacent", "--relations", "edges")
    (folder / "dev_caption_triples.jsonl").unlink()
    assert "dev_caption_triples.jsonl: no such file" in error("dev", "--triples")
    (folder / "dev_caps.txt").write_text("a\n \n")
    assert "dev_caps.txt:2: empty caption" in error("dev", "--adjacent")
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    assert "SpacyParser needs spaCy" in error("train", "--spacy", "en_core_web_sm")


def test_help(capsys):
    assert run("data", "parse", "--help") == 0
    assert "{split} stands for the split" in " ".join(capsys.readouterr().out.split())
    assert run("data") == 2
    assert "itmatch data parse FOLDER SPLIT" in capsys.readouterr().out


def test_a_full_disk_leaves_the_earlier_relations(folder, capsys):
    assert run("data", "parse", folder, "train", "--triples") == 0
    before = files_in(folder)
    with small_files(400):
        message = error_of(capsys, "data", "parse", folder, "train", "--adjacent", "--overwrite")
    assert message == f"{folder}/train_caption_relations.npz: cannot be written (File too large)"
    assert files_in(folder) == before


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert run("data", "parse", "~", "train", "--conllu", "~/parses.conllu") == 0
    assert written(folder, "train") == [[["dog", "sees", "cats"]], []]
