"""``itmatch convert``: a model folder from the checkpoint file of a public repository."""

from __future__ import annotations

from collections.abc import Sequence

from itmatch.cli.parser import CommandParser
from itmatch.formats.files import user_path

_DESCRIPTION = """Write a model folder (config.json, model.safetensors) from a checkpoint file of the public code of
CHAN, VSE-infinity, SCAN or SGRAF. Nothing that the file contains is run: it may hold tensors, containers and a
Namespace of plain values, and is refused otherwise."""


def convert_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    parser = CommandParser(prog="itmatch convert", description=_DESCRIPTION)
    parser.add_argument("source", metavar="SOURCE", type=user_path, help="the .pth or .pth.tar file")
    parser.add_argument("--format", required=True, help="chan, vse_infty, scan or sgraf")
    parser.add_argument("--out", required=True, metavar="DIR", type=user_path, help="folder to write")
    parser.add_argument(
        "--vocabulary", metavar="FILE", type=user_path, help="json file of the words; the model then takes strings"
    )
    parser.add_argument(
        "--text_model", metavar="NAME", help="name or folder of the BERT it was trained with, for its tokenizer"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    options = parser.parse_args(arguments)
    if (options.out / "config.json").exists() and not options.overwrite:
        raise FileExistsError(f"{options.out}: there is a model already; --overwrite replaces it")
    from itmatch.models.conversion.convert import convert_checkpoint

    found = convert_checkpoint(
        options.source, options.format, vocabulary=options.vocabulary, text_model=options.text_model
    )
    found.model.save_pretrained(options.out)
    print(found, f"written to {options.out}", sep="\n")
    return 0
