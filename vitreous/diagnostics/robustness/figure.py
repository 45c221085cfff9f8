"""Accuracy on changed images: a table of kinds by strengths in color, and curves over the amount of change."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, style_axes, tint, to_points
from vitreous.render.theme import COOL, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES, CELL_WIDE, CELL_HIGH, HEAD, MARGIN, GAP = 330, 128, 46, 176, 40, 14


@dataclass(frozen=True)
class Heat:
    """One row: a kind, the group it belongs to, its accuracy at each strength and their mean, all 0 to 1."""

    kind: str
    group: str
    strengths: tuple[float, ...]
    mean: float


def corruption_figure(rows: Sequence[Heat], clean: float, title: str, path: Path | str) -> None:
    """Write a PNG of a table: a row a kind, a column a strength, the clean accuracy before and the mean after them."""
    columns = ["none", *(str(i + 1) for i in range(len(rows[0].strengths))), "mean"]
    width = 2 * MARGIN + NAMES + CELL_WIDE * len(columns) + GAP
    height = HEAD + CELL_HIGH * len(rows) + MARGIN
    figure = new_figure(width, height)
    figure.text(MARGIN / width, 1 - 52 / height, title, fontsize=to_points(28), weight="bold", color=INK, va="center")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    lefts = [MARGIN + NAMES + CELL_WIDE * i + (GAP if i == len(columns) - 1 else 0) for i in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        _write(axes, left + CELL_WIDE / 2, HEAD - 22, name, ("center", MUTED))
    _write(axes, (lefts[1] + lefts[-2] + CELL_WIDE) / 2, HEAD - 58, "strength", ("center", MUTED))
    for place, row in enumerate(rows):
        top = HEAD + CELL_HIGH * place
        _write(axes, MARGIN + NAMES - 20, top + CELL_HIGH / 2, row.kind, ("right", INK))
        for left, value in zip(lefts, (clean, *row.strengths, row.mean), strict=True):
            _cell(axes, (left, top), value, value / max(clean, 1e-9))
    top = HEAD
    for group, members in groupby(rows, key=lambda row: row.group):
        _write(axes, MARGIN, top + CELL_HIGH / 2, group, ("left", MUTED))
        top += CELL_HIGH * len(list(members))
    save_figure(figure, path)


def _cell(axes: "Axes", place: tuple[float, float], value: float, of_clean: float) -> None:
    """One accuracy in per cent, on a color that says how much of the clean accuracy is left."""
    from matplotlib.patches import Rectangle

    left, top = place
    color = tint(np.array(min(1.0, of_clean) ** 5), COOL)
    axes.add_patch(Rectangle((left + 1, top + 1), CELL_WIDE - 2, CELL_HIGH - 2, facecolor=color, linewidth=0))
    ink = PAPER if of_clean > 0.82 else INK
    _write(axes, left + CELL_WIDE / 2, top + CELL_HIGH / 2, f"{100 * value:.1f}", ("center", ink))


def _write(axes: "Axes", x: float, y: float, text: str, look: tuple[str, str]) -> None:
    align, color = look
    axes.text(x, y, text, fontsize=to_points(22), ha=align, va="center", color=color)


@dataclass(frozen=True)
class CurvePanel:
    """One curve: `values` (places, 4) are amount, accuracy and its interval, the last three 0 to 1."""

    title: str
    values: np.ndarray


def curve_figure(panels: Sequence[CurvePanel], title: str, path: Path | str) -> None:
    """Write a PNG of curves beside each other on one scale, each with its intervals as a band."""
    figure = new_figure(FIGURE_WIDTH, 720)
    figure.text(0.025, 0.93, title, fontsize=to_points(30), weight="bold", color=INK, va="center")
    low = min(panel.values[:, 1:].min() for panel in panels)
    high = max(panel.values[:, 1:].max() for panel in panels)
    room = 6 * (high - low) or 5.0
    several = np.atleast_1d(figure.subplots(1, len(panels)))
    figure.subplots_adjust(left=0.06, right=0.98, top=0.78, bottom=0.12, wspace=0.14)
    for axes, panel in zip(several, panels, strict=True):
        amount, *shares = panel.values.T
        value, least, most = (100 * share for share in shares)
        style_axes(axes, panel.title)
        axes.set_title(panel.title, loc="left", fontsize=to_points(22), color=INK, pad=10)
        axes.set_xlabel("")
        axes.fill_between(amount, least, most, color=COOL, alpha=0.18, linewidth=0)
        axes.plot(amount, value, color=COOL, linewidth=1.6, marker="o", markersize=3.2)
        axes.set_ylim(max(0, 100 * low - room), min(100.0, 100 * high + room))
        axes.set_xticks([int(one) for one in amount if len(amount) < 10 or one % 15 == 0])
        axes.tick_params(labelsize=to_points(19))
    several[0].set_ylabel("right, in %", fontsize=to_points(20), color=MUTED)
    save_figure(figure, path)
