"""Plot the classes of a video over time: their probabilities, the resulting segments, and the entropy of the map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.errors import InputError
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.text import load_font, truncate_text
from vitreous.render.theme import HAIRLINE, HUES, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN, LABELS_WIDTH, HEADER_HEIGHT, FOOTER_HEIGHT, GAP = 64, 300, 124, 84, 72
CURVES_HEIGHT, BAR_HEIGHT, ENTROPY_HEIGHT = 380, 54, 130
FONT_SIZE, SMALL_FONT_SIZE = 21, 18
OTHER_COLOR = "#98a2b3"
LABEL_SPACING = 32


@dataclass(frozen=True)
class Segment:
    """A part of a video in which one class is predicted; times in seconds."""

    start_seconds: float
    end_seconds: float
    label: str

    def describe(self) -> str:
        """Describe the segment: "0.0-3.2 s dog"."""
        return f"{self.start_seconds:.1f}-{self.end_seconds:.1f} s {self.label}"


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

    Without classes it shows the entropy alone.

    Args:
        times_seconds: the time of each frame, increasing.
        probabilities: by label, in [0, 1], one per frame; empty for a model without classes.
        segments: the predicted class over time. The first seven classes of both have colors of their own.
        path: the file to write.
        entropy: of each frame's map, from 0 (all on one patch) to 1 (uniform), or None.
        title: the text above.

    Raises:
        InputError: there are no frames, there is nothing to show, or a series doesn't have one value per frame.
    """
    times = np.asarray(times_seconds, np.float64)
    series = [*probabilities.items(), *([] if entropy is None else [("entropy", entropy)])]
    wrong = [name for name, values in series if np.shape(values) != times.shape]
    if not times.size or wrong or not series:
        raise InputError(f"{times.size} frames and {', '.join(wrong) or 'no'} values don't fit: give one per frame")
    colors = dict(
        zip([*probabilities, *(one.label for one in segments if one.label not in probabilities)], HUES, strict=False)
    )
    heights = ([CURVES_HEIGHT, BAR_HEIGHT] if probabilities else []) + ([] if entropy is None else [ENTROPY_HEIGHT])
    height = HEADER_HEIGHT + sum(heights) + GAP * (len(heights) - 1) + FOOTER_HEIGHT
    figure, top = new_figure(FIGURE_WIDTH, height), HEADER_HEIGHT
    draw_text(
        figure, (MARGIN, 40), title or ("Classes over time" if probabilities else ""), FONT_SIZE + 5, weight="bold"
    )
    end = max([times[-1], *(segment.end_seconds for segment in segments)])
    span = (float(times[0]), float(end if end > times[0] else times[0] + 1))
    if probabilities:
        draw_curves(add_panel(figure, top, CURVES_HEIGHT, span), times, probabilities, colors)
        top += CURVES_HEIGHT + GAP
        draw_segments(add_panel(figure, top, BAR_HEIGHT, span, last=entropy is None), segments, colors)
        top += BAR_HEIGHT + GAP
    if entropy is not None:
        draw_entropy(add_panel(figure, top, ENTROPY_HEIGHT, span, last=True), times, np.asarray(entropy, np.float64))
    draw_text(figure, (FIGURE_WIDTH - LABELS_WIDTH, height - 24), "seconds", SMALL_FONT_SIZE, ha="right", color=MUTED)
    save_figure(figure, path)


