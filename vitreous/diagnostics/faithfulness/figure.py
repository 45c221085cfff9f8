"""The figure of a faithfulness measurement: curves, scores with their intervals, and the agreement of methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitreous.diagnostics.faithfulness.report import (
    MAX_RANDOMIZED_CORRELATION,
    METRICS,
    MethodReport,
    summarize_reports,
)
from vitreous.diagnostics.faithfulness.result import FaithfulnessResult
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.text import load_font, truncate_text, wrap_text
from vitreous.render.theme import COOL, HAIRLINE, HUES, INK, MUTED, PAPER, WARM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "insertion": ("insertion, most relevant first", "% of patches added to a blur"),
    "deletion": ("deletion, most relevant first", "% of patches made gray"),
    "road_most": ("ROAD, most relevant first", "% of patches imputed"),
    "road_least": ("ROAD, least relevant first", "% of patches imputed"),
}
BETTER = {"higher": "higher is better", "lower": "lower is better"}
COLUMNS = {
    "insertion": "insertion",
    "deletion": "deletion",
    "road_most": "ROAD most",
    "road_least": "ROAD least",
    "sensitivity": "sensitivity",
    "randomized_head": "random head",
    "randomized_all": "random weights",
}
LINE_STYLES, MARKERS = ("-", (0, (4, 1.6)), (0, (1.2, 1.2))), ("o", "D", "s")
BASELINE_STYLES = ("-", (0, (1.2, 1.6)))
BASELINE_COLOR = "#98a2b3"
MARGIN, NAMES_WIDTH, GAP = 44, 268, 24
CURVES_TOP, CURVES_HEIGHT = 210, 330
ROW_HEIGHT, SCORES_HEAD = 34, 132
CELL, FONT_SIZE = 44, 19


@dataclass(frozen=True)
class ScoreDot:
    """A score with its interval; hollow if it is not better than a baseline."""

    value: float
    low: float
    high: float
    is_hollow: bool = False


@dataclass(frozen=True)
class FigureRow:
    """One method."""

    name: str
    is_baseline: bool
    curves: Sequence[np.ndarray]
    """One per panel."""
    dots: Sequence[ScoreDot | None]
    """One per column; None if it was not measured."""


@dataclass(frozen=True)
class CurvePanel:
    """One panel of curves."""

    title: str
    subtitle: str
    """Which direction is better."""
    x_label: str
    fractions: np.ndarray
    """Positions of the points, 0 to 1."""


@dataclass(frozen=True)
class FigureText:
    """The text of the figure."""

    title: str
    subtitle: str
    columns: Sequence[tuple[str, str]]
    """Heading of each column of scores: the metric, and which direction is better."""
    notes: Sequence[str]
    """Paragraphs on how to read the figure."""


def faithfulness_figure(
    rows: Sequence[FigureRow],
    panels: Sequence[CurvePanel],
    agreement: np.ndarray,
    text: FigureText,
    path: Path | str,
) -> None:
    """Write a PNG: curves at the top, scores below them, agreement (rows, rows) at the bottom."""
    scores_top = CURVES_TOP + CURVES_HEIGHT + 96 + SCORES_HEAD
    matrix_top = scores_top + ROW_HEIGHT * len(rows) + 140
    height = matrix_top + max(CELL * len(rows) + 190, 440)
    figure = new_figure(FIGURE_WIDTH, height)
    write_text_at(figure, MARGIN, 52, text.title, 32, weight="bold")
    write_text_at(figure, MARGIN, 96, text.subtitle, 20, color=MUTED)
    styles = [row_style(row, number) for row, number in zip(rows, count_before(rows), strict=True)]
    draw_panels(figure, rows, panels, styles)
    write_text_at(
        figure, MARGIN, scores_top - SCORES_HEAD + 18, "scores, with the interval of their mean", 22, weight="bold"
    )
    draw_scores(figure, rows, text.columns, styles, scores_top)
    write_text_at(
        figure, MARGIN, matrix_top - 56, "agreement: mean rank correlation of two methods' maps", 22, weight="bold"
    )
    draw_agreement(figure, [row.name for row in rows], agreement, matrix_top)
    draw_notes(figure, text.notes, MARGIN + NAMES_WIDTH + CELL * len(rows) + 70, matrix_top)
    save_figure(figure, path)


def count_before(rows: Sequence[FigureRow]) -> list[int]:
    """Count the rows of the same kind, method or baseline, before each row."""
    return [sum(other.is_baseline == row.is_baseline for other in rows[:i]) for i, row in enumerate(rows)]


def row_style(row: FigureRow, number: int) -> dict[str, Any]:
    """Return the style of the `number`th method or baseline: seven hues, then the same ones dashed."""
    if row.is_baseline:
        line_style = BASELINE_STYLES[number % len(BASELINE_STYLES)]
        return {"color": BASELINE_COLOR, "linestyle": line_style, "marker": MARKERS[number % len(MARKERS)]}
    turn = number // len(HUES) % len(LINE_STYLES)
    return {"color": HUES[number % len(HUES)], "linestyle": LINE_STYLES[turn], "marker": MARKERS[turn]}


def draw_panels(
    figure: "Figure", rows: Sequence[FigureRow], panels: Sequence[CurvePanel], styles: Sequence[dict[str, Any]]
) -> None:
    """Draw the curves of all rows into each panel; the panels share one scale."""
    width = (FIGURE_WIDTH - 2 * MARGIN - 40 - GAP * 2 * (len(panels) - 1)) / len(panels)
    values = np.concatenate([curve for row in rows for curve in row.curves])
    margin = 0.05 * (values.max() - values.min()) or 0.5
    for i, panel in enumerate(panels):
        left = MARGIN + 40 + i * (width + 2 * GAP)
        axes = add_axes(figure, left, CURVES_TOP, width, CURVES_HEIGHT)
        for row, style in zip(rows, styles, strict=True):
            line_width = 2.2 if row.is_baseline else 1.3
            axes.plot(100 * panel.fractions, row.curves[i], color=style["color"], linestyle=style["linestyle"],
                      linewidth=line_width, zorder=1 if row.is_baseline else 2)  # fmt: skip
        mute_axes(axes)
        write_text_at(figure, left, CURVES_TOP - 56, panel.title, 20, weight="bold")
        write_text_at(figure, left, CURVES_TOP - 28, panel.subtitle, 17, color=MUTED)
        axes.set_xlabel(panel.x_label, fontsize=to_points(17), color=MUTED, labelpad=6)
        axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
        axes.set_xlim(0, 100)
        axes.set_ylim(values.min() - margin, values.max() + margin)


def draw_scores(
    figure: "Figure",
    rows: Sequence[FigureRow],
    columns: Sequence[tuple[str, str]],
    styles: Sequence[dict[str, Any]],
    top: float,
) -> None:
    """Draw a column of dots with intervals for each metric; gray lines mark the values of the baselines."""
    width = (FIGURE_WIDTH - 2 * MARGIN - NAMES_WIDTH - GAP * (len(columns) - 1)) / len(columns)
    for i, row in enumerate(rows):
        y = top + (i + 0.5) * ROW_HEIGHT
        write_text_at(
            figure, MARGIN + 58, y, truncate_text(row.name, load_font(FONT_SIZE), NAMES_WIDTH - 64), FONT_SIZE
        )
        sample = add_axes(figure, MARGIN - 2, y - 8, 50, 16)
        sample.set_axis_off()
        sample.plot([0, 1], [0, 0], color=styles[i]["color"], linestyle=styles[i]["linestyle"], linewidth=1.6)
    for j, (title, subtitle) in enumerate(columns):
        left = MARGIN + NAMES_WIDTH + j * (width + GAP)
        write_text_at(figure, left, top - 62, title, 20, weight="bold")
        write_text_at(figure, left, top - 34, subtitle, 17, color=MUTED)
        axes = add_axes(figure, left, top, width, ROW_HEIGHT * len(rows))
        draw_column(axes, [(row.dots[j], row.is_baseline, style) for row, style in zip(rows, styles, strict=True)])


def draw_column(axes: "Axes", entries: Sequence[tuple[ScoreDot | None, bool, dict[str, Any]]]) -> None:
    """Draw the dots of one metric, the first row at the top."""
    mute_axes(axes)
    for y, (dot, is_baseline, style) in enumerate(entries):
        axes.axhspan(y - 0.5, y + 0.5, color="#f7f8fa" if y % 2 == 0 else PAPER, zorder=0, linewidth=0)
        if dot is None:
            axes.text(0.5, y, "not measured", transform=axes.get_yaxis_transform(), fontsize=to_points(16), color=MUTED,
                      ha="center", va="center")  # fmt: skip
            continue
        color = style["color"]
        if is_baseline:
            axes.axvline(dot.value, color=color, linestyle=style["linestyle"], linewidth=1, zorder=1)
        axes.plot([dot.low, dot.high], [y, y], color=color, linewidth=1.8, zorder=2, solid_capstyle="round")
        axes.plot(dot.value, y, marker=style["marker"], color=color, markersize=4.6, markeredgewidth=1.3, zorder=3,
                  markerfacecolor=PAPER if dot.is_hollow else color)  # fmt: skip
    known = [end for dot, _, _ in entries if dot is not None for end in (dot.low, dot.high)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.1
    axes.set(xlim=(low - margin, high + margin), ylim=(len(entries) - 0.5, -0.5), yticks=[])
    axes.locator_params(axis="x", nbins=3)


def draw_agreement(figure: "Figure", names: Sequence[str], agreement: np.ndarray, top: float) -> None:
    """Draw the matrix: blue where two methods rank patches alike, orange where they rank them in reverse."""
    from matplotlib.colors import LinearSegmentedColormap

    side = CELL * len(names)
    axes = add_axes(figure, MARGIN + NAMES_WIDTH, top, side, side)
    colors = LinearSegmentedColormap.from_list("agreement", [WARM, PAPER, COOL])
    axes.imshow(agreement, cmap=colors, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    labels = [truncate_text(name, load_font(FONT_SIZE), NAMES_WIDTH - 20) for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=to_points(FONT_SIZE), color=INK, parse_math=False)
    axes.set_xticks(
        range(len(names)), labels, fontsize=to_points(17), color=INK, rotation=45, ha="right", parse_math=False
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
    """Write the notes beside the matrix, wrapped to the remaining width."""
    y = top + 12
    for note in notes:
        for line in wrap_text(note, load_font(18), FIGURE_WIDTH - MARGIN - left, 8):
            write_text_at(figure, left, y, line, 18, color=MUTED)
            y += 27
        y += 13


def add_axes(figure: "Figure", left: float, top: float, width: float, height: float) -> "Axes":
    """Add axes at a position in pixels from the figure's top left."""
    whole = figure.get_size_inches() * figure.dpi
    return figure.add_axes((left / whole[0], 1 - (top + height) / whole[1], width / whole[0], height / whole[1]))


