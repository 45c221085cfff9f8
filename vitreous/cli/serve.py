"""vitreous serve"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from vitreous.callbacks import Callback
from vitreous.cli.console import ConsoleCallback
from vitreous.cli.flags import ModelName, check_web_extra
from vitreous.cli.options import InputOptions
from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from vitreous.model.classifier import ImageClassifier
    from vitreous.web.training.watched_run import WatchedRun

ADDRESS_GROUP = Group("Address", sort_key=9)
LIMIT_GROUP = Group("Limits", sort_key=10)


def serve(
    model: ModelName,
    /,
    *models: ModelName,
    data: str | None = None,
    count: int = 1000,
    inputs: InputOptions = InputOptions(),
    host: Annotated[str, Parameter(group=ADDRESS_GROUP)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=ADDRESS_GROUP)] = 8765,
    max_upload_mb: Annotated[int, Parameter(group=LIMIT_GROUP)] = 32,
    max_clip_mb: Annotated[int, Parameter(group=LIMIT_GROUP)] = 64,
    max_seconds: Annotated[float, Parameter(group=LIMIT_GROUP)] = 120.0,
    max_memory_mb: Annotated[int, Parameter(group=LIMIT_GROUP)] = 4096,
) -> int:
    """Explore where models look, in the browser: drop an image or a clip, and hover over any patch.

    The page gets the attention of all layers and heads from one forward pass and computes attention and rollout of any
    patch by itself, at once. The other methods run on the server, one request after the other, in fair order. It loads
    nothing from elsewhere. Ctrl-C ends the server. Needs the extra "web": pip install 'vitreous[web]'.

    Args:
        models: More models; the page changes between them. It shows how those that are run folders train, also while
            they do, and before their first checkpoint.
        data: Source whose test images the page offers, such as cifar10 or folder:DIR, by class, the most confident
            mistakes first, or the least confident first.
        count: How many of these images, spread evenly.
        host: Address to serve at; by default only this machine can open the page. At any other, browsers need a token,
            which is part of the address that is printed.
        port: Port to serve at; 0 for any free port.
        max_upload_mb: Largest image file that is taken, in MB.
        max_clip_mb: Largest clip file that is taken, in MB.
        max_seconds: Longest computation for one request, in seconds.
        max_memory_mb: Memory that one request may take beside the model, in MB, as estimated before it starts.
    """
    check_web_extra("serve")
    from vitreous.web.serve import serve as run
    from vitreous.web.server import AppServer
    from vitreous.web.sessions import Limits

    if max_upload_mb < 1 or max_clip_mb < 1 or not max_seconds > 0 or max_memory_mb < 1:
        raise InputError(
            "--max-upload-mb, --max-clip-mb, --max-seconds and --max-memory-mb must be above 0: leave them out for the "
            "defaults"
        )
    server, callback = AppServer(host, port), ConsoleCallback()
    try:
        loaded, runs = open_models(list(dict.fromkeys((model, *models))), inputs, callback)
    except BaseException:
        server.close()
        raise
    limits = Limits(
        upload_bytes=max_upload_mb << 20,
        clip_bytes=max_clip_mb << 20,
        job_seconds=max_seconds,
        memory_bytes=max_memory_mb << 20,
    )
    run(loaded, data, runs=runs, count=count, limits=limits, server=server, callback=callback)
    return 0


def open_models(
    models: list[str], inputs: InputOptions, callback: Callback
) -> tuple[dict[str, "ImageClassifier"], list["WatchedRun"]]:
    """Load models by the names that the page shows, and open those that are run folders as runs, which may lack a
    checkpoint yet."""
    from vitreous.web.training.watched_run import WatchedRun

    loaded, runs = {}, []
    for name, shown in zip(models, display_names(models), strict=True):
        load, folder = partial(inputs.load, name), RunFolder(Path(name))
        if not folder.recipe.is_file():
            loaded[shown] = load()
            continue
        run = WatchedRun(shown, folder.path, load)
        if run.has_weights:
            loaded[shown] = run.reload()
            run.model = len(loaded) - 1
        else:
            callback.on_note(
                f"{name} has no checkpoint yet: the page shows how it trains, and loads it when you say so"
            )
        runs.append(run)
    return loaded, runs


def display_names(models: list[str]) -> list[str]:
    """Return short names for models: the last part of a path, unless two would be called the same.

    >>> display_names(["runs/quick", "weights/vits14.safetensors"]), display_names(["a/run", "b/run"])
    (['quick', 'vits14'], ['a/run', 'b/run'])
    """
    short = [Path(one).stem if one.endswith(".safetensors") else Path(one.rstrip("/")).name for one in models]
    return short if len(set(short)) == len(short) else models
