"""The table of output formats, and how a file name selects one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitreous.errors import InputError, unknown


@dataclass(frozen=True)
class Encoder:
    """FFmpeg's video encoder with its settings, and its crf (lowest, default, highest), if it has one."""

    name: str
    settings: Mapping[str, str]
    crf: tuple[int, int, int] | None = None
    needs_even_sides: bool = False


# Without B-frames, look-ahead and hidden frames, storage order is display order: times and durations are exact.
H264 = Encoder("libx264", {"preset": "veryfast", "bf": "0"}, crf=(0, 19, 51), needs_even_sides=True)
VP9 = Encoder(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0"},
    crf=(0, 24, 63),
)
GIF = Encoder("gif", {})


@dataclass(frozen=True)
class Format:
    """One output format.

    Attributes:
        container: FFmpeg's container, or "folder" or "pipe".
        encoder: the video encoder.
        remuxed_codecs: audio codecs that are copied bit for bit. Players support these; FFmpeg itself would allow more,
            such as Vorbis in MP4, which nothing plays.
        audio_encoder: the encoder for all other audio; None if the format has no audio.
    """

    container: str
    encoder: Encoder | None = None
    remuxed_codecs: frozenset[str] = frozenset()
    audio_encoder: str | None = None

    @property
    def stores_pixel_aspect(self) -> bool:
        """Whether our files state the shape of non-square pixels: H.264 does; PyAV can't write it to WebM."""
        return self.encoder is H264


MP4_AUDIO = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"})
MOV_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"})
MATROSKA_AUDIO = MP4_AUDIO | {"vorbis", "pcm_s16le", "pcm_s24le"}
FORMATS = {
    ".mp4": Format("mp4", H264, MP4_AUDIO, "aac"),
    ".m4v": Format("mp4", H264, MP4_AUDIO, "aac"),
    ".mov": Format("mov", H264, MOV_AUDIO, "aac"),
    ".mkv": Format("matroska", H264, MATROSKA_AUDIO, "aac"),
    ".webm": Format("webm", VP9, frozenset({"opus", "vorbis"}), "libopus"),
    ".gif": Format("gif", GIF),
    "png": Format("folder"),
    "-": Format("pipe"),
}


def resolve_format(output: Path | str, extension: str | None = None) -> str:
    """Return the key in FORMATS for an output: by its suffix, a folder (existing, or a name ending in "/"), or "-".

    Args:
        output: the path, or "-".
        extension: a format without its dot, for outputs without a suffix.

    Raises:
        InputError: there is no such format, or the two contradict each other.

    >>> resolve_format("clip.WEBM"), resolve_format("frames/"), resolve_format("frames", "png"), resolve_format("-")
    ('.webm', 'png', 'png', '-')
    """
    requested = None if extension is None else find_format(extension)
    found = format_from_path(str(output))
    if requested and found and requested != found:
        raise InputError(
            f"can't write {output} as {extension}: its name ends in {found.lstrip('.')}; change one of them"
        )
    if requested or found:
        return requested or found or ""
    raise InputError(
        f"can't write {output}: '{Path(output).suffix}' is not a video format; end the name in "
        f'{", ".join(file_suffixes())}, or in "/" for a folder of PNG files'
    )


def find_format(extension: str) -> str:
    """Return the key in FORMATS of "webm" or ".webm"."""
    for name in (extension.lower(), f".{extension.lower()}"):
        if name in FORMATS:
            return name
    raise unknown("video format", extension, [name.lstrip(".") for name in FORMATS])


def format_from_path(output: str) -> str | None:
    """Return the key in FORMATS that an output's own name selects, if any."""
    suffix = Path(output).suffix.lower()
    if output == "-":
        return "-"
    if suffix in FORMATS and not output.endswith("/"):
        return suffix
    return "png" if output.endswith("/") or Path(output).is_dir() else None


def file_suffixes() -> list[str]:
    """List the suffixes of the files that can be written."""
    return [name for name in FORMATS if name.startswith(".")]


def formats_with_audio() -> str:
    """List the suffixes of the formats with audio, for a message."""
    return ", ".join(name for name, video_format in FORMATS.items() if video_format.audio_encoder)


def to_crf(name: str, quality: int | None) -> int | None:
    """Return the crf to encode with: `quality`, or the format's default; None if it has none.

    Raises:
        InputError: the format has no such setting, or the value is out of its range.
    """
    encoder = FORMATS[name].encoder
    if encoder is None or encoder.crf is None:
        if quality is None:
            return None
        suffixes = [
            suffix for suffix, video_format in FORMATS.items() if video_format.encoder and video_format.encoder.crf
        ]
        raise InputError(f"{name.lstrip('.')} has no quality setting: leave it out, or write {', '.join(suffixes)}")
    lowest, default, highest = encoder.crf
    if quality is not None and not lowest <= quality <= highest:
        raise InputError(f"quality {quality} is out of range for {name}: give a crf from {lowest} (best) to {highest}")
    return default if quality is None else quality
