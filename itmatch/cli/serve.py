"""``itmatch serve``: the search page."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from itmatch.cli.running.indexes import open_index, opened_index
from itmatch.formats.messages import counted


def serve(
    index: Path, *, host: str = "127.0.0.1", port: int = 8000, qdrant: str | None = None, trust: list[str] | None = None
) -> None:
    """Show a page in the browser that searches INDEX, until Ctrl-C, which is its end and no error.

    Args:
        index: folder of itmatch index.
        host: what to listen at; only this machine can connect to 127.0.0.1.
        port: 0 takes any that is free.
        qdrant: where the Qdrant of an index that was built with it is, a folder or http://HOST:PORT; without it every
            row of the index is scored.
        trust: modules of your own that the model may name.
    """
    from itmatch.pages.server.app import SearchApp
    from itmatch.pages.server.connections import SearchServer
    from itmatch.pages.server.current import CurrentIndex
    from itmatch.stopping import Stopped

    trusted = trust or []
    with opened_index(index, qdrant, trusted) as opened:
        current = CurrentIndex(opened, lambda: open_index(index, qdrant, trusted))
        server = SearchServer(SearchApp(current, str(index)), host, port)
        try:
            if not server.is_local:
                warning = f"--host {host}: whoever can reach this machine can search, and see all pictures of the index"
                print(f"itmatch: warning: {warning}", file=sys.stderr)
            counts = f"{counted(len(opened.images), 'images')}, {counted(len(opened.captions), 'captions')}"
            print(f"{index}: {counts}; open {server.address} (Ctrl-C ends it)", flush=True)
            server.serve_forever()
        except Stopped as stop:
            if stop.status != 128 + signal.SIGINT:
                raise
            print("ended", flush=True)
        finally:
            server.server_close()
