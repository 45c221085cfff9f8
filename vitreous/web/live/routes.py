"""The routes of the live view: the newest image of the server's camera or video."""

import time
from functools import partial

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vitreous.web.explorer.explorer import Explorer, describe_image
from vitreous.web.requests import open_session, read_number, set_session_cookie
from vitreous.web.sessions import StoredImage, name_upload

FRAME_SECONDS = 20.0
"""A request for an image waits so long for one."""


class LiveApi:
    """Gives each browser the newest image whenever it asks, so that it gets as many as it can show."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    def routes(self) -> list[Route]:
        """Return what the app serves."""
        return [Route("/api/live", self.frame, methods=["GET"])]

    async def frame(self, request: Request) -> Response:
        """The newest image after number `after`, with its age in milliseconds; none once the source has ended."""
        live = self.explorer.live
        if live is None:
            raise HTTPException(404, "this server has no camera: start it with vitreous live")
        found = await live.frames.next(read_number(request, "after"), FRAME_SECONDS)
        if found is None:
            return JSONResponse({"number": None, "has_ended": live.frames.is_finished, "error": live.error})
        number, frame = found
        image = StoredImage(live.name, frame.image_u8)
        key = await to_thread.run_sync(partial(name_upload, image.image_u8))
        session = open_session(self.explorer.sessions, request)
        session.add_live_image(key, image)
        age = 1000 * (time.monotonic() - frame.captured_seconds)
        response = JSONResponse(describe_image(key, image) | {"number": number, "age_ms": round(age, 1)})
        set_session_cookie(request, response, session)
        return response
