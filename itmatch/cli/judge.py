"""``itmatch judge``: scores beside the ratings of people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from itmatch.formats.files import user_path, write_text


def judge(
    model: Path,
    source: Path,
    *,
    ratings: Path,
    split: Literal["train", "val", "test"] = "test",
    average: bool = False,
    skip_unknown: bool = False,
    samples: int = 200,
    json_file: Path | None = None,
    trust: list[str] | None = None,
) -> None:
    """Print how far the scores of MODEL agree with ratings of people: Kendall's tau-b and tau-c, in percent.

    The numbers behind ± are standard errors, of a bootstrap over images.

    Args:
        model: a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP of transformers (folder or name).
        source: folder of the features, or of the photos (for CLIP and SigLIP), of the images.
        ratings: table of rated pairs, csv, or tsv with tabs; columns image, caption, and rating, or several whose names
            begin so.
        split: of the images.
        average: a pair with several ratings counts once, with their mean; otherwise each rating counts.
        skip_unknown: leave out pairs whose images are not in SOURCE, and say how many; otherwise they are an error.
        samples: of the bootstrap.
        json_file: write the figures there, too.
        trust: modules of your own that the model may name.
    """
    from itmatch.cli.index import split_of_folder
    from itmatch.cli.running.runs import any_model
    from itmatch.data.ratings import read_ratings
    from itmatch.models.judging import judge_pairs
    from itmatch.stopping import say

    pairs = read_ratings(ratings)
    found = any_model(model, trust or [])
    images = split_of_folder(user_path(source), split, found)
    agreement = judge_pairs(found, images, pairs, average=average, skip_unknown=skip_unknown, samples=samples)
    if agreement.skipped:
        say(f"{ratings}: left out {agreement.skipped} of {len(pairs)} pairs, whose images are not in {images.name}")
    print(agreement)
    if json_file is not None:
        write_text(json_file, json.dumps(asdict(agreement), indent=1) + "\n")
        print(f"written to {json_file}")
