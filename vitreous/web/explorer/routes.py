"""The routes of the explorer: what each request must be, and how it becomes a call of `Explorer`."""

import hashlib
import io
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from vitreous.errors import InputError
from vitreous.imaging.reading import decode_image, read_size
from vitreous.web.clips.routes import ClipApi
from vitreous.web.errors import HANDLERS, UnexpectedErrors
from vitreous.web.explorer.explorer import Explorer, describe_image
from vitreous.web.explorer.interventions import read_intervention
from vitreous.web.explorer.maps import MapRequest
from vitreous.web.explorer.saving import SavingApi
from vitreous.web.fair_threads import FairThreads
from vitreous.web.guard import Guard
from vitreous.web.live.routes import LiveApi
from vitreous.web.openapi import describe_api
from vitreous.web.page_files import PAGES, PageFiles
from vitreous.web.request_counts import RequestCounter, RequestCounts, format_metrics
from vitreous.web.requests import (
    cookie_name,
    find_session,
    name_client,
    open_session,
    read_json,
    read_number,
    read_record,
    set_session_cookie,
)
from vitreous.web.sessions import StoredImage, WebSession, name_upload
from vitreous.web.training.routes import TrainingApi

JOB_KINDS = ("attention", "tokens", "map", "doctor")
WAIT_SECONDS = 20.0
"""A request for the status of a job waits so long for a change."""
LOSSLESS_PIXELS = 512 * 512
"""Images up to this size are shown as they are, larger ones as JPEG of at most `DISPLAY_SIDE` pixels a side."""
DISPLAY_SIDE = 2048
PAGE_SIZE = 200
IMAGE_CACHE = "private, max-age=3600"
Result = TypeVar("Result")


