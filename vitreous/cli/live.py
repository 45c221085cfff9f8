"""vitreous live"""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from vitreous.cli import EXIT_BROKE_OFF, complain
from vitreous.cli.console import note, say
from vitreous.errors import InputError
from vitreous.process_tuning import share_cores

if TYPE_CHECKING:
    from vitreous.video.camera import LiveSource
    from vitreous.web.stats import LiveState, LiveSummary

LINE_SECONDS = 5.0

Flag = Annotated[bool, Parameter(negative="")]


def live(
    model: str,
    /,
    *,
    camera: str | None = None,
    source: Path | None = None,
    loop: Flag = False,
    method: str = "attention",
    layout: Literal["contour", "heads", "layers", "methods", "overlay", "side-by-side", "spotlight"] | None = None,
    target: str | None = None,
    query: str | None = None,
    track: Flag = False,
    layer: int | None = None,
    head: int | None = None,
    fusion: Literal["mean", "max", "min"] = "mean",
    discard: float = 0.0,
    view: Literal["colors", "similarity", "norms"] = "colors",
    strength: float = 1.0,
    edges: Flag = False,
    legend: bool = True,
    smooth: float = 0.2,
    strip: Flag = False,
    size: int = 640,
    model_size: int | None = None,
    model_fit: Literal["squash", "crop", "aspect", "letterbox"] | None = None,
    precision: Literal["auto", "bf16", "fp32", "int8"] = "auto",
    host: str = "127.0.0.1",
    port: int = 8765,
) -> int:
    """Show in the browser what a model looks at, live: through a camera, or a clip played as if it were one.

    Images are drawn as `vitreous video` draws them, layouts, legend and smoothing over time included; their colors
    settle in the first ones of a scene.
    Frames that come while the model is busy are dropped, so the image never lags. Ctrl-C ends the view and prints
    its summary; as this is the way to end it, the exit code is 0.

    Args:
        model: Run folder, weights file, origin:name such as hf:facebook/dinov2-small, or
            factory:MODULE:FUNCTION of your own, with @WEIGHTS after it.
        camera: Camera by number from 0, name or path such as /dev/video2; 0 by default.
        source: Clip to play at its own rate instead of a camera.
        loop: Play the clip again and again.
        method: How to explain; `vitreous methods` lists them and the settings that each one takes. Several, with
            commas between, get a panel each.
        layout: How it is shown: the map over the image by default; heads and layers show each one of the attention.
        target: What the maps shall explain: a class, or "cat - dog"; each image's predicted class by default.
        query: A place X,Y in pixels of the image shown (see --size), or a box X0,Y0,X1,Y1, whose patches are followed
            instead of what the model's head reads.
        track: Carry the query along with what lies there in the first image, until the scene changes.
        layer: Layer to show, counted from 0; -1 is the last.
        head: Head to show, counted from 0; all of them by default.
        fusion: How heads are joined.
        discard: Share of each layer's smallest weights that rollout leaves out.
        view: What the method features shows: PCA as colors, similarity to --query, or norms.
        strength: Of the effect, 0 to 1.
        edges: Bring the map to the image's edges.
        legend: Write method and colors on the image.
        smooth: Half-life in seconds of the smoothing over time, which what moves is spared; 0 for none.
        strip: Draw the classes over time under the image.
        size: Long side of the images in pixels, at most.
        model_size: Side in pixels that the model is given; its own by default.
        model_fit: How frames are brought to that size: squashed, their center cut out, in their own shape with about
            its area, or with bars around them; the model's own way by default.
        precision: bf16 makes the model about 1.5 times as fast where the hardware has it, and auto takes it there;
            int8 about twice, with AVX-512 VNNI and for methods without gradients. A written clip is
            fp32 by default, since there nobody waits.
        host: Address to serve at; by default only this machine can watch.
        port: Port to serve at; 0 for any that is free.
    """
    share_cores()
    from vitreous.explanation.coordinates import parse_region_yx, swapped
    from vitreous.web.live import live as run
    from vitreous.web.server import LiveServer

    if track and loop:
        raise InputError("what is tracked is lost where the clip begins again: leave out --loop or --track")
    followed, methods = parse_region_yx(query), [name.strip() for name in method.split(",")]
    chosen = live_source(camera, source, size, loop=loop)
    try:
        server = LiveServer(host, port)
    except InputError:
        chosen.close()
        raise

    def tell_start(url: str) -> None:
        note(f"{chosen.name} at {url} (Ctrl-C ends)")
        if not server.is_private:
            note("everyone who reaches this machine over the network can watch: there is no password")

    with display() as tell:
        summary = run(
            model, chosen, methods, model_size=model_size, model_fit=model_fit, server=server, on_start=tell_start,
            on_state=tell, layout=layout, explained=target, query=followed and swapped(followed), track=track,
            layer=layer, head=head, fusion=fusion, discard=discard, view=view, strength=strength, edges=edges,
            legend=legend, smooth=smooth, strip=strip, precision=precision,
        )  # fmt: skip
    say(f"{chosen.name}: {in_words(summary)}")
    if summary.broke_off is not None:
        complain(f"{chosen.name}: {summary.broke_off}")
        return EXIT_BROKE_OFF
    return 0


def live_source(camera: str | None, source: Path | None, size: int, *, loop: bool) -> "LiveSource":
    """The camera or clip that was asked for."""
    from vitreous.video.camera import Camera, Clip

    if source is None:
        if loop:
            raise InputError("a camera has no end to begin again after: leave out --loop, or give a clip with --source")
        return Camera("0" if camera is None else camera, size)
    if camera is not None:
        raise InputError("--camera and --source can't both be shown: give one of them")
    return Clip(source, size, loop=loop)


@contextmanager
def display() -> Generator[Callable[["LiveState"], None]]:
    """Where the numbers are shown: in one line that changes on a terminal, else in a line every few seconds."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        status = Console(stderr=True).status("")

        def update(state: "LiveState") -> None:
            status.update(Text(state_words(state)))
            status.start()

        try:
            yield update
        finally:
            status.stop()
        return
    last = [time.monotonic()]

    def line(state: "LiveState") -> None:
        if time.monotonic() - last[0] >= LINE_SECONDS:
            last[0] = time.monotonic()
            note(state_words(state))

    yield line


def state_words(state: "LiveState") -> str:
    """The numbers of a live view in one line."""
    answer = [f"{name} {100 * share:.0f} %" for name, share in state.ranking[:1]]
    latency = "no image" if state.latency_ms is None else f"latency {state.latency_ms:.0f} ms"
    viewers = f"{state.viewers} viewer{'' if state.viewers == 1 else 's'}"
    return " · ".join(
        [*answer, f"{state.fps:.1f} images/s", latency, f"{state.dropped} of {state.seen} dropped", viewers]
    )


def in_words(summary: "LiveSummary") -> str:
    """What came of a live view, in one line."""
    latency = "" if summary.latency_ms is None else f", median latency {summary.latency_ms:.0f} ms"
    return (
        f"{summary.seen} frames seen, {summary.shown} shown, {summary.dropped} dropped{latency}, "
        f"{summary.fps:.1f} images/s"
    )
