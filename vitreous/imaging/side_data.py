"""Take an image file's pixels without its side data, which may be damaged while every pixel is whole.

Side data are color profiles, gamma, text, animation and the like. Pillow refuses a file for them; viewers show it.
"""

import struct
import zlib
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = struct.pack(">I4s", 0, b"IEND")
PNG_COLOR_BYTES = {0: 2, 2: 6}
"""Bytes of the transparent color by color type: gray and RGB. A palette has one byte a color instead."""
INFLATED_BLOCK_BYTES, MAX_INFLATED_BYTES = 1 << 20, 1 << 30
"""Of pixels, when it is found out whether they have their end."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
START_OF_SCAN = 0xDA
EXIF_SEGMENT = 0xE1
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
"""The JPEG markers of frames whose pixels come in several scans."""
CONTINUATIONS = (bytes(64), b"\xaa" * 64, b"\x55" * 64)
"""What is appended to a JPEG without an end: if its pixels don't depend on it, none of them is missing."""


def without_side_data(data: bytes) -> Iterator[bytes]:
    """Yield the file with fewer and fewer side data; nothing for formats other than PNG and JPEG.

    Kept are the pixels, their palette and transparency, and at first the EXIF data, which hold the orientation.
    """
    if data.startswith(PNG_SIGNATURE):
        yield _png(data, {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
        yield _png(data, {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
    elif data.startswith(JPEG_START):
        yield _jpeg(data, keep_exif=True)
        yield _jpeg(data, keep_exif=False)


def with_jpeg_end(data: bytes) -> list[bytes]:
    """Return a JPEG that lacks its end with several ends; if all give the same pixels, none was missing.

    The list is empty for other formats, for a JPEG that has an end, and for a progressive one without all its scans.
    """
    if not data.startswith(JPEG_START) or data.rstrip(b"\0").endswith(JPEG_END):
        return []
    progressive = any(marker in PROGRESSIVE for marker, _ in _jpeg_segments(data))
    if progressive and not _has_all_scans(data):
        return []
    return [data + continuation + JPEG_END for continuation in CONTINUATIONS]


def _png(data: bytes, kept: set[bytes]) -> bytes:
    """Return a PNG with some kinds of chunks only; its end is added if all its pixels are there."""
    parts, position, color_type = [PNG_SIGNATURE], len(PNG_SIGNATURE), data[25:26]
    palette_size, pixels = 0, []
    while position + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        content, checksum = data[position + 8 : position + 8 + length], data[position + 8 + length :][:4]
        position += 12 + length
        wanted = kind in kept
        if kind == b"PLTE":
            palette_size = length // 3
        elif kind == b"IDAT":
            pixels.append(content)
        elif wanted and kind[:1].islower():  # side data are dropped if they are damaged; damaged pixels are an error
            wanted = checksum == struct.pack(">I", zlib.crc32(kind + content))
        if wanted and kind == b"tRNS":
            expected = PNG_COLOR_BYTES.get(color_type[0] if color_type else -1)
            wanted = length == expected if expected else 0 < length <= palette_size
        if wanted and len(checksum) < 4 and _is_whole(pixels):
            checksum = struct.pack(">I", zlib.crc32(kind + content))
        if wanted:
            parts.append(struct.pack(">I4s", length, kind) + content + checksum)
    if not parts[-1].startswith(PNG_END) and _is_whole(pixels):
        parts.append(PNG_END + struct.pack(">I", zlib.crc32(b"IEND")))
    return b"".join(parts)


def _is_whole(compressed: list[bytes]) -> bool:
    """Whether the compressed pixels of a PNG have their end, which follows the last pixel."""
    stream, size = zlib.decompressobj(), 0
    for part in compressed:
        while part and not stream.eof and size <= MAX_INFLATED_BYTES:
            size += len(stream.decompress(part, INFLATED_BLOCK_BYTES))
            part = stream.unconsumed_tail
    return stream.eof


def _jpeg(data: bytes, *, keep_exif: bool) -> bytes:
    """Return a JPEG without application data and comments, except those that say what the pixels mean."""
    parts = [JPEG_START]
    for marker, segment in _jpeg_segments(data):
        content = segment[4:]
        is_kept = {
            0xE0: content.startswith(b"JFIF\0") and len(content) >= 14,
            0xEE: content.startswith(b"Adobe") and len(content) >= 12,
            EXIF_SEGMENT: keep_exif and content.startswith(b"Exif\0"),
        }.get(marker, not (0xE0 <= marker <= 0xEF or marker == 0xFE))
        if is_kept:
            parts.append(segment)
    return b"".join(parts)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the bytes of each segment of a JPEG; the last one is all from the first scan on."""
    position = len(JPEG_START)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == START_OF_SCAN:
            yield marker, data[position:]
            return
        length = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, data[position : position + length]
        position += length


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans of a progressive JPEG hold every bit of every coefficient (ITU-T T.81, annex G)."""
    missing: set[tuple[int, int]] = set()
    scans = b""
    for marker, segment in _jpeg_segments(data):
        scans = segment if marker == START_OF_SCAN else scans
        if marker in PROGRESSIVE:
            components = segment[10::3][: segment[9]]
            missing = {(component, coefficient) for component in components for coefficient in range(64)}
    position = 0
    while 0 <= position < len(scans) - 5:  # 0xFF is followed by 0 within a scan
        count = scans[position + 4]
        components = scans[position + 5 : position + 5 + 2 * count : 2]
        first, last, bits = scans[position + 5 + 2 * count :][:3].ljust(3, b"\xff")
        if bits & 15 == 0:  # down to the lowest bit
            missing -= {(component, index) for component in components for index in range(first, last + 1)}
        position = scans.find(bytes([0xFF, START_OF_SCAN]), position + 2)
    return bool(scans) and not missing
