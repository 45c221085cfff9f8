"""vitreous live"""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from vitreous.callbacks import Callback, Progress
from vitreous.cli import EXIT_TRUNCATED, print_error
from vitreous.cli.console import print_line, print_note
from vitreous.cli.draw_flags import DrawFlags
from vitreous.cli.flags import Flag, ModelName, check_web_extra
from vitreous.cli.options import EXPLAIN_GROUP, SPEED_GROUP, ExplainOptions, InputOptions, MethodFlags
from vitreous.clips.options import SpeedOptions, VideoPrecision
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.video.camera import LiveSource
    from vitreous.web.stats import LiveState

LINE_SECONDS = 5.0
SOURCE_GROUP = Group("Source", sort_key=0)
ADDRESS_GROUP = Group("Address", sort_key=9)


def live(
    model: ModelName,
    /,
    *,
    camera: Annotated[str | None, Parameter(group=SOURCE_GROUP)] = None,
    source: Annotated[Path | None, Parameter(group=SOURCE_GROUP)] = None,
    loop: Annotated[Flag, Parameter(group=SOURCE_GROUP)] = False,
    max_side: Annotated[int, Parameter(group=SOURCE_GROUP)] = 640,
    explain: ExplainOptions = ExplainOptions(),
    track: Annotated[Flag, Parameter(group=EXPLAIN_GROUP)] = False,
    methods: MethodFlags = MethodFlags(),
    inputs: InputOptions = InputOptions(),
    draw: DrawFlags = DrawFlags(),
    precision: Annotated[VideoPrecision, Parameter(group=SPEED_GROUP)] = "auto",
    host: Annotated[str, Parameter(group=ADDRESS_GROUP)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=ADDRESS_GROUP)] = 8765,
) -> int:
    """Show a model's attention live in the browser.

    The source is a camera, or a video played at its own rate. Images are drawn as `vitreous video` draws them, with
    layouts, legend and temporal smoothing; the color scale settles in the first images of a scene. Frames that come
    while the model is busy are dropped, so the image never lags behind. Ctrl-C ends the view and prints a summary;
    since this is how to end it, the exit code is 0. Needs the extra "web": pip install 'vitreous[web]'.

    Args:
        camera: Camera by number from 0, name or path such as /dev/video2; 0 by default.
        source: Video to play at its own rate instead of a camera.
        loop: Play the video again and again.
        max_side: Long side of the images in pixels, at most. --query counts in these pixels.
        track: Follow the patch at --query from the first image on, until the scene changes.
        precision: `bf16` is about 1.5 times as fast where the hardware supports it, and `auto` uses it there. `int8`
            is about twice as fast on CPUs with AVX-512 VNNI, for methods without gradients.
        host: Address to serve at; by default only this machine can watch.
        port: Port to serve at; 0 for any free port.
    """
    check_web_extra("live")
    from vitreous.clips.request import VideoRequest
    from vitreous.explanation.target_parsing import note_unused_target
    from vitreous.web.live import live as run
    from vitreous.web.server import AppServer

    if track and loop:
        raise InputError("a tracked patch is lost where the video starts again: leave out --loop or --track")
    request = VideoRequest(
        methods=explain.methods, options=methods.method_options(), target=explain.target, query=explain.query_region,
        track=track, draw=draw.draw_options(), speed=SpeedOptions(precision=precision),
    )  # fmt: skip
    chosen = open_source(camera, source, max_side, loop=loop)
    with ExitStack() as unused:
        unused.callback(chosen.close)
        server = AppServer(host, port)
        unused.callback(server.close)
        classifier = inputs.load(model)
        unused.pop_all()  # the live view closes them from here on
    with status_display() as update:
        display = LiveDisplay(update)
        note_unused_target(request.methods, request.target, display)
        summary = run(classifier, chosen, request, server=server, callback=display)
    print_line(f"{chosen.name}: {summary}")
    if summary.error is not None:
        print_error(f"{chosen.name}: {summary.error}")
        return EXIT_TRUNCATED
    return 0


def open_source(camera: str | None, source: Path | None, max_side: int, *, loop: bool) -> "LiveSource":
    """Open the camera or video that the user chose."""
    from vitreous.video.camera import Camera, VideoFileSource

    if source is None:
        if loop:
            raise InputError("a camera has no end to repeat after: leave out --loop, or give a video with --source")
        return Camera("0" if camera is None else camera, max_side)
    if camera is not None:
        raise InputError("--camera and --source can't both be shown: give one of them")
    return VideoFileSource(source, max_side, loop=loop)


class LiveDisplay(Callback):
    """Prints notes and shows the numbers of a live view."""

    def __init__(self, update: "Callable[[LiveState], None]") -> None:
        self._update = update

    def on_progress(self, progress: Progress) -> None:
        """Show the numbers."""
        from vitreous.web.stats import LiveState

        assert isinstance(progress, LiveState)
        self._update(progress)

    def on_note(self, text: str) -> None:
        """Print the note."""
        print_note(text)


@contextmanager
def status_display() -> Generator[Callable[["LiveState"], None]]:
    """Yield a function that shows the numbers: in one changing line on a terminal, else in a line every few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        status = Console(stderr=True).status("")

        def update(state: "LiveState") -> None:
            status.update(Text(format_state(state)))
            status.start()

        try:
            yield update
        finally:
            status.stop()
        return
    last = [time.monotonic()]

    def print_state(state: "LiveState") -> None:
        if time.monotonic() - last[0] >= LINE_SECONDS:
            last[0] = time.monotonic()
            print_note(format_state(state))

    yield print_state


def format_state(state: "LiveState") -> str:
    """Return the numbers of a live view in one line."""
    prediction = [f"{label} {100 * score:.0f} %" for label, score in state.scores[:1]]
    latency = "no image" if state.latency_ms is None else f"latency {state.latency_ms:.0f} ms"
    viewers = f"{state.viewers} viewer{'' if state.viewers == 1 else 's'}"
    return " · ".join(
        [*prediction, f"{state.fps:.1f} images/s", latency, f"{state.dropped} of {state.received} dropped", viewers]
    )
