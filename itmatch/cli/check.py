"""``itmatch data check``: says what folders and files of data hold, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence

from itmatch.cli.parser import CommandParser
from itmatch.data.sources.check import check_path
from itmatch.data.tokenizers.huggingface import HuggingFaceTokenizer
from itmatch.data.tokenizers.words import Tokenizer, WordTokenizer
from itmatch.formats.files import user_path

_DESCRIPTION = "Say what PATH holds, what is missing, and what is wrong."


def check_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status: 1 if something is wrong."""
    parser = CommandParser(prog="itmatch data check", description=_DESCRIPTION)
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="+",
        help="a folder of precomputed features, a Karpathy json, a vocabulary json, a .npy file, or word vectors",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="tell of the tokens that this one does not know: a vocabulary json, or the name or folder of a pretrained "
        "tokenizer; the default is the vocabulary that training makes of the training captions",
    )
    options = parser.parse_args(arguments)
    tokenizer = None if options.tokenizer is None else _tokenizer(options.tokenizer)
    reports = [check_path(path, tokenizer) for path in options.path]
    print("\n\n".join(str(report) for report in reports))
    return 0 if all(report.ok for report in reports) else 1


def _tokenizer(name: str) -> Tokenizer:
    path = user_path(name)
    tokenizer = WordTokenizer(path) if path.suffix == ".json" else HuggingFaceTokenizer(str(path))
    tokenizer.fit([])
    return tokenizer