def add_panel(figure: "Figure", top: float, height: float, span: tuple[float, float], *, last: bool = False) -> "Axes":
    """Add a quiet panel of the full width, at a position in pixels; only the last one has tick labels in seconds."""
    figure_width, figure_height = FIGURE_WIDTH, figure.get_figheight() * figure.dpi
    axes = figure.add_axes(
        (
            MARGIN / figure_width,
            1 - (top + height) / figure_height,
            (figure_width - MARGIN - LABELS_WIDTH) / figure_width,
            height / figure_height,
        )
    )
    axes.set_xlim(*span)
    axes.tick_params(colors=MUTED, labelsize=to_points(SMALL_FONT_SIZE), length=0, pad=5, labelbottom=last)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)
    axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def draw_curves(
    axes: "Axes", times: np.ndarray, probabilities: Mapping[str, np.ndarray], colors: Mapping[str, str]
) -> None:
    """Draw one line per class, in per cent, with its label at its end in its color; labels don't overlap."""
    axes.set_title("probability in %", loc="left", fontsize=to_points(SMALL_FONT_SIZE), color=MUTED, pad=6)
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    marker = "o" if times.size == 1 else ""
    for name, values in reversed(list(probabilities.items())):
        axes.plot(
            times, 100 * np.asarray(values), color=colors.get(name, OTHER_COLOR), linewidth=1.3, marker=marker,
            markersize=4, solid_capstyle="round", clip_on=False,
        )  # fmt: skip
    ends = {name: 100 * float(np.asarray(values)[-1]) for name, values in probabilities.items()}
    per_pixel, room = 104 / CURVES_HEIGHT, LABELS_WIDTH - 34
    for (name, _), height in zip(
        ends.items(), spread_labels(list(ends.values()), LABEL_SPACING * per_pixel, 104), strict=True
    ):
        axes.annotate(
            truncate_text(name, load_font(FONT_SIZE), room), (1, height), (10, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=colors.get(name, OTHER_COLOR), fontsize=to_points(FONT_SIZE),
            parse_math=False,
        )  # fmt: skip


def spread_labels(heights: Sequence[float], step: float, highest: float) -> list[float]:
    """Move the heights as little as possible so that neighbors are at least `step` apart."""
    order = np.argsort(heights)[::-1]
    spread, limit = np.zeros(len(heights)), highest
    for i in order:
        spread[i] = min(heights[i], limit)
        limit = spread[i] - step
    limit = 0.0
    for i in order[::-1]:
        spread[i] = max(spread[i], limit)
        limit = spread[i] + step
    return spread.tolist()


def draw_segments(axes: "Axes", segments: Sequence[Segment], colors: Mapping[str, str]) -> None:
    """Draw one bar per segment in its class's color, with its text inside if there is room."""
    axes.set_title("segments", loc="left", fontsize=to_points(SMALL_FONT_SIZE), color=MUTED, pad=6)
    axes.set(ylim=(0, 1), yticks=[])
    first, last = axes.get_xlim()
    for segment in segments:
        length = segment.end_seconds - segment.start_seconds
        color = colors.get(segment.label, OTHER_COLOR)
        axes.barh(0.5, length, 0.96, segment.start_seconds, color=color, edgecolor=PAPER, linewidth=1.2, align="center")
        pixels = length / (last - first) * (FIGURE_WIDTH - MARGIN - LABELS_WIDTH) - 24
        text = next(
            (
                text
                for text in (segment.describe(), segment.label)
                if load_font(SMALL_FONT_SIZE).getlength(text) <= pixels
            ),
            None,
        )
        text = text or (
            truncate_text(segment.label, load_font(SMALL_FONT_SIZE), pixels) if pixels > 3 * SMALL_FONT_SIZE else ""
        )
        axes.annotate(
            text, (segment.start_seconds, 0.5), (to_points(12), 0), textcoords="offset points", va="center",
            color=PAPER, fontsize=to_points(SMALL_FONT_SIZE), parse_math=False,
        )  # fmt: skip


def draw_entropy(axes: "Axes", times: np.ndarray, entropy: np.ndarray) -> None:
    """Draw the entropy of the map over time."""
    axes.set_title(
        "entropy of the map: 0 on one patch, 1 uniform",
        loc="left",
        fontsize=to_points(SMALL_FONT_SIZE),
        color=MUTED,
        pad=6,
    )
    axes.set_ylim(0, 1.04)
    axes.set_yticks([0, 0.5, 1])
    axes.fill_between(times, entropy, color=INK, alpha=0.07, linewidth=0)
    axes.plot(times, entropy, color=INK, linewidth=1.1, clip_on=False, marker="o" if times.size == 1 else "")


def draw_text(
    figure: "Figure",
    position_xy: tuple[float, float],
    text: str,
    size: int,
    *,
    color: str = INK,
    weight: str = "normal",
    ha: str = "left",
) -> None:
    """Draw text at a position in pixels from the upper left corner."""
    x, y = position_xy[0] / FIGURE_WIDTH, 1 - position_xy[1] / (figure.get_figheight() * figure.dpi)
    figure.text(x, y, text, fontsize=to_points(size), va="center", color=color, parse_math=False, weight=weight, ha=ha)
