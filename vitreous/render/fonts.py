"""Letters: the one font, and text shortened or wrapped to a width so that it stays inside its place."""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

MISSING_GLYPH = "□"
MAX_TEXT_LENGTH = 1000
CORRECT_MARK, WRONG_MARK = "✓", "✗"


def font_path(*, bold: bool = False) -> Path:
    """Where the DejaVu Sans that comes with matplotlib lies."""
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")


@lru_cache(maxsize=128)
def load_font(size_pixels: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at this size."""
    return ImageFont.truetype(str(font_path(bold=bold)), size_pixels)


@lru_cache(maxsize=1)
def drawable_characters() -> frozenset[int]:
    """The code points that DejaVu Sans has a shape for."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font_path())).get_charmap())


def to_drawable(text: str) -> str:
    """The text on one line, with a box for every character that the font has no shape for.

    >>> drawable("a\\n cat")
    'a cat'
    """
    text = " ".join(text[:MAX_TEXT_LENGTH].split())
    if text.isascii() and text.isprintable():
        return text
    known = drawable_characters()
    return "".join(
        character if character.isprintable() and ord(character) in known else MISSING_GLYPH for character in text
    )


def truncate_text(text: str, face: ImageFont.FreeTypeFont, width_pixels: float) -> str:
    """The text, cut short with an ellipsis if it is wider than `width_pixels`; empty if not even that fits."""
    text = to_drawable(text)
    if face.getlength(text) <= width_pixels:
        return text
    fits, too_long = -1, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if face.getlength(text[:middle].rstrip() + "…") <= width_pixels:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…" if fits >= 0 else ""


def wrap_text(text: str, face: ImageFont.FreeTypeFont, width_pixels: float, most_lines: int) -> list[str]:
    """The text broken between words into at most `most_lines` lines of `width_pixels`, the last one ellipsised."""
    words = to_drawable(text).split(" ")
    lines = []
    while words and len(lines) < most_lines - 1:
        taken = 1
        while taken < len(words) and face.getlength(" ".join(words[: taken + 1])) <= width_pixels:
            taken += 1
        lines.append(truncate_text(" ".join(words[:taken]), face, width_pixels))
        words = words[taken:]
    return [*lines, truncate_text(" ".join(words), face, width_pixels)] if words else lines
