"""The film of a run: how its maps, predictions and scores grow while it trains."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback, Progress
from vitreous.errors import InputError, unknown
from vitreous.files import check_writable
from vitreous.training_film.frames import FilmFrames, FilmLayout
from vitreous.training_film.history import read_map_history
from vitreous.video.encode import file_format, write_video

FILM_HEIGHT, GIF_HEIGHT = 1080, 720
LEAST_HEIGHT, MOST_HEIGHT = 240, 2160
MOST_SECONDS, MOST_FPS = 600.0, 120.0
OPENING_SECONDS, CLOSING_SECONDS, OPENING_FADE_SECONDS = 2.5, 1.5, 0.5
"""Of a film of 12 seconds or more; a shorter one has a fifth and an eighth of its length."""
FADE_SECONDS = 0.5
"""Longest cross-fade between two kept steps; what is left of their distance in the film, the first one stays."""


@dataclass(frozen=True)
class FilmResult:
    """A film that was written.

    Attributes:
        path: of the file.
        method: of the maps.
        images: number of images in the film.
        kept_steps: number of steps whose maps the run kept.
        last_step: the last of them.
        frames: in the file.
        fps: frames per second.
        size_hw: (height, width) in pixels.
    """

    path: Path
    method: str
    images: int
    kept_steps: int
    last_step: int
    frames: int
    fps: float
    size_hw: tuple[int, int]

    @property
    def seconds(self) -> float:
        """The length of the film."""
        return self.frames / self.fps

    def to_json(self) -> dict[str, object]:
        """Return the record as a plain dictionary."""
        return {**asdict(self), "path": str(self.path), "size_hw": list(self.size_hw), "seconds": self.seconds}


@check_arguments
def film(
    run: str | Path,
    path: str | Path | None = None,
    *,
    method: str = "attention",
    layout: FilmLayout = "side-by-side",
    images: int | Sequence[int] | None = None,
    fps: float = 30.0,
    seconds: float = 15.0,
    height: int | None = None,
    callback: Callback | None = None,
) -> FilmResult:
    """Make the film of a run from the maps that it kept while it trained; an unfinished run gives what there is.

    Above are the curves of metric and loss with a cursor, below the fixed images with their maps, predictions and the
    probability of the true label. All images and steps share one color scale. Each kept step takes the same time;
    between two the maps are cross-faded.

    Args:
        run: the run folder.
        path: the file to write: .mp4, .webm, .gif, .mkv, .mov. By default learning.mp4 in the run folder.
        method: "attention" (of the last layer) or "rollout".
        layout: "side-by-side" shows each image beside its map, "overlay" the map on the image alone.
        images: which of the fixed images, by their numbers from 0; all by default.
        fps: frames per second.
        seconds: length of the film.
        height: of the frames in pixels, even; 1080 by default, 720 for a GIF. The width is 16 / 9 of it.
        callback: receives the progress after each frame, and may end the film there.

    Raises:
        InputError: it is no run, it kept no maps, or the file can't be written so.

    Example:
        >>> vitreous.film("runs/shapes", "learning.mp4", method="rollout").frames  # doctest: +SKIP
        450
    """
    output = Path(run) / "learning.mp4" if path is None else Path(path)
    if layout not in get_args(FilmLayout):
        raise unknown("layout", layout, get_args(FilmLayout))
    for name, value, most in (("fps", fps, MOST_FPS), ("seconds", seconds, MOST_SECONDS)):
        if not 1 <= value <= most:
            raise InputError(f"{name} is {value:g}: give 1 to {most:g}")
    tall = height if height is not None else GIF_HEIGHT if output.suffix.lower() == ".gif" else FILM_HEIGHT
    if not LEAST_HEIGHT <= tall <= MOST_HEIGHT or tall % 2:
        raise InputError(f"height is {tall}: give an even number of pixels from {LEAST_HEIGHT} to {MOST_HEIGHT}")
    file_format(output)
    history = read_map_history(run, method)
    if images is not None:
        history = history.select([images] if isinstance(images, int) else images)
    check_writable(output)
    frames, rate = FilmFrames(history, layout, tall), Fraction(str(fps)).limit_denominator(1001)
    total, listener = max(2, round(seconds * rate)), LogCallback() if callback is None else callback
    written = _Counted(film_frames(frames, len(history.steps), total, float(rate)), total, listener)
    write_video(output, written, rate)
    return FilmResult(
        output, method, len(history.images.indexes), len(history.steps), history.steps[-1], written.done, float(rate),
        frames.size_hw,
    )  # fmt: skip


class _Counted:
    """Passes frames on and reports how many; ends where the callback wants to stop, after a frame at least."""

    def __init__(self, frames: Iterator[np.ndarray], total: int, callback: Callback) -> None:
        self.frames, self.total, self.callback, self.done = frames, total, callback, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame_u8 in self.frames:
            yield frame_u8
            self.done += 1
            self.callback.on_progress(Progress(self.done, self.total, "frames"))
            if self.callback.should_stop():
                return


def film_frames(frames: FilmFrames, steps: int, total: int, fps: float) -> Iterator[np.ndarray]:
    """Yield so many frames, uint8 (height, width, 3): what the film shows, the kept steps one by one, the last one."""
    opening = round(min(OPENING_SECONDS * fps, total / 5))
    closing = round(min(CLOSING_SECONDS * fps, total / 8))
    fading = round(min(OPENING_FADE_SECONDS * fps, opening / 3))
    moving = total - opening - closing
    card_u8, first_u8 = frames.opening(), frames.frame(0.0)
    for number in range(opening):
        weight = max(0.0, (number - (opening - fading) + 1) / (fading + 1))
        yield card_u8 if not weight else np.rint((1 - weight) * card_u8 + weight * first_u8).astype(np.uint8)
    shown, last_u8 = 0.0, first_u8
    for number in range(moving + closing):
        position = position_at(min(1.0, number / max(1, moving - 1)), steps, moving / fps)
        if position != shown:
            shown, last_u8 = position, frames.frame(position)
        yield last_u8


def position_at(time: float, steps: int, seconds: float) -> float:
    """Return the position among kept steps at a time from 0 to 1 of the moving part, of so many seconds.

    A step stays until the cross-fade to the next one, which takes half a second at most.

    >>> [position_at(time, 3, 4.0) for time in (0.0, 0.3, 0.4375, 0.5, 1.0)]
    [0.0, 0.0, 0.5, 1.0, 2.0]
    """
    whole = time * (steps - 1)
    first = min(int(whole + 1e-9), max(0, steps - 2))
    distance = seconds / max(1, steps - 1)
    fade = min(1.0, FADE_SECONDS / distance)
    return first + min(1.0, max(0.0, (whole - first - (1 - fade)) / fade)) if steps > 1 else 0.0
