"""A hub on this machine: what the tests of models and of data sets share."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest

COMMIT = "0123456789012345678901234567890123456789"


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does. A subclass looks the path up in `respond` and ends with `reply`."""

    def do_GET(self):
        self.respond(body=True)

    def do_HEAD(self):
        self.respond(body=False)

    def respond(self, *, body: bool) -> None:
        raise NotImplementedError

    def reply(self, problem: str, content: bytes, etag: str, *, body: bool) -> None:
        """Send the content, or a problem such as "404 EntryNotFound"."""
        code, _, word = problem.partition(" ")
        self.send_response(int(code or 200))
        self.send_header("X-Repo-Commit", COMMIT)
        if problem:
            self.send_header("X-Error-Code", word)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(0 if problem else len(content)))
        self.end_headers()
        if body and not problem:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def serve_hub(
    handler: type[HubHandler], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[http.server.ThreadingHTTPServer]:
    """Run the hub in a thread, with `requests` (a list), `refuse` (a problem) and `files`; the client uses `cache`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests, server.refuse, server.files = [], "", {}
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        constants, address = huggingface_hub.constants, f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield server
        server.shutdown()
        thread.join()
