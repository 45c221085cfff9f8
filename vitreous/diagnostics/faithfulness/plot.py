"""The figure of a faithfulness measurement: curves, scores with their intervals, and who agrees with whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.render.fonts import load_font, truncate_text, wrap_text
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.theme import COOL, HAIRLINE, HUES, INK, MUTED, PAPER, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES, MARKERS = ("-", (0, (4, 1.6)), (0, (1.2, 1.2))), ("o", "D", "s")
BASELINE_STYLES = ("-", (0, (1.2, 1.6)))
BASELINE_COLOR = "#98a2b3"
MARGIN, NAMES_WIDTH, GAP = 44, 268, 24
CURVES_TOP, CURVES_HEIGHT = 210, 330
ROW, SCORES_HEAD = 34, 132
CELL, LETTERS = 44, 19


@dataclass(frozen=True)
class Dot:
    """A score as it is drawn: its value, its interval, and whether it is hollow (no better than a baseline)."""

    value: float
    low: float
    high: float
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """One method: its name, whether it is a baseline, its curves (one a panel), its scores (one a column, or None)."""

    name: str
    baseline: bool
    curves: Sequence[np.ndarray]
    dots: Sequence[Dot | None]


@dataclass(frozen=True)
class Panel:
    """One panel of curves: what it is, which way is better, and what its points (shares, 0 to 1) are shares of."""

    title: str
    better: str
    across: str
    shares: np.ndarray


@dataclass(frozen=True)
class Words:
    """What the figure says."""

    title: str
    subtitle: str
    columns: Sequence[tuple[str, str]]
    """Heading of each column of scores in two lines: what it is, and which way is better."""
    notes: Sequence[str]
    """How to read it, a paragraph each."""


def faithfulness_figure(
    rows: Sequence[Row], panels: Sequence[Panel], agreement: np.ndarray, words: Words, path: Path | str
) -> None:
    """Write a PNG 1600 pixels wide: curves above, scores below them, agreement (rows, rows) at the foot."""
    scores_top = CURVES_TOP + CURVES_HEIGHT + 96 + SCORES_HEAD
    matrix_top = scores_top + ROW * len(rows) + 140
    height = matrix_top + max(CELL * len(rows) + 190, 440)
    figure = new_figure(FIGURE_WIDTH, height)
    write(figure, MARGIN, 52, words.title, 32, weight="bold")
    write(figure, MARGIN, 96, words.subtitle, 20, color=MUTED)
    looks = [look(row, number) for row, number in zip(rows, rows_before(rows), strict=True)]
    draw_panels(figure, rows, panels, looks)
    write(figure, MARGIN, scores_top - SCORES_HEAD + 18, "scores, with the interval of their mean", 22, weight="bold")
    draw_scores(figure, rows, words.columns, looks, scores_top)
    write(figure, MARGIN, matrix_top - 56, "agreement: mean rank correlation of two methods' maps", 22, weight="bold")
    draw_agreement(figure, [row.name for row in rows], agreement, matrix_top)
    draw_notes(figure, words.notes, MARGIN + NAMES_WIDTH + CELL * len(rows) + 70, matrix_top)
    save_figure(figure, path)


def rows_before(rows: Sequence[Row]) -> list[int]:
    """How many rows of its own kind, method or baseline, stand before each row."""
    return [sum(other.baseline == row.baseline for other in rows[:i]) for i, row in enumerate(rows)]


def look(row: Row, number: int) -> dict[str, Any]:
    """Color, line style and marker of the `number`th method or baseline; seven hues, then the same ones dashed."""
    if row.baseline:
        style = BASELINE_STYLES[number % len(BASELINE_STYLES)]
        return {"color": BASELINE_COLOR, "linestyle": style, "marker": MARKERS[number % len(MARKERS)]}
    turn = number // len(HUES) % len(STYLES)
    return {"color": HUES[number % len(HUES)], "linestyle": STYLES[turn], "marker": MARKERS[turn]}


def draw_panels(
    figure: "Figure", rows: Sequence[Row], panels: Sequence[Panel], looks: Sequence[dict[str, Any]]
) -> None:
    """Draw the curves of all rows into each panel; all panels share one scale."""
    width = (FIGURE_WIDTH - 2 * MARGIN - 40 - GAP * 2 * (len(panels) - 1)) / len(panels)
    every = np.concatenate([curve for row in rows for curve in row.curves])
    room = 0.05 * (every.max() - every.min()) or 0.5
    for i, panel in enumerate(panels):
        left = MARGIN + 40 + i * (width + 2 * GAP)
        axes = place(figure, left, CURVES_TOP, width, CURVES_HEIGHT)
        for row, how in zip(rows, looks, strict=True):
            width_points = 2.2 if row.baseline else 1.3
            axes.plot(100 * panel.shares, row.curves[i], color=how["color"], linestyle=how["linestyle"],
                      linewidth=width_points, zorder=1 if row.baseline else 2)  # fmt: skip
        calm(axes)
        write(figure, left, CURVES_TOP - 56, panel.title, 20, weight="bold")
        write(figure, left, CURVES_TOP - 28, panel.better, 17, color=MUTED)
        axes.set_xlabel(panel.across, fontsize=to_points(17), color=MUTED, labelpad=6)
        axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
        axes.set_xlim(0, 100)
        axes.set_ylim(every.min() - room, every.max() + room)


def draw_scores(
    figure: "Figure",
    rows: Sequence[Row],
    columns: Sequence[tuple[str, str]],
    looks: Sequence[dict[str, Any]],
    top: float,
) -> None:
    """Draw a column of dots with intervals for each measure; gray lines carry the baselines' values down it."""
    width = (FIGURE_WIDTH - 2 * MARGIN - NAMES_WIDTH - GAP * (len(columns) - 1)) / len(columns)
    for i, row in enumerate(rows):
        y = top + (i + 0.5) * ROW
        write(figure, MARGIN + 58, y, truncate_text(row.name, load_font(LETTERS), NAMES_WIDTH - 64), LETTERS)
        sample = place(figure, MARGIN - 2, y - 8, 50, 16)
        sample.set_axis_off()
        sample.plot([0, 1], [0, 0], color=looks[i]["color"], linestyle=looks[i]["linestyle"], linewidth=1.6)
    for j, (title, better) in enumerate(columns):
        left = MARGIN + NAMES_WIDTH + j * (width + GAP)
        write(figure, left, top - 62, title, 20, weight="bold")
        write(figure, left, top - 34, better, 17, color=MUTED)
        axes = place(figure, left, top, width, ROW * len(rows))
        draw_column(axes, [(row.dots[j], row.baseline, how) for row, how in zip(rows, looks, strict=True)])


