"""What the search page asks for, answered from an index; knows no sockets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar
from urllib.parse import urlsplit

from itmatch._version import __version__
from itmatch.pages.queries import GivenImage, Query, StoredImage, TextQuery, effects_stored, is_array
from itmatch.pages.relations import reads_relations
from itmatch.pages.server.answers import Answer, Refused, json_answer
from itmatch.pages.server.current import CurrentIndex
from itmatch.pages.server.pictures import check_pixels, picture_answer
from itmatch.pages.server.requests import LONGEST_QUERY, Call, Request, Takes
from itmatch.search import Hit, Index

MOST_HITS = 100
LARGEST_UPLOAD = 20 * 2**20  # bytes
SENT = "blob:sent"  # the address of a picture that was sent: the page has it
_EXAMPLES = 3
_KINDS = {
    f".{ending}": f"{kind}; charset=utf-8"
    for ending, kind in (
        ("html", "text/html"),
        ("css", "text/css"),
        ("js", "text/javascript"),
        ("svg", "image/svg+xml"),
    )
}

T = TypeVar("T")


class SearchApp:
    """Answers of the search page. The model works on one request at a time; the others wait for it.

    Args:
        current: what is searched.
        name: of the index, to show.
    """

    def __init__(self, current: CurrentIndex, name: str = "") -> None:
        self.current, self.name = current, name
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model")  # one thread: torch keeps workers for each

    def close(self) -> None:
        """Let go of searches that wait; the one that the model works on comes to its end."""
        self._model.shutdown(wait=True, cancel_futures=True)

    def answer(self, request: Request) -> Answer:
        """The answer to a request.

        Raises:
            Refused: there is none.
        """
        try:
            parts = urlsplit(request.target)
            route, takes = self._route(request.method, parts.path)
            options = takes.options(parts.query)
        except ValueError as error:
            raise Refused(400, "an address that cannot be read") from error
        call = Call(parts.path.rpartition("/")[2], options, request.body, self.current.get())
        return route(self, call)

    def _route(self, asked: str, path: str) -> tuple[_Route, Takes]:
        """What answers a method and a path."""
        methods = next((found for pattern, found in _ROUTES.items() if re.fullmatch(pattern, path, re.ASCII)), None)
        if methods is None:
            raise Refused(404, "there is no such page")
        method = "GET" if asked == "HEAD" else asked
        if method not in methods:
            raise Refused(405, f"{asked} is not for this page", {"Allow": ", ".join(["HEAD", *sorted(methods)])})
        return methods[method]

    def _asset(self, call: Call) -> Answer:
        try:
            return _assets()[call.last or "search.html"]
        except KeyError:
            raise Refused(404, "there is no such page") from None

    def _about(self, call: Call) -> Answer:
        index = call.index
        some = set((index.captions.texts or [])[:: max(1, len(index.captions) // 100)])
        return json_answer(
            {
                "name": self.name,
                "version": __version__,
                "images": len(index.images),
                "captions": len(index.captions),
                "examples": sorted(some, key=lambda text: (len(text), text))[:_EXAMPLES],
                "takes_photos": index.model.takes_photos,
                "reads_relations": reads_relations(index.model),
                "features": getattr(index.model.image_encoder, "in_features", None),
                "longest_query": LONGEST_QUERY,
                "largest_upload": LARGEST_UPLOAD,
                "most_hits": MOST_HITS,
            }
        )

    def _search(self, call: Call) -> Answer:
        top = call.whole("top", 10, least=1, most=MOST_HITS)
        if "image" not in call.options:
            query = TextQuery(call.index, call.query())
            return self._found(call.index, query, top, {"chance": query.is_unknown()})
        row = call.row(call.options["image"])
        _check_captions(call.index)
        picture = {"picture": _address(call.index, row)}
        return self._found(call.index, StoredImage(call.index, row), top, picture)

    def _search_sent(self, call: Call) -> Answer:
        top = call.whole("top", 10, least=1, most=MOST_HITS)
        _check_captions(call.index)
        with NamedTemporaryFile(prefix="itmatch-") as file:
            file.write(call.body())
            file.flush()
            try:
                return self._work(lambda: self._sent(call.index, Path(file.name), top))
            except Refused as refused:
                message = refused.message.replace(file.name, "the file")
                raise Refused(refused.status, message, refused.headers) from refused

    def _sent(self, index: Index, path: Path, top: int) -> Answer:
        """Captions of a photo or of features, with the explanations: what was sent is gone afterwards."""
        if index.model.takes_photos and not is_array(path):
            check_pixels(path)
        query = GivenImage.read(index, path)
        hits = query.search(top)
        told = [
            {**_hit(index, hit, row), "html": query.explain(row).fragment(source=SENT)}
            for hit, row in zip(hits[0], hits.rows[0].tolist(), strict=False)
        ]
        return json_answer({"kind": hits.kind, "exact": hits.exact[0], "hits": told})

    def _found(self, index: Index, query: Query, top: int, more: Mapping[str, Any] | None = None) -> Answer:
        hits = self._work(lambda: query.search(top))
        told = [_hit(index, hit, row) for hit, row in zip(hits[0], hits.rows[0].tolist(), strict=False)]
        found = {"kind": hits.kind, "exact": hits.exact[0], "unknown": hits.unknown[0], "hits": told}
        return json_answer({**found, **(more or {})})

    def _picture(self, call: Call) -> Answer:
        row, pictures = call.row(call.last), call.index.images.pictures
        picture = None if pictures is None else pictures[row]
        if picture is None:
            raise Refused(404, "the index knows no picture of this image")
        return picture_answer(picture)

    def _explain(self, call: Call) -> Answer:
        query, row = TextQuery(call.index, call.query()), call.row(call.options["image"])
        explanation = self._work(lambda: query.explain(row))
        address = _address(call.index, row)
        return json_answer({"words": explanation.words, "html": explanation.fragment(source=address or "")})

    def _relations(self, call: Call) -> Answer:
        text, row = call.query(), call.row(call.options["image"])
        found = self._work(lambda: effects_stored(call.index, row, text))
        effects = [{"relation": found.called(one), "adds": effect} for one, effect in found.effects]
        told = {"score": found.score, "without_any": found.without_any, "effects": effects}
        return json_answer({**told, "html": found.fragment()})

    def _work(self, function: Callable[[], T]) -> T:
        """Let the model work, when it is free; what it does not take is the fault of the request."""
        try:
            future = self._model.submit(function)
        except RuntimeError:  # it takes no more
            raise Refused(503, "the server is ending") from None
        try:
            return future.result()
        except (ValueError, ImportError, FileNotFoundError) as error:  # the last: of an extractor's model
            raise Refused(400, " ".join(str(error).split())) from error
        except CancelledError:
            raise Refused(503, "the server is ending") from None


def _hit(index: Index, hit: Hit, row: int) -> dict[str, Any]:
    """What is told of a result; its number is that of :meth:`Call.row <itmatch.pages.server.requests.Call.row>`."""
    number = int((index.images if hit.text is None else index.captions).serials[row])
    picture = None if hit.picture is None else _address(index, row)
    return {"rank": hit.rank, "id": hit.id, "score": hit.score, "number": number, "text": hit.text, "picture": picture}


def _address(index: Index, row: int) -> str | None:
    """Where the picture of an image is, if there is one."""
    pictures = index.images.pictures
    return None if pictures is None or pictures[row] is None else f"/picture/{index.images.serials[row]}"


def _check_captions(index: Index) -> None:
    if not len(index.captions):
        raise Refused(404, "this index holds no captions")


@cache
def _assets() -> dict[str, Answer]:
    """The files of the page, by name: its own, and those that reports have as well."""
    here = files("itmatch.pages")
    folders = here.joinpath("assets"), here.joinpath("server", "assets")
    found = [file for folder in folders for file in folder.iterdir()]
    kinds = {file.name: _KINDS.get(PurePath(file.name).suffix) for file in found}
    return {file.name: Answer(file.read_bytes(), kind) for file in found if (kind := kinds[file.name]) is not None}


_Route = Callable[[SearchApp, Call], Answer]
_ROUTES: dict[str, dict[str, tuple[_Route, Takes]]] = {
    "/": {"GET": (SearchApp._asset, Takes(may=("q", "top")))},  # which its script reads
    "/assets/[a-z.]+": {"GET": (SearchApp._asset, Takes())},
    "/about": {"GET": (SearchApp._about, Takes())},
    "/search": {
        "GET": (SearchApp._search, Takes(one_of=("q", "image"), may=("top",))),
        "POST": (SearchApp._search_sent, Takes(may=("top",))),
    },
    "/picture/[0-9]+": {"GET": (SearchApp._picture, Takes())},
    "/explain": {"GET": (SearchApp._explain, Takes(needs=("q", "image")))},
    "/relations": {"GET": (SearchApp._relations, Takes(needs=("q", "image")))},
}
