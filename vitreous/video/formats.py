"""What can be written: the table of formats, and how a name asks for one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitreous.errors import InputError, unknown


@dataclass(frozen=True)
class Encoder:
    """FFmpeg's encoder of images: its settings, and the crf it takes (lowest, usual, highest), if any."""

    name: str
    settings: Mapping[str, str]
    crf: tuple[int, int, int] | None = None
    needs_even_sides: bool = False


# Without B-frames, look-ahead and hidden frames a frame is stored where it is shown, so stamps and durations are exact.
H264 = Encoder("libx264", {"preset": "veryfast", "bf": "0"}, crf=(0, 19, 51), needs_even_sides=True)
VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0"},
    crf=(0, 24, 63),
)
GIF = Encoder("gif", {})


@dataclass(frozen=True)
class Format:
    """One kind of output: FFmpeg's container, or "folder" or "pipe"; its encoder; its sound.

    `copied` names the codecs of sound that are taken over bit for bit; all others become `sound`. These are what
    players of each format play; what FFmpeg would put into it goes further (Vorbis in MP4, which nothing plays).
    """

    container: str
    encoder: Encoder | None = None
    copied: frozenset[str] = frozenset()
    sound: str | None = None

    @property
    def has_aspect(self) -> bool:
        """Whether our files say it where pixels are no squares: H.264 does, and PyAV tells it to no WebM."""
        return self.encoder is H264


IN_MP4 = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
IN_MOV = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"})
IN_MATROSKA = IN_MP4 | {"vorbis", "pcm_s16le", "pcm_s24le"}
FORMATS = {
    ".mp4": Format("mp4", H264, IN_MP4, "aac"),
    ".m4v": Format("mp4", H264, IN_MP4, "aac"),
    ".mov": Format("mov", H264, IN_MOV, "aac"),
    ".mkv": Format("matroska", H264, IN_MATROSKA, "aac"),
    ".webm": Format("webm", VP9, frozenset({"opus", "vorbis"}), "libopus"),
    ".gif": Format("gif", GIF),
    "png": Format("folder"),
    "-": Format("pipe"),
}


def format_name(target: Path | str, wanted: str | None = None) -> str:
    """The name in FORMATS that a target asks for: by its suffix, a folder (existing, or a name ending in "/"), or "-".

    `wanted` is a name without its dot, for targets that have no suffix.

    Raises:
        InputError: there is no such format, or the two contradict each other.

    >>> format_name("clip.WEBM"), format_name("frames/"), format_name("frames", "png"), format_name("-")
    ('.webm', 'png', 'png', '-')
    """
    asked = None if wanted is None else named(wanted)
    found = format_of_name(str(target))
    if asked and found and asked != found:
        raise InputError(f"can't write {target} as {wanted}: its name asks for {found.lstrip('.')}; change one of them")
    if asked or found:
        return asked or found or ""
    raise InputError(
        f"can't write {target}: '{Path(target).suffix}' is no video format; end the name in "
        f'{", ".join(suffixes())}, or in "/" for a folder of PNG files'
    )


def named(wanted: str) -> str:
    """The name in FORMATS of "webm" or ".webm"."""
    for name in (wanted.lower(), f".{wanted.lower()}"):
        if name in FORMATS:
            return name
    raise unknown("video format", wanted, [name.lstrip(".") for name in FORMATS])


def format_of_name(target: str) -> str | None:
    """The name in FORMATS that a target's own name asks for, if it does."""
    suffix = Path(target).suffix.lower()
    if target == "-":
        return "-"
    if suffix in FORMATS and not target.endswith("/"):
        return suffix
    return "png" if target.endswith("/") or Path(target).is_dir() else None


def suffixes() -> list[str]:
    """The suffixes of the files that can be written."""
    return [name for name in FORMATS if name.startswith(".")]


def those_with_sound() -> str:
    """The suffixes of the formats that hold sound, for a message."""
    return ", ".join(name for name, kind in FORMATS.items() if kind.sound)


def crf_of(name: str, quality: int | None) -> int | None:
    """The crf to encode with: `quality`, or the usual one of the format; None where it has none.

    Raises:
        InputError: the format has no such setting, or the value is out of its range.
    """
    encoder = FORMATS[name].encoder
    if encoder is None or encoder.crf is None:
        if quality is None:
            return None
        takers = [suffix for suffix, kind in FORMATS.items() if kind.encoder and kind.encoder.crf]
        raise InputError(f"{name.lstrip('.')} has no quality to set: leave it out, or write {', '.join(takers)}")
    lowest, usual, highest = encoder.crf
    if quality is not None and not lowest <= quality <= highest:
        raise InputError(f"quality {quality} is not for {name}: give a crf from {lowest} (best) to {highest}")
    return usual if quality is None else quality
