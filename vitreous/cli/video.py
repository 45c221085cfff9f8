"""vitreous video"""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitreous.cli import EXIT_BROKE_OFF, complain
from vitreous.cli.screen import clock, progress, say


def video(
    model: str,
    clip: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    method: str = "rollout",
    target: str | None = None,
    query: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    batch_size: int = 16,
) -> int:
    """Lay over a clip what a model looks at: same frames, times, size and sound.

    Args:
        model: Run folder, weights file, or origin:name such as hf:facebook/dinov2-small.
        clip: Video file, or an animated GIF.
        output: File to write: .mp4, .mov or .mkv; the clip's name with "-attention.mp4" by default.
        method: How to explain; `vitreous methods` lists them and the settings that each one takes.
        target: What the maps shall explain: a class, or "cat - dog"; each frame's predicted class by default.
        query: A place X,Y in the clip's pixels, whose patch is followed instead of what the model's head reads.
        layer: Layer to show, counted from 0; -1 is the last.
        head: Head to show, counted from 0; all of them by default.
        batch_size: Frames that go through the model at a time.
    """
    from vitreous.workflows.places import place
    from vitreous.workflows.video import explain_video

    path = output or Path(f"{clip.stem}-attention.mp4")
    started = time.monotonic()
    with progress("video") as display:

        def tell(done: int, total: int | None) -> None:
            rate = done / max(1e-9, time.monotonic() - started)
            left = f" · {clock((total - done) / rate)} left" if total and done else ""
            display(done, total, f"frame {done} · {rate:.1f} frames/s{left}")

        followed = place(query)
        result = explain_video(
            model, clip, path, method, explained=target, query=followed and followed[::-1], batch_size=batch_size,
            on_progress=tell, layer=layer, head=head,
        )  # fmt: skip
    height, width = result.info.size_hw
    seconds, sound = float(result.info.duration_seconds or 0), result.info.sound or "none"
    say(f"{path}: {result.frames} frames, {seconds:.2f} s, {width} × {height} pixels, sound: {sound}")
    if result.broke_off is not None:
        complain(f"{clip} broke off after {result.frames} frames ({result.broke_off.reason}): these were written")
        return EXIT_BROKE_OFF
    return 0
