"""The live view: frames of a camera or video are explained, drawn and served as they come."""

import io
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread

import numpy as np
from PIL import Image

from vitreous.callbacks import Callback
from vitreous.clips.draw_stage import DrawStage
from vitreous.clips.explain_stage import ExplainStage, scale_query
from vitreous.clips.request import VideoRequest
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier
from vitreous.model.prediction import Prediction
from vitreous.pretrained.load import load
from vitreous.runtime import autocast, choose_precision
from vitreous.video.camera import LiveFrame, LiveSource
from vitreous.video.decode import TruncatedVideoError
from vitreous.video.info import Frame
from vitreous.web.app import LiveFeed, LiveImage, create_app
from vitreous.web.latest_value import LatestValue
from vitreous.web.server import AppServer
from vitreous.web.stats import LiveState, LiveSummary, RateMeter

JPEG_QUALITY = 85
REPORT_SECONDS = 0.5
CAPTURE_END_SECONDS = 0.5
"""A camera that hangs for longer at the end is left behind; its thread dies with the process."""


@dataclass(frozen=True)
class LiveFrameResult:
    """The result for one frame: the drawn image, uint8 (height, width, 3), the prediction, and what the map shows."""

    image_u8: np.ndarray
    prediction: Prediction
    caption: str


Renderer = Callable[[LiveFrame], LiveFrameResult]


def live(
    model: str | Path | ImageClassifier,
    source: LiveSource,
    request: VideoRequest | None = None,
    *,
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    server: AppServer | None = None,
    callback: Callback | None = None,
) -> LiveSummary:
    """Serve a live view of a model's attention on a camera or a video, until it ends or Ctrl-C.

    The model always takes the newest frame; frames that came while it was busy are dropped. Neither the model nor any
    viewer ever waits for another viewer.

    Args:
        model: whatever `load` takes, or a loaded model.
        source: a `Camera` or `VideoFileSource`; it is closed at the end.
        request: what is explained and how it is drawn; the query is in pixels of the source's frames. Which frames and
            what is written have no meaning here.
        input_size: side in pixels of the model's input, as in `load`.
        resize_mode: how frames are brought to the model's input size, as in `load`.
        server: the address, by default 127.0.0.1:8765; it is closed at the end.
        callback: `on_note` receives the address once it answers, `on_progress` a `LiveState` twice a second.

    Raises:
        InputError: an unknown model, method, option, layer, head or class, a port in use, a camera that failed.
    """
    with ExitStack() as unused:
        unused.callback(source.close)
        server = server or AppServer()
        unused.callback(server.close)
        request = request or VideoRequest()
        classifier = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
        render = LiveRenderer(classifier, request)
        precision = choose_precision(request.speed.float_precision, classifier.device)
        name = (classifier.origin or "a model").rstrip("/").rsplit("/", 1)[-1]
        unused.pop_all()
    with autocast(classifier.device, precision):  # Over the whole view, so that weights are cast only once.
        view = LiveView(source, render, server, name, has_classes=bool(classifier.class_names))
        return view.run(callback)


class LiveRenderer:
    """Explains and draws frames as `explain_video` does; smoothing only knows the frames before.

    Later frames are unknown, so a scene's color scale settles in its first frames, and a flash is only damped.
    """

    def __init__(self, classifier: ImageClassifier, request: VideoRequest) -> None:
        self._classifier, self._request, self._tasks = classifier, request, request.resolve(classifier)
        self._drawing = DrawStage(request, None, lambda frame, found: None)
        self._stage: ExplainStage | None = None
        self._start_seconds = 0.0

    def __call__(self, taken: LiveFrame) -> LiveFrameResult:
        """Explain and draw one frame.

        Raises:
            InputError: the query is not on the image.
        """
        if self._stage is None:
            frame_hw = (taken.image_u8.shape[0], taken.image_u8.shape[1])
            query = scale_query(self._request.query, frame_hw, frame_hw)
            self._stage = ExplainStage(self._classifier, self._request, self._tasks, query)
            self._start_seconds = taken.captured_seconds
        frame = Frame(taken.image_u8, Fraction(taken.captured_seconds - self._start_seconds))
        found = self._stage.explain([frame])
        caption = found[0].caption or ", ".join(self._request.methods)
        return LiveFrameResult(self._drawing.draw([frame], found)[0], found[0].prediction, caption)


class LiveView:
    """One thread captures frames, the caller's renders the newest, and the server's thread sends the images."""

    def __init__(
        self,
        source: LiveSource,
        render: Renderer,
        server: AppServer,
        model: str = "a model",
        *,
        has_classes: bool = True,
    ) -> None:
        self.source, self.render, self.server = source, render, server
        self.frames, self.meter, self.stop = LatestValue[LiveFrame](), RateMeter(), Event()
        images = LatestValue[LiveImage]()
        self.feed = LiveFeed(model, source.name, has_classes, images, self.state, self.meter.record_latency)
        self.capturing = Thread(target=self.capture, name="live camera", daemon=True)

    def run(self, callback: Callback | None = None) -> LiveSummary:
        """Show until the source ends, `stop` is set or Ctrl-C; then close source and server, and leave no thread."""
        callback, error, is_interrupted = callback or Callback(), None, False
        try:
            self.server.start(create_app(self.feed, served_host=self.server.host))
            self.capturing.start()
            callback.on_note(f"{self.source.name} at {self.server.url} (Ctrl-C ends)")
            if not self.server.is_local:
                callback.on_note("everyone who can reach this machine over the network can watch: there is no password")
            self.render_frames(callback)
        except TruncatedVideoError as broken:
            error = str(broken)
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            self.close()
        return self.meter.summary(self.frames.count, error, is_interrupted=is_interrupted)

    def capture(self) -> None:
        """Take frames until there are no more."""
        try:
            with closing(self.source.frames(self.stop)) as frames:
                for frame in frames:
                    self.frames.put(frame)
            self.frames.finish()
        except BaseException as error:  # noqa: BLE001 - it is raised where the frames are rendered
            self.frames.finish(error)

    def render_frames(self, callback: Callback) -> None:
        """Render the newest frame, again and again."""
        number, reported = 0, time.monotonic()
        while not (self.stop.is_set() or callback.should_stop() or self.frames.has_ended(number)):
            newest = self.frames.wait(number, REPORT_SECONDS)
            if newest is not None:
                number, frame = newest
                self.show(self.render(frame), frame.captured_seconds)
            if time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                callback.on_progress(self.state())

    def show(self, result: LiveFrameResult, captured_seconds: float) -> None:
        """Give an image to the viewers; where there are none, it is timed now."""
        image = LiveImage(to_jpeg(result.image_u8), captured_seconds)
        self.meter.count_image(result.prediction, result.caption)
        self.feed.images.put(image)
        if not self.feed.viewers:
            self.meter.record_latency(self.feed.images.count, captured_seconds)

    def state(self) -> LiveState:
        """Return the numbers at this moment."""
        return self.meter.state(self.frames.count, self.feed.viewers)

    def close(self) -> None:
        """End every thread, then close source and server."""
        self.stop.set()
        self.feed.images.finish()
        self.server.close()
        if self.capturing.ident is not None:
            self.capturing.join(CAPTURE_END_SECONDS)
        if not self.capturing.is_alive():
            self.source.close()


def to_jpeg(image_u8: np.ndarray) -> bytes:
    """Encode an image, uint8 (height, width, 3), as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(image_u8).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()
