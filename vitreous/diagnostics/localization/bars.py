"""Scores with their intervals as bars: one panel a measure, one bar a method, the baselines in gray."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitreous.render.fonts import load_font, truncate_text
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS_ACROSS = 3
NAME_PIXELS, BAR_PIXELS, TITLE_PIXELS, GAP_PIXELS, MARGIN_PIXELS = 240, 44, 52, 36, 40
BASELINE = "#b3bac6"


@dataclass(frozen=True)
class Bar:
    """One mean and its interval from `low` to `high`; a `baseline` is what the others are held against."""

    name: str
    value: float
    low: float
    high: float
    baseline: bool = False


@dataclass(frozen=True)
class Panel:
    """One measure: its name in words, its bars from top to bottom, and how a value is written."""

    title: str
    bars: tuple[Bar, ...]
    form: str = "{:.2f}"


def score_bars(panels: Sequence[Panel], title: str, path: Path | str) -> None:
    """Write a PNG of all panels, up to three across; every panel has the same bars in the same order."""
    rows = -(-len(panels) // PANELS_ACROSS)
    high = TITLE_PIXELS + BAR_PIXELS * len(panels[0].bars)
    height = MARGIN_PIXELS * 2 + TITLE_PIXELS + rows * high + (rows - 1) * GAP_PIXELS
    figure = new_figure(FIGURE_WIDTH, height)
    figure.text(
        MARGIN_PIXELS / FIGURE_WIDTH, 1 - 1.1 * MARGIN_PIXELS / height, title, fontsize=to_points(30), weight="bold",
        color=INK, va="top",
    )  # fmt: skip
    room = FIGURE_WIDTH - 2 * MARGIN_PIXELS - NAME_PIXELS
    wide = (room - (PANELS_ACROSS - 1) * GAP_PIXELS) / PANELS_ACROSS
    for i, panel in enumerate(panels):
        row, column = divmod(i, PANELS_ACROSS)
        left = MARGIN_PIXELS + NAME_PIXELS + column * (wide + GAP_PIXELS)
        top = MARGIN_PIXELS + 2 * TITLE_PIXELS + row * (high + GAP_PIXELS)
        place = (left / FIGURE_WIDTH, 1 - (top + high - TITLE_PIXELS) / height)
        axes = figure.add_axes((*place, wide / FIGURE_WIDTH, (high - TITLE_PIXELS) / height))
        draw_panel(axes, panel, named=column == 0)
    save_figure(figure, path)


def draw_panel(axes: "Axes", panel: Panel, *, named: bool) -> None:
    """One panel: its bars from 0, intervals as lines, values written beside them."""
    count, longest = len(panel.bars), max(bar.high for bar in panel.bars)
    axes.set_xlim(0, 1.28 * max(longest, 1e-9))
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_title(panel.title, loc="left", fontsize=to_points(22), color=INK, pad=8)
    for place, bar in enumerate(panel.bars):
        axes.barh(place, bar.value, 0.62, color=BASELINE if bar.baseline else COOL)
        axes.plot([bar.low, bar.high], [place, place], color=INK, linewidth=1.1, solid_capstyle="butt")
        text, at = panel.form.format(bar.value), (bar.high + 0.02 * longest, place)
        axes.text(*at, text, va="center", color=INK, fontsize=to_points(19))
    axes.set_xticks([])
    axes.set_yticks(range(count))
    face = load_font(20)
    names = [truncate_text(bar.name, face, NAME_PIXELS - 14) if named else "" for bar in panel.bars]
    axes.set_yticklabels(names, fontsize=to_points(20), color=MUTED)
    axes.tick_params(length=0, pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(HAIRLINE)
