"""``itmatch data parse``: writes the relations between the words of captions beside them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from itmatch.cli.parser import CommandParser
from itmatch.data.batching import validation
from itmatch.data.caption_graphs.base import AdjacentWords, CaptionParser
from itmatch.data.caption_graphs.conllu import ConlluParses
from itmatch.data.caption_graphs.relations import CaptionRelations
from itmatch.data.caption_graphs.spacy import SpacyParser
from itmatch.data.caption_graphs.triples import Triples
from itmatch.formats.files import user_path
from itmatch.formats.text import read_lines

_DESCRIPTION = """Write SPLIT_caption_relations.npz into FOLDER: which words of the captions in SPLIT_caps.txt are
subject, predicate and object of a relation. In the name of a FILE, {split} stands for the split."""
_TRIPLE_FILES = ("caption_triples", "caption_graphs")


def parse_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.relations is not None and not (options.conllu or options.spacy):
        raise ValueError("--relations goes with --conllu or --spacy")
    parser = SpacyParser(options.spacy, options.relations or "triples") if options.spacy else None
    work = []
    for split in options.split:  # everything that can be seen now is, since parsing may take long
        path = options.folder / f"{split}_{options.name}.npz"
        if path.exists() and not options.overwrite:
            raise FileExistsError(f"{path}: there is one already; --overwrite replaces it")
        work.append((split, path, _captions(options.folder / f"{split}_caps.txt"), parser or _reader(options, split)))
    for split, path, captions, reader in work:
        relations = CaptionRelations.pack(reader.parse(captions), str(path))
        relations.save(path, captions, overwrite=options.overwrite)
        print(f"{split}: {relations.summary()}", *(f"{n} {what}" for what, n in reader.counts.items()), sep="; ")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="itmatch data parse", description=_DESCRIPTION)
    parser.add_argument("folder", metavar="FOLDER", type=user_path)
    parser.add_argument("split", metavar="SPLIT", nargs="+")
    source = parser.add_mutually_exclusive_group(required=True)
    add = source.add_argument
    add("--triples", nargs="?", const="", metavar="FILE", help="triples of words, a line of json a caption; without "
        f"FILE it is {' or '.join(f'FOLDER/{{split}}_{name}.jsonl' for name in _TRIPLE_FILES)}")  # fmt: skip
    add(
        "--conllu", metavar="FILE", help="dependency parses in CoNLL-U, a sentence a caption, or a `# newdoc` a caption"
    )
    add("--spacy", metavar="MODEL", help="parse with spaCy, which has to be installed; en_core_web_sm for example")
    add("--adjacent", action="store_true", help="every word and the next one, without predicates")
    add = parser.add_argument
    add("--relations", choices=("triples", "edges"), help="what to take from a dependency tree: who does what to whom "
        "(triples, the default), or its edges")  # fmt: skip
    add("--name", default="caption_relations", metavar="NAME", help="write SPLIT_NAME.npz (caption_relations)")
    add("--overwrite", action="store_true", help="replace a file that is there")
    return parser


def _captions(path: Path) -> list[str]:
    captions = read_lines(path)
    for problem in validation.caption_problems(captions, str(path)):
        raise ValueError(problem)
    return [caption.strip() for caption in captions]


def _reader(options: argparse.Namespace, split: str) -> CaptionParser:
    if options.adjacent:
        return AdjacentWords()
    given = options.conllu or options.triples
    if given and "{split}" not in given and len(options.split) > 1:
        raise ValueError(f"{given}: one file for {len(options.split)} splits; write {{split}} where their names differ")
    file = user_path(given.replace("{split}", split)) if given else _triple_file(options.folder, split)
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    return ConlluParses(file, options.relations or "triples") if options.conllu else Triples(file)


def _triple_file(folder: Path, split: str) -> Path:
    files = [folder / f"{split}_{name}.jsonl" for name in _TRIPLE_FILES]
    return next((file for file in files if file.exists()), files[0])
