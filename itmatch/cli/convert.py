"""``itmatch convert``: a model folder from the checkpoint file of a public repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from itmatch.errors import UsageError


def convert(
    source: Path,
    *,
    format: str,
    out: Path,
    vocabulary: Path | None = None,
    text_model: str | None = None,
    options: list[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder from a checkpoint file of the public code of CHAN, VSE++, VSE-infinity, SCAN or SGRAF.

    Nothing that the file contains is run: it may hold tensors, containers, plain values and a Namespace of them, and
    is refused otherwise.

    Args:
        source: the .pth or .pth.tar file.
        format: chan, vse_pp, vse_infty, scan or sgraf.
        out: folder to write: config.json and model.safetensors.
        vocabulary: file of the words, json or pickled; the model then takes strings.
        text_model: name or folder of the BERT it was trained with, for its tokenizer.
        options: settings as NAME=VALUE, by the names of the public code, where the file has none.
        overwrite: replace a model that is there.
    """
    if (out / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{out}: there is a model already; --overwrite replaces it")
    from itmatch.models.conversion.convert import convert_checkpoint

    found = convert_checkpoint(
        source, format, vocabulary=vocabulary, text_model=text_model, options=_settings(options or [])
    )
    found.model.save_pretrained(out)
    print(found, f"written to {out}", sep="\n")


def _settings(options: list[str]) -> dict[str, Any]:
    """Settings by name; a value that is json (a number, true) is taken as such, any other as a text."""
    settings = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise UsageError(f"--options: {option!r}, expected NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings
