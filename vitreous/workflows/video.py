"""Lay over a clip what a model looks at, frame by frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitreous.errors import InputError
from vitreous.explanation.methods import find_method
from vitreous.explanation.pictures import explain_batch
from vitreous.render.color import SteadyScale
from vitreous.render.overlay import overlay
from vitreous.render.text import draw_label
from vitreous.tasks.classification import Classifier
from vitreous.video.info import Frame
from vitreous.video.stream import VideoResult, transform_video
from vitreous.workflows.explain import settings_for, verdict
from vitreous.workflows.load import load


def explain_video(
    model: str | Path | Classifier,
    source: str | Path,
    target: str | Path,
    method: str = "rollout",
    *,
    layer: int | None = None,
    head: int | None = None,
    batch_size: int = 16,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> VideoResult:
    """Write a clip with the model's attention laid over it: same frames, times, size and sound.

    Frames are streamed: memory doesn't grow with the clip. The written file is read back and checked before this
    returns.

    Args:
        model: a run folder, a model.safetensors file, or a loaded model.
        source: the clip to read.
        target: the clip to write, .mp4 (H.264), .mov or .mkv.
        method, layer, head: as in `explain`.
        batch_size: frames that go through the model at a time.
        on_progress: called with frames done and frames in all (None where the file doesn't say).

    Raises:
        InputError: a clip that can't be read or written, or an unknown method, layer or head.
    """
    if batch_size < 1:
        raise InputError(f"batch size {batch_size} is none: give 1 or more")
    classifier, settings = load(model), settings_for(layer, head)
    find_method(method, settings)
    scale = SteadyScale()

    def draw(frames: list[Frame]) -> list[np.ndarray]:
        explanations = explain_batch(classifier, [frame.image_u8 for frame in frames], method, settings)
        drawn = []
        for explanation in explanations:
            shown = overlay(explanation.picture_u8, explanation.heat, scale.update(explanation.heat))
            drawn.append(draw_label(shown, [verdict(explanation.prediction), explanation.words()], "top left"))
        return drawn

    return transform_video(source, target, draw, batch_size, on_progress)
