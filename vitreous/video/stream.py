"""A clip in, a clip out, with something drawn on every frame: read, compute and write side by side.

Reading and writing have a thread each and the drawing stays on the caller's; a few batches are in memory at a time,
however long the clip is.
"""

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from vitreous.video.channel import Channel
from vitreous.video.decode import ClipBrokeOff, read_frames
from vitreous.video.encode import VideoWriter, check_target
from vitreous.video.info import Frame, VideoInfo, read_info

Draw = Callable[[list[Frame]], list[np.ndarray]]
BATCHES_WAITING = 1


@dataclass(frozen=True)
class VideoResult:
    """A clip that was written and read back: what it is, its number of frames, and where its source broke off, if so.

    `broke_off` also says so where only the source's sound ends early.
    """

    info: VideoInfo
    frames: int
    broke_off: ClipBrokeOff | None


def transform_video(
    source: Path | str,
    target: Path | str,
    draw: Draw,
    batch_size: int = 8,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> VideoResult:
    """Write to `target` the clip at `source` with each frame replaced by what `draw` makes of it.

    `draw` takes up to `batch_size` frames and returns as many pictures, uint8 RGB (height, width, 3), all of one size
    over the whole clip. `on_progress(drawn, total)` is called after each batch; the total is None where the header
    does not say. Both run on the calling thread. Of a source that breaks off, the good part is written.

    Raises:
        InputError: the source is no clip, or the target can't be written. No file is left behind, as on any error.
        IncompleteClipError: what was read back is not what was written.
    """
    assert batch_size >= 1
    check_target(target, source)
    info = read_info(source)
    frames, pictures = Channel[list[Frame]](BATCHES_WAITING), Channel[list[Frame]](BATCHES_WAITING)
    with ThreadPoolExecutor(max_workers=2) as threads, aborting(frames, pictures):
        reading = threads.submit(read_stage, source, frames, batch_size)
        writing = threads.submit(write_stage, pictures, Path(target), info, reading)
        drawn = 0
        for batch in frames:
            pictures.put(drawn_on(batch, draw))
            drawn += len(batch)
            if on_progress:
                on_progress(drawn, info.frame_count)
        pictures.finish()
        broke_off = writing.result()
    return VideoResult(read_info(target), drawn, broke_off)


@contextmanager
def aborting(*channels: Channel) -> Generator[None]:
    """On any error, Ctrl-C included, end the channels, so that the thread at their other end stops too."""
    try:
        yield
    except BaseException as error:
        for channel in channels:
            channel.abort(error)
        raise


def read_stage(source: Path | str, frames: Channel[list[Frame]], batch_size: int) -> ClipBrokeOff | None:
    """Read the clip into the channel in batches; return where it broke off, if it did."""
    batch: list[Frame] = []
    broke_off = None
    with aborting(frames), closing(read_frames(source)) as reader:
        try:
            for frame in reader:
                batch.append(frame)
                if len(batch) == batch_size:
                    frames.put(batch)
                    batch = []
        except ClipBrokeOff as error:
            broke_off = error
        if batch:
            frames.put(batch)
        frames.finish()
    return broke_off


def drawn_on(batch: list[Frame], draw: Draw) -> list[Frame]:
    """The frames of a batch with their pictures replaced by those that `draw` makes."""
    images = draw(batch)
    assert len(images) == len(batch), f"{len(batch)} frames were given to draw, {len(images)} pictures came back"
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in images), "draw must return uint8 RGB pictures"
    return [replace(frame, image_u8=image) for frame, image in zip(batch, images, strict=True)]


def write_stage(
    pictures: Channel[list[Frame]], target: Path, info: VideoInfo, reading: Future[ClipBrokeOff | None]
) -> ClipBrokeOff | None:
    """Write what the channel brings; return where the source broke off, if it did."""
    with aborting(pictures):
        batches = iter(pictures)
        first = next(batches)
        with VideoWriter(target, info, first[0].image_u8.shape[:2]) as writer:
            for frame in chain.from_iterable(chain([first], batches)):
                writer.write(frame)
            broke_off = reading.result()
            if broke_off:
                writer.cut_sound()
        if broke_off is None and writer.sound and writer.sound.broke_off:
            return ClipBrokeOff(len(writer.picture.ticks), writer.sound.broke_off, frame.time_seconds)
    return broke_off
