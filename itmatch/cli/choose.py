"""``itmatch choose``: right captions against wrong ones that differ in one thing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from itmatch.formats.files import user_path, write_text


def choose(
    model: Path,
    source: Path,
    *,
    choices: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    json_file: Path | None = None,
    trust: list[str] | None = None,
) -> None:
    """Print how often MODEL scores the right captions of an image above wrong ones that differ in one thing.

    Beside each figure stands the same with another image in the place of the own one: what the captions alone give
    away. Layouts of SugarCrepe, SugarCrepe++, VALSE, VSR, Winoground and BiVLC are read, and what itmatch data choices
    writes.

    Args:
        model: a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP of transformers (folder or name).
        source: folder of the features, or of the photos (for CLIP and SigLIP), of the images.
        choices: file of the questions, or a folder of such files; the default is {split}_choices.jsonl in SOURCE.
        split: of the images.
        json_file: write the figures there, too.
        trust: modules of your own that the model may name.
    """
    from itmatch.cli.index import split_of_folder
    from itmatch.cli.running.runs import any_model
    from itmatch.data.choices.layouts import read_choices
    from itmatch.evaluation.choices import choice_table
    from itmatch.models.choosing import measure_choices

    name = "dev" if split == "val" else split
    asked = read_choices(choices or _questions(user_path(source), name))
    found = any_model(model, trust or [])
    figures = measure_choices(found, split_of_folder(user_path(source), split, found), asked)
    print(choice_table(figures))
    if json_file is not None:
        write_text(json_file, json.dumps([asdict(one) for one in figures], indent=1) + "\n")
        print(f"written to {json_file}")


def _questions(folder: Path, split: str) -> Path:
    path = folder / f"{split}_choices.jsonl"
    if folder.is_dir() and not path.exists():
        raise FileNotFoundError(f"{path}: no such file; itmatch data choices {folder} {split} writes it")
    return path
