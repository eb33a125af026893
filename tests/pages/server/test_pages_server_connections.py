"""The HTTP of the search page: who may ask, how much, how slowly, and how many at a time."""

import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from helpers_server import get, npy, scene_index, serving

from itmatch.pages.server.app import SearchApp
from itmatch.pages.server.connections import SearchServer
from itmatch.pages.server.current import CurrentIndex


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return scene_index(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def server(index):
    with serving(index, waiting=1.0) as server:
        yield server


def talk(server, request, *, wait=5.0):
    """What comes back for some bytes, until the server closes."""
    with socket.create_connection(server.server_address[:2], timeout=wait) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:1234", "127.0.0.1:80", "[::1]:8000", "127.9.9.9"]
)
def test_names_of_this_machine_are_answered(server, host):
    assert get(server, "/about", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8000", "8.8.8.8", "", "[::1",
     "a b", "localhost@evil.example", "evil.example#localhost", "127.0.0.1, evil.example"],
)  # fmt: skip
def test_other_names_are_not(server, host):
    for target in ("/", "/about", "/picture/0"):
        status, _, content = get(server, target, headers={"Host": host})
        assert status == 421
        assert "localhost" in content["error"]


def test_a_request_names_one_host(server):
    assert b"421" in talk(server, b"GET /about HTTP/1.1\r\n\r\n").splitlines()[0]
    twice = b"GET /about HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert b"421" in talk(server, twice).splitlines()[0]


def test_a_server_for_others_answers_to_numbers_and_its_name(index):
    with serving(index, host="0.0.0.0") as server:
        assert not server.is_local
        for host, status in (("192.168.1.7:8000", 200), ("[fe80::1]", 200), ("localhost", 200), ("evil.example", 421)):
            assert get(server, "/about", headers={"Host": host})[0] == status, host


def test_other_sites_send_nothing(server):
    body, own = npy(np.ones((3, 64))), f"127.0.0.1:{server.server_address[1]}"
    for headers, expected in (
        ({}, 200),
        ({"Origin": f"http://{own}"}, 200),
        ({"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": f"https://{own}"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": f"http://{own}.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ):
        assert get(server, "/search", "POST", body, headers)[0] == expected, headers


def test_other_sites_ask_nothing(server):
    for headers, expected in (
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),  # typed, or a bookmark
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),  # an image, a script
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),  # another port of this machine
    ):
        assert get(server, "/search?q=a+dog", headers=headers)[0] == expected, headers
        assert get(server, "/picture/0", headers=headers)[0] == expected, headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(server, method):
    status, headers, content = get(server, "/search?q=a", method)
    assert (status, headers["Allow"]) == (405, "HEAD, GET, POST")
    assert content["error"] == f"{method} is not for this page"
    assert get(server, "/about", "POST", b"")[0] == 405


def test_head_has_no_content(server):
    status, headers, content = get(server, "/about", "HEAD")
    assert (status, content) == (200, b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"501"),
        (b"<script>alert(1)</script> / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"501"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \x00\r\n\r\n", b"400"),  # TLS
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"505"),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 200 + b"\r\n", b"431"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\n\r\n", b"411"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"411"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0x10\r\n\r\n", b"411"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"411"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
    ],
    ids=lambda value: value[:12].decode("latin-1").strip() if len(value) > 3 else value.decode(),
)
def test_what_is_no_good_http_gets_one_line(server, request_, status):
    head, _, body = talk(server, request_).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert b"application/json" in head
    assert b"nosniff" in head
    assert len(json.loads(body)["error"]) < 200


def test_a_client_that_stops_sending_is_left(server):
    for request in (
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
    ):
        began = time.monotonic()
        assert b"200" not in talk(server, request)[:20]
        assert time.monotonic() - began < 4


def test_a_byte_now_and_then_does_not_keep_a_connection(server):
    began = time.monotonic()
    with socket.create_connection(server.server_address[:2]) as connection, suppress(ConnectionError):
        while time.monotonic() - began < 10:
            connection.sendall(b"G")
            time.sleep(0.05)
    assert time.monotonic() - began < 4


def test_slow_clients_do_not_stop_others(server):
    slow = [socket.create_connection(server.server_address[:2]) for _ in range(100)]
    try:
        began = time.monotonic()
        assert get(server, "/search?q=a+dog")[0] == 200
        assert time.monotonic() - began < 0.9  # not after the slow ones were left
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_does_not_read_is_left(index):
    with serving(index, waiting=0.3) as server:
        asked = [socket.create_connection(server.server_address[:2]) for _ in range(3)]
        for connection in asked:
            connection.sendall(b"GET /assets/search.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.1)
        for connection in asked:
            connection.close()  # with the answer in it
        assert get(server, "/about")[0] == 200


def test_a_thousand_requests_beside_each_other(server, index):
    words = ["red dog", "blue cat", "green frog", "pink duck"]
    expected = {word: [hit.id for hit in index.search([f"a {word}"], top=5)[0]] for word in words}

    def ask(number):
        word = words[number % len(words)]
        status, _, content = get(server, f"/search?q=a+{word.replace(' ', '+')}&top=5")
        return status == 200 and [hit["id"] for hit in content["hits"]] == expected[word]

    with ThreadPoolExecutor(200) as pool:
        assert all(pool.map(ask, range(1000)))


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_ten_thousand_requests_leave_the_memory_flat(server):
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc, which tells the memory of a process")
    targets = [
        "/search?q=a+red+dog",
        "/picture/{}",
        "/explain?q=a+red+dog&image=3",
        "/",
        "/picture/999",
        "/search?image=2",
    ]

    def ask(number):
        assert get(server, targets[number % len(targets)].format(number % 20))[0] == (404 if number % 6 == 4 else 200)

    for number in range(1000):
        ask(number)
    before, threads = resident(), threading.active_count()
    for number in range(10_000):
        ask(number)
    assert resident() - before < 4 * 2**20  # 0.3 as it is; 20 where every answer is kept
    assert threading.active_count() <= threads + 1


def test_the_server_ends_while_somebody_waits(index):
    app = SearchApp(CurrentIndex(index))
    began = threading.Event()
    with serving(app=app) as server:
        app._model.submit(lambda: (began.set(), time.sleep(0.5)))
        assert began.wait(5)
        asked = ThreadPoolExecutor(1).submit(get, server, "/search?q=a")
        time.sleep(0.1)
    assert asked.result(timeout=5)[0] == 503


def test_a_place_that_is_taken_is_told_of(server, index):
    port = server.server_address[1]
    with pytest.raises(OSError, match=rf"127.0.0.1 port {port}: cannot be listened at \(Address already in use\)"):
        SearchServer(SearchApp(CurrentIndex(index)), port=port)
    with pytest.raises(OSError, match="port 99999: cannot be listened at"):
        SearchServer(SearchApp(CurrentIndex(index)), port=99999)
    with pytest.raises(OSError, match=r"no\.such\.host\.invalid port 0: cannot be listened at"):
        SearchServer(SearchApp(CurrentIndex(index)), "no.such.host.invalid", 0)


def test_a_mistake_in_the_program_is_told_on_its_terminal_only(index, capfd, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a secret")

    monkeypatch.setattr(type(index), "search", broken)
    with serving(index) as server:
        status, _, content = get(server, "/search?q=a")
        assert (status, content["error"]) == (500, "an error in the server; its terminal says more")
        assert get(server, "/about")[0] == 200
    assert "a secret" in capfd.readouterr().err
