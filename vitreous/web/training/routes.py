"""The routes of the page that shows runs while they train."""

import asyncio
import io
import time

from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from vitreous.web.explorer.explorer import Explorer
from vitreous.web.page_files import PAGES
from vitreous.web.requests import open_session, set_session_cookie
from vitreous.web.training.changes import NOTHING, find_changes
from vitreous.web.training.watched_run import REFRESH_SECONDS, WatchedRun

WAIT_SECONDS = 20.0
"""A request for changes waits so long for one."""


class TrainingApi:
    """Handles the requests for the runs of one explorer, on the event loop's thread."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self._reading = explorer, CapacityLimiter(1)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/training", self.page, methods=["GET"]),
            Route("/api/runs", self.changes, methods=["GET"]),
            Route("/api/runs/{run}/images/{image}", self.image, methods=["GET"]),
            Route("/api/runs/{run}/model", self.reload, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return FileResponse(PAGES / "training.html", headers={"Cache-Control": "no-cache"})

    async def changes(self, request: Request) -> Response:
        """What has changed in each run since the cursor `after`; waits for a change."""
        if not self.explorer.runs:
            raise HTTPException(404, "this server shows no run: start it with a run folder, vitreous serve RUN")
        cursors = request.query_params.get("after", "").split(",")
        cursors += [NOTHING] * (len(self.explorer.runs) - len(cursors))
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = await to_thread.run_sync(self._find_changes, cursors, limiter=self._reading)
            left = deadline - time.monotonic()
            if any(changes for changes, _ in found) or left <= 0 or await request.is_disconnected():
                break
            await asyncio.sleep(min(left, REFRESH_SECONDS))
        return JSONResponse({"runs": [changes for changes, _ in found], "cursor": ",".join(own for _, own in found)})

    async def image(self, request: Request) -> Response:
        """One of the fixed images of a run."""
        run, number = self._run(request), _whole(request.path_params["image"])
        await to_thread.run_sync(run.refresh, limiter=self._reading)
        history = next(iter(run.histories.values()), None)
        if history is None or number is None or number >= len(history.images.images_u8):
            raise HTTPException(404, "the run keeps no such image (any more)")
        stream = io.BytesIO()
        Image.fromarray(history.images.images_u8[number]).save(stream, "PNG", compress_level=1)
        return Response(stream.getvalue(), media_type="image/png")

    async def reload(self, request: Request) -> Response:
        """Begin to load the newest weights of a run, for everybody."""
        session = open_session(self.explorer.sessions, request)
        job = self.explorer.start_reload(session, self._run(request))
        response = JSONResponse({"job": job.id}, 202)
        set_session_cookie(request, response, session)
        return response

    def _find_changes(self, cursors: list[str]) -> list[tuple[dict[str, object], str]]:
        """Read the run folders, one request at a time, and return what the browser lacks of each, with its cursor."""
        found = []
        for run, cursor in zip(self.explorer.runs, cursors, strict=False):
            run.refresh()
            found.append(find_changes(run, cursor))
        return found

    def _run(self, request: Request) -> WatchedRun:
        number = _whole(request.path_params["run"])
        if number is None or number >= len(self.explorer.runs):
            raise HTTPException(404, f"there is no such run: there are {len(self.explorer.runs)}, from 0")
        return self.explorer.runs[number]


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
