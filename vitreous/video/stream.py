"""Transform a video: read, infer, draw and write run side by side.

Reading, drawing and writing have a thread each; the model runs on the caller's thread. Only a few batches are in memory
at a time, however long the video is.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from vitreous.callbacks import Callback, Progress
from vitreous.signals import on_first_interrupt
from vitreous.video.channel import Cancelled, Channel
from vitreous.video.decode import TruncatedVideoError, read_frames
from vitreous.video.info import Frame, VideoInfo, read_info
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.output import check_output, create_writer, square_pixels, square_pixels_note
from vitreous.video.trim import ReadReport, expected_frames

T = TypeVar("T")
WAITING_BATCHES = 1
MAX_PIXELS_IN_FLIGHT = 128 * 1080 * 1920  # 0.8 GB; batches keep their size, because drawings may depend on it


@dataclass(frozen=True)
class VideoResult:
    """A video that was written and read back.

    Attributes:
        info: what was written.
        frames: the number of frames.
        truncation: where the source is truncated, if it is; also if only its audio ends early.
        notes: for the user, such as what the output format could not store.
        is_interrupted: whether Ctrl-C or the callback ended it early, after `frames` frames.
    """

    info: VideoInfo
    frames: int
    truncation: TruncatedVideoError | None
    notes: tuple[str, ...] = ()
    is_interrupted: bool = False


def transform_video(
    source: Path | str,
    output: Path | str,
    draw: Callable[[list[Frame]], list[np.ndarray]],
    batch_size: int = 8,
    callback: Callback | None = None,
    *,
    options: VideoOptions = KEEP_ALL,
) -> VideoResult:
    """Write a copy of a video in which each frame is replaced by what `draw` returns for it.

    Args:
        source: a video file.
        output: a file with a suffix of FORMATS, a folder (its name ends in "/") for PNG files, or "-" for raw frames on
            standard output.
        draw: takes up to `batch_size` frames and returns as many images, uint8 RGB (height, width, 3), all of one size
            over the whole video. It runs on the calling thread.
        batch_size: frames per call of `draw`.
        callback: receives the number of frames that are done, after each batch, on the calling thread.
        options: the part of the video, its size and format. Frames already have that size when they are drawn on.

    Raises:
        InputError: the source is not a video, or the output can't be written. No file is left behind, as on any error.
        IncompleteVideoError: the file read back differs from what was written.
        KeyboardInterrupt: Ctrl-C before the first batch was done, or twice.
    """
    pipeline: Pipeline[None] = open_pipeline(source, output, options, batch_size)
    return pipeline.run(
        lambda batch: pipeline.images.put(replace_images(batch, draw(batch))), pipeline.images, callback
    )


def annotate_video(
    source: Path | str,
    output: Path | str,
    infer: Callable[[list[Frame]], T],
    draw: Callable[[list[Frame], T], list[np.ndarray]],
    batch_size: int = 8,
    callback: Callback | None = None,
    *,
    options: VideoOptions = KEEP_ALL,
) -> VideoResult:
    """Write a copy of a video on which the results of a model are drawn.

    `infer(frames)` runs on the calling thread, and `draw(frames, results)` on another one at the same time as the next
    `infer`. If the source is truncated, its readable part is written. After Ctrl-C (if that raises KeyboardInterrupt),
    or when `callback.should_stop()` is true, the current batch is completed and the output ends properly. A second
    Ctrl-C stops at once.

    Args:
        source: as in `transform_video`, and so are `output`, `batch_size`, `callback` and `options`.
        output: what is written.
        infer: takes up to `batch_size` frames and returns anything that `draw` needs.
        draw: takes the same frames and that result; returns as many images, all of one size.
        batch_size: frames per call.
        callback: receives the progress.
        options: the part of the video, its size and format.

    Raises:
        InputError: as `transform_video`, which has the other errors too.
    """
    pipeline: Pipeline[T] = open_pipeline(source, output, options, batch_size)
    return pipeline.run(lambda batch: pipeline.results.put((batch, infer(batch))), pipeline.results, callback, draw)


def open_pipeline(source: Path | str, output: Path | str, options: VideoOptions, batch_size: int) -> "Pipeline":
    """Check that the output can be written, and prepare to read the source."""
    assert batch_size >= 1
    check_output(output, source, options)
    return Pipeline(read_info(source), output, options, batch_size)


class Pipeline(Generic[T]):
    """One video on its way: the channels between the stages, and the stages that have a thread each."""

    def __init__(self, info: VideoInfo, output: Path | str, options: VideoOptions, batch_size: int) -> None:
        self.info, self.output = info, output
        self.options = square_pixels(options, output, info)
        self.batch_size = batch_size
        self.in_flight = Channel[None](max_batches_in_flight(batch_size, self.options.output_size(info.size_hw)))
        self.frames = Channel[list[Frame]](WAITING_BATCHES)
        self.results = Channel[tuple[list[Frame], T]](WAITING_BATCHES)
        self.images = Channel[list[Frame]](WAITING_BATCHES)
        self.report = ReadReport(notes=[square_pixels_note(info, output, options)] if self.options != options else [])
        self.is_stopped = self.is_processed = False

    def run(
        self,
        process: Callable[[list[Frame]], None],
        processed: Channel,
        callback: Callback | None,
        draw: Callable[[list[Frame], T], list[np.ndarray]] | None = None,
    ) -> VideoResult:
        """Read, process, draw and write until the video ends.

        Args:
            process: takes each batch on the calling thread and puts it into `processed`.
            processed: `results` if there is a `draw`, else `images`.
            callback: receives the progress, and may stop.
            draw: draws on another thread.
        """
        callback = callback or Callback()
        total, done = expected_frames(self.info, self.options), 0
        with (
            on_first_interrupt(self.stop),
            ThreadPoolExecutor(max_workers=3) as threads,
            abort_on_error(*self.channels),
        ):
            reading = threads.submit(self.read)
            writing = threads.submit(self.write, reading)
            drawing = threads.submit(self.draw, draw) if draw else None
            for batch in self.frames:
                process(batch)
                done += len(batch)
                callback.on_progress(Progress(done, total))
                if callback.should_stop():
                    self.stop()
            self.is_processed = True
            if self.is_stopped and not done:
                raise KeyboardInterrupt
            processed.finish()
            if drawing:
                drawing.result()
            truncation, written, notes = writing.result()
        return VideoResult(written, done, truncation, notes, self.is_stopped)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self.in_flight, self.frames, self.results, self.images)

    def stop(self) -> None:
        """Read no further, unless all frames are processed; what is processed is written."""
        if not self.is_processed:
            self.is_stopped = True
            self.frames.cancel()
            self.in_flight.cancel()

    def read(self) -> TruncatedVideoError | None:
        """Read the video into the channel in batches; return where it is truncated, if it is."""
        with abort_on_error(self.frames), closing(read_frames(self.info.path, self.options, self.report)) as reader:
            try:
                truncation = self.send_batches(reader)
            except Cancelled:
                return None
            self.frames.finish()
        return truncation

    def send_batches(self, reader: Iterator[Frame]) -> TruncatedVideoError | None:
        """Put the frames into the channel in batches; return where the video is truncated, if it is.

        Raises:
            Cancelled: the reading was stopped.
        """
        batch: list[Frame] = []
        truncation = None
        try:
            self.in_flight.put(None)
            for frame in reader:
                batch.append(frame)
                if len(batch) == self.batch_size:
                    self.frames.put(batch)
                    batch = []
                    self.in_flight.put(None)
        except TruncatedVideoError as error:
            truncation = error
        if batch:
            self.frames.put(batch)
        return truncation

    def draw(self, draw: Callable[[list[Frame], T], list[np.ndarray]]) -> None:
        """Draw the results on their frames."""
        with abort_on_error(self.results, self.images):
            for batch, results in self.results:
                self.images.put(replace_images(batch, draw(batch, results)))
            self.images.finish()

    def write(
        self, reading: Future[TruncatedVideoError | None]
    ) -> tuple[TruncatedVideoError | None, VideoInfo, tuple[str, ...]]:
        """Write the frames; return where the source is truncated, if it is, what was written, and notes."""
        with abort_on_error(*self.channels):
            frames = self.drawn_frames()
            frame = next(frames)
            source = replace(self.info, fps=self.info.fps / self.options.every)
            size_hw, zero = frame.image_u8.shape[:2], self.report.zero_seconds
            with create_writer(self.output, source, size_hw, self.options, zero) as writer:
                writer.write(frame)
                for frame in frames:
                    writer.write(frame)
                truncation = None if self.is_stopped else reading.result()
                if truncation or self.is_stopped:
                    writer.cut_audio()
            if truncation is None and writer.audio_truncation:
                truncation = TruncatedVideoError(writer.frames, writer.audio_truncation, frame.time_seconds)
            return truncation, writer.info(), (*self.report.notes, *writer.notes)

    def drawn_frames(self) -> Iterator[Frame]:
        """Yield the frames to write; after each batch, another one may be read."""
        done = iter(self.in_flight)
        for batch in self.images:
            yield from batch
            batch.clear()
            next(done, None)


def max_batches_in_flight(batch_size: int, frame_hw: tuple[int, int]) -> int:
    """Return how many batches may be between reader and writer, at least one.

    >>> [max_batches_in_flight(16, size_hw) for size_hw in ((1080, 1920), (2160, 3840), (4320, 7680))]
    [8, 2, 1]
    """
    height, width = frame_hw
    return max(1, MAX_PIXELS_IN_FLIGHT // (batch_size * height * width))


@contextmanager
def abort_on_error(*channels: Channel) -> Generator[None]:
    """On any error, Ctrl-C included, end the channels, so that the threads at their other ends stop too."""
    try:
        yield
    except BaseException as error:
        for channel in channels:
            channel.abort(error)
        raise


def replace_images(batch: list[Frame], images: list[np.ndarray]) -> list[Frame]:
    """Return the frames of a batch with the images that were drawn."""
    assert len(images) == len(batch), f"draw was given {len(batch)} frames and returned {len(images)} images"
    assert all(image.dtype == np.uint8 and image.ndim == 3 for image in images), "draw must return uint8 RGB images"
    return [replace(frame, image_u8=image) for frame, image in zip(batch, images, strict=True)]
