"""vitreous live"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from vitreous.cli.console import ConsoleCallback
from vitreous.cli.flags import Flag, ModelName, check_web_extra
from vitreous.cli.options import EXPLAIN_GROUP, SPEED_GROUP, InputOptions
from vitreous.cli.serve import ADDRESS_GROUP, display_names
from vitreous.clips.options import VideoPrecision
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.video.camera import LiveSource

SOURCE_GROUP = Group("Source", sort_key=0)


def live(
    model: ModelName,
    /,
    *,
    camera: Annotated[str | None, Parameter(group=SOURCE_GROUP)] = None,
    source: Annotated[Path | None, Parameter(group=SOURCE_GROUP)] = None,
    loop: Annotated[Flag, Parameter(group=SOURCE_GROUP)] = False,
    max_side: Annotated[int, Parameter(group=SOURCE_GROUP)] = 640,
    method: Annotated[str, Parameter(group=EXPLAIN_GROUP)] = "attention",
    target: Annotated[str | None, Parameter(group=EXPLAIN_GROUP)] = None,
    layer: Annotated[int | None, Parameter(group=EXPLAIN_GROUP)] = None,
    head: Annotated[int | None, Parameter(group=EXPLAIN_GROUP)] = None,
    inputs: InputOptions = InputOptions(),
    precision: Annotated[VideoPrecision, Parameter(group=SPEED_GROUP)] = "auto",
    host: Annotated[str, Parameter(group=ADDRESS_GROUP)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=ADDRESS_GROUP)] = 8765,
) -> int:
    """Show live in the browser where a model looks.

    It is the page of `vitreous serve`, which begins with a camera: that of the browser, or one of this machine, or a
    video played at its own rate. Every control of the page works while it runs, and the latency is shown. Frames that
    come while the model is busy are dropped, so the image never lags behind. Ctrl-C ends the server. Needs the extra
    "web": pip install 'vitreous[web]'.

    Args:
        camera: Camera of this machine by number from 0, name or path such as /dev/video2; the browser's by default.
        source: Video to play at its own rate instead of a camera.
        loop: Play the video again and again.
        max_side: Long side in pixels of the images of --camera and --source, at most.
        method: Explanation method that the page begins with; `vitreous methods` lists them.
        target: What the maps explain, as in `vitreous explain`: a class, or "cat - dog"; the predicted class by
            default.
        layer: Layer of the map that the page begins with; the last by default.
        head: Head of that map; the mean over heads by default.
        precision: `bf16` is about 1.5 times as fast where the hardware supports it, and `auto` uses it there. `int8`
            is about twice as fast on CPUs with AVX-512 VNNI, for methods without gradients.
        host: Address to serve at; by default only this machine can open the page. At any other, browsers need a token,
            which is part of the address that is printed.
        port: Port to serve at; 0 for any free port.
    """
    check_web_extra("live")
    from vitreous.explanation.explain import resolve_task
    from vitreous.explanation.options import MethodOptions
    from vitreous.explanation.registry import options_by_method
    from vitreous.web.serve import serve as run
    from vitreous.web.server import AppServer

    options = MethodOptions(layer=layer, head=head)
    options_by_method((method,), options)
    chosen = open_source(camera, source, max_side, loop=loop)
    with ExitStack() as unused:
        if chosen is not None:
            unused.callback(chosen.close)
        server = AppServer(host, port)
        unused.callback(server.close)
        classifier = inputs.load(model)
        resolve_task(classifier, method, options, target)
        unused.pop_all()  # `serve` closes them from here on
    first, _, second = (target or "").partition(" - ")
    view = {"live": "browser" if chosen is None else "server", "method": method, "layer": layer, "heads": head,
            "target": first, "contrast": second}  # fmt: skip
    shown = {name: value for name, value in view.items() if value not in (None, "")}
    (name,) = display_names([model])
    run({name: classifier}, live=chosen, precision=precision, view=shown, server=server, callback=ConsoleCallback())
    return 0


def open_source(camera: str | None, source: Path | None, max_side: int, *, loop: bool) -> "LiveSource | None":
    """Open the camera or video that the user chose; None is the camera of the browser."""
    from vitreous.video.camera import Camera, VideoFileSource

    if source is None:
        if loop:
            raise InputError("a camera has no end to repeat after: leave out --loop, or give a video with --source")
        return None if camera is None else Camera(camera, max_side)
    if camera is not None:
        raise InputError("--camera and --source can't both be shown: give one of them")
    return VideoFileSource(source, max_side, loop=loop)
