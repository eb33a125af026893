"""``itmatch data check``: says what folders and files of data hold, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from itmatch.cli.parser import CommandParser
from itmatch.data.check.paths import check_path
from itmatch.data.tokenizers.characters import CharacterTokenizer
from itmatch.data.tokenizers.huggingface import HuggingFaceTokenizer
from itmatch.data.tokenizers.words import Tokenizer, WordTokenizer
from itmatch.formats.files import user_path

_DESCRIPTION = "Say what PATH holds, what is missing, and what is wrong."


def check_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status: 1 if something is wrong, or missing for ``itmatch fit``."""
    parser = CommandParser(prog="itmatch data check", description=_DESCRIPTION)
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="+",
        help="a folder of precomputed features, of photos, or of files of features; a json of captions (Karpathy's or "
        "COCO's own); a vocabulary; a .npy file; or word vectors",
    )
    parser.add_argument(
        "--features",
        metavar="PATH",
        help="the features that a json of captions is of, a file or a folder; or the folder of the photos",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="tell of the tokens that this one does not know: a vocabulary, `characters`, or the name or folder of a "
        "pretrained tokenizer; the default is the vocabulary that training makes of the training captions",
    )
    parser.add_argument("--json", action="store_true", help="print everything as json: a list, one report per PATH")
    options = parser.parse_args(arguments)
    tokenizer = None if options.tokenizer is None else _tokenizer(options.tokenizer)
    reports = [check_path(path, tokenizer, features=options.features) for path in options.path]
    if options.json:
        print(json.dumps([report.as_dict() for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(str(report) for report in reports))
    return 0 if all(report.ready for report in reports) else 1


def _tokenizer(name: str) -> Tokenizer:
    if name == "characters":
        return CharacterTokenizer()
    path = user_path(name)
    if path.suffix in (".json", ".pkl", ".pickle"):
        return WordTokenizer(path)
    tokenizer = HuggingFaceTokenizer(str(path))
    tokenizer.fit([])  # so that a wrong name is told of now
    return tokenizer
