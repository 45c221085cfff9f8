"""The charts of the doctor's page, drawn by matplotlib as SVG: heads of a layer as dots, values over the layers."""

import io
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED, PAPER, WARM, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 72
"""matplotlib's SVG counts in points: so one point is one pixel of these charts."""
LINE_COLORS = (COOL, WARM, MUTED)
TOOLTIP = "tooltip "
"""Start of the id of an element that is to get a tooltip."""


def plot_heads(
    title: str, distance: np.ndarray, entropy: np.ndarray, highlighted: Collection[int], max_distance: float
) -> str:
    """Draw one numbered dot per head; a tooltip gives its values.

    Args:
        title: name of the layer.
        distance: (heads), drawn across, from 0 to `max_distance`. A dashed line is at `max_distance` / 1.15, where
            uniform attention is.
        entropy: (heads), drawn upwards, from 0 to 1.
        highlighted: heads in the color of faults, drawn on top.
        max_distance: right end of the axis.
    """
    figure, axes = _new_chart(160, 168, (14, 18, 132, 132), title)
    axes.axvline(max_distance / 1.15, color=HAIRLINE, linewidth=1, linestyle=(0, (3, 3)), zorder=0, clip_on=False)
    for order, head in enumerate(sorted(range(len(entropy)), key=lambda head: head in highlighted), 3):
        x, y = float(distance[head]), float(entropy[head])
        point = min(max_distance, x), min(1.0, max(0.0, y))
        color = WRONG if head in highlighted else COOL
        tooltip = f"{TOOLTIP}head {head}: distance {x:.2f} patches, entropy {y:.0%}"
        dot = axes.scatter(*point, s=256, color=color, alpha=0.85, linewidths=0, clip_on=False, zorder=order)
        number = axes.text(*point, str(head), color=PAPER, fontsize=10, ha="center", va="center_baseline", zorder=order)
        for artist in (dot, number):
            artist.set_gid(tooltip)
    axes.set(xlim=(0, max_distance), ylim=(0, 1), xticks=[], yticks=[])
    axes.spines[:].set_color(HAIRLINE)
    return _to_svg(figure, title)


def plot_layers(title: str, lines: Mapping[str, np.ndarray], low: float, high: float, *, first_layer: int = 0) -> str:
    """Draw lines over the layers.

    Args:
        title: what the values are.
        lines: one array of values each, by the name in the legend.
        low: lower end of the axis.
        high: upper end of the axis.
        first_layer: layer of the first value; -1 is the input of the first block.
    """
    figure, axes = _new_chart(320, 204, (40, 26, 270, 138), title)
    for color, (name, values) in zip(LINE_COLORS, lines.items(), strict=False):
        axes.plot(values, "o-", color=color, linewidth=2, markersize=5, markeredgewidth=0, clip_on=False, label=name)
    count = max(len(values) for values in lines.values())
    layers = sorted({0, count // 2, count - 1})
    names = ["in" if layer + first_layer < 0 else str(layer + first_layer) for layer in layers]
    axes.set_xticks(layers, names, fontsize=12)
    axes.set_yticks(levels := np.linspace(low, high, 3), [f"{level:.3g}" for level in levels], fontsize=12)
    span = (high - low) or 1.0
    axes.set(xlim=(0, max(1, count - 1)), ylim=(low, low + span))
    axes.grid(axis="y", color=HAIRLINE, clip_on=False)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=MUTED)
    axes.spines[:].set_visible(False)
    if len(lines) > 1:
        legend = axes.legend(
            loc="upper left", bbox_to_anchor=(-0.03, -0.13), ncols=3, frameon=False, fontsize=12, handlelength=0,
            handletextpad=0, columnspacing=1.5, labelcolor="linecolor",
        )  # fmt: skip
        for line in legend.get_lines():
            line.set_visible(False)
    return _to_svg(figure, title)


def _new_chart(width: int, height: int, panel: tuple[int, int, int, int], title: str) -> "tuple[Figure, Axes]":
    """Make a figure of this size with one panel (left, top, width, height), all in pixels."""
    from matplotlib.figure import Figure

    left, top, panel_width, panel_height = panel
    figure = Figure((width / DOTS_PER_INCH, height / DOTS_PER_INCH), DOTS_PER_INCH)
    figure.patch.set_visible(False)
    bottom = 1 - (top + panel_height) / height
    axes = figure.add_axes((left / width, bottom, panel_width / width, panel_height / height))
    axes.patch.set_visible(False)
    axes.set_title(title, loc="left", fontsize=12, color=INK, weight="bold", pad=6)
    return figure, axes


def _to_svg(figure: "Figure", label: str) -> str:
    """Return a figure as an SVG element for a page: as wide as its container, with text as text.

    Ids must be unique in a page, so they are removed, but for those of markers: equal ids of these have equal content.
    Ids of tooltips become titles.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vitreous"}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<svg [^>]*width="[^"]*" height="[^"]*"', '<svg width="100%" role="img"', text, count=1)
    text = text.replace("<svg ", f'<svg aria-label="{_escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
    text = re.sub(rf'<g id="{TOOLTIP}([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r"<defs>\s*<style.*?</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    return re.sub(r" ?font-family: [^;]*;", "", text)


def _escape(text: str) -> str:
    from html import escape

    return escape(text)
