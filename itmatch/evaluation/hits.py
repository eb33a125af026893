"""The first places of rankings as files: a line per query as json, and a row per result as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from itmatch.evaluation.evaluator import Evaluator
from itmatch.formats.files import written_beside, written_together

COLUMNS = ("query_kind", "query_id", "query_text", "rank_from_1", "result_id", "result_text", "score", "right")


def hit_files(path: Path) -> list[Path]:
    """The files that :func:`write_hits` writes."""
    return [path.with_name(f"{path.name}.{kind}") for kind in ("jsonl", "csv")]


def write_hits(path: Path, evaluator: Evaluator) -> None:
    """Write what an evaluator found as ``{path}.jsonl`` and ``{path}.csv``; both take their places together.

    An image is named by its id, a caption by its position in the split, counted from 0. The best result has rank 1,
    as the names in both files say. Where it is not known whether a result is right, for a query of
    none of the images, it is null in the one file and empty in the other.

    Raises:
        ValueError: the evaluator was not asked for the best candidates.
        OSError: a file cannot be written.
    """
    lines, rows = hit_files(path)
    with written_together():
        with written_beside(lines) as beside, beside.open("w", encoding="utf-8") as file:
            for query in _queries(evaluator):
                file.write(json.dumps(query, ensure_ascii=False) + "\n")
        with written_beside(rows) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for query in _queries(evaluator):
                columns = (query[name] for name in ("result_ids", "result_texts", "scores", "right"))
                for place, result in enumerate(zip(*columns, strict=True), query["first_rank"]):
                    one, other, score, right = result
                    asked = query["query_kind"], query["query_id"], query["query_text"]
                    table.writerow([*asked, place, one, other, score, None if right is None else int(right)])


def _queries(evaluator: Evaluator) -> Iterator[dict[str, Any]]:
    if evaluator.top is None or evaluator.caption_image is None or evaluator.caption_index is None:
        raise ValueError("no hits to write; the evaluator was not asked for the best candidates (top)")
    images = evaluator.image_ids
    texts: Sequence[str | None] = evaluator.captions or [None] * len(evaluator.caption_image)
    owner, number = evaluator.caption_image.tolist(), evaluator.caption_index.tolist()
    of_images, of_captions = (zip(*(part.tolist() for part in side), strict=True) for side in evaluator.top)
    for image, (found, scores) in enumerate(of_images):
        yield {
            "query_kind": "image",
            "query_id": images[image],
            "query_text": None,
            "first_rank": 1,
            "result_ids": [number[caption] for caption in found],
            "result_texts": [texts[caption] for caption in found],
            "scores": scores,
            "right": [_is_right(owner[caption], image) for caption in found],
        }
    for caption, (found, scores) in enumerate(of_captions):
        yield {
            "query_kind": "caption",
            "query_id": number[caption],
            "query_text": texts[caption],
            "first_rank": 1,
            "result_ids": [images[image] for image in found],
            "result_texts": [None] * len(found),
            "scores": scores,
            "right": [_is_right(owner[caption], image) for image in found],
        }


def _is_right(owner: int, image: int) -> bool | None:
    return None if owner < 0 else owner == image
