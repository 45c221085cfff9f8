"""A clip in, a clip out, with something drawn on every frame: read, look, draw and write side by side.

Reading, drawing and writing have a thread each; the model looks at the frames on the caller's. A few batches are in
memory at a time, however long the clip is.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.video.channel import Cancelled, Channel
from vitreous.video.decode import ClipBrokeOff, read_frames
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.interrupt import first_interrupt
from vitreous.video.options import WHOLE, VideoOptions
from vitreous.video.output import check_target, stretched, with_square_pixels, writer_for
from vitreous.video.trim import Told, expected_frames

Draw = Callable[..., list[np.ndarray]]
Look = Callable[[list[Frame]], Any]
BATCHES_WAITING = 1
PIXELS_AT_ONCE = 128 * 1080 * 1920  # 0.8 GB; batches keep their size, which what is drawn may depend on


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
    standard output. `draw(frames)` takes up to `batch_size` frames and returns as many images, uint8 RGB (height,
    width, 3), all of one size over the whole clip. With `look`, `seen = look(frames)` runs on the calling thread, and
    `draw(frames, seen)` on another one beside the next `look`. Frames have the size that `options` ask for, so what is
    drawn stays sharp; with square pixels, where the target can't say that the source's are none.
    `on_progress(drawn, total)` is called on the calling thread after each batch; the total is None where the header
    does not say.

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
    run = Run(info, target, options, batch_size)
    total = expected_frames(info, options)
    with first_interrupt(run.stop), ThreadPoolExecutor(max_workers=3) as threads, aborting(*run.channels):
        reading = threads.submit(run.read)
        writing = threads.submit(run.write, reading)
        drawing = threads.submit(run.draw, draw) if look else None
        done = 0
        for batch in run.frames:
            if look:
                run.looked.put((batch, look(batch)))
            else:
                run.images.put(drawn_on(batch, draw(batch)))
            done += len(batch)
            if on_progress:
                on_progress(done, total)
        run.is_drawn = True
        if run.is_stopped and not done:
            raise KeyboardInterrupt
        (run.looked if look else run.images).finish()
        if drawing:
            drawing.result()
        broke_off, written, notes = writing.result()
    return VideoResult(written, done, broke_off, notes, run.is_stopped)


class Run:
    """One clip on its way: the channels between the stages, and the stages that have threads of their own."""

    def __init__(self, info: VideoInfo, target: Path | str, options: VideoOptions, batch_size: int) -> None:
        self.info, self.target = info, target
        self.options = with_square_pixels(options, target, info)
        self.batch_size = batch_size
        self.on_their_way = Channel[None](batches_at_once(batch_size, self.options.size_of(info.size_hw)))
        self.frames = Channel[list[Frame]](BATCHES_WAITING)
        self.looked = Channel[tuple[list[Frame], Any]](BATCHES_WAITING)
        self.images = Channel[list[Frame]](BATCHES_WAITING)
        self.told = Told(notes=[stretched(info, target, options)] if self.options != options else [])
        self.is_stopped = self.is_drawn = False

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self.on_their_way, self.frames, self.looked, self.images)

    def stop(self) -> None:
        """Read no further, unless all is drawn; what was drawn is written."""
        if not self.is_drawn:
            self.is_stopped = True
            self.frames.cancel()
            self.on_their_way.cancel()

    def read(self) -> ClipBrokeOff | None:
        """Read the clip into the channel in batches; return where it broke off, if it did."""
        with aborting(self.frames), closing(read_frames(self.info.path, self.options, self.told)) as reader:
            try:
                broke_off = self.hand_over(reader)
            except Cancelled:
                return None
            self.frames.finish()
        return broke_off

    def hand_over(self, reader: Iterator[Frame]) -> ClipBrokeOff | None:
        """Put frames into the channel in batches, the rest as well; return where the clip broke off, if it did.

        Raises:
            Cancelled: Ctrl-C ended the reading, at whichever batch.
        """
        batch: list[Frame] = []
        broke_off = None
        try:
            self.on_their_way.put(None)
            for frame in reader:
                batch.append(frame)
                if len(batch) == self.batch_size:
                    self.frames.put(batch)
                    batch = []
                    self.on_their_way.put(None)
        except ClipBrokeOff as error:
            broke_off = error
        if batch:
            self.frames.put(batch)
        return broke_off

    def draw(self, draw: Draw) -> None:
        """Draw what was seen on the frames that it was seen in."""
        with aborting(self.looked, self.images):
            for batch, seen in self.looked:
                self.images.put(drawn_on(batch, draw(batch, seen)))
            self.images.finish()

    def write(self, reading: Future[ClipBrokeOff | None]) -> tuple[ClipBrokeOff | None, VideoInfo, tuple[str, ...]]:
        """Write what the channel brings; return where the source broke off, if it did, and what was written."""
        with aborting(*self.channels):
            frames = self.drawn()
            frame = next(frames)
            source = replace(self.info, fps=self.info.fps / self.options.every)
            size_hw, zero = frame.image_u8.shape[:2], self.told.zero_seconds
            with writer_for(self.target, source, size_hw, self.options, zero) as writer:
                writer.write(frame)
                for frame in frames:
                    writer.write(frame)
                broke_off = None if self.is_stopped else reading.result()
                if broke_off or self.is_stopped:
                    writer.cut_sound()
            if broke_off is None and writer.sound_broke_off:
                broke_off = ClipBrokeOff(writer.frames, writer.sound_broke_off, frame.time_seconds)
            return broke_off, writer.info(), (*self.told.notes, *writer.notes)

    def drawn(self) -> Iterator[Frame]:
        """The frames to be written; once a batch is, another may be read."""
        done = iter(self.on_their_way)
        for batch in self.images:
            yield from batch
            batch.clear()
            next(done, None)


def batches_at_once(batch_size: int, frame_hw: tuple[int, int]) -> int:
    """How many batches may be on their way from reader to writer, one at least.

    >>> batches_at_once(16, (1080, 1920)), batches_at_once(16, (2160, 3840)), batches_at_once(16, (4320, 7680))
    (8, 2, 1)
    """
    height, width = frame_hw
    return max(1, PIXELS_AT_ONCE // (batch_size * height * width))


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
    """The frames of a batch with their images replaced by those that were drawn."""
    assert len(images) == len(batch), f"{len(batch)} frames were given to draw, {len(images)} images came back"
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in images), "draw must return uint8 RGB images"
    return [replace(frame, image_u8=image) for frame, image in zip(batch, images, strict=True)]
