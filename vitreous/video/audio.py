"""The sound of a clip that is being written: the source's own packets where the format takes them, else AAC or Opus."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av

from vitreous.video.formats import Format
from vitreous.video.info import opened, packets, sound_stream, start_seconds, tick_seconds

BITS_PER_SECOND_A_CHANNEL = 96_000
USUAL_RATE_HZ = 48_000
DECODER_RUN_IN_SECONDS = 1
MILLISECOND = Fraction(1, 1000)


class SoundTrack:
    """The stream of sound in an output container, written along with the image so that neither waits in memory.

    `broke_off` says why and when, where the source's sound can't be read to its end; what came before is written.
    `note` says what was changed about the sound, if anything was.
    """

    def __init__(
        self, container: av.container.OutputContainer, written: Iterator[av.Packet], note: str | None = None
    ) -> None:
        self.container, self.packets, self.note = container, rising(written), note
        self.broke_off: str | None = None
        self.is_heard = False
        self.packet = self.following()

    def write_until(self, end_seconds: Fraction | None) -> None:
        """Write the packets that start before `end_seconds`; None: all of them."""
        while self.packet is not None:
            if end_seconds is not None and start_of(self.packet) >= end_seconds:
                return
            self.container.mux(self.packet)
            self.is_heard = True
            self.packet = self.following()

    def following(self) -> av.Packet | None:
        try:
            return next(self.packets, None)
        except BrokenSoundError as error:
            self.broke_off = str(error)
            return None


class BrokenSoundError(Exception):
    """The sound of a clip can't be read any further; says why and when."""


@contextmanager
def sound_of(
    source: Path, container: av.container.OutputContainer, kind: Format, zero_seconds: Fraction = Fraction(0)
) -> Generator[SoundTrack]:
    """Add a stream to `container` for the sound of the clip at `source`, and yield what writes it.

    `zero_seconds` is the time of the clip that is zero in the output; what is heard before is left out.
    """
    assert kind.sound
    with opened(source) as (source_container, image):
        stream = sound_stream(source_container)
        assert stream is not None, f"{source} has no sound"
        start = start_seconds(source_container, image) + zero_seconds
        codec = stream.codec_context.codec.canonical_name
        earliest = Fraction(0) if zero_seconds > 0 else None
        if earliest is None and kind.container in {"matroska", "webm"}:
            # Matroska has no time before zero, and states the run-in of Opus alone.
            earliest = -opus_run_in(stream) - MILLISECOND if codec == "opus" else Fraction(0)
        note = None
        if codec in kind.copied:
            written = copied(stream, container.add_stream_from_template(stream), start, earliest)
        else:
            target = encoded_stream(container, stream, kind.sound)
            written, note = encoded(stream, target, start, zero_seconds > 0), encoded_anew(stream, target)
        yield SoundTrack(container, written, note)


def encoded_anew(stream: av.AudioStream, target: av.AudioStream) -> str:
    """The line that says what becomes of sound that can't be copied."""
    codec, new = (one.codec_context.codec.canonical_name for one in (stream, target))
    mixed = f", and its {stream.channels} channels mixed down to {target.channels}"
    return f"the format doesn't take {codec}: the sound was encoded anew as {new}" + (
        mixed if stream.channels > target.channels else ""
    )


def opus_run_in(stream: av.AudioStream) -> Fraction:
    """How much before its zero a stream of Opus begins, in seconds, as its header says (RFC 7845, 5.1)."""
    return Fraction(int.from_bytes((stream.codec_context.extradata or b"")[10:12], "little"), USUAL_RATE_HZ)


def rising(written: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """The same packets; one that does not come after the one before is moved to the end of that."""
    previous, end = None, 0
    for packet in written:
        if previous is not None and (packet.pts or 0) <= previous:
            packet.pts = packet.dts = max(end, previous + 1)
        previous = packet.pts or 0
        end = previous + (packet.duration or 0)
        yield packet


def copied(
    stream: av.AudioStream, target: av.AudioStream, start: Fraction, earliest: Fraction | None
) -> Iterator[av.Packet]:
    """The packets of `stream` bit for bit, addressed to `target`, with `start` (seconds) as time zero.

    Those that then begin before `earliest` (seconds) are left out: the few hundredths of a codec's run-in.
    """
    shift = round(start / tick_seconds(stream))
    for packet in sound_packets(stream):
        packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
        if earliest is None or start_of(packet) >= earliest:
            packet.stream = target
            yield packet


def encoded(stream: av.AudioStream, target: av.AudioStream, start: Fraction, is_cut: bool) -> Iterator[av.Packet]:
    """The sound of `stream`, decoded and encoded again for `target`, with `start` (seconds) as time zero.

    Where the clip `is_cut` there, what is heard before is left out.
    """
    begin = start - DECODER_RUN_IN_SECONDS if is_cut else None
    for frame in sound_frames(stream, begin):
        if frame.pts is not None and frame.time_base is not None:
            frame.pts -= round(start / frame.time_base)
            if is_cut and frame.pts < 0:
                continue
        yield from target.encode(frame)
    yield from target.encode(None)


def encoded_stream(container: av.container.OutputContainer, stream: av.AudioStream, codec: str) -> av.AudioStream:
    """A new stream for the sound of `stream`: mono stays mono, the rest is stereo."""
    allowed = av.Codec(codec, "w").audio_rates or []
    rate = stream.rate if stream.rate in allowed else USUAL_RATE_HZ
    channels = min(stream.channels, 2)
    target = container.add_stream(codec, rate=rate, layout="mono" if channels == 1 else "stereo")
    assert isinstance(target, av.AudioStream)
    target.bit_rate = BITS_PER_SECOND_A_CHANNEL * channels
    return target


def sound_packets(stream: av.AudioStream) -> Iterator[av.Packet]:
    """The packets of a stream of sound, each with its time.

    Raises:
        BrokenSoundError: the data are damaged.
    """
    container, packet = stream.container, None
    assert isinstance(container, av.container.InputContainer)
    try:
        for packet in packets(container, stream):
            if packet.is_corrupt:
                raise broken_after(packet, "a packet is damaged")
            if packet.dts is not None:
                packet.pts = packet.dts if packet.pts is None else packet.pts
                yield packet
    except av.error.FFmpegError as error:
        raise broken_after(packet, error.strerror) from error


def sound_frames(stream: av.AudioStream, begin: Fraction | None = None) -> Iterator[av.AudioFrame]:
    """The decoded sound of a stream, from the packet at `begin` (seconds of the file) on.

    Raises:
        BrokenSoundError: the data are damaged.
    """
    for packet in sound_packets(stream):
        if begin is not None and start_of(packet) < begin:
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            raise broken_after(packet, error.strerror) from error
    try:
        yield from stream.codec_context.decode(None)
    except av.error.FFmpegError as error:
        raise BrokenSoundError(
            f"the end of the sound can't be decoded: {(error.strerror or 'unknown').lower()}"
        ) from error


def start_of(packet: av.Packet) -> Fraction:
    """When a packet is heard first, in seconds."""
    return (packet.pts or 0) * packet.time_base


def broken_after(packet: av.Packet | None, why: str | None) -> BrokenSoundError:
    """The error for sound that can't be read further than to `packet`."""
    when = float(start_of(packet)) if packet else 0.0
    return BrokenSoundError(f"the sound breaks off at {when:.2f} s: {(why or 'unknown').lower()}")