def write_text_at(
    figure: "Figure", left: float, middle: float, text: str, font_size: int, *, color: str = INK, weight: str = "normal"
) -> None:
    """Write one line of text of this size in pixels, vertically centered at `middle`."""
    whole = figure.get_size_inches() * figure.dpi
    figure.text(left / whole[0], 1 - middle / whole[1], text, fontsize=to_points(font_size), color=color, weight=weight,
                va="center", parse_math=False)  # fmt: skip


def mute_axes(axes: "Axes") -> None:
    """Give axes a quiet style: no ticks, small gray numbers, one faint spine."""
    axes.tick_params(colors=MUTED, labelsize=to_points(17), length=0, pad=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)
    axes.set_axisbelow(True)


def draw_faithfulness(result: FaithfulnessResult, path: Path) -> None:
    """Write the figure of a result: methods first, baselines at the bottom."""
    order = [*(m for m in result.methods if not m.baseline), *(m for m in result.methods if m.baseline)]
    rows = [_to_row(method) for method in order]
    fractions = np.array(result.fractions), np.array(result.road_fractions)
    panels = [
        CurvePanel(title, BETTER[METRICS[name].direction], x_label, fractions[name.startswith("road")])
        for name, (title, x_label) in PANELS.items()
    ]
    columns = [
        (COLUMNS[name], "← " + BETTER["lower"] if metric.direction == "lower" else BETTER["higher"] + " →")
        for name, metric in METRICS.items()
    ]
    settings = result.settings
    subtitle = (
        f"{settings.data} · {settings.count} {settings.split} images · "
        f"{'probability' if result.unit == 'probability' else 'score'} of the {_target_name(result)}"
    )
    text = FigureText("How faithful are these maps?", subtitle, columns, _notes(result))
    faithfulness_figure(rows, panels, _agreement_matrix(result, [method.name for method in order]), text, path)