def create_explorer_app(explorer: Explorer, *, served_host: str = "127.0.0.1", token: str | None = None) -> Starlette:
    """Build the app.

    Args:
        explorer: what it serves; its queue must have been started.
        served_host: the host that the server is bound to, as in `Guard`.
        token: what browsers must present, as in `Guard`.
    """
    api = ExplorerApi(explorer)
    routes = [
        Route("/", api.page, methods=["GET"]),
        Route("/healthz", api.health, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
        Route("/api", api.openapi, methods=["GET"]),
        Route("/api/start", api.start, methods=["GET"]),
        Route("/api/gallery", api.list_gallery, methods=["GET"]),
        Route("/api/images", api.upload, methods=["POST"]),
        Route("/api/images/{image}", api.image, methods=["GET"]),
        Route("/api/images/{image}/pixels", api.pixels, methods=["GET"]),
        Route("/api/images/{image}/thumbnail", api.thumbnail, methods=["GET"]),
        Route("/api/jobs", api.start_job, methods=["POST"]),
        Route("/api/jobs/{job}", api.job_status, methods=["GET"]),
        Route("/api/jobs/{job}", api.end_job, methods=["DELETE"]),
        Route("/api/jobs/{job}/data", api.job_data, methods=["GET"]),
        Route("/api/session", api.end_session, methods=["DELETE"]),
        *ClipApi(explorer).routes(),
        *LiveApi(explorer).routes(),
        *TrainingApi(explorer).routes(),
        *SavingApi(explorer.models).routes(),
        Mount("/static", PageFiles(directory=PAGES)),
    ]
    middleware = [
        Middleware(RequestCounter, counts=api.counts),
        Middleware(Guard, served_host=served_host, token=token),
        Middleware(UnexpectedErrors),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=HANDLERS)


class ExplorerApi:
    """Handles the requests for one explorer, on the event loop's thread."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.counts = explorer, RequestCounts()
        self._version = secrets.token_hex(6)
        self._opening, self._decoding, self._encoding = FairThreads(2), CapacityLimiter(2), CapacityLimiter(1)

    async def page(self, request: Request) -> Response:
        """The page itself; that of the runs if none has a model yet."""
        if not self.explorer.models and self.explorer.runs:
            return RedirectResponse("/training", 303)
        return FileResponse(PAGES / "explorer.html", headers={"Cache-Control": "no-cache"})

    async def health(self, request: Request) -> Response:
        """Whether the server is alive."""
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """Numbers for monitoring, in Prometheus' text format."""
        return PlainTextResponse(format_metrics(self.explorer, self.counts))

    async def openapi(self, request: Request) -> Response:
        """The description of this API."""
        return self._cached_json(request, describe_api())

    async def start(self, request: Request) -> Response:
        """Models, methods, colors and limits."""
        return self._cached_json(request, self.explorer.describe() | {"palettes": self.explorer.palettes})

    async def list_gallery(self, request: Request) -> Response:
        """A part of the data set's images, by a filter."""
        gallery = self.explorer.gallery
        if gallery is None:
            raise HTTPException(404, "this server has no data set: start it with --data SOURCE")
        model, offset = read_number(request, "model"), read_number(request, "offset")
        order, label = request.query_params.get("order", "stored"), request.query_params.get("class")
        if self.explorer.models or model:
            self.explorer.models.get(model)
        done = gallery.num_done(model)  # before the list, which then lacks none of them
        search, similar = request.query_params.get("search", "").strip(), None
        if order == "text" and search:
            similar = await self._with_text(partial(self.explorer.compare_with_text, model, search))
        chosen = gallery.select(model, order, label, search, similar)
        scored = gallery.scored(model)
        items = [
            {"image": f"data-{position}", "truth": gallery.labels[position], "name": gallery.name(position),
             "prediction": [found.label, found.score] if (found := scored.get(position)) else None,
             "is_correct": found.is_correct if found else None, "similarity": (similar or {}).get(position)}
            for position in chosen[offset : offset + PAGE_SIZE]
        ]  # fmt: skip
        return JSONResponse({"items": items, "total": len(chosen), "scored": done, "count": len(gallery)})

    async def upload(self, request: Request) -> Response:
        """Store an uploaded image, once it has been decoded."""
        limits, client = self.explorer.limits, name_client(self.explorer.sessions, request)
        async with self.explorer.uploads.receive(request, client, limits.upload_bytes) as data:
            image = await self._opening.run(request, client, lambda _: decode_upload(data, limits.image_pixels))
        key = await self._in_thread(partial(name_upload, image.image_u8))
        session = self._open_session(request)
        (session.add_live_image if "live" in request.query_params else session.add_image)(key, image)
        response = JSONResponse(describe_image(key, image), 201)
        set_session_cookie(request, response, session)
        return response

    async def image(self, request: Request) -> Response:
        """Name and size of an image."""
        return JSONResponse(describe_image(request.path_params["image"], await self._find_image(request)))

    async def pixels(self, request: Request) -> Response:
        """An image for display."""
        return await self._respond_with_image(request, lambda image: image.image_u8)

    async def thumbnail(self, request: Request) -> Response:
        """A small version of an image of the data set."""
        position = self._position(request.path_params["image"])
        gallery = self.explorer.gallery
        if position is None or gallery is None:
            raise HTTPException(404, "only images of the data set have thumbnails")
        return await self._respond_with_image(request, lambda _: gallery.thumbnail(position))

    async def start_job(self, request: Request) -> Response:
        """Begin a computation."""
        fields = await read_json(request)
        name = fields.pop("image", None)
        if not isinstance(name, str):
            raise HTTPException(400, "the body must be a JSON object with the name of an image")
        kind, model, layer = fields.pop("kind", "attention"), fields.pop("model", 0), fields.pop("layer", -1)
        if kind not in JOB_KINDS or type(model) is not int or type(layer) is not int:
            raise HTTPException(400, f"kind must be one of {', '.join(JOB_KINDS)}, model and layer whole numbers")
        intervention = read_intervention(fields.pop("intervention", None))
        if kind == "doctor" and intervention is not None:
            raise HTTPException(400, "the doctor measures the unchanged model: leave the intervention out")
        image = await self._named_image(request, name)
        other = fields.pop("other", None)
        other = None if other is None else await self._named_image(request, str(other))
        session = self._open_session(request)
        if kind == "attention":
            job = self.explorer.start_attention(session, model, image, intervention)
        elif kind == "tokens":
            job = self.explorer.start_tokens(session, model, image, layer, intervention)
        elif kind == "doctor":
            job = self.explorer.start_diagnosis(session, model, image)
        else:
            wanted = replace(read_record(MapRequest, fields), intervention=intervention)
            resolve = partial(self.explorer.resolve_map, model, wanted)
            task = await self._with_text(resolve) if (wanted.target or "").startswith("text:") else resolve()
            job = self.explorer.start_map(session, model, image, task, intervention, other)
        response = JSONResponse({"job": job.id}, 202)
        set_session_cookie(request, response, session)
        return response

    async def job_status(self, request: Request) -> Response:
        """Progress and description of a job; waits for the next change after number `after`."""
        job = self._session(request).jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "there is no such job (any more): begin it again")
        after = read_number(request, "after")
        if not job.state.is_final or job.status.count > after:
            await job.status.next(after, WAIT_SECONDS)
        number, status = job.status.count, job.state
        return JSONResponse({
            "number": number, "state": status.state, "done": status.progress.done, "total": status.progress.total,
            "message": status.message or status.progress.message, "before": self.explorer.queue.jobs_before(job),
            "result": job.result.description if status.state == "done" and job.result is not None else None,
        })  # fmt: skip

    async def job_data(self, request: Request) -> Response:
        """The arrays of a finished job."""
        key = request.path_params["job"]
        job = self._session(request).jobs.get(key)
        if job is None or job.result is None or job.state.state != "done":
            raise HTTPException(404, "there is no such result (any more): begin the job again")
        if (unchanged := self._unchanged(request, key)) is not None:
            return unchanged
        headers = {"ETag": self._etag(key), "Cache-Control": IMAGE_CACHE}
        return Response(job.result.data, media_type="application/octet-stream", headers=headers)

    async def end_job(self, request: Request) -> Response:
        """Cancel a job, or forget its result."""
        job = self._session(request).jobs.pop(request.path_params["job"], None)
        if job is not None:
            self.explorer.queue.cancel(job)
        return Response(status_code=204)

    async def end_session(self, request: Request) -> Response:
        """Forget everything of this browser."""
        self.explorer.sessions.end(request.cookies.get(cookie_name(request), ""))
        response = Response(status_code=204)
        response.delete_cookie(cookie_name(request))
        return response

    def _session(self, request: Request) -> WebSession:
        return find_session(self.explorer.sessions, request)

    def _open_session(self, request: Request) -> WebSession:
        return open_session(self.explorer.sessions, request)

    def _position(self, key: str) -> int | None:
        """Return the position in the gallery that the name of an image stands for; None for another image."""
        number = key.removeprefix("data-")
        is_position = number != key and number.isascii() and number.isdecimal() and len(number) < 10
        return int(number) if is_position else None

    async def _find_image(self, request: Request) -> StoredImage:
        return await self._named_image(request, request.path_params["image"])

    async def _named_image(self, request: Request, key: str) -> StoredImage:
        """Return an image by its name: one of the data set, or one that this session has uploaded.

        Raises:
            HTTPException: there is none.
        """
        position, gallery = self._position(key), self.explorer.gallery
        if position is not None and gallery is not None and position < len(gallery):
            return await self._in_thread(partial(gallery.image, position))
        session = self.explorer.sessions.find(request.cookies.get(cookie_name(request), ""))
        if session is not None and (found := session.find_frame(key)) is not None:
            return await self._opening.run(request, session.id, lambda _: found[0].image(found[1]))
        if session is None or key not in session.images:
            raise HTTPException(404, "there is no such image (any more): open it again")
        return session.images[key]

    async def _respond_with_image(self, request: Request, select: Callable[[StoredImage], np.ndarray]) -> Response:
        image = await self._find_image(request)
        if (unchanged := self._unchanged(request, request.url.path)) is not None:
            return unchanged
        data, media_type = await self._in_thread(lambda: encode_for_display(select(image)))
        headers = {"ETag": self._etag(request.url.path), "Cache-Control": self._caching(request)}
        return Response(data, media_type=media_type, headers=headers)

    def _caching(self, request: Request) -> str:
        """Return how long a browser may keep an image: those of a data set have the same name in another one."""
        return "private, no-cache" if self._position(request.path_params["image"]) is not None else IMAGE_CACHE

    def _etag(self, name: str) -> str:
        return f'"{hashlib.sha256(f"{self._version} {name}".encode()).hexdigest()[:20]}"'

    def _unchanged(self, request: Request, name: str) -> Response | None:
        """Return 304 if the client has this already."""
        if self._etag(name) not in request.headers.get("if-none-match", ""):
            return None
        return Response(status_code=304, headers={"ETag": self._etag(name), "Cache-Control": IMAGE_CACHE})

    def _cached_json(self, request: Request, content: Mapping[str, object]) -> Response:
        body = JSONResponse(content).body
        etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def _with_text(self, work: Callable[[], Result]) -> Result:
        """Do work that encodes a text, for one person at a time and beside the decoding of images."""
        return await to_thread.run_sync(work, limiter=self._encoding)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await to_thread.run_sync(work, limiter=self._decoding)


def decode_upload(data: bytes, max_pixels: int) -> StoredImage:
    """Decode an uploaded file; its size is checked before its pixels are decompressed.

    Raises:
        InputError: it is not an image that can be read, or too large.
    """
    height, width = read_size(data, "this file")
    if height * width > max_pixels:
        raise InputError(
            f"this file has {width:,} x {height:,} pixels, the limit is {max_pixels:,}: make it smaller first"
        )
    return StoredImage("this image", decode_image(data, "this file"))


def encode_for_display(image_u8: np.ndarray) -> tuple[bytes, str]:
    """Encode an image for a browser: its bytes and media type."""
    stream, image = io.BytesIO(), Image.fromarray(image_u8)
    if image.width * image.height <= LOSSLESS_PIXELS:
        image.save(stream, "PNG", compress_level=1)
        return stream.getvalue(), "image/png"
    image.thumbnail((DISPLAY_SIDE, DISPLAY_SIDE), Image.Resampling.BICUBIC, reducing_gap=2)
    image.save(stream, "JPEG", quality=92)
    return stream.getvalue(), "image/jpeg"
