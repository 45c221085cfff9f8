"""Serve the web app: models, images and cameras for the browsers that ask, until Ctrl-C."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event
from urllib.parse import urlencode

from vitreous.callbacks import Callback
from vitreous.clips.options import VideoPrecision
from vitreous.model.classifier import ImageClassifier
from vitreous.video.camera import LiveSource
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.explorer.routes import create_explorer_app
from vitreous.web.server import AppServer
from vitreous.web.sessions import Limits
from vitreous.web.training.watched_run import WatchedRun

STOP_SECONDS = 0.2


class ExplorerServer:
    """An explorer at an address: `start`, then `close`; as a context manager it does both.

    Args:
        explorer: what it serves.
        server: the address, by default 127.0.0.1:8765.
        view: what the page shows first, as in its links.
    """

    def __init__(self, explorer: Explorer, server: AppServer | None = None, view: Mapping[str, object] = {}) -> None:
        self.explorer, self.server, self.view = explorer, server or AppServer(), view
        self.token = None if self.server.is_local else secrets.token_urlsafe(18)

    @property
    def url(self) -> str:
        """The address to open, with the token if there is one, and with the view that the page begins with."""
        token = "" if self.token is None else f"?token={self.token}"
        return f"{self.server.url}{token}{'#' + urlencode(self.view) if self.view else ''}"

    def start(self) -> None:
        """Start to answer."""
        self.explorer.queue.start()
        if self.explorer.live is not None:
            self.explorer.live.start()
        self.server.start(create_explorer_app(self.explorer, served_host=self.server.host, token=self.token))

    def close(self) -> None:
        """End the server, its connections, its camera and the computation that runs."""
        if self.explorer.live is not None:
            self.explorer.live.close()
        self.server.close()
        self.explorer.queue.close()

    def __enter__(self) -> "ExplorerServer":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def serve(
    models: Mapping[str, ImageClassifier],
    data: str | None = None,
    *,
    runs: Sequence[WatchedRun] = (),
    count: int = 1000,
    limits: Limits | None = None,
    live: LiveSource | None = None,
    precision: VideoPrecision = "fp32",
    view: Mapping[str, object] = {},
    server: AppServer | None = None,
    callback: Callback | None = None,
) -> None:
    """Serve the explorer until Ctrl-C, or until the callback asks to stop.

    Args:
        models: loaded models by the names that the page shows.
        data: a source whose test images are offered, such as "cifar10"; none by default.
        runs: that the page shows while they train.
        count: of those images, spread evenly.
        limits: what is served at most.
        live: a camera or video of this machine that pages show; it is closed at the end.
        precision: of the models, as in `SpeedOptions`.
        view: what the page shows first, as in its links.
        server: the address, by default 127.0.0.1:8765; it is closed at the end.
        callback: `on_note` receives the address once it answers.

    Raises:
        InputError: the source doesn't exist or can't be read, or a port is in use.
    """
    callback = callback or Callback()
    server = server or AppServer()
    try:
        gallery = None if data is None else ImageGallery(data, count, callback.on_note)
        running = ExplorerServer(Explorer(models, gallery, limits, runs, live, precision), server, view)
    except BaseException:
        server.close()
        if live is not None:
            live.close()
        raise
    with running, suppress(KeyboardInterrupt):
        callback.on_note(f"open {running.url} (Ctrl-C ends)")
        if not server.is_local:
            callback.on_note(
                "whoever has this address, with its token, can use the models and see the data set and the camera"
            )
        while not callback.should_stop():
            Event().wait(STOP_SECONDS)