def _to_row(method: MethodReport) -> FigureRow:
    curves = [
        np.array(method.curves[name] if name in method.curves else [score.value for score in method.road[name]])
        for name in PANELS
    ]
    dots = [
        ScoreDot(score.value, score.low, score.high, name in method.not_better_than)
        if (score := method.scores.get(name))
        else None
        for name in METRICS
    ]
    return FigureRow(method.name, method.baseline, curves, dots)


def _agreement_matrix(result: FaithfulnessResult, names: list[str]) -> np.ndarray:
    """Return the agreements as a symmetric matrix (names, names)."""
    matrix = np.eye(len(names))
    for pair in result.agreement:
        row, column = names.index(pair.first), names.index(pair.second)
        matrix[row, column] = matrix[column, row] = pair.value
    return matrix


def _target_name(result: FaithfulnessResult) -> str:
    if result.unit == "score":
        return "image's own features"
    return "true class" if result.settings.target == "true" else "predicted class"


def _notes(result: FaithfulnessResult) -> list[str]:
    unit = "probability" if result.unit == "probability" else "score over that of the original image"
    insensitive = [method.name for method in result.methods if method.is_insensitive]
    notes = [
        summarize_reports(result.methods),
        "Hollow markers: not better than the random map or than the center bias (95 % interval of the paired "
        "difference). Gray lines are these two baselines.",
        f"Insertion and deletion are areas under the mean {unit}, ROAD is its mean over the fractions removed; none is "
        "normalized further. Sensitivity is a correlation.",
        "Random head, random weights: rank correlation with the map of the same model after its head or all of its "
        "weights were randomized. Near 1, the map doesn't depend on the weights; for the head, this holds by design "
        "for maps that are the same for every class.",
    ]
    if insensitive:
        names = ", ".join(insensitive)
        notes.append(f"Similar with random weights (correlation above {MAX_RANDOMIZED_CORRELATION:g}): {names}.")
    return notes
