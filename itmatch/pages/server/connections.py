"""HTTP for the search page: bounded connections, sizes and waiting times; only for the people whom it is meant for."""

from __future__ import annotations

import io
import ipaddress
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

from itmatch.pages.server.answers import Answer, Refused
from itmatch.pages.server.app import LARGEST_UPLOAD, SearchApp
from itmatch.pages.server.requests import Request

MOST_CONNECTIONS = 128  # that are worked on at a time; more of them wait
_UPLOADS = 4  # that are in memory at a time
_LEAVING = 5.0  # seconds for answers that are on their way when the server ends


class SearchServer(ThreadingMixIn, TCPServer):
    """Answers HTTP requests with a :class:`SearchApp`; a thread per connection, and a request per connection.

    A request is refused if it names another host than this one (a page of another site whose name was made to lead
    here), or, where it sends something, if it comes from a page of another site.

    Args:
        app: makes the answers.
        host: name or number to listen at.
        port: 0 = any that is free; ``server_address[1]`` is the one that was taken.
        waiting: seconds that a client has for the head of a request, and again for what it sends, and for reading.

    Raises:
        OSError: the place cannot be listened at; says why.
    """

    daemon_threads, block_on_close, allow_reuse_address = True, False, True
    request_queue_size = 1024

    def __init__(self, app: SearchApp, host: str = "127.0.0.1", port: int = 8000, *, waiting: float = 20.0) -> None:
        self.app, self.host, self.waiting = app, host, waiting
        self.uploads = threading.Semaphore(_UPLOADS)
        self._free = threading.Semaphore(MOST_CONNECTIONS)
        self._open: dict[threading.Thread, socket.socket] = {}
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OSError(f"{host} port {port}: cannot be listened at ({reason_of(error)})") from error

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.server_address[1]}/"

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can connect."""
        return _is_loopback(str(self.server_address[0]))

    def admits(self, host: str) -> bool:
        """Whether a Host header names this machine: by a number, as localhost, or as the host that was given.

        A name of anybody's own can be made to lead here; a number cannot.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.host.lower()):
            return True
        return _is_loopback(name) or (not self.is_local and _is_number(name))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread, as soon as there are few enough of them."""
        self._free.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """What the thread does."""
        thread = threading.current_thread()
        self._open[thread] = request
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._open[thread]
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what was wrong with this program; clients that have gone are nothing to tell of."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()

    def server_close(self) -> None:
        """Stop listening, and let go of searches that wait, of the connections and of their threads."""
        super().server_close()
        self.app.close()
        threads = dict(self._open)
        for connection in threads.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)  # who still sends is not waited for
        for thread in threads:
            thread.join(_LEAVING / len(threads))


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: SearchServer

    def setup(self) -> None:
        super().setup()
        self.deadline = _Deadline(self.connection, self.server.waiting)
        self.rfile = io.BufferedReader(self.deadline)

    def answer_request(self) -> None:
        """Any request of a method that is known."""
        try:
            answer = self.server.app.answer(self._checked())
        except Refused as refused:
            answer = refused.answer()
        except Exception:
            traceback.print_exc()
            answer = Refused(500, "an error in the server; its terminal says more").answer()
        self._send(answer)

    do_GET = do_HEAD = do_POST = answer_request
    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = answer_request

    def _checked(self) -> Request:
        """The request, if it is meant for this server."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not self.server.admits(hosts[0]):
            raise Refused(421, "this server answers to the name that it was started with, to localhost and to numbers")
        origin = self.headers.get("Origin")
        foreign = self.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
        if self.command == "POST":
            foreign = foreign or (origin is not None and origin.lower() != f"http://{hosts[0].lower()}")
        elif self.headers.get("Sec-Fetch-Mode") == "navigate":  # somebody has followed a link
            foreign = False
        if foreign:
            raise Refused(403, "only the page of this server may ask it for something")
        return Request(self.command, self.path, self._body)

    def _body(self) -> bytes:
        """What the client sends."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise Refused(411, "the length of what is sent must be told in Content-Length")
        if len(length) > 12 or int(length) > LARGEST_UPLOAD:
            raise Refused(413, f"larger than {LARGEST_UPLOAD // 2**20} MiB")
        with self.server.uploads:
            self.deadline.start(self.server.waiting)
            body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refused(400, f"{len(body)} bytes came of {length}")
        return body

    def _send(self, answer: Answer) -> None:
        self.connection.settimeout(self.server.waiting)  # for all of it
        self.send_response(answer.status)
        for name, value in answer.all_headers().items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = True
        if answer.status >= 400:
            self._read_on()

    def _read_on(self) -> None:
        """Take what the client still sends, for a moment: otherwise it would not see why it was refused."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.deadline.start(min(2.0, self.server.waiting))
            left = 4 * LARGEST_UPLOAD
            while left > 0 and (found := self.rfile.read1(2**16)):
                left -= len(found)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no HTTP, or of an unknown method."""
        self.command = getattr(self, "command", None) or "GET"
        self.request_version = "HTTP/1.1"
        self._send(Refused(code, message or "no request that is understood").answer())

    def version_string(self) -> str:
        """The name of the server; which Python it is concerns nobody."""
        return "itmatch"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: whoever looks for something wants no log of it."""


class _Deadline(io.RawIOBase):
    """What a socket receives until a point in time: a byte now and then does not keep a connection."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self.start(seconds)

    def start(self, seconds: float) -> None:
        """So long from now."""
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client was too slow")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def reason_of(error: BaseException) -> str:
    """Why a place cannot be listened at."""
    return getattr(error, "strerror", None) or str(error)


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_number(name) and ipaddress.ip_address(name).is_loopback
