"""A clip's classes over time on one page: probabilities, the segments that follow from them, how spread the map is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.errors import InputError
from vitreous.render.fonts import load_font, truncate_text
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.theme import HAIRLINE, HUES, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN, NAMES_WIDTH, HEAD, FOOT, GAP = 64, 300, 124, 84, 72
CURVES_HEIGHT, BAR_HEIGHT, ENTROPY_HEIGHT = 380, 54, 130
LETTERS, SMALL = 21, 18
OTHERS = "#98a2b3"
ROW = 32


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip in which one class is the answer, in seconds."""

    start_seconds: float
    end_seconds: float
    name: str

    def words(self) -> str:
        """As it is said: "0.0-3.2 s dog"."""
        return f"{self.start_seconds:.1f}-{self.end_seconds:.1f} s {self.name}"


def timeline(
    times_seconds: Sequence[float],
    probabilities: Mapping[str, np.ndarray],
    segments: Sequence[Segment],
    path: Path | str,
    *,
    entropy: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Write a PNG, 1600 pixels wide, of the classes' probabilities over time, the segments and the map's entropy.

    Args:
        times_seconds: of each frame, rising.
        probabilities: for each class to be drawn (at most six are told apart by color), in [0, 1], one a frame.
        segments: what the clip shows when.
        path: the file to write.
        entropy: of each frame's map, 0 (all on one patch) to 1 (even), or None.
        title: written above.

    Raises:
        InputError: no frames, or a series that has not one value a frame.
    """
    times = np.asarray(times_seconds, np.float64)
    series = [*probabilities.items(), *([] if entropy is None else [("entropy", entropy)])]
    wrong = [name for name, values in series if np.shape(values) != times.shape]
    if not times.size or wrong:
        raise InputError(f"{times.size} frames and {', '.join(wrong) or 'no'} values don't fit: give one value a frame")
    colors = dict(zip(probabilities, HUES[:-1], strict=False))
    height = HEAD + CURVES_HEIGHT + GAP + BAR_HEIGHT + FOOT + (0 if entropy is None else GAP + ENTROPY_HEIGHT)
    figure, top = new_figure(FIGURE_WIDTH, height), HEAD
    write(figure, (MARGIN, 40), title or "What the clip shows", LETTERS + 5, weight="bold")
    end = max([times[-1], *(segment.end_seconds for segment in segments)])
    span = (float(times[0]), float(end if end > times[0] else times[0] + 1))
    draw_curves(place(figure, top, CURVES_HEIGHT, span), times, probabilities, colors)
    top += CURVES_HEIGHT + GAP
    draw_segments(place(figure, top, BAR_HEIGHT, span, last=entropy is None), segments, colors)
    if entropy is not None:
        top += BAR_HEIGHT + GAP
        draw_entropy(place(figure, top, ENTROPY_HEIGHT, span, last=True), times, np.asarray(entropy, np.float64))
    write(figure, (FIGURE_WIDTH - NAMES_WIDTH, height - 24), "seconds", SMALL, ha="right", color=MUTED)
    save_figure(figure, path)


def place(figure: "Figure", top: float, height: float, span: tuple[float, float], *, last: bool = False) -> "Axes":
    """A calm panel over the whole width, its place in pixels; the seconds are written under the last one."""
    wide, high = FIGURE_WIDTH, figure.get_figheight() * figure.dpi
    axes = figure.add_axes(
        (MARGIN / wide, 1 - (top + height) / high, (wide - MARGIN - NAMES_WIDTH) / wide, height / high)
    )
    axes.set_xlim(*span)
    axes.tick_params(colors=MUTED, labelsize=to_points(SMALL), length=0, pad=5, labelbottom=last)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)
    axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def draw_curves(
    axes: "Axes", times: np.ndarray, probabilities: Mapping[str, np.ndarray], colors: Mapping[str, str]
) -> None:
    """A line a class, in per cent, named at its end in its color; names make room for each other."""
    axes.set_title("probability in %", loc="left", fontsize=to_points(SMALL), color=MUTED, pad=6)
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    marker = "o" if times.size == 1 else ""
    for name, values in reversed(list(probabilities.items())):
        axes.plot(
            times, 100 * np.asarray(values), color=colors.get(name, OTHERS), linewidth=1.3, marker=marker, markersize=4,
            solid_capstyle="round", clip_on=False,
        )  # fmt: skip
    ends = {name: 100 * float(np.asarray(values)[-1]) for name, values in probabilities.items()}
    per_pixel, room = 104 / CURVES_HEIGHT, NAMES_WIDTH - 34
    for (name, _), height in zip(ends.items(), apart(list(ends.values()), ROW * per_pixel, 104), strict=True):
        axes.annotate(
            truncate_text(name, load_font(LETTERS), room), (1, height), (10, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=colors.get(name, OTHERS), fontsize=to_points(LETTERS),
            parse_math=False,
        )  # fmt: skip


def apart(heights: Sequence[float], step: float, most: float) -> list[float]:
    """The heights moved as little as lets each stand at least `step` from the next, from `most` down."""
    order = np.argsort(heights)[::-1]
    moved, limit = np.zeros(len(heights)), most
    for i in order:
        moved[i] = min(heights[i], limit)
        limit = moved[i] - step
    limit = 0.0
    for i in order[::-1]:
        moved[i] = max(moved[i], limit)
        limit = moved[i] + step
    return moved.tolist()


def draw_segments(axes: "Axes", segments: Sequence[Segment], colors: Mapping[str, str]) -> None:
    """A bar a segment in its class's color, with its words inside where there is room for them."""
    axes.set_title("segments", loc="left", fontsize=to_points(SMALL), color=MUTED, pad=6)
    axes.set(ylim=(0, 1), yticks=[])
    first, last = axes.get_xlim()
    for segment in segments:
        length = segment.end_seconds - segment.start_seconds
        color = colors.get(segment.name, OTHERS)
        axes.barh(0.5, length, 0.96, segment.start_seconds, color=color, edgecolor=PAPER, linewidth=1.2, align="center")
        pixels = length / (last - first) * (FIGURE_WIDTH - MARGIN - NAMES_WIDTH) - 24
        said = next(
            (text for text in (segment.words(), segment.name) if load_font(SMALL).getlength(text) <= pixels), None
        )
        said = said or (truncate_text(segment.name, load_font(SMALL), pixels) if pixels > 3 * SMALL else "")
        axes.annotate(
            said, (segment.start_seconds, 0.5), (to_points(12), 0), textcoords="offset points", va="center",
            color=PAPER, fontsize=to_points(SMALL), parse_math=False,
        )  # fmt: skip


def draw_entropy(axes: "Axes", times: np.ndarray, entropy: np.ndarray) -> None:
    """How spread the map is over time."""
    axes.set_title(
        "entropy of the map: 0 on one patch, 1 even", loc="left", fontsize=to_points(SMALL), color=MUTED, pad=6
    )
    axes.set_ylim(0, 1.04)
    axes.set_yticks([0, 0.5, 1])
    axes.fill_between(times, entropy, color=INK, alpha=0.07, linewidth=0)
    axes.plot(times, entropy, color=INK, linewidth=1.1, clip_on=False, marker="o" if times.size == 1 else "")


def write(
    figure: "Figure", place_xy: tuple[float, float], text: str, size: int, *, color: str = INK, **look: Any
) -> None:
    """Write at a place in pixels from the upper left corner."""
    x, y = place_xy[0] / FIGURE_WIDTH, 1 - place_xy[1] / (figure.get_figheight() * figure.dpi)
    figure.text(x, y, text, fontsize=to_points(size), va="center", color=color, parse_math=False, **look)
