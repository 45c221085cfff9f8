"""The audio of a video that is being written: the source's own packets where the format allows, else AAC or Opus."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from itertools import islice
from pathlib import Path

import av

from vitreous.video.formats import Format
from vitreous.video.info import audio_stream, demux, open_video, start_seconds, tick_seconds

BIT_RATE_PER_CHANNEL = 96_000
DEFAULT_SAMPLE_RATE = 48_000
DECODER_WARMUP_SECONDS = 1
MILLISECOND = Fraction(1, 1000)
TRIAL_PACKETS = 50
COPY_ERRORS = (av.error.InvalidDataError, av.error.ArgumentError)


class AudioTrack:
    """The audio stream of an output container, written along with the frames so that neither waits in memory.

    Attributes:
        note: what was changed about the audio, if anything.
        truncation: why and when the source's audio ends early, if it does; what came before is written.
        has_packets: whether any audio was written.
    """

    def __init__(
        self, container: av.container.OutputContainer, packets: Iterator[av.Packet], note: str | None = None
    ) -> None:
        self.container, self.packets, self.note = container, make_monotonic(packets), note
        self.truncation: str | None = None
        self.has_packets = False
        self.packet = self.next_packet()

    def write_until(self, end_seconds: Fraction | None) -> None:
        """Write the packets that start before `end_seconds`, or all of them if that is None."""
        while self.packet is not None:
            if end_seconds is not None and packet_start(self.packet) >= end_seconds:
                return
            try:
                self.container.mux(self.packet)
            except COPY_ERRORS as error:
                self.truncation, self.packet = str(truncated_at(self.packet, error.strerror)), None
                return
            self.has_packets = True
            self.packet = self.next_packet()

    def next_packet(self) -> av.Packet | None:
        try:
            return next(self.packets, None)
        except BrokenAudioError as error:
            self.truncation = str(error)
            return None


class BrokenAudioError(Exception):
    """The audio of a video can't be read any further; the message says why and when."""


@contextmanager
def open_audio_track(
    source: Path, container: av.container.OutputContainer, video_format: Format, zero_seconds: Fraction = Fraction(0)
) -> Generator[AudioTrack]:
    """Add a stream to `container` for the audio of `source`, and yield the track that writes it.

    Audio that the format can't hold, or that can't be copied, is encoded anew; audio that can't be decoded either is
    left out. The track's note says so.

    Args:
        source: a video with audio.
        container: the output.
        video_format: of the output.
        zero_seconds: the time of the source that becomes zero; earlier audio is left out.
    """
    assert video_format.audio_encoder
    with open_video(source) as (source_container, image):
        stream = audio_stream(source_container)
        assert stream is not None, f"{source} has no audio"
        start = start_seconds(source_container, image) + zero_seconds
        codec = stream.codec_context.codec.canonical_name
        earliest = Fraction(0) if zero_seconds > 0 else None
        if earliest is None and video_format.container in {"matroska", "webm"}:
            # Matroska has no negative times, and stores the pre-skip of Opus separately.
            earliest = -opus_preskip(stream) - MILLISECOND if codec == "opus" else Fraction(0)
        is_copied = codec in video_format.remuxed_codecs
        if is_copied and can_remux(source, video_format):
            packets, note = remux(stream, container.add_stream_from_template(stream), start, earliest), None
        elif stream.rate and stream.channels:
            target = add_encoded_stream(container, stream, video_format.audio_encoder)
            packets = reencode(stream, target, start, zero_seconds > 0)
            note = describe_reencoding(stream, target, is_damaged=is_copied)
        else:
            packets, note = iter(()), f"the {codec} audio can't be read, as it states no sample rate: it was left out"
        yield AudioTrack(container, packets, note)


def can_remux(source: Path, video_format: Format) -> bool:
    """Try in memory whether the first packets of the audio can be copied into a format."""
    with open_video(source) as (source_container, _):
        stream = audio_stream(source_container)
        assert stream is not None, f"{source} has no audio"
        trial = av.open(BytesIO(), "w", format=video_format.container)
        try:
            target = trial.add_stream_from_template(stream)
            trial.start_encoding()
            for packet in make_monotonic(islice(remux(stream, target, Fraction(0), None), TRIAL_PACKETS)):
                trial.mux(packet)
        except BrokenAudioError:  # What comes before the damage can be copied.
            return True
        except COPY_ERRORS:
            return False
        finally:
            with suppress(av.error.FFmpegError):
                trial.close()
    return True


