"""A clip in, a clip out, with something drawn on every frame: read, look, draw and write side by side.

Reading, drawing and writing have a thread each; the model looks at the frames on the caller's. A few batches are in
memory at a time, however long the clip is.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.video.channel import Cancelled, Channel
from vitreous.video.decode import ClipBrokeOff, read_frames
from vitreous.video.excerpt import Told, expected_frames
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.interrupt import first_interrupt
from vitreous.video.options import WHOLE, VideoOptions
from vitreous.video.output import check_target, writer_for

Draw = Callable[..., list[np.ndarray]]
Look = Callable[[list[Frame]], Any]
BATCHES_WAITING = 1


@dataclass(frozen=True)
class VideoResult:
    """A clip that was written and read back: what it is, its number of frames, and where its source broke off, if so.

    `broke_off` also says so where only the source's sound ends early. `notes` are lines for the user: what the output
    could not take over. `is_interrupted` says that Ctrl-C ended it early, after `frames` frames.
    """

    info: VideoInfo
    frames: int
    broke_off: ClipBrokeOff | None
    notes: tuple[str, ...] = ()
    is_interrupted: bool = False


def transform_video(
    source: Path | str,
    target: Path | str,
    draw: Draw,
    batch_size: int = 8,
    on_progress: Callable[[int, int | None], None] | None = None,
    *,
    look: Look | None = None,
    options: VideoOptions = WHOLE,
) -> VideoResult:
    """Write to `target` the clip at `source` with each frame replaced by what `draw` makes of it.

    `target` is a file with a suffix of FORMATS, a folder (its name ends in "/") for PNG files, or "-" for raw frames on
    standard output. `draw(frames)` takes up to `batch_size` frames and returns as many pictures, uint8 RGB (height,
    width, 3), all of one size over the whole clip. With `look`, `seen = look(frames)` runs on the calling thread, and
    `draw(frames, seen)` on another one beside the next `look`. Frames have the size that `options` ask for, so what is
    drawn stays sharp. `on_progress(drawn, total)` is called on the calling thread after each batch; the total is None
    where the header does not say.

    Of a source that breaks off, the good part is written. So it is after Ctrl-C (where that raises KeyboardInterrupt):
    the batch in work is completed, and the output ends properly. A second one gives up at once.

    Raises:
        InputError: the source is no clip, or the target can't be written. No file is left behind, as on any error.
        IncompleteClipError: what was read back is not what was written.
        KeyboardInterrupt: Ctrl-C before the first batch was drawn, or twice.
    """
    assert batch_size >= 1
    check_target(target, source, options)
    info = read_info(source)
    run = Run(info, target, options)
    total = expected_frames(info, options)
    with ThreadPoolExecutor(max_workers=3) as threads, aborting(run.frames, run.looked, run.pictures):
        reading = threads.submit(run.read, batch_size)
        writing = threads.submit(run.write, reading)
        drawing = threads.submit(run.draw, draw) if look else None
        done = 0
        with first_interrupt(run.stop):
            for batch in run.frames:
                if look:
                    run.looked.put((batch, look(batch)))
                else:
                    run.pictures.put(drawn_on(batch, draw(batch)))
                done += len(batch)
                if on_progress:
                    on_progress(done, total)
            run.is_drawn = True
            if run.is_stopped and not done:
                raise KeyboardInterrupt
            (run.looked if look else run.pictures).finish()
            if drawing:
                drawing.result()
            broke_off, written, notes = writing.result()
    return VideoResult(written, done, broke_off, notes, run.is_stopped)


class Run:
    """One clip on its way: the channels between the stages, and the stages that have threads of their own."""

    def __init__(self, info: VideoInfo, target: Path | str, options: VideoOptions) -> None:
        self.info, self.target, self.options = info, target, options
        self.frames = Channel[list[Frame]](BATCHES_WAITING)
        self.looked = Channel[tuple[list[Frame], Any]](BATCHES_WAITING)
        self.pictures = Channel[list[Frame]](BATCHES_WAITING)
        self.told = Told()
        self.is_stopped = self.is_drawn = False

    def stop(self) -> None:
        """Read no further, unless all is drawn; what was drawn is written."""
        if not self.is_drawn:
            self.is_stopped = True
            self.frames.cancel()

    def read(self, batch_size: int) -> ClipBrokeOff | None:
        """Read the clip into the channel in batches; return where it broke off, if it did."""
        batch: list[Frame] = []
        broke_off = None
        with aborting(self.frames), closing(read_frames(self.info.path, self.options, self.told)) as reader:
            try:
                for frame in reader:
                    batch.append(frame)
                    if len(batch) == batch_size:
                        self.frames.put(batch)
                        batch = []
            except ClipBrokeOff as error:
                broke_off = error
            except Cancelled:
                return None
            if batch and not self.is_stopped:
                self.frames.put(batch)
            self.frames.finish()
        return broke_off

    def draw(self, draw: Draw) -> None:
        """Draw what was seen on the frames that it was seen in."""
        with aborting(self.looked, self.pictures):
            for batch, seen in self.looked:
                self.pictures.put(drawn_on(batch, draw(batch, seen)))
            self.pictures.finish()

    def write(self, reading: Future[ClipBrokeOff | None]) -> tuple[ClipBrokeOff | None, VideoInfo, tuple[str, ...]]:
        """Write what the channel brings; return where the source broke off, if it did, and what was written."""
        with aborting(self.looked, self.pictures):
            batches = iter(self.pictures)
            first = next(batches)
            source = replace(self.info, fps=self.info.fps / self.options.every)
            size_hw, zero = first[0].image_u8.shape[:2], self.told.zero_seconds
            with writer_for(self.target, source, size_hw, self.options, zero) as writer:
                for frame in chain.from_iterable(chain([first], batches)):
                    writer.write(frame)
                broke_off = None if self.is_stopped else reading.result()
                if broke_off or self.is_stopped:
                    writer.cut_sound()
            if broke_off is None and writer.sound_broke_off:
                broke_off = ClipBrokeOff(writer.frames, writer.sound_broke_off, frame.time_seconds)
            return broke_off, writer.info(), (*self.told.notes, *writer.notes)


@contextmanager
def aborting(*channels: Channel) -> Generator[None]:
    """On any error, Ctrl-C included, end the channels, so that the thread at their other end stops too."""
    try:
        yield
    except BaseException as error:
        for channel in channels:
            channel.abort(error)
        raise


def drawn_on(batch: list[Frame], images: list[np.ndarray]) -> list[Frame]:
    """The frames of a batch with their pictures replaced by those that were drawn."""
    assert len(images) == len(batch), f"{len(batch)} frames were given to draw, {len(images)} pictures came back"
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in images), "draw must return uint8 RGB pictures"
    return [replace(frame, image_u8=image) for frame, image in zip(batch, images, strict=True)]
