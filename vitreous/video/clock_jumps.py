"""Find where the clock of a file jumps, as in transport streams that were joined, and make its times continue.

Joined recordings start their clock anew in the middle. FFmpeg's demuxers report such times as they are. Here a file
whose format allows jumps is read through once, without decoding; each stream's times are then shifted from the packet
on at which its clock jumped. Images and audio share the clock: where one of them alone pauses, it is a gap.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from av.format import Flags
from av.stream import Stream

# The limits of FFmpeg's own program: times that go back are a jump, and a gap can be one only if it is long.
MAX_BACKWARD_SECONDS, MAX_FORWARD_SECONDS = Fraction(1, 10), Fraction(10)
MAX_DRIFT_SECONDS = 1
"""Images and audio jump together if they end, and go on, within this time of each other; audio is shifted as the images
are if it then starts within this time of where it ended, so that both stay in sync."""


@dataclass(frozen=True)
class ClockJump:
    """A jump of one stream's clock: from its packet number `packet` on, `shift` is added to its times.

    Attributes:
        packet: the number of packets of this stream before it.
        shift: in seconds.
        resume_seconds: where the packets before it end, after their own shift.
    """

    packet: int
    shift: Fraction
    resume_seconds: Fraction


@dataclass(frozen=True)
class ClockJumps:
    """All jumps of images and audio, by the index of the stream, and the end of each stream in continuous time."""

    by_stream: dict[int, tuple[ClockJump, ...]]
    end_seconds: dict[int, Fraction]

    def __bool__(self) -> bool:
        return any(self.by_stream.values())


NO_JUMPS = ClockJumps({}, {})


def clock_jumps(container: av.container.InputContainer) -> ClockJumps:
    """Return the jumps of an open file; none if its format has a single clock."""
    if not container.format.flags & Flags.ts_discont.value:
        return NO_JUMPS
    status = Path(container.name).stat()
    return scan_clock(container.name, container.format.name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def scan_clock(path: str, format_name: str, _size: int, _modified: int) -> ClockJumps:
    """Find the jumps of a file by reading its packets; the result is kept for as long as the file doesn't change."""
    scans: dict[int, StreamScan] = {}
    with av.open(path, format=format_name, metadata_errors="replace") as container:
        try:
            for packet in container.demux():
                stream = packet.stream
                if stream.type in ("video", "audio"):  # the packets of other streams are too far apart to show jumps
                    scans.setdefault(stream.index, StreamScan(stream.type)).add(packet)
        except (av.error.FFmpegError, IndexError):
            pass  # What can't be read is reported when the frames are read.
    shifts: list[Fraction] = []
    jumps, ends = {}, {}
    for index in sorted(scans, key=lambda index: scans[index].kind != "video"):
        scan = scans[index]
        others = [gap for other in scans.values() if other.kind != scan.kind for gap in other.found]
        jumps[index], ends[index] = scan.resolve([gap for gap in scan.found if gap.is_jump(others)], shifts)
        if not shifts and scan.kind == "video":
            shifts = [jump.shift for jump in jumps[index]]
    return ClockJumps(jumps, ends)


@dataclass(frozen=True)
class Discontinuity:
    """A place at which the times of a stream don't continue: before its packet number `packet`.

    Attributes:
        packet: the number of packets of this stream before it.
        expected: the time at which the stream would continue, in seconds.
        time: the time at which it does.
    """

    packet: int
    expected: Fraction
    time: Fraction

    def is_jump(self, others: Sequence["Discontinuity"]) -> bool:
        """Return whether the clock jumped: it went back, or the `others` (images, or audio) went ahead with it."""
        return self.time < self.expected or any(
            abs(self.expected - other.expected) <= MAX_DRIFT_SECONDS
            and abs(self.time - other.time) <= MAX_DRIFT_SECONDS
            for other in others
        )


class StreamScan:
    """Finds the packets of one stream at which its times don't continue."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.packets = 0
        self.expected: Fraction | None = None
        self.end: Fraction | None = None
        self.found: list[Discontinuity] = []

    def add(self, packet: av.Packet) -> None:
        """Compare the next packet's decode time with the end of the one before."""
        if packet.dts is not None and packet.time_base is not None:
            is_stale, duration = has_stale_decode_time(packet), (packet.duration or 0) * packet.time_base
            shown = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
            time = shown if is_stale else packet.dts * packet.time_base
            if self.expected is not None and self.end is not None and not is_near(time, self.expected):
                self.found.append(Discontinuity(self.packets, self.end if is_stale else self.expected, time))
                self.end = None
            self.expected = time if is_stale else time + duration
            self.end = shown + duration if self.end is None else max(self.end, shown + duration)
        self.packets += 1

    def resolve(
        self, found: Sequence[Discontinuity], known_shifts: Sequence[Fraction]
    ) -> tuple[tuple[ClockJump, ...], Fraction]:
        """Return the jumps that were `found` with their shifts, and the end of the stream.

        A shift is the one of `known_shifts` that fits best, if it fits, or else makes this stream continuous.
        """
        shift, jumps = Fraction(0), []
        for one in found:
            resume = one.expected + shift
            continuous = resume - one.time
            shift = min(known_shifts, key=lambda known: abs(known - continuous), default=continuous)
            if abs(shift - continuous) > MAX_DRIFT_SECONDS:
                shift = continuous
            jumps.append(ClockJump(one.packet, shift, resume))
        return tuple(jumps), (self.end or 0) + shift


def is_near(time: Fraction, expected: Fraction) -> bool:
    """Return whether the clock can have gone from one packet to the next without a jump."""
    return expected - MAX_BACKWARD_SECONDS <= time <= expected + MAX_FORWARD_SECONDS


def has_stale_decode_time(packet: av.Packet) -> bool:
    """Return whether FFmpeg derived the decode time of the first packet after a jump from those before it."""
    if packet.pts is None or packet.dts is None or packet.time_base is None:
        return False
    return not is_near(packet.pts * packet.time_base, packet.dts * packet.time_base)


def continuous_packets(
    container: av.container.InputContainer, streams: Sequence[Stream], jumps: ClockJumps
) -> Iterator[av.Packet]:
    """Yield the packets of `streams` from the start of the file, with times that continue where the clock jumps.

    Audio that would overlap the audio before a jump is left out.
    """
    counts: dict[int, int] = defaultdict(int)
    for packet in container.demux(*streams):
        stream = packet.stream
        number = counts[stream.index]
        counts[stream.index] += 1
        passed = [jump for jump in jumps.by_stream.get(stream.index, ()) if jump.packet <= number]
        if passed and packet.time_base is not None:
            ticks = round(passed[-1].shift / packet.time_base)
            if has_stale_decode_time(packet):
                packet.dts = packet.pts
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
            resume = passed[-1].resume_seconds
            if stream.type == "audio" and packet.pts is not None and packet.pts * packet.time_base < resume:
                continue
        yield packet
