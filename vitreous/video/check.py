"""Reading back a clip that was written, before anyone is told that it is done."""

from array import array
from pathlib import Path

from vitreous.errors import InputError
from vitreous.video.gif import GifTrack
from vitreous.video.info import opened, packets, read_info, sound_stream
from vitreous.video.video_track import VideoTrack


class IncompleteClipError(RuntimeError):
    """A clip that was written is not what it should be: a bug of ours or of the encoder; says what differs."""


def check_clip(path: Path, image: VideoTrack | GifTrack, *, has_sound: bool) -> None:
    """Hold the file at `path` against what was given to the encoder: frames, times to a tick, size, sound.

    Raises:
        IncompleteClipError: it differs, or can't be read at all.
    """
    try:
        info = read_info(path)
        stamps = frame_stamps(path)
        found_sound = holds_sound(path)
    except InputError as error:
        raise IncompleteClipError(f"the written clip can't be read back: {error}") from error
    expect("size (height, width)", info.size_hw, image.stored_hw)
    expect("number of frames", len(stamps), len(image.ticks))
    expect("presence of sound", found_sound, has_sound)
    tolerance = max(info.time_base, image.time_base)
    for number, (stamp, tick) in enumerate(zip(stamps, image.ticks, strict=True)):
        found, intended = stamp * info.time_base, tick * image.time_base
        if abs(found - intended) > tolerance:
            raise IncompleteClipError(f"frame {number} of the written clip is at {found} s, not at {intended} s")


def expect(what: str, found: object, intended: object) -> None:
    if found != intended:
        raise IncompleteClipError(f"the {what} of the written clip is {found}, not {intended}")


def frame_stamps(path: Path) -> array:
    """The time stamps of all frames in ticks of the file, in the order they are shown, without decoding them."""
    with opened(path) as (container, stream):
        return array("q", sorted(packet.pts for packet in packets(container, stream) if packet.pts is not None))


def holds_sound(path: Path) -> bool:
    """Whether the file holds at least one packet of sound."""
    with opened(path) as (container, _):
        sound = sound_stream(container)
        return sound is not None and any(packet.size for packet in packets(container, sound))
