"""Read a written video back before it is reported as done."""

from array import array
from pathlib import Path

from vitreous.errors import InputError
from vitreous.video.gif import GifTrack
from vitreous.video.info import audio_stream, demux, open_video, read_info
from vitreous.video.video_track import VideoTrack


class IncompleteVideoError(RuntimeError):
    """A written video is not what it should be, a bug of Vitreous or of the encoder; the message says what differs."""


def verify_video(path: Path, track: VideoTrack | GifTrack, *, has_audio: bool) -> None:
    """Compare the file at `path` with what was encoded: frames, times to a tick, size, audio.

    Raises:
        IncompleteVideoError: the file differs, or can't be read at all.
    """
    try:
        info = read_info(path)
        timestamps = frame_timestamps(path)
        found_audio = has_audio_packets(path)
    except InputError as error:
        raise IncompleteVideoError(f"the written video can't be read back: {error}") from error
    verify_equal("size (height, width)", info.size_hw, track.stored_hw)
    verify_equal("number of frames", len(timestamps), len(track.ticks))
    verify_equal("presence of audio", found_audio, has_audio)
    tolerance = max(info.time_base, track.time_base)
    for number, (timestamp, tick) in enumerate(zip(timestamps, track.ticks, strict=True)):
        found, expected = timestamp * info.time_base, tick * track.time_base
        if abs(found - expected) > tolerance:
            raise IncompleteVideoError(f"frame {number} of the written video is at {found} s, not at {expected} s")


def verify_equal(what: str, found: object, expected: object) -> None:
    """Raise IncompleteVideoError unless what was found equals what was expected."""
    if found != expected:
        raise IncompleteVideoError(f"the {what} of the written video is {found}, not {expected}")


def frame_timestamps(path: Path) -> array:
    """Return the time stamps of all frames in ticks of the file, in presentation order, without decoding them."""
    with open_video(path) as (container, stream):
        return array("q", sorted(packet.pts for packet in demux(container, stream) if packet.pts is not None))


def has_audio_packets(path: Path) -> bool:
    """Return whether the file holds at least one packet of audio."""
    with open_video(path) as (container, _):
        audio = audio_stream(container)
        return audio is not None and any(packet.size for packet in demux(container, audio))