def draw_column(axes: "Axes", entries: Sequence[tuple[Dot | None, bool, dict[str, Any]]]) -> None:
    """Draw one measure's dots, the first row at the top."""
    calm(axes)
    for y, (dot, baseline, how) in enumerate(entries):
        axes.axhspan(y - 0.5, y + 0.5, color="#f7f8fa" if y % 2 == 0 else PAPER, zorder=0, linewidth=0)
        if dot is None:
            axes.text(0.5, y, "not measured", transform=axes.get_yaxis_transform(), fontsize=to_points(16), color=MUTED,
                      ha="center", va="center")  # fmt: skip
            continue
        color = how["color"]
        if baseline:
            axes.axvline(dot.value, color=color, linestyle=how["linestyle"], linewidth=1, zorder=1)
        axes.plot([dot.low, dot.high], [y, y], color=color, linewidth=1.8, zorder=2, solid_capstyle="round")
        axes.plot(dot.value, y, marker=how["marker"], color=color, markersize=4.6, markeredgewidth=1.3, zorder=3,
                  markerfacecolor=PAPER if dot.hollow else color)  # fmt: skip
    known = [end for dot, _, _ in entries if dot is not None for end in (dot.low, dot.high)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1
    axes.set(xlim=(low - room, high + room), ylim=(len(entries) - 0.5, -0.5), yticks=[])
    axes.locator_params(axis="x", nbins=3)


def draw_agreement(figure: "Figure", names: Sequence[str], agreement: np.ndarray, top: float) -> None:
    """Draw the matrix: blue where two methods rank patches alike, orange where they rank them the other way round."""
    from matplotlib.colors import LinearSegmentedColormap

    side = CELL * len(names)
    axes = place(figure, MARGIN + NAMES_WIDTH, top, side, side)
    colors = LinearSegmentedColormap.from_list("agreement", [WARM, PAPER, COOL])
    axes.imshow(agreement, cmap=colors, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    shown = [truncate_text(name, load_font(LETTERS), NAMES_WIDTH - 20) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=to_points(LETTERS), color=INK, parse_math=False)
    axes.set_xticks(
        range(len(names)), shown, fontsize=to_points(17), color=INK, rotation=45, ha="right", parse_math=False
    )
    axes.tick_params(length=0, pad=6)
    for row, column in np.argwhere(~np.eye(len(names), dtype=bool)):
        value = agreement[row, column]
        ink = PAPER if abs(value) > 0.6 else INK
        text = f"{value:.2f}".replace("0.", ".").replace("-.00", ".00").replace("-", "−")
        axes.text(column, row, text, ha="center", va="center", fontsize=to_points(15), color=ink)
    edges = np.arange(1, len(names)) - 0.5
    axes.hlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=1)
    axes.vlines(edges, -0.5, len(names) - 0.5, color=PAPER, linewidth=1)
    for spine in axes.spines.values():
        spine.set_color(HAIRLINE)


def draw_notes(figure: "Figure", notes: Sequence[str], left: float, top: float) -> None:
    """Write how to read the figure beside the matrix, wrapped to the room that is left."""
    y = top + 12
    for note in notes:
        for line in wrap_text(note, load_font(18), FIGURE_WIDTH - MARGIN - left, 8):
            write(figure, left, y, line, 18, color=MUTED)
            y += 27
        y += 13


def place(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Axes at these pixels, counted from the figure's top left."""
    whole = figure.get_size_inches() * figure.dpi
    return figure.add_axes((left / whole[0], 1 - (top + height) / whole[1], width / whole[0], height / whole[1]))


def write(
    figure: "Figure", left: float, middle: float, text: str, letters: int, *, color: str = INK, weight: str = "normal"
) -> None:
    """Write one line of text, `letters` pixels large, with its middle at this height."""
    whole = figure.get_size_inches() * figure.dpi
    figure.text(left / whole[0], 1 - middle / whole[1], text, fontsize=to_points(letters), color=color, weight=weight,
                va="center", parse_math=False)  # fmt: skip


def calm(axes: "Axes") -> None:
    """The calm look: no ticks, small gray numbers, one faint spine."""
    axes.tick_params(colors=MUTED, labelsize=to_points(17), length=0, pad=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)
    axes.set_axisbelow(True)
