"""What the search page asks for, answered from an index; knows no sockets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePath
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from itmatch._version import __version__
from itmatch.formats.messages import shown
from itmatch.pages.queries import GivenImage, Query, StoredImage, TextQuery, is_array
from itmatch.pages.server.answers import Answer, Refused, json_answer
from itmatch.pages.server.pictures import check_pixels, picture_answer
from itmatch.search import Hit, Index

LONGEST_QUERY = 500  # characters
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


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        method: of HTTP.
        target: path and options, as they came.
        body: reads what the client sends, which is bounded.
    """

    method: str
    target: str
    body: Callable[[], bytes] = bytes


class SearchApp:
    """Answers of the search page. The model works on one request at a time; the others wait for it.

    Args:
        index: what is searched.
        name: of the index, to show.
    """

    def __init__(self, index: Index, name: str = "") -> None:
        self.index, self.name = index, name
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
            options = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=10).items()}
        except ValueError as error:
            raise Refused(400, "an address that cannot be read") from error
        route = next((route for pattern, route in _ROUTES.items() if re.fullmatch(pattern, parts.path, re.ASCII)), None)
        if route is None:
            raise Refused(404, "there is no such page")
        method = "GET" if request.method == "HEAD" else request.method
        if method not in route:
            raise Refused(405, f"{request.method} is not for this page", {"Allow": ", ".join(["HEAD", *sorted(route)])})
        return route[method](self, _Call(parts.path.rpartition("/")[2], options, request.body))

    def _asset(self, call: _Call) -> Answer:
        try:
            return _assets()[call.last or "search.html"]
        except KeyError:
            raise Refused(404, "there is no such page") from None

    def _about(self, call: _Call) -> Answer:
        index = self.index
        some = set((index.captions.texts or [])[:: max(1, len(index.captions) // 100)])
        return json_answer(
            {
                "name": self.name,
                "version": __version__,
                "images": len(index.images),
                "captions": len(index.captions),
                "examples": sorted(some, key=lambda text: (len(text), text))[:_EXAMPLES],
                "takes_photos": index.model.takes_photos,
                "features": getattr(index.model.image_encoder, "in_features", None),
                "longest_query": LONGEST_QUERY,
                "largest_upload": LARGEST_UPLOAD,
                "most_hits": MOST_HITS,
            }
        )

    def _search(self, call: _Call) -> Answer:
        top = call.whole("top", 10, least=1, most=MOST_HITS)
        if "row" not in call.options:
            return self._found(TextQuery(self.index, call.query()), top)
        row = self._row(call.options["row"])
        self._check_captions()
        return self._found(StoredImage(self.index, row), top, {"picture": self._address(row)})

    def _search_sent(self, call: _Call) -> Answer:
        top = call.whole("top", 10, least=1, most=MOST_HITS)
        self._check_captions()
        with NamedTemporaryFile(prefix="itmatch-") as file:
            file.write(call.body())
            file.flush()
            try:
                return self._work(lambda: self._sent(Path(file.name), top))
            except Refused as refused:
                message = refused.message.replace(file.name, "the file")
                raise Refused(refused.status, message, refused.headers) from refused

    def _sent(self, path: Path, top: int) -> Answer:
        """Captions of a photo or of features, with the explanations: what was sent is gone afterwards."""
        if self.index.model.takes_photos and not is_array(path):
            check_pixels(path)
        query = GivenImage.read(self.index, path)
        hits = query.search(top)
        told = [
            {**self._hit(hit, row), "html": query.explain(row).fragment(source=SENT)}
            for hit, row in zip(hits[0], hits.rows[0].tolist(), strict=True)
        ]
        return json_answer({"kind": hits.kind, "exact": hits.exact[0], "hits": told})

    def _found(self, query: Query, top: int, more: Mapping[str, Any] | None = None) -> Answer:
        hits = self._work(lambda: query.search(top))
        told = [self._hit(hit, row) for hit, row in zip(hits[0], hits.rows[0].tolist(), strict=True)]
        return json_answer({"kind": hits.kind, "exact": hits.exact[0], "hits": told, **(more or {})})

    def _hit(self, hit: Hit, row: int) -> dict[str, Any]:
        picture = None if hit.picture is None else self._address(row)
        return {"rank": hit.rank, "id": hit.id, "score": hit.score, "row": row, "text": hit.text, "picture": picture}

    def _picture(self, call: _Call) -> Answer:
        row, pictures = self._row(call.last), self.index.images.pictures
        picture = None if pictures is None else pictures[row]
        if picture is None:
            raise Refused(404, "the index knows no picture of this image")
        return picture_answer(picture)

    def _explain(self, call: _Call) -> Answer:
        query, row = TextQuery(self.index, call.query()), self._row(call.options.get("row", ""))
        explanation = self._work(lambda: query.explain(row))
        address = self._address(row)
        return json_answer({"words": explanation.words, "html": explanation.fragment(source=address or "")})

    def _address(self, row: int) -> str | None:
        """Where the picture of an image is, if there is one."""
        pictures = self.index.images.pictures
        return None if pictures is None or pictures[row] is None else f"/picture/{row}"

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

    def _row(self, text: str) -> int:
        known = len(self.index.images)
        if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < known):
            raise Refused(404, f"no image {shown(text)}, expected a number below {known}")
        return int(text)

    def _check_captions(self) -> None:
        if not len(self.index.captions):
            raise Refused(404, "this index holds no captions")


@dataclass(frozen=True)
class _Call:
    """What a route is told: the last part of the path, the options, and what is sent."""

    last: str
    options: Mapping[str, str]
    body: Callable[[], bytes]

    def query(self) -> str:
        """The text to look for."""
        text = " ".join(self.options.get("q", "").split())
        if not text:
            raise Refused(400, "q: nothing to look for")
        if len(text) > LONGEST_QUERY:
            raise Refused(400, f"q: {len(text)} characters, expected {LONGEST_QUERY} at most")
        return text

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number."""
        text = self.options.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
            raise Refused(400, f"{name}: {shown(text)}, expected a whole number from {least} to {most}")
        return int(text)


@cache
def _assets() -> dict[str, Answer]:
    """The files of the page, by name: its own, and those that reports have as well."""
    here = files("itmatch.pages")
    folders = here.joinpath("assets"), here.joinpath("server", "assets")
    found = [file for folder in folders for file in folder.iterdir()]
    kinds = {file.name: _KINDS.get(PurePath(file.name).suffix) for file in found}
    return {file.name: Answer(file.read_bytes(), kind) for file in found if (kind := kinds[file.name]) is not None}


_Route = Callable[[SearchApp, _Call], Answer]
_ROUTES: dict[str, dict[str, _Route]] = {
    "/|/assets/[a-z.]+": {"GET": SearchApp._asset},
    "/about": {"GET": SearchApp._about},
    "/search": {"GET": SearchApp._search, "POST": SearchApp._search_sent},
    "/picture/[0-9]+": {"GET": SearchApp._picture},
    "/explain": {"GET": SearchApp._explain},
}
