"""Choose the writer for an output, and refuse what can't be written before any work is done."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vitreous.errors import InputError
from vitreous.files import check_folder_writable
from vitreous.video.encode import VideoWriter
from vitreous.video.folder import FolderWriter, check_empty_folder
from vitreous.video.formats import FORMATS, formats_with_audio, resolve_format, to_crf
from vitreous.video.info import VideoInfo
from vitreous.video.options import KEEP_ALL, VideoOptions
from vitreous.video.pipe import PipeWriter
from vitreous.video.writer import Writer


def check_output(output: Path | str, source: Path | str, options: VideoOptions = KEEP_ALL) -> None:
    """Check that an output can be written.

    Raises:
        InputError: its name has no format, the format doesn't support the options, it is the source itself, or its
            folder can't be written.
    """
    name, path = resolve_format(output, options.format), Path(output)
    to_crf(name, options.quality)
    if name == "-":
        if sys.stdout.isatty():
            raise InputError("raw frames can't be written to a terminal: pipe them into a program, such as 'ffplay'")
        return
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise InputError(f"{path} is the video that is being read: choose another name for the output")
    if FORMATS[name].container == "folder":
        check_empty_folder(path)
    elif path.is_dir():
        raise InputError(f"can't write {path}: it is a folder; add a file name")
    elif path.exists() and not path.is_file():
        raise InputError(f"can't write {path}: it is a pipe, a socket or a device; give another name, or '-'")
    check_folder_writable(path.absolute().parent)


def square_pixels(options: VideoOptions, output: Path | str, source: VideoInfo) -> VideoOptions:
    """Set a size with square pixels if the source's are not square and the output can't store that.

    Without a size the image is enlarged, never reduced; a size of (height, width) is kept.
    """
    aspect = source.pixel_aspect
    if (
        aspect == 1
        or isinstance(options.size, tuple)
        or FORMATS[resolve_format(output, options.format)].stores_pixel_aspect
    ):
        return options
    height, width = source.size_hw
    if options.size is not None:
        return replace(options, size=options.output_size((height, round(width * aspect))))
    is_wide = aspect > 1
    return replace(options, size=(height, round(width * aspect)) if is_wide else (round(height / aspect), width))


def square_pixels_note(source: VideoInfo, output: Path | str, options: VideoOptions) -> str:
    """Return the note about the change to square pixels."""
    (height, width), (new_height, new_width) = (
        choice.output_size(source.size_hw) for choice in (options, square_pixels(options, output, source))
    )
    return (
        f"{describe_format(resolve_format(output, options.format))} has square pixels; the video's are "
        f"{float(source.pixel_aspect):.3g} times as wide as high, so {width} x {height} became "
        f"{new_width} x {new_height}"
    )


def describe_format(name: str) -> str:
    """Return what a message calls a format that is not an ordinary video file."""
    return {"-": "a pipe of raw frames", "png": "a folder of PNG files", ".gif": "GIF", ".webm": "WebM"}[name]


def create_writer(
    output: Path | str,
    source: VideoInfo,
    size_hw: tuple[int, int],
    options: VideoOptions = KEEP_ALL,
    zero_seconds: Fraction = Fraction(0),
) -> Writer:
    """Create the writer for an output, with the rate and the audio of `source`.

    Args:
        output: a file, a folder or "-".
        source: the video that is transformed.
        size_hw: of the frames.
        options: format and quality.
        zero_seconds: the time of the source that becomes zero.

    Raises:
        InputError: as `check_output`.
    """
    name = resolve_format(output, options.format)
    video_format = FORMATS[name]
    if video_format.container == "pipe":
        writer = PipeWriter(source, size_hw)
    elif video_format.container == "folder":
        writer = FolderWriter(Path(output), source, size_hw)
    else:
        writer = VideoWriter(output, source, size_hw, options, zero_seconds)
    if source.audio_codec and not video_format.audio_encoder:
        writer.notes.append(f"{describe_format(name)} can't hold audio: it was left out; {formats_with_audio()} can")
    if video_format.encoder and video_format.encoder.needs_even_sides and (size_hw[0] % 2 or size_hw[1] % 2):
        height, width = size_hw
        writer.notes.append(
            f"H.264 needs even sides: {width} x {height} was padded at the edge; .webm allows odd sides"
        )
    return writer
