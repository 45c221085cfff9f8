"""The filmstrip: the maps of the fixed images from the first kept step to the last, as one figure."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.imaging.writing import save_image
from vitreous.render.overlay import dimming_for, mean_brightness, overlay_levels
from vitreous.render.sheet import MapLegend, Tile, draw_tiles
from vitreous.render.upsample import upsample_to_image
from vitreous.runs.run_folder import RunFolder
from vitreous.training_film.frames import color_of, mark, subtitle
from vitreous.training_film.history import MapHistory, read_map_history

MOST_COLUMNS, MOST_ROWS = 8, 8
TILE_SIDE = 168
"""Pixels of the longer side of an image, about what a sheet of nine columns shows."""


def draw_filmstrip(history: MapHistory, columns: int = MOST_COLUMNS) -> Image.Image:
    """Draw one row for each image, and one column for each of some kept steps, from the first to the last.

    All maps have the color scale of the whole history. The first column is the image itself. At most eight images are
    drawn.

    Args:
        history: of the run.
        columns: the number of kept steps, which are evenly spaced among all.
    """
    history = history.select(range(min(MOST_ROWS, len(history.images.indexes))))
    chosen = strip_positions(history, columns)
    tiles = [
        tile
        for index, image_u8 in enumerate(history.images.images_u8)
        for tile in [Tile(image_u8, _truth_lines(history, index)), *(_tile(history, at, index) for at in chosen)]
    ]
    headings = [f"epoch {history.epochs[at]:.3g}" if history.steps[at] else "step 0" for at in chosen]
    title = f"{history.name}: {history.method} during training"
    legend = MapLegend(history.method, ("low", "high"), end_values=("0", f"{history.scale.high:.2g} × uniform"))
    notes = MapLegend(f"one color scale for all maps · {subtitle(history)}", None)
    return draw_tiles(tiles, len(chosen) + 1, (), ["image", *headings], title, legends=[legend, notes])


def strip_positions(history: MapHistory, columns: int = MOST_COLUMNS) -> list[int]:
    """Return which of the kept steps a strip shows, by their numbers from 0: evenly spaced, first and last included."""
    last = len(history.steps) - 1
    return sorted({round(i * last / max(1, columns - 1)) for i in range(columns)})


def write_filmstrip(run: str | Path, method: str = "attention", path: Path | None = None) -> Path:
    """Write the filmstrip of a run, by default to its figures/filmstrip.png, and return its path.

    Raises:
        InputError: the run kept no maps, or the file can't be written.
    """
    folder = RunFolder(Path(run))
    image = draw_filmstrip(read_map_history(run, method))
    if path is not None:
        save_image(image, path)
        return path
    with folder.writing():
        save_image(image, folder.filmstrip)
    return folder.filmstrip


def _truth_lines(history: MapHistory, index: int) -> tuple[str, ...]:
    truth = history.truth(index)
    return () if truth is None else (truth,)


def _tile(history: MapHistory, at: int, index: int) -> Tile:
    image_u8, prediction = history.images.images_u8[index], history.predictions[at][index]
    shown_u8 = image_u8 if prediction is None else prediction.draw(image_u8)
    factor = max(1, round(TILE_SIDE / max(shown_u8.shape[:2])))
    enlarged_u8 = np.ascontiguousarray(shown_u8.repeat(factor, 0).repeat(factor, 1))
    levels = upsample_to_image(history.maps[at, index], history.scale, enlarged_u8.shape[:2])
    drawn = overlay_levels(enlarged_u8, levels, 1.0, dimming_for(mean_brightness(shown_u8)))
    if prediction is None:
        return Tile(drawn)
    correct = history.is_correct(at, index)
    if not prediction.probabilities:
        return Tile(drawn, (prediction.caption(),))
    lines = (mark(correct) + prediction.label, prediction.format_score(prediction.score, 0))
    return Tile(drawn, lines, color_of(correct))
