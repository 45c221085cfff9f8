"""Choosing frames of a clip by their time, before any of them is turned into an array."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av

from vitreous.errors import InputError
from vitreous.video.info import VideoInfo, opened, packets, start_seconds, tick_seconds
from vitreous.video.options import WHOLE, VideoOptions


@dataclass(frozen=True)
class Moment:
    """A decoded image (or whatever stands for it) with its time and duration in seconds."""

    time_seconds: Fraction
    duration_seconds: Fraction
    image: Any = None

    @property
    def end_seconds(self) -> Fraction:
        return self.time_seconds + self.duration_seconds


@dataclass
class Told:
    """What a reader says beside the frames: the clip's time that became zero, and what a user should know."""

    zero_seconds: Fraction = Fraction(0)
    notes: list[str] = field(default_factory=list)


def excerpted(moments: Iterable[Moment], options: VideoOptions, told: Told) -> Iterator[Moment]:
    """The moments from `start` to `end`, each `every`-th of them and shown until the next; times begin at 0.

    With the default options they come through as they are. An error of `moments` is raised after the last good one.
    """
    if options == replace(WHOLE, size=options.size, quality=options.quality, format=options.format):
        yield from moments
        return
    held, error, number = None, None, 0
    try:
        for moment in within(moments, options, told):
            if number % options.every == 0:
                if held is not None:
                    yield held
                held = moment
            elif held is not None:
                held = replace(held, duration_seconds=moment.end_seconds - held.time_seconds)
            number += 1
    except Exception as raised:  # noqa: BLE001 - whatever it is, it is raised below
        error = raised
    if held is not None:
        yield held
    if error is not None:
        raise error


def within(moments: Iterable[Moment], options: VideoOptions, told: Told) -> Iterator[Moment]:
    """The moments that begin from `start` on and before `end`, cut there; the first becomes time zero, if one asks."""
    start, end, is_first = options.start_seconds, options.end_seconds, True
    for moment in moments:
        if moment.time_seconds < start:
            continue
        if end is not None and moment.time_seconds >= end:
            return
        if is_first and start:
            told.zero_seconds = moment.time_seconds
        is_first = False
        last = moment.end_seconds if end is None else min(moment.end_seconds, end)
        yield replace(
            moment,
            time_seconds=moment.time_seconds - told.zero_seconds,
            duration_seconds=last - moment.time_seconds,
        )


def nothing_there(path: Path | str, options: VideoOptions, last: Moment) -> InputError:
    """The error for an excerpt that no frame of the clip lies in."""
    until = "" if options.end is None else f" and before {float(options.end):g} s"
    return InputError(
        f"no frame of {path} lies at or after {float(options.start):g} s{until}: "
        f"the last one read is at {float(last.time_seconds):.2f} s"
    )


def expected_frames(info: VideoInfo, options: VideoOptions) -> int | None:
    """How many frames an excerpt will have, by the stamps of the file; None where the clip doesn't say its length."""
    if info.frame_count is None:
        return None
    if not options.start and options.end is None:
        return ceil(info.frame_count / options.every)
    try:
        return ceil(sum(1 for _ in stamps_within(info.path, options)) / options.every)
    except av.error.FFmpegError:  # The clip breaks off, which is told where its frames are read.
        return None


def stamps_within(path: Path, options: VideoOptions) -> Iterator[Fraction]:
    """The time stamps between `start` and `end` in seconds, in the order of the file, without decoding."""
    start, end = options.start_seconds, options.end_seconds
    with opened(path) as (container, stream):
        zero, tick = start_seconds(container, stream), tick_seconds(stream)
        for packet in packets(container, stream):
            if packet.pts is None or packet.is_discard:
                continue
            time = packet.pts * tick - zero
            if end is not None and packet.dts is not None and packet.dts * tick - zero >= end:
                return
            if time >= start and (end is None or time < end):
                yield time
