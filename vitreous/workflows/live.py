"""Show what a model looks at while it looks: pictures of a camera, drawn on and served as they come."""

import io
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image

from vitreous.explanation.methods import find_method
from vitreous.explanation.pictures import explain_batch
from vitreous.explanation.targets import Target
from vitreous.render.color import SteadyScale
from vitreous.render.text import draw_label
from vitreous.tasks.classification import Classifier, Prediction
from vitreous.video.camera import LiveFrame, LiveSource
from vitreous.video.decode import ClipBrokeOff
from vitreous.workflows.explain import settings_from, verdict
from vitreous.workflows.live_latest import Latest
from vitreous.workflows.live_numbers import LiveState, LiveSummary, Meter
from vitreous.workflows.live_page import live_page
from vitreous.workflows.live_server import LivePicture, LiveServer, Programme
from vitreous.workflows.load import load

QUALITY = 85
TELL_SECONDS = 0.5
CAPTURE_ENDS_SECONDS = 0.5  # a camera that hangs is left behind then: its thread dies with the process


@dataclass(frozen=True)
class Seen:
    """What became of a frame: the picture to show, uint8 (height, width, 3), the model's answer, what the map is."""

    image_u8: np.ndarray
    prediction: Prediction
    words: str


Look = Callable[[LiveFrame], Seen]
Start = Callable[[str], object]
Tell = Callable[[LiveState], object]


def live(
    model: str | Path | Classifier,
    source: LiveSource,
    method: str = "attention",
    *,
    explained: str | Target | None = None,
    size: int | None = None,
    label: bool = False,
    server: LiveServer | None = None,
    on_start: Start | None = None,
    on_state: Tell | None = None,
    stop: Event | None = None,
    **settings: Any,
) -> LiveSummary:
    """Serve what a model looks at in the pictures of a camera or clip, until these end, or Ctrl-C.

    The model always takes the newest picture; those that came while it was busy are dropped. Neither it nor any viewer
    ever waits for another viewer.

    Args:
        model: whatever `load` takes, or a loaded model.
        source: a `Camera` or `Clip`; it is closed at the end.
        method: a name in the table of methods. The default costs little and lies steadily on the things there.
        explained: what the maps shall explain, as `target` of `explain`; each picture's predicted class by default.
        size: the side in pixels that the model is given, as in `load`.
        label: whether class, confidence and method are written on the picture too, and not only under it.
        server: where it is served, by default 127.0.0.1:8765; it is closed at the end.
        on_start: told the page's address, once it answers.
        on_state: told the numbers, twice a second.
        stop: ends it when set, for callers on another thread.
        **settings: further ones by name, as in `explain`.

    Raises:
        InputError: no such model, method, setting, layer, head or class, a port in use, or a camera that failed.
    """
    with ExitStack() as unused:
        unused.callback(source.close)
        server = server or LiveServer()
        unused.callback(server.close)
        find_method(method, settings_from(settings))
        classifier = load(model, size=size)
        look = looker(classifier, method, explained, settings, label=label)
        page = live_page(classifier.origin or "a model", source.name, has_classes=bool(classifier.class_names))
        unused.pop_all()
    return LiveView(source, look, server, stop).run(page, on_start, on_state)


def looker(
    classifier: Classifier, method: str, explained: str | Target | None, given: dict[str, Any], *, label: bool
) -> Look:
    """What draws on a frame what the model looks at, on one colour scale that adapts slowly."""
    settings = settings_from(given)
    scale = SteadyScale(signed=find_method(method, settings).kind == "signed")
    last = [0.0]

    def look(frame: LiveFrame) -> Seen:
        explanation = explain_batch(classifier, [frame.image_u8], method, settings, explained)[0]
        shown = explanation.drawn(scale.update(explanation.heat, frame.taken_seconds - last[0]))
        last[0] = frame.taken_seconds
        if label:
            lines = [verdict(explanation.prediction), explanation.words()]
            shown = draw_label(shown, [line for line in lines if line], "top left")
        return Seen(shown, explanation.prediction, explanation.words())

    return look


class LiveView:
    """One thread takes pictures, this one looks at the newest, and the server's threads send what came of it."""

    def __init__(self, source: LiveSource, look: Look, server: LiveServer, stop: Event | None = None) -> None:
        self.source, self.look, self.server = source, look, server
        self.frames, self.pictures, self.meter = Latest[LiveFrame](), Latest[LivePicture](), Meter()
        self.stop = stop or Event()
        self.capturing = Thread(target=self.capture, name="live camera", daemon=True)

    def run(self, page: str = "", on_start: Start | None = None, on_state: Tell | None = None) -> LiveSummary:
        """Show until the source ends, `stop` is set or Ctrl-C; then close source and server, and leave no thread."""
        broke_off, interrupted = None, False
        try:
            self.server.start(Programme(page, self.pictures, self.state, self.meter.latency))
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
        """Take pictures until there are no more."""
        try:
            with closing(self.source.frames(self.stop)) as frames:
                for frame in frames:
                    self.frames.put(frame)
            self.frames.finish()
        except BaseException as error:  # noqa: BLE001 - it is raised where the pictures are looked at
            self.frames.finish(error)

    def look_at_all(self, on_state: Tell | None) -> None:
        """Look at the newest picture, again and again."""
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
        """Give a picture to whoever watches; where nobody does, it is timed now."""
        picture = LivePicture(as_jpeg(seen.image_u8), taken_seconds)
        self.meter.picture(seen.prediction, seen.words)
        self.pictures.put(picture)
        if not self.server.viewers:
            self.meter.latency(self.pictures.count, taken_seconds)

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
    """A picture, uint8 (height, width, 3), as the bytes of a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
