"""The routes of clips: upload, times of the frames, and classes over time. A frame is an image like any other."""

from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vitreous.web.clips.stored_clip import StoredClip, describe_clip
from vitreous.web.clips.video import ClipVideoRequest
from vitreous.web.explorer.explorer import Explorer
from vitreous.web.fair_threads import FairThreads
from vitreous.web.requests import (
    find_session,
    name_client,
    open_session,
    read_json,
    read_number,
    read_record,
    set_session_cookie,
)


class ClipApi:
    """Handles the requests about clips for one explorer, on the event loop's thread."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self._opening = FairThreads(2)

    def routes(self) -> list[Route]:
        """Return what the app serves."""
        return [
            Route("/api/clips", self.upload, methods=["POST"]),
            Route("/api/clips/{clip}", self.clip, methods=["GET"]),
            Route("/api/clips/{clip}/classes", self.start_classes, methods=["POST"]),
            Route("/api/clips/{clip}/video", self.start_video, methods=["POST"]),
        ]

    async def upload(self, request: Request) -> Response:
        """Store an uploaded clip, once it has been decoded to its end."""
        limits, client = self.explorer.limits, name_client(self.explorer.sessions, request)
        async with self.explorer.uploads.receive(request, client, limits.clip_bytes) as data:
            clip = await self._opening.run(request, client, partial(StoredClip, data, limits))
        session = open_session(self.explorer.sessions, request)
        session.add_clip(clip)
        response = JSONResponse(describe_clip(clip), 201)
        set_session_cookie(request, response, session)
        return response

    async def clip(self, request: Request) -> Response:
        """Size and times of a clip."""
        return JSONResponse(describe_clip(self._find(request)))

    async def start_classes(self, request: Request) -> Response:
        """Begin to predict the classes over time."""
        clip, model = self._find(request), read_number(request, "model")
        job = self.explorer.start_classes(find_session(self.explorer.sessions, request), model, clip)
        return JSONResponse({"job": job.id}, 202)

    async def start_video(self, request: Request) -> Response:
        """Begin to write the clip with maps."""
        clip, wanted = self._find(request), read_record(ClipVideoRequest, await read_json(request))
        job = self.explorer.start_video(find_session(self.explorer.sessions, request), clip, wanted)
        return JSONResponse({"job": job.id}, 202)

    def _find(self, request: Request) -> StoredClip:
        clip = find_session(self.explorer.sessions, request).clips.get(request.path_params["clip"])
        if clip is None:
            raise HTTPException(404, "there is no such clip (any more): open it again")
        return clip
