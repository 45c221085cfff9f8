"""Lay over a clip what a model looks at, frame by frame."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import InputError
from vitreous.explanation.methods import find_method
from vitreous.explanation.pictures import explain_batch
from vitreous.explanation.targets import Target
from vitreous.render.color import SteadyScale
from vitreous.render.text import draw_label
from vitreous.tasks.classification import Classifier
from vitreous.video.info import Frame
from vitreous.video.stream import VideoResult, transform_video
from vitreous.workflows.explain import settings_from, verdict
from vitreous.workflows.load import load


def explain_video(
    model: str | Path | Classifier,
    source: str | Path,
    target: str | Path,
    method: str = "rollout",
    *,
    explained: str | Target | None = None,
    query: tuple[float, float] | None = None,
    batch_size: int = 16,
    on_progress: Callable[[int, int | None], None] | None = None,
    **settings: Any,
) -> VideoResult:
    """Write a clip with the model's attention laid over it: same frames, times, size and sound.

    Frames are streamed: memory doesn't grow with the clip. The written file is read back and checked before this
    returns.

    Args:
        model: whatever `load` takes, or a loaded model.
        source: the clip to read.
        target: the clip to write, .mp4 (H.264), .mov or .mkv.
        method: a name in the table of methods.
        explained: what the maps shall explain, as `target` of `explain`; each frame's predicted class by default.
        query: (x, y) in the clip's pixels: the patch there is followed.
        batch_size: frames that go through the model at a time.
        on_progress: called with frames done and frames in all (None where the file doesn't say).
        **settings: further ones by name, as in `explain`.

    Raises:
        InputError: a clip that can't be read or written, or an unknown method, setting, layer or head.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is none: give 1 or more")
    classifier, chosen = load(model), settings_from(settings)
    scale = SteadyScale(signed=find_method(method, chosen).kind == "signed")
    place = None if query is None else (query[1], query[0])

    def draw(frames: list[Frame]) -> list[np.ndarray]:
        images = [frame.image_u8 for frame in frames]
        drawn = []
        for explanation in explain_batch(classifier, images, method, chosen, explained, place):
            shown = explanation.drawn(scale.update(explanation.heat))
            lines = [verdict(explanation.prediction), explanation.words()]
            drawn.append(draw_label(shown, [line for line in lines if line], "top left"))
        return drawn

    return transform_video(source, target, draw, batch_size, on_progress)
