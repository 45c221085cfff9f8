"""Choosing the writer for a target, and refusing what can't be written before any work is done."""

import os
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vitreous.errors import InputError
from vitreous.video.encode import VideoWriter
from vitreous.video.folder import FolderWriter, check_folder
from vitreous.video.formats import FORMATS, crf_of, format_name, those_with_sound
from vitreous.video.info import VideoInfo
from vitreous.video.options import WHOLE, VideoOptions
from vitreous.video.pipe import PipeWriter
from vitreous.video.writer import Writer


def check_target(target: Path | str, source: Path | str, options: VideoOptions = WHOLE) -> None:
    """Refuse a target that can't be written.

    Raises:
        InputError: its name asks for no format, the format doesn't take the options, it is the source itself, or its
            folder can't be written.
    """
    name, path = format_name(target, options.format), Path(target)
    crf_of(name, options.quality)
    if name == "-":
        if sys.stdout.isatty():
            raise InputError("raw frames would flood this terminal: pipe them into a program, such as 'ffplay'")
        return
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise InputError(f"{path} is the video that is being read: choose another name for the one to write")
    if FORMATS[name].container == "folder":
        check_folder(path)
    elif path.is_dir():
        raise InputError(f"can't write {path}: it is a folder; add a file name")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        what = "read-only" if existing.is_dir() else "not a folder"
        raise InputError(f"can't write {path}: {existing} is {what}; choose another place")


def with_square_pixels(options: VideoOptions, target: Path | str, source: VideoInfo) -> VideoOptions:
    """The options with a size of square pixels, where the source's are not and the target can't say so.

    Without a size the image is enlarged, never made smaller; one of (height, width) is what was asked for.
    """
    aspect = source.pixel_aspect
    if aspect == 1 or isinstance(options.size, tuple) or FORMATS[format_name(target, options.format)].has_aspect:
        return options
    height, width = source.size_hw
    if options.size is not None:
        return replace(options, size=options.size_of((height, round(width * aspect))))
    wide = aspect > 1
    return replace(options, size=(height, round(width * aspect)) if wide else (round(height / aspect), width))


def stretched(source: VideoInfo, target: Path | str, options: VideoOptions) -> str:
    """The line that says so."""
    (height, width), (new_height, new_width) = (
        one.size_of(source.size_hw) for one in (options, with_square_pixels(options, target, source))
    )
    return (
        f"{spoken(format_name(target, options.format))} gets square pixels: the clip's are "
        f"{float(source.pixel_aspect):.3g} times as wide as high, so {width} x {height} of them became "
        f"{new_width} x {new_height}"
    )


def spoken(name: str) -> str:
    """What a message calls a format that is no usual file."""
    return {"-": "a pipe of raw frames", "png": "a folder of PNG files", ".gif": "GIF", ".webm": "WebM"}[name]


def writer_for(
    target: Path | str,
    source: VideoInfo,
    size_hw: tuple[int, int],
    options: VideoOptions = WHOLE,
    zero_seconds: Fraction = Fraction(0),
) -> Writer:
    """The writer for a target, with the rate and the sound of `source`; `zero_seconds` is its time that becomes zero.

    Raises:
        InputError: as `check_target`.
    """
    name = format_name(target, options.format)
    kind = FORMATS[name]
    if kind.container == "pipe":
        writer = PipeWriter(source, size_hw)
    elif kind.container == "folder":
        writer = FolderWriter(Path(target), source, size_hw)
    else:
        writer = VideoWriter(target, source, size_hw, options, zero_seconds)
    if source.sound and not kind.sound:
        writer.notes.append(f"{spoken(name)} holds no sound: the clip's is left out; {those_with_sound()} keep it")
    if kind.encoder and kind.encoder.needs_even_sides and (size_hw[0] % 2 or size_hw[1] % 2):
        height, width = size_hw
        writer.notes.append(f"H.264 needs even sides: {width} x {height} got a repeated edge; .webm keeps odd ones")
    return writer
