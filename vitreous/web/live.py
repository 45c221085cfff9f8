"""Show what a model looks at while it looks: images of a camera, drawn on and served as they come."""

import io
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image

from vitreous.clips.drawing import ClipDrawing
from vitreous.clips.explain import Looking, check_model, place_in_frame
from vitreous.clips.request import VideoRequest, request_from
from vitreous.errors import unknown
from vitreous.explanation.options import MethodOptions
from vitreous.model.classifier import ImageClassifier, Prediction
from vitreous.pretrained.load import load
from vitreous.render.frame_view import DrawStyle
from vitreous.runtime import autocast, choose_precision
from vitreous.video.camera import LiveFrame, LiveSource
from vitreous.video.decode import ClipBrokeOff
from vitreous.video.info import Frame
from vitreous.video.options import VideoOptions
from vitreous.web.latest_value import Latest
from vitreous.web.page import live_page
from vitreous.web.server import LiveImage, LiveServer, Program
from vitreous.web.stats import LiveState, LiveSummary, Meter

QUALITY = 85
TELL_SECONDS = 0.5
OF_FILES = {"timeline", "data_out", "batch_size", *(field.name for field in fields(VideoOptions))}
"""What can be asked of a clip that is written, and not of a live view."""
CAPTURE_ENDS_SECONDS = 0.5  # a camera that hangs is left behind then: its thread dies with the process


@dataclass(frozen=True)
class Seen:
    """What became of a frame: the image to show, uint8 (height, width, 3), the model's answer, what the map is."""

    image_u8: np.ndarray
    prediction: Prediction
    words: str


Sight = Callable[[LiveFrame], Seen]
Start = Callable[[str], object]
Tell = Callable[[LiveState], object]


def live(
    model: str | Path | ImageClassifier,
    source: LiveSource,
    method: str | Sequence[str] = "attention",
    *,
    model_size: int | None = None,
    model_fit: str | None = None,
    server: LiveServer | None = None,
    on_start: Start | None = None,
    on_state: Tell | None = None,
    stop: Event | None = None,
    **settings: Any,
) -> LiveSummary:
    """Serve what a model looks at in the images of a camera or clip, until these end, or Ctrl-C.

    The model always takes the newest image; those that came while it was busy are dropped. Neither it nor any viewer
    ever waits for another viewer.

    Args:
        model: whatever `load` takes, or a loaded model.
        source: a `Camera` or `Clip`; it is closed at the end.
        method: a name in the table of methods. The default costs little and lies steadily on the things there.
            Several are shown side by side.
        model_size: the side in pixels that the model is given, as `size` in `load`.
        model_fit: how images are brought to that size, as `fit` in `load`.
        server: where it is served, by default 127.0.0.1:8765; it is closed at the end.
        on_start: told the page's address, once it answers.
        on_state: told the numbers, twice a second.
        stop: ends it when set, for callers on another thread.
        **settings: further ones by name, as in `explain_video`: layout, explained, query in pixels of the image,
            track, smooth, layer and so on. What only a written file can have is none of them.

    Raises:
        InputError: no such model, method, setting, layer, head, class or place, a port in use, a camera that failed.
    """
    with ExitStack() as unused:
        unused.callback(source.close)
        server = server or LiveServer()
        unused.callback(server.close)
        request = live_request(method, settings)
        classifier = load(model, size=model_size, fit=model_fit)
        look = Drawn(classifier, request)
        precision = choose_precision(request.float_precision, classifier.device)
        page = live_page(classifier.origin or "a model", source.name, has_classes=bool(classifier.class_names))
        unused.pop_all()
    with autocast(classifier.device, precision):  # over the whole view: weights are brought to it once
        return LiveView(source, look, server, stop).run(page, on_start, on_state)


def live_request(method: str | Sequence[str], settings: dict[str, Any]) -> VideoRequest:
    """The request that a user spells out by name.

    Raises:
        InputError: there is no such method or setting, or its value doesn't fit.
    """
    known = {one.name for kind in (VideoRequest, DrawStyle, MethodOptions) for one in fields(kind)}
    known -= OF_FILES | {"methods", "settings", "look", "options"}
    for name in settings:
        if name not in known:
            raise unknown("setting of a live view", name, sorted(known))
    return request_from(method, settings)


