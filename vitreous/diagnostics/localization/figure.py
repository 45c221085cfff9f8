"""The figures of `localization`: the scores as bars, and the images with the best and the worst maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vitreous.data.masks import MaskedImage
from vitreous.diagnostics.localization.metrics import METRICS
from vitreous.diagnostics.localization.run import LocalizationResult, compute_heatmaps
from vitreous.explanation.patch_maps import BASELINES
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.overlay import overlay
from vitreous.render.plots.style import FIGURE_WIDTH, new_figure, save_figure, to_points
from vitreous.render.sheet import Tile, draw_tiles
from vitreous.render.text import load_font, truncate_text
from vitreous.render.theme import COOL, HAIRLINE, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RANDOM_MAP = BASELINES[0]
NUM_EXAMPLES = 3
"""Images shown of the best, and as many of the worst."""
PANEL_COLUMNS = 3
NAME_WIDTH, BAR_HEIGHT, TITLE_HEIGHT, GAP, MARGIN = 240, 44, 52, 36, 40
BASELINE_COLOR = "#b3bac6"


@dataclass(frozen=True)
class Bar:
    """One mean with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_baseline: bool = False


@dataclass(frozen=True)
class BarPanel:
    """The bars of one metric, from top to bottom."""

    title: str
    bars: tuple[Bar, ...]
    value_format: str = "{:.2f}"


def draw_localization(
    result: LocalizationResult, folder: Path, model: str | Path | ImageClassifier | None
) -> list[Path]:
    """Write localization.png (bars) and, with the model, localization-maps.png (best and worst images)."""
    bars, maps = folder / "localization.png", folder / "localization-maps.png"
    draw_metric_bars(result, bars)
    if model is None:
        return [bars]
    save_image(draw_best_and_worst(result, load(model)), maps)
    return [bars, maps]


def draw_metric_bars(result: LocalizationResult, path: Path) -> None:
    """Write one panel per metric, with one bar per method."""
    panels = []
    for metric, title in METRICS.items():
        scores = [(method, method.scores[metric]) for method in result.methods]
        bars = tuple(Bar(method.name, one.value, one.low, one.high, method.is_baseline) for method, one in scores)
        panels.append(BarPanel(title, bars, "{:.1f} ×" if metric == "energy_over_chance" else "{:.0%}"))
    images = f"{len(result.names):,} images of {short_source(result.data)}"
    draw_bars(panels, f"Do the maps fall on the object? {images}, higher is better", path)


def short_source(source: str) -> str:
    """Return the name of a source without the path of its folder.

    >>> short_source("masks:/data/davis"), short_source("shapes")
    ('davis', 'shapes')
    """
    name, _, folder = source.partition(":")
    return Path(folder).resolve().name if folder else name


def draw_best_and_worst(result: LocalizationResult, classifier: ImageClassifier) -> Image.Image:
    """Draw one row per image, with the outlined object: the image, the map of each method, and a random map."""
    methods = [*result.options, RANDOM_MAP]
    by_name = {one.name: (index, one) for index, one in enumerate(result.source.images)}
    ranking = result.ranking()
    shows_all = len(ranking) <= 2 * NUM_EXAMPLES
    shown = ranking if shows_all else [*ranking[:NUM_EXAMPLES], *ranking[-NUM_EXAMPLES:]]
    tiles, row_titles = [], []
    for rank, position in enumerate(shown):
        tiles += _draw_row(result, position, classifier, by_name[result.names[position]], methods)
        row_titles.append("best" if rank < NUM_EXAMPLES else "worst")
    columns = ["image", *methods]
    title = "Best and worst maps by average precision (AP); the object is outlined"
    return draw_tiles(tiles, len(columns), [] if shows_all else row_titles, columns, title)


def _draw_row(
    result: LocalizationResult,
    position: int,
    classifier: ImageClassifier,
    indexed_image: tuple[int, MaskedImage],
    methods: Sequence[str],
) -> list[Tile]:
    index, image = indexed_image
    image_u8, mask = image.read()
    caption = (*image.name.replace("/", ", ").split(", "), f"object {mask.mean():.0%}")
    tiles = [Tile(image_u8, caption, outlined=mask)]
    heatmaps = compute_heatmaps(classifier, [(index, image_u8)], result.options)
    scores = {method.name: method.images[position] for method in result.methods}
    for name in methods:
        one = scores[name]
        pointing = f"pointing game {'hit' if one.pointing_game else 'miss'}"
        caption = (f"AP {one.average_precision:.0%}", f"energy {one.energy:.0%}", pointing)
        tiles.append(Tile(overlay(image_u8, heatmaps[name][0]), caption, outlined=mask))
    return tiles


def draw_bars(panels: Sequence[BarPanel], title: str, path: Path | str) -> None:
    """Write a PNG of all panels, up to three side by side; all panels have the same bars in the same order."""
    rows = -(-len(panels) // PANEL_COLUMNS)
    panel_height = TITLE_HEIGHT + BAR_HEIGHT * len(panels[0].bars)
    height = MARGIN * 2 + TITLE_HEIGHT + rows * panel_height + (rows - 1) * GAP
    figure = new_figure(FIGURE_WIDTH, height)
    figure.text(
        MARGIN / FIGURE_WIDTH, 1 - 1.1 * MARGIN / height, title, fontsize=to_points(30), weight="bold", color=INK,
        va="top",
    )  # fmt: skip
    available = FIGURE_WIDTH - 2 * MARGIN - NAME_WIDTH
    panel_width = (available - (PANEL_COLUMNS - 1) * GAP) / PANEL_COLUMNS
    for i, panel in enumerate(panels):
        row, column = divmod(i, PANEL_COLUMNS)
        left = MARGIN + NAME_WIDTH + column * (panel_width + GAP)
        top = MARGIN + 2 * TITLE_HEIGHT + row * (panel_height + GAP)
        bars_height = panel_height - TITLE_HEIGHT
        corner = (left / FIGURE_WIDTH, 1 - (top + bars_height) / height)
        axes = figure.add_axes((*corner, panel_width / FIGURE_WIDTH, bars_height / height))
        draw_panel(axes, panel, show_names=column == 0)
    save_figure(figure, path)


def draw_panel(axes: "Axes", panel: BarPanel, *, show_names: bool) -> None:
    """Draw one panel: bars from 0, intervals as lines, and values beside them."""
    count, longest = len(panel.bars), max(bar.high for bar in panel.bars)
    axes.set_xlim(0, 1.28 * max(longest, 1e-9))
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_title(panel.title, loc="left", fontsize=to_points(22), color=INK, pad=8)
    for y, bar in enumerate(panel.bars):
        axes.barh(y, bar.value, 0.62, color=BASELINE_COLOR if bar.is_baseline else COOL)
        axes.plot([bar.low, bar.high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt")
        text, position = panel.value_format.format(bar.value), (bar.high + 0.02 * longest, y)
        axes.text(*position, text, va="center", color=INK, fontsize=to_points(19))
    axes.set_xticks([])
    axes.set_yticks(range(count))
    font = load_font(20)
    names = [truncate_text(bar.name, font, NAME_WIDTH - 14) if show_names else "" for bar in panel.bars]
    axes.set_yticklabels(names, fontsize=to_points(20), color=MUTED)
    axes.tick_params(length=0, pad=6)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "left")
        spine.set_color(HAIRLINE)
