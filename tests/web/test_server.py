"""The web server by itself: what happens when it doesn't start."""

import pytest
from starlette.applications import Starlette

from vitreous.errors import InputError
from vitreous.web import server
from vitreous.web.server import AppServer


def test_a_server_that_ends_at_once_is_an_error(monkeypatch):
    monkeypatch.setattr(AppServer, "_run", lambda self, uvicorn_server: None)
    app_server = AppServer(port=0)
    with pytest.raises(InputError, match=r"^the web server did not start: its thread has ended; try another --port$"):
        app_server.start(Starlette())
    app_server.close()


def test_a_server_that_never_answers_is_an_error(monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 0.0)
    app_server = AppServer(port=0)
    with pytest.raises(InputError, match=r"^the web server did not start: no answer in 0 s"):
        app_server.start(Starlette())
    monkeypatch.undo()
    while app_server._end is None:
        pass
    app_server.close()
