"""The web app: pages from files beside this module, and what they show as streams and JSON.

A page is a file in `pages/` with a route here; scripts and styles are served under /static. There is no build step and
nothing is loaded from elsewhere. To add a page, add its files and a route in `create_app`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from vitreous.web.guard import Guard
from vitreous.web.latest_value import LatestValue
from vitreous.web.stats import LiveState

PAGES = Path(__file__).with_name("pages")
MAX_VIEWERS = 8
STALLED_SECONDS = 10.0
"""A viewer that takes no data for this long is disconnected."""
BOUNDARY = b"--frame\r\n"
ABORT = "vitreous.abort"
"""ASGI extension of our server: a function that closes the connection at once."""


@dataclass(frozen=True)
class LiveImage:
    """An image as JPEG, and when its frame was taken, on the clock `time.monotonic`."""

    jpeg: bytes
    captured_seconds: float


@dataclass
class LiveFeed:
    """What the live view shows.

    Attributes:
        model: the model's name.
        source: the name of the camera or video.
        has_classes: whether the model predicts classes.
        images: the newest image.
        state: returns the current numbers.
        on_sent: receives the number of an image and when its frame was taken, once a viewer has been sent it.
        viewers: browsers that show the stream; the app counts them.
    """

    model: str
    source: str
    has_classes: bool
    images: LatestValue[LiveImage]
    state: Callable[[], LiveState]
    on_sent: Callable[[int, float], object]
    viewers: int = 0


def create_app(live: LiveFeed, *, served_host: str = "127.0.0.1") -> Starlette:
    """Build the app.

    Args:
        live: what the live view shows.
        served_host: the host that the server is bound to. Only requests for it are answered, or for this machine's
            name or an IP address if it can be reached from elsewhere. A page from elsewhere could otherwise have its
            own name point here and read the camera (DNS rebinding).
    """

    async def page(request: Request) -> Response:
        return FileResponse(PAGES / "live.html")

    async def stream(request: Request) -> Response:
        if live.viewers >= MAX_VIEWERS:
            return PlainTextResponse(f"{MAX_VIEWERS} viewers are connected already, which is the maximum\n", 503)
        return MjpegResponse(live)

    async def frame(request: Request) -> Response:
        newest = live.images.newest
        if newest is None:
            return PlainTextResponse("there is no image yet\n", 503)
        return Response(newest.jpeg, media_type="image/jpeg")

    async def state(request: Request) -> Response:
        return JSONResponse(state_json(live))

    routes = [
        Route("/", page),
        Route("/stream", stream),
        Route("/frame.jpg", frame),
        Route("/state", state),
        Mount("/static", StaticFiles(directory=PAGES)),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, served_host=served_host)])


def state_json(live: LiveFeed) -> dict[str, object]:
    """Return what the page shows beside the image."""
    now = live.state()
    return {
        "model": live.model,
        "source": live.source,
        "has_classes": live.has_classes,
        "scores": now.scores,
        "caption": now.message,
        "latency_ms": now.latency_ms,
        "fps": now.fps,
        "received": now.received,
        "rendered": now.done,
        "dropped": now.dropped,
        "viewers": now.viewers,
    }


class MjpegResponse(Response):
    """The images of a feed as one endless multipart stream (MJPEG); each viewer gets the newest image it can take."""

    media_type = "multipart/x-mixed-replace; boundary=frame"

    def __init__(self, feed: LiveFeed) -> None:
        super().__init__(headers={"Content-Type": self.media_type})
        del self.headers["content-length"]
        self.feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send images until the feed ends, the viewer disconnects, or takes no data for too long."""
        gone = asyncio.create_task(self._disconnection(receive))
        self.feed.viewers += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_images(send, gone)
        except TimeoutError:
            if abort := scope.get("extensions", {}).get(ABORT):
                abort()
        finally:
            self.feed.viewers -= 1
            gone.cancel()

    async def _send_images(self, send: Send, gone: asyncio.Task[None]) -> None:
        number, images = 0, self.feed.images
        await send({"type": "http.response.body", "body": BOUNDARY, "more_body": True})
        while not gone.done() and not images.has_ended(number):
            newest = await images.next(number, 1.0)
            if newest is None:
                continue
            number, image = newest
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(image.jpeg)}\r\n\r\n".encode()
            async with asyncio.timeout(STALLED_SECONDS):
                # The boundary comes with the image: a browser does not show the image before it.
                body = head + image.jpeg + b"\r\n" + BOUNDARY
                await send({"type": "http.response.body", "body": body, "more_body": True})
                # Sending nothing waits until the viewer has taken the image, so that the next one is the newest then.
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            if not gone.done():
                self.feed.on_sent(number, image.captured_seconds)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _disconnection(self, receive: Receive) -> None:
        """Return when the viewer has disconnected."""
        while (await receive())["type"] != "http.disconnect":
            pass
