"""The frames of a film: curves above, below them the fixed images with their maps, predictions and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from vitreous.render.image import resize_to_fit
from vitreous.render.overlay import dimming_for, mean_brightness, overlay_levels
from vitreous.render.plots.curves import running_median, series
from vitreous.render.sheet import MapLegend, color_bar
from vitreous.render.text import CORRECT_MARK, WRONG_MARK, TextLine, load_font, text_block, truncate_text
from vitreous.render.theme import COOL, CORRECT, HAIRLINE, INK, MUTED, PAPER, WARM, WRONG
from vitreous.render.upsample import upsample_to_image
from vitreous.training_film.chart import ChartSpec, Curve, FilmChart
from vitreous.training_film.history import MapHistory

FilmLayout = Literal["side-by-side", "overlay"]
FRAME_HW = (1080, 1920)
"""The frame that all distances below are for, in pixels; others are enlarged or reduced as a whole."""
MAP_DESCRIPTIONS = {
    "attention": "attention of the last layer, from what the head reads",
    "rollout": "attention multiplied through all layers, from what the head reads",
}
MARGIN, CHART_TOP, CHART_HEIGHT, GRID_TOP, GRID_BOTTOM = 64, 136, 236, 404, 1014
COLUMN_GAP, ROW_GAP, PAIR_GAP, CAPTION_HEIGHT = 40, 26, 6, 80


@dataclass(frozen=True)
class _Cells:
    """Where the images are in a frame: (left, top) of each cell, and the size of an image in it."""

    corners_xy: tuple[tuple[int, int], ...]
    size_hw: tuple[int, int]
    width: int


class FilmFrames:
    """Draws the frames of a film, each at a position between two kept steps."""

    def __init__(self, history: MapHistory, layout: FilmLayout, height: int) -> None:
        """Draw what all frames share.

        Args:
            history: of the run.
            layout: "side-by-side" for each image beside its map, "overlay" for the map alone.
            height: of the frames in pixels, even; their width is 16 / 9 of it.
        """
        self.history, self.unit = history, height / FRAME_HW[0]
        self.size_hw = (height, 2 * round(height * FRAME_HW[1] / FRAME_HW[0] / 2))
        self.per_cell = 2 if layout == "side-by-side" else 1
        images_u8 = history.images.images_u8
        self.cells = self._arrange(len(images_u8), images_u8.shape[1:3])
        self.charts = self._charts()
        self.background = self._background()
        self.drawn: dict[int, tuple[int, np.ndarray]] = {}
        """By image: the kept step whose prediction is drawn on it, and the enlarged image."""

    def frame(self, position: float) -> np.ndarray:
        """Draw one frame, uint8 (height, width, 3).

        Args:
            position: from 0, the first kept step, to their number − 1. Between two, maps, scores and the cursor are
                blended; predictions are those of the nearest.
        """
        history, nearest = self.history, round(position)
        epoch = float(np.interp(position, range(len(history.steps)), history.epochs))
        step = float(np.interp(position, range(len(history.steps)), history.steps))
        image = self.background.copy()
        for chart, left in self.charts:
            image.paste(chart.draw(epoch), (left, self._px(CHART_TOP)))
        pen, right = ImageDraw.Draw(image), self.size_hw[1] - self._px(MARGIN)
        pen.text((right, self._px(80)), f"epoch {epoch:.2f}", INK, load_font(self._px(38), bold=True), "rs")
        pen.text((right, self._px(112)), f"step {step:,.0f}", MUTED, load_font(self._px(21)), "rs")
        for index in range(len(self.cells.corners_xy)):
            self._draw_cell(image, index, position, nearest)
        return np.asarray(image)

    def opening(self) -> np.ndarray:
        """Draw the frame that says what the film shows, uint8 (height, width, 3)."""
        image, width = Image.new("RGB", self.size_hw[::-1], PAPER), self.size_hw[1] - 2 * self._px(2 * MARGIN)
        lines = [TextLine(self._title(), self._px(64), bold=True, max_lines=2), TextLine(" ", self._px(10))]
        for text in opening_lines(self.history, self.per_cell):
            lines += [TextLine(text, self._px(28), MUTED, max_lines=2), TextLine(" ", self._px(5))]
        block = text_block(lines, width)
        images_u8, gap = self.history.images.images_u8, self._px(16)
        side = min(self._px(300), max(self._px(120), (width + gap) // len(images_u8) - gap))
        thumbnails = [resize_to_fit(image_u8, (self._px(300), side)) for image_u8 in images_u8]
        below = block.height + self._px(64)
        top, left = (self.size_hw[0] - below - thumbnails[0].height) // 2, self._px(2 * MARGIN)
        image.paste(block, (left, top))
        for thumbnail in thumbnails:
            if left + thumbnail.width <= width + self._px(2 * MARGIN):
                image.paste(thumbnail, (left, top + below))
            left += thumbnail.width + gap
        return np.asarray(image)

    def _px(self, pixels: float) -> int:
        return max(1, round(pixels * self.unit))

    def _title(self) -> str:
        return f"{self.history.name}: {self.history.method} during training"

    def _arrange(self, count: int, image_hw: tuple[int, int]) -> _Cells:
        """Choose the number of columns in which the images are largest, and center them."""
        room_width = self.size_hw[1] - 2 * self._px(MARGIN)
        room_height = self._px(GRID_BOTTOM) - self._px(GRID_TOP)
        gap, row_gap, caption = self._px(COLUMN_GAP), self._px(ROW_GAP), self._px(CAPTION_HEIGHT)
        pair_gaps = (self.per_cell - 1) * self._px(PAIR_GAP)

        def factor(columns: int) -> float:
            rows = -(-count // columns)
            width = ((room_width - (columns - 1) * gap) / columns - pair_gaps) / self.per_cell
            height = (room_height - (rows - 1) * row_gap) / rows - caption
            return min(width / image_hw[1], height / image_hw[0])

        columns = max(range(1, count + 1), key=lambda one: (factor(one), -one))
        height, width = (max(1, int(side * factor(columns))) for side in image_hw)
        cell_width, rows = self.per_cell * width + pair_gaps, -(-count // columns)
        if columns > 1:  # wider gaps fill the frame, up to a point
            gap = min((room_width - columns * cell_width) // (columns - 1), 3 * gap)
        left = (self.size_hw[1] - columns * cell_width - (columns - 1) * gap) // 2
        total = rows * (height + caption) + (rows - 1) * row_gap
        top = self._px(GRID_TOP) + (room_height - total) // 2
        corners = tuple(
            (left + (i % columns) * (cell_width + gap), top + (i // columns) * (height + caption + row_gap))
            for i in range(count)
        )
        return _Cells(corners, (height, width), cell_width)

    def _charts(self) -> list[tuple[FilmChart, int]]:
        """Make the charts of the metric and of the loss, with their left edges."""
        specs = chart_specs(self.history)
        room, gap = self.size_hw[1] - 2 * self._px(MARGIN), self._px(72)
        width = (room - (len(specs) - 1) * gap) // max(1, len(specs))
        size_hw = (self._px(CHART_HEIGHT), width)
        return [
            (FilmChart(spec, size_hw, self.unit), self._px(MARGIN) + i * (width + gap)) for i, spec in enumerate(specs)
        ]

    def _background(self) -> Image.Image:
        """Draw title and footer."""
        history, (height, width) = self.history, self.size_hw
        image = Image.new("RGB", (width, height), PAPER)
        pen, left, right = ImageDraw.Draw(image), self._px(MARGIN), width - self._px(MARGIN)
        title, room = load_font(self._px(38), bold=True), round(0.72 * width)
        pen.text((left, self._px(80)), truncate_text(self._title(), title, room), INK, title, "ls")
        small = load_font(self._px(21))
        pen.text((left, self._px(112)), truncate_text(subtitle(history), small, room), MUTED, small, "ls")
        bar = color_bar(420, MapLegend(history.method, ("0", f"{history.scale.high:.2g} × uniform")))
        bar = bar.resize((self._px(bar.width), self._px(bar.height)), Image.Resampling.LANCZOS)
        image.paste(bar, (left, self._px(1048) - bar.height // 2))
        note, font = footer_note(len(history.steps)), load_font(self._px(17))
        room = right - left - bar.width - self._px(48)
        pen.text((right, self._px(1048)), truncate_text(note, font, room), MUTED, font, "rm")
        return image

    def _draw_cell(self, image: Image.Image, index: int, position: float, nearest: int) -> None:
        """Draw one of the images with its map, prediction and score."""
        history, (left, top), (height, width) = self.history, self.cells.corners_xy[index], self.cells.size_hw
        shown_u8 = self._enlarged(index, nearest)
        first, fraction = int(position), position - int(position)
        second = min(first + 1, len(history.steps) - 1)
        heatmap = (1 - fraction) * history.maps[first, index] + fraction * history.maps[second, index]
        levels = upsample_to_image(heatmap, history.scale, (height, width))
        overlay_u8 = overlay_levels(shown_u8, levels, 1.0, dimming_for(mean_brightness(shown_u8)))
        pair = [shown_u8, overlay_u8][-self.per_cell :]
        for number, one in enumerate(pair):
            image.paste(Image.fromarray(one), (left + number * (width + self._px(PAIR_GAP)), top))
        pen, below = ImageDraw.Draw(image), top + height
        scores = [history.truth_probability(at, index) for at in (first, second)]
        if scores[0] is not None and scores[1] is not None:
            score = (1 - fraction) * scores[0] + fraction * scores[1]
            self._draw_bar(pen, (left, below + self._px(9)), score, color_of(history.is_correct(nearest, index)))
        self._write_caption(pen, (left, below), index, nearest)

    def _draw_bar(self, pen: ImageDraw.ImageDraw, corner_xy: tuple[int, int], score: float, color: str) -> None:
        """Draw the probability of the true label as a bar."""
        (left, top), width = corner_xy, self.cells.width
        thickness, filled = self._px(7), round(score * width)
        pen.rectangle((left, top, left + width - 1, top + thickness - 1), HAIRLINE)
        if filled:
            pen.rectangle((left, top, left + filled - 1, top + thickness - 1), color)

    def _write_caption(self, pen: ImageDraw.ImageDraw, corner_xy: tuple[int, int], index: int, nearest: int) -> None:
        """Write the prediction, and the true label under it."""
        history, (left, below) = self.history, corner_xy
        correct, truth = history.is_correct(nearest, index), history.truth(index)
        font, small = load_font(self._px(24), bold=True), load_font(self._px(18))
        prediction = history.predictions[nearest][index]
        caption = "" if prediction is None else mark(correct) + prediction.caption()
        text = truncate_text(caption, font, self.cells.width)
        pen.text((left, below + self._px(48)), text, color_of(correct), font, "ls")
        if truth is not None:
            score = history.truth_probability(nearest, index)
            line = f"true label: {truth}" + ("" if score is None else f", {100 * score:.0f} %")
            if small.getlength(line) > self.cells.width:
                line = line.removeprefix("true label: ")
            pen.text((left, below + self._px(74)), truncate_text(line, small, self.cells.width), MUTED, small, "ls")

    def _enlarged(self, index: int, at: int) -> np.ndarray:
        """Return an image at its size in the frame, with the prediction of a kept step drawn on it."""
        known = self.drawn.get(index)
        if known is None or known[0] != at:
            image_u8, prediction = self.history.images.images_u8[index], self.history.predictions[at][index]
            drawn = image_u8 if prediction is None else prediction.draw(image_u8)
            fitted = resize_to_fit(drawn, self.cells.size_hw)
            exact = fitted.resize(self.cells.size_hw[::-1]) if fitted.size != self.cells.size_hw[::-1] else fitted
            known = self.drawn[index] = (at, np.asarray(exact))
        return known[1]


def mark(correct: bool | None) -> str:
    """Return the mark before a prediction."""
    return "" if correct is None else f"{CORRECT_MARK if correct else WRONG_MARK} "


def color_of(correct: bool | None) -> str:
    """Return the color of a prediction."""
    return INK if correct is None else CORRECT if correct else WRONG


def subtitle(history: MapHistory) -> str:
    """Return what model and which images a film shows."""
    count = len(history.images.indexes)
    images = f"{count} image{'' if count == 1 else 's'}"
    origin = "of the validation split, never trained on" if history.images.split == "validation" else "trained on"
    return f"ViT of {history.parameters / 1e6:.2f} M parameters · {images} {origin}"


def footer_note(kept: int) -> str:
    """Return how the film comes from the kept steps."""
    if kept == 1:
        return "one kept step so far"
    return f"cross-fade between {kept} kept steps (ticks on the axes) · predictions are those of the nearest one"


def opening_lines(history: MapHistory, per_cell: int) -> list[str]:
    """Return what a film shows and how to read it, a paragraph a line."""
    first, last, count = history.steps[0], history.steps[-1], len(history.steps)
    start = "step 0, before training," if first == 0 else f"step {first:,}"
    position = "right" if per_cell == 2 else "each image"
    left = "Left the image, " if per_cell == 2 else "On "
    lines = [
        f"{subtitle(history)} · data: {history.data}",
        f"{left}{position} its map: {MAP_DESCRIPTIONS[history.method]}.",
        f"One color scale for all images and steps, from 0 to {history.scale.high:.2g} times a uniform map.",
    ]
    if history.truth_probability(0, 0) is not None:
        lines.append("The bar is the probability of the true label; green: the prediction is correct, red: it is not.")
    lines.append(
        f"From {start} to step {last:,}, epoch {history.epochs[-1]:.3g}: {count} kept steps, each as long in the film."
    )
    if history.saves_best:
        lines.append("The run saves the weights of its best validation, which needn't be those of the last step.")
    return lines


def chart_specs(history: MapHistory) -> Sequence[ChartSpec]:
    """Return the charts of the metric and of the loss; those of which nothing was measured yet are left out."""
    metric, lines = history.metric, history.metrics
    percent = 100.0 if metric.is_fraction else 1.0
    end = max([history.epochs[-1], *(float(line["epoch"]) for line in lines)])
    specs: list[ChartSpec] = []
    for name, title, text, unit, limits in (
        (
            metric.name,
            f"{metric.title} in %" if metric.is_fraction else metric.title,
            "{:.1f} %" if metric.is_fraction else "{:.3g}",
            percent,
            (0.0, 100.0) if metric.is_fraction else (-np.inf, np.inf),
        ),
        ("loss", "loss", "{:.3f}", 1.0, (0.0, np.inf)),
    ):
        if any(spec.title == title for spec in specs):  # of some tasks the loss is the metric
            continue
        training = running_median(*series(lines, "train", name))
        validation = series(lines, "validation", name)
        known = np.isfinite(validation[1])
        both = [
            Curve("training", training[0], unit * training[1], COOL, is_main=False),
            Curve("validation", validation[0][known], unit * validation[1][known], WARM),
        ]
        if curves := [curve for curve in both if curve.values.size]:
            specs.append(ChartSpec(title, curves, text, limits, end, history.epochs))
    return specs