class Drawn:
    """What is shown of each image: the frame that `vitreous video` would draw, smoothed over those shown before.

    Those to come are not known: a scene's color scale settles in its first images, and a flash is only smoothed.
    """

    def __init__(self, classifier: ImageClassifier, request: VideoRequest) -> None:
        check_model(classifier, request)
        self._classifier, self._request = classifier, request
        self._drawing = ClipDrawing(request, None, lambda *_: None)
        self._looking: Looking | None = None
        self._began = 0.0

    def __call__(self, taken: LiveFrame) -> Seen:
        """Look at an image and draw it.

        Raises:
            InputError: the place that was asked for is not on it.
        """
        if self._looking is None:
            place = place_in_frame(self._request, taken.image_u8.shape[:2])
            self._looking = Looking(self._classifier, self._request, place)
            self._began = taken.taken_seconds
        frame = Frame(taken.image_u8, Fraction(taken.taken_seconds - self._began))
        seen = self._looking.look([frame])
        words = seen[0].words or ", ".join(self._request.methods)
        return Seen(self._drawing.draw([frame], seen)[0], seen[0].prediction, words)


class LiveView:
    """One thread takes images, this one looks at the newest, and the server's threads send what came of it."""

    def __init__(self, source: LiveSource, look: Sight, server: LiveServer, stop: Event | None = None) -> None:
        self.source, self.look, self.server = source, look, server
        self.frames, self.images, self.meter = Latest[LiveFrame](), Latest[LiveImage](), Meter()
        self.stop = stop or Event()
        self.capturing = Thread(target=self.capture, name="live camera", daemon=True)

    def run(self, page: str = "", on_start: Start | None = None, on_state: Tell | None = None) -> LiveSummary:
        """Show until the source ends, `stop` is set or Ctrl-C; then close source and server, and leave no thread."""
        broke_off, interrupted = None, False
        try:
            self.server.start(Program(page, self.images, self.state, self.meter.latency))
            self.capturing.start()
            if on_start:
                on_start(self.server.url)
            self.look_at_all(on_state)
        except ClipBrokeOff as error:
            broke_off = str(error)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self.close()
        return self.meter.summary(self.frames.count, broke_off, interrupted=interrupted)

    def capture(self) -> None:
        """Take images until there are no more."""
        try:
            with closing(self.source.frames(self.stop)) as frames:
                for frame in frames:
                    self.frames.put(frame)
            self.frames.finish()
        except BaseException as error:  # noqa: BLE001 - it is raised where the images are looked at
            self.frames.finish(error)

    def look_at_all(self, on_state: Tell | None) -> None:
        """Look at the newest image, again and again."""
        number, told = 0, time.monotonic()
        while not self.stop.is_set() and not self.frames.has_ended(number):
            newest = self.frames.after(number, TELL_SECONDS)
            if newest is not None:
                number, frame = newest
                self.show(self.look(frame), frame.taken_seconds)
            if on_state and time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                on_state(self.state())

    def show(self, seen: Seen, taken_seconds: float) -> None:
        """Give an image to whoever watches; where nobody does, it is timed now."""
        image = LiveImage(as_jpeg(seen.image_u8), taken_seconds)
        self.meter.image(seen.prediction, seen.words)
        self.images.put(image)
        if not self.server.viewers:
            self.meter.latency(self.images.count, taken_seconds)

    def state(self) -> LiveState:
        """The numbers at this moment."""
        return self.meter.state(self.frames.count, self.server.viewers)

    def close(self) -> None:
        """End every thread, then close source and server."""
        self.stop.set()
        self.server.close()
        if self.capturing.ident is not None:
            self.capturing.join(CAPTURE_ENDS_SECONDS)
        if not self.capturing.is_alive():
            self.source.close()


def as_jpeg(image_u8: np.ndarray) -> bytes:
    """An image, uint8 (height, width, 3), as the bytes of a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
