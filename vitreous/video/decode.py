"""Read the frames of a video in presentation order, upright, in RGB, each with its exact time."""

from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from vitreous.video.color import ToRGB
from vitreous.video.frames import CorruptDataError, decode_frames
from vitreous.video.info import Frame, format_frame_count, open_video, undecodable_error
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.orientation import display_matrix, is_sideways, upright
from vitreous.video.trim import DecodedFrame, ReadReport, empty_range_error, trim_frames


class TruncatedVideoError(Exception):
    """A video can't be read to its end: `frames` good frames were read, the last of them at `time_seconds`."""

    def __init__(self, frames: int, reason: str, time_seconds: Fraction) -> None:
        super().__init__(frames, reason, time_seconds)
        self.frames = frames
        self.reason = reason
        self.time_seconds = time_seconds

    def __str__(self) -> str:
        at = f"after {format_frame_count(self.frames)}, at {float(self.time_seconds):.2f} s"
        return f"the video is truncated {at}: {self.reason}"


def read_frames(
    path: Path | str, options: VideoOptions = KEEP_ALL, report: ReadReport | None = None
) -> Generator[Frame]:
    """Yield the frames of a video in presentation order; the file is closed with the iterator.

    Time zero is the start of the images or of the audio, whichever is first; with a `start`, it is the first frame
    there. A frame without a time stamp follows the previous one by its duration; one that does not come after the
    previous one is moved to one tick after it.

    Args:
        path: a video file.
        options: the part of the video and the size of the frames.
        report: receives notes and the time that became zero.

    Raises:
        TruncatedVideoError: after the last good frame, if the rest can't be read.
        InputError: this is not a video, no frame of it can be decoded, or none is in the requested range.
    """
    report = ReadReport() if report is None else report
    with open_video(path) as (container, stream):
        reader = LastFrameReader(decode_frames(container, stream, options.start_seconds, report))
        frames, frame = 0, None
        try:
            for frame in to_rgb_frames(trim_frames(reader, options, report), options, report):
                frames += 1
                yield frame
        except CorruptDataError as error:
            if reader.last is None:
                raise undecodable_error(path, str(error)) from error
            if frame is None:
                raise empty_range_error(path, options, reader.last) from error
            raise TruncatedVideoError(frames, str(error), frame.time_seconds) from error
        if reader.last is None:
            raise undecodable_error(path, "it holds none")
        if frame is None:
            raise empty_range_error(path, options, reader.last)


class LastFrameReader:
    """Yields the frames of a source and remembers the last one."""

    def __init__(self, source: Iterable[DecodedFrame]) -> None:
        self.source = source
        self.last: DecodedFrame | None = None

    def __iter__(self) -> Iterator[DecodedFrame]:
        for decoded_frame in self.source:
            self.last = decoded_frame
            yield decoded_frame


def to_rgb_frames(decoded: Iterable[DecodedFrame], options: VideoOptions, report: ReadReport) -> Iterator[Frame]:
    """Convert decoded images to RGB, upright and of the output's size."""
    to_rgb, matrix = None, None
    for decoded_frame in decoded:
        assert decoded_frame.image is not None
        if to_rgb is None or matrix is None:
            to_rgb, matrix = (
                ToRGB(decoded_frame.image, stored_size_for(decoded_frame.image, options), report),
                display_matrix(decoded_frame.image),
            )
        yield Frame(
            upright(to_rgb(decoded_frame.image), matrix), decoded_frame.time_seconds, decoded_frame.duration_seconds
        )


def stored_size_for(first: av.VideoFrame, options: VideoOptions) -> tuple[int, int]:
    """Return the (height, width) that images like `first` get before they are turned upright."""
    if not is_sideways(first):
        return options.output_size((first.height, first.width))
    height, width = options.output_size((first.width, first.height))
    return width, height
