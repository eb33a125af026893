"""``itmatch data parse``: writes the relations between the words of captions beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from itmatch.cli.parser import check_one_of
from itmatch.data.batching import validation
from itmatch.data.caption_graphs.base import AdjacentWords, CaptionParser
from itmatch.data.caption_graphs.conllu import ConlluParses
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.caption_graphs.spacy import SpacyParser
from itmatch.data.caption_graphs.triples import Triples
from itmatch.formats.files import existing_file, user_path
from itmatch.formats.text import read_lines

_TRIPLE_FILES = ("caption_triples", "caption_graphs")


def parse(
    folder: Path,
    splits: list[str],
    *,
    triples: str | bool = False,
    conllu: str | None = None,
    spacy: str | None = None,
    adjacent: bool = False,
    relations: Literal["triples", "edges"] | None = None,
    name: str = "caption_relations",
    overwrite: bool = False,
) -> None:
    """Write SPLIT_caption_relations.npz into FOLDER: which words of SPLIT_caps.txt are subject, predicate and object.

    In the name of a file, {split} stands for the split.

    Args:
        folder: with the captions; the relations go there too.
        splits: such as train, dev and test.
        triples: file of triples of words, a line of json a caption; without its name it is
            FOLDER/{split}_caption_triples.jsonl or FOLDER/{split}_caption_graphs.jsonl.
        conllu: file of dependency parses in CoNLL-U, a sentence a caption, or a # newdoc a caption.
        spacy: parse with this model of spaCy, which has to be installed; en_core_web_sm for example.
        adjacent: every word and the next one, without predicates.
        relations: what to take from a dependency tree: who does what to whom (triples, the default), or its edges.
        name: write SPLIT_NAME.npz.
        overwrite: replace a file that is there.
    """
    check_one_of(triples=triples, conllu=conllu, spacy=spacy, adjacent=adjacent)
    if relations is not None and not (conllu or spacy):
        raise ValueError("--relations goes with --conllu or --spacy")
    kind = relations or "triples"
    parser = SpacyParser(spacy, kind) if spacy else AdjacentWords() if adjacent else None
    given = conllu or (triples if isinstance(triples, str) else None)
    if given and "{split}" not in given and len(splits) > 1:
        raise ValueError(f"{given}: one file for {len(splits)} splits; write {{split}} where their names differ")
    work = []
    for split in splits:  # everything that can be seen now is, since parsing may take long
        path = folder / f"{split}_{name}.npz"
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: there is one already; --overwrite replaces it")
        captions = _captions(folder / f"{split}_caps.txt")
        if parser is None:
            file = user_path(given.replace("{split}", split)) if given else _triple_file(folder, split)
            existing_file(file)
            reader: CaptionParser = ConlluParses(file, kind) if conllu else Triples(file)
        work.append((split, path, captions, parser or reader))
    for split, path, captions, reader in work:
        packed = CaptionRelations.pack(reader.parse(captions), str(path))
        packed.save(path, captions, overwrite=overwrite)
        print(f"{split}: {packed.summary()}", *(f"{n} {what}" for what, n in reader.counts.items()), sep="; ")


def _captions(path: Path) -> list[str]:
    captions = read_lines(path)
    for problem in validation.caption_problems(captions, str(path)):
        raise ValueError(problem)
    return [caption.strip() for caption in captions]


def _triple_file(folder: Path, split: str) -> Path:
    files = [folder / f"{split}_{name}.jsonl" for name in _TRIPLE_FILES]
    return next((file for file in files if file.exists()), files[0])
