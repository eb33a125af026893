"""``itmatch search``: the images of an index that fit a text, or the captions or images that fit an image."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from itmatch.cli.running.indexes import opened_index
from itmatch.errors import UsageError
from itmatch.formats.files import user_path, write_text

if TYPE_CHECKING:
    from itmatch.search import Hit, Hits


def search(
    index: Path,
    text: str | None = None,
    *,
    image: Path | None = None,
    like: Path | None = None,
    top: int = 10,
    html: Path | None = None,
    json: bool = False,
    qdrant: str | None = None,
    trust: list[str] | None = None,
) -> None:
    """Print the images of INDEX that fit TEXT best, or the captions or images that fit an image.

    Each is a line: rank, score, id or caption, and the path of a photo.

    Args:
        index: folder of itmatch index.
        text: what to look for.
        image: find captions of this photo, for models that look at photos; for the others of the features of its
            regions, a .npy file (regions, features).
        like: find images that look like this photo, or these features, for models whose similarity has no weights
            (VSE, CLIP, SCAN, CHAN).
        top: how many.
        html: write a page, too, that shows how regions and words meet.
        json: print one JSON object instead of lines.
        qdrant: where the Qdrant of an index that was built with it is, a folder or http://HOST:PORT; without it every
            row of the index is scored.
        trust: modules of your own that the model may name.
    """
    if [text, image, like].count(None) != 2:
        raise UsageError("either TEXT, --image FILE or --like FILE has to be given")
    if like is not None and html is not None:
        raise UsageError("--html: shows how regions and words meet, and with --like there are no words")
    if top < 1:
        raise UsageError(f"--top: {top}, expected 1 or more")
    _check_order(index, text)
    from itmatch.pages.queries import GivenImage, TextQuery
    from itmatch.pages.results import results_page

    given = image or like
    asked = str(given) if text is None else text
    with opened_index(index, qdrant, trust or []) as opened:
        query = TextQuery(opened, asked) if given is None else GivenImage.read(opened, given)
        if image is not None and not len(opened.captions):
            hint = (
                "--like FILE finds similar images, and itmatch index PHOTOS --captions FILE writes an index with some"
            )
            raise ValueError(f"{index}: holds no captions, so no image finds any; {hint}")
        hits = query.similar(top) if like is not None and isinstance(query, GivenImage) else query.search(top)
        print(_json(asked, hits) if json else "\n".join(_line(hit) for hit in hits[0]))
        if hits.unknown[0]:
            chance = "; no word is, so what is found is chance" if TextQuery(opened, asked).is_unknown() else ""
            words = ", ".join(map(repr, hits.unknown[0]))
            print(f"itmatch: note: not in the vocabulary: {words}{chance}", file=sys.stderr)
        if html is not None:
            write_text(html, results_page(asked, query, hits))
            print(f"written to {html}", file=sys.stderr if json else sys.stdout)


def _check_order(index: Path, text: str | None) -> None:
    """Raise where the words of the command line stand in each other's place, or an option before a file is missing."""
    from itmatch.formats.photos import PHOTO_ENDINGS
    from itmatch.search.store.manifest import NAME

    if text is None:
        return
    given = user_path(text)
    if not index.exists() and (given / NAME).is_file():
        told = f"itmatch search {quote(text)} {quote(str(index))}"
        raise UsageError(f"{index}: no such folder; INDEX comes first: {told}")
    if given.suffix.lower() in (*PHOTO_ENDINGS, ".npy") and given.is_file():
        told = f"itmatch search {quote(str(index))} --image {quote(text)}"
        raise UsageError(f"{text}: a file, not a text; {told} finds captions")


def _line(hit: Hit) -> str:
    what = hit.id if hit.text is None else hit.text
    path = _path(hit.picture)
    if path is not None:  # from here, where that is shorter
        path = min(path, os.path.relpath(path), key=len)
    return f"{hit.rank:>3}  {hit.score:8.4f}  {what}" + ("" if path is None else f"  {path}")


def _json(asked: str, hits: Hits) -> str:
    """One object; drawings, which are long, are left out of it."""
    import json

    found: dict[str, Any] = hits.to_dicts()[0]
    for hit in found["hits"]:
        hit["picture"] = _path(hit["picture"])
    return json.dumps({"query": asked, **found}, ensure_ascii=False, allow_nan=False)


def _path(picture: str | None) -> str | None:
    """The path of a photo; None for a drawing."""
    return None if picture is None or picture.startswith("<svg") else picture
