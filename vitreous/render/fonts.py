"""The one font, and text that is truncated or wrapped to a width."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

MISSING_GLYPH = "□"
MAX_TEXT_LENGTH = 1000
CORRECT_MARK, WRONG_MARK = "✓", "✗"
FRAME_FONT_FRACTION = 0.021
MIN_FRAME_FONT_SIZE = 11


def font_path(*, bold: bool = False) -> Path:
    """Return the path of DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")


@lru_cache(maxsize=128)
def load_font(size_pixels: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans at a size in pixels."""
    return ImageFont.truetype(str(font_path(bold=bold)), size_pixels)


def frame_font_size(size_hw: tuple[int, int]) -> int:
    """Return the size in pixels of the font on a video frame of this size."""
    return max(MIN_FRAME_FONT_SIZE, round(FRAME_FONT_FRACTION * (size_hw[0] * size_hw[1]) ** 0.5))


@lru_cache(maxsize=1)
def drawable_characters() -> frozenset[int]:
    """Return the code points that DejaVu Sans has a glyph for."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_path())).get_charmap())


def to_drawable(text: str) -> str:
    """Put the text on one line, with a box for every character that the font has no glyph for.

    >>> to_drawable("a\\n cat")
    'a cat'
    """
    text = " ".join(text[:MAX_TEXT_LENGTH].split())
    if text.isascii() and text.isprintable():
        return text
    known = drawable_characters()
    return "".join(
        character if character.isprintable() and ord(character) in known else MISSING_GLYPH for character in text
    )


def truncate_text(text: str, font: ImageFont.FreeTypeFont, width_pixels: float) -> str:
    """Truncate the text with an ellipsis if it is wider than `width_pixels`; return "" if not even that fits."""
    text = to_drawable(text)
    if font.getlength(text) <= width_pixels:
        return text
    low, high = -1, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        if font.getlength(text[:middle].rstrip() + "…") <= width_pixels:
            low = middle
        else:
            high = middle
    return text[:low].rstrip() + "…" if low >= 0 else ""


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width_pixels: float, max_lines: int) -> list[str]:
    """Wrap the text between words into at most `max_lines` lines of `width_pixels`; the last line is truncated."""
    words = to_drawable(text).split(" ")
    lines = []
    while words and len(lines) < max_lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width_pixels:
            count += 1
        lines.append(truncate_text(" ".join(words[:count]), font, width_pixels))
        words = words[count:]
    return [*lines, truncate_text(" ".join(words), font, width_pixels)] if words else lines
