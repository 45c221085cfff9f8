"""Curves of a training run and the confusion matrix, as PNG files about 1600 pixels wide."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitreous.files import written_beside
from vitreous.render.theme import HAIRLINE, INK, MUTED, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 200
FIGURE_WIDTH = 1600
MAX_MARKED_POINTS = 40


def point_marker(curve: tuple[np.ndarray, np.ndarray]) -> str:
    """The marker for a curve: a dot if it has few points, so that one alone is seen; none for a long one."""
    return "o" if curve[0].size <= MAX_MARKED_POINTS else ""


def draw_placeholder(axes: "Axes") -> None:
    """Say in an empty panel that it is empty because nothing was measured."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "nothing measured yet", color=MUTED, transform=axes.transAxes, ha="center", va="center")


def style_axes(axes: "Axes", title: str) -> None:
    """Give the panel its title and the calm look: two thin spines, faint horizontal lines, small gray numbers."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, weight="bold", pad=10)
    axes.set_xlabel("epoch", fontsize=8, color=MUTED)
    axes.grid(axis="y", color=HAIRLINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
    axes.tick_params(colors=MUTED, labelsize=8, length=0, pad=5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)


def new_figure(width: int, height: int) -> "Figure":
    """An empty figure of this size that no other part of the process knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width / DPI, height / DPI), DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def tint(shares: np.ndarray, color: str) -> np.ndarray:
    """White for a share of 0, `color` for 1, by the square root so that small shares are seen: float (..., 3)."""
    from matplotlib.colors import to_rgb

    return 1 - np.sqrt(shares)[..., None] * (1 - np.array(to_rgb(color)))


def to_points(pixels: float) -> float:
    """A size in pixels as the points that matplotlib wants."""
    return pixels * 72 / DPI


def save_figure(figure: "Figure", path: Path | str) -> None:
    """Write the figure to `path` as PNG, whole or not at all."""
    with written_beside(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
