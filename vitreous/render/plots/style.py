"""What all plots share: new figures, the style of their axes, sizes in pixels, and saving them."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitreous.files import atomic_write
from vitreous.render.theme import HAIRLINE, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 200
FIGURE_WIDTH = 1600
MAX_MARKED_POINTS = 40


def point_marker(points: tuple[np.ndarray, np.ndarray]) -> str:
    """Return the marker for a curve: a dot if it has few points, so that a single one is visible; else none."""
    return "o" if points[0].size <= MAX_MARKED_POINTS else ""


def draw_placeholder(axes: "Axes") -> None:
    """Write into an empty panel that nothing has been measured yet."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "nothing measured yet", color=MUTED, transform=axes.transAxes, ha="center", va="center")


def style_axes(axes: "Axes", title: str) -> None:
    """Give a panel its title and a quiet style: one thin spine, faint horizontal lines, small gray numbers."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, weight="bold", pad=10)
    axes.set_xlabel("epoch", fontsize=8, color=MUTED)
    axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
    axes.tick_params(colors=MUTED, labelsize=8, length=0, pad=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)


def add_legend(
    axes: "Axes",
    location: Literal["above", "upper left", "lower right"],
    *,
    font_size: float = 8,
    anchor: tuple[float, float] | None = None,
) -> None:
    """Draw the legend on paper of its own, so that no line runs through its text; "above" is beside a short title, so
    that it covers no curve."""
    loc, anchor = ("lower right", (1, 1)) if location == "above" else (location, anchor)
    axes.legend(
        loc=loc, bbox_to_anchor=anchor, ncols=2 if location == "above" else 1, fontsize=font_size, labelcolor=INK,
        handlelength=1.4, facecolor=PAPER, edgecolor="none", framealpha=1, borderpad=0.3,
    )  # fmt: skip


def new_figure(width: int, height: int) -> "Figure":
    """Create an empty figure of this size in pixels, independent of pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width / DPI, height / DPI), DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def tint(fractions: np.ndarray, color: str) -> np.ndarray:
    """Blend from white at 0 to `color` at 1, by the square root, so that small values are visible: float (..., 3)."""
    from matplotlib.colors import to_rgb

    return 1 - np.sqrt(fractions)[..., None] * (1 - np.array(to_rgb(color)))


def to_points(pixels: float) -> float:
    """Convert a size in pixels to matplotlib's points."""
    return pixels * 72 / DPI


def save_figure(figure: "Figure", path: Path | str) -> None:
    """Save the figure as PNG; the file is complete or absent."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