def describe_reencoding(stream: av.AudioStream, target: av.AudioStream, *, is_damaged: bool) -> str:
    """Return the note about audio that can't be copied, because it is damaged or because of the format."""
    codec, new = (one.codec_context.codec.canonical_name for one in (stream, target))
    downmix = f", and its {stream.channels} channels were mixed down to {target.channels}"
    reason = f"the {codec} audio can't be copied" if is_damaged else f"the format can't hold {codec} audio"
    return f"{reason}: it was re-encoded as {new}" + (downmix if stream.channels > target.channels else "")


def opus_preskip(stream: av.AudioStream) -> Fraction:
    """Return how long before its zero an Opus stream begins, in seconds, as its header says (RFC 7845, 5.1)."""
    return Fraction(int.from_bytes((stream.codec_context.extradata or b"")[10:12], "little"), DEFAULT_SAMPLE_RATE)


def make_monotonic(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Yield the same packets; one that does not come after the previous one is moved to its end."""
    previous, end = None, 0
    for packet in packets:
        if previous is not None and (packet.pts or 0) <= previous:
            packet.pts = packet.dts = max(end, previous + 1)
        previous = packet.pts or 0
        end = previous + (packet.duration or 0)
        yield packet


def remux(
    stream: av.AudioStream, target: av.AudioStream, start: Fraction, earliest: Fraction | None
) -> Iterator[av.Packet]:
    """Yield the packets of `stream` bit for bit, addressed to `target`, with `start` (seconds) as time zero.

    Packets that then begin before `earliest` (seconds) are left out: a few hundredths of a second of codec delay.
    """
    shift = round(start / tick_seconds(stream))
    for packet in audio_packets(stream):
        packet.pts, packet.dts = (packet.pts or 0) - shift, (packet.dts or 0) - shift
        if earliest is None or packet_start(packet) >= earliest:
            packet.stream = target
            yield packet


def reencode(stream: av.AudioStream, target: av.AudioStream, start: Fraction, is_trimmed: bool) -> Iterator[av.Packet]:
    """Decode `stream` and encode it for `target`, with `start` (seconds) as time zero; earlier audio is left out.

    If the video `is_trimmed` there, decoding starts shortly before it.
    """
    warmup_start = start - DECODER_WARMUP_SECONDS if is_trimmed else None
    for frame in audio_frames(stream, warmup_start):
        if frame.pts is not None and frame.time_base is not None:
            frame.pts -= round(start / frame.time_base)
            if frame.pts < 0:
                continue
        yield from target.encode(frame)
    yield from target.encode(None)


def add_encoded_stream(container: av.container.OutputContainer, stream: av.AudioStream, codec: str) -> av.AudioStream:
    """Add a stream for the audio of `stream`: mono stays mono, everything else becomes stereo."""
    allowed = av.Codec(codec, "w").audio_rates or []
    rate = stream.rate if stream.rate in allowed else DEFAULT_SAMPLE_RATE
    channels = min(stream.channels, 2)
    target = container.add_stream(codec, rate=rate, layout="mono" if channels == 1 else "stereo")
    assert isinstance(target, av.AudioStream)
    target.bit_rate = BIT_RATE_PER_CHANNEL * channels
    return target


def audio_packets(stream: av.AudioStream) -> Iterator[av.Packet]:
    """Yield the packets of an audio stream that have a time.

    Raises:
        BrokenAudioError: the data are damaged.
    """
    container, packet = stream.container, None
    assert isinstance(container, av.container.InputContainer)
    try:
        for packet in demux(container, stream):
            if packet.is_corrupt:
                raise truncated_at(packet, "a packet is damaged")
            if packet.dts is not None:
                packet.pts = packet.dts if packet.pts is None else packet.pts
                yield packet
    except av.error.FFmpegError as error:
        raise truncated_at(packet, error.strerror) from error


def audio_frames(stream: av.AudioStream, warmup_start: Fraction | None = None) -> Iterator[av.AudioFrame]:
    """Yield the decoded audio of a stream, from the packet at `warmup_start` (seconds of the file) on.

    Raises:
        BrokenAudioError: the data are damaged.
    """
    for packet in audio_packets(stream):
        if warmup_start is not None and packet_start(packet) < warmup_start:
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            raise truncated_at(packet, error.strerror) from error
    try:
        yield from stream.codec_context.decode(None)
    except av.error.FFmpegError as error:
        raise BrokenAudioError(
            f"the end of the audio can't be decoded: {(error.strerror or 'unknown').lower()}"
        ) from error


def packet_start(packet: av.Packet) -> Fraction:
    """Return the start of a packet in seconds."""
    return (packet.pts or 0) * packet.time_base


def truncated_at(packet: av.Packet | None, reason: str | None) -> BrokenAudioError:
    """Build the error for audio that can't be read beyond `packet`."""
    seconds = float(packet_start(packet)) if packet else 0.0
    return BrokenAudioError(f"the audio is truncated at {seconds:.2f} s: {(reason or 'unknown').lower()}")
