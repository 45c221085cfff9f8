"""The doctor's page: the findings, and the charts and images behind them, in one HTML file that loads nothing else."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.diagnostics.doctor.charts import plot_heads, plot_layers
from vitreous.diagnostics.doctor.checks_tokens import norms_over_median, outliers_by_layer
from vitreous.diagnostics.doctor.findings import Finding, pluralize
from vitreous.diagnostics.doctor.run import Diagnosis
from vitreous.diagnostics.doctor.statistics import ModelStatistics
from vitreous.explanation.regions import upsample_nearest
from vitreous.files import write_text
from vitreous.render import theme
from vitreous.render.color import Scale, color_table
from vitreous.render.image import resize_to_fit
from vitreous.render.outline import draw_outline
from vitreous.render.overlay import overlay
from vitreous.render.theme import INK, PAPER, WARM

TEMPLATE = "page.html.jinja"
NUM_SAMPLES = 2
IMAGE_SIDE = 360
HIGHLIGHTED_TOPICS = ("dead heads", "uniform heads", "attention sinks", "artifact patches in rollout")
"""Findings whose heads are highlighted in the charts."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image inside the page."""

    uri: str
    """The PNG as a data URI."""
    caption: str


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and its colors as CSS."""

    text: str
    background: str
    color: str


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ColorTable:
    """A table with colored cells."""

    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]


def write_doctor_page(diagnosis: Diagnosis, folder: Path) -> Path:
    """Write doctor.html."""
    path = folder / "doctor.html"
    write_text(path, doctor_page(diagnosis))
    return path


def doctor_page(diagnosis: Diagnosis) -> str:
    """Return the page as HTML; every text in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    statistics = diagnosis.statistics
    layer, outliers = layer_with_largest_norms(statistics)
    max_distance = 1.15 * max(statistics.uniform_distance, float(statistics.distance.max()) / 1.15)
    highlighted = highlighted_heads(diagnosis.findings)
    heads, images = pluralize(statistics.num_heads, "head"), pluralize(len(diagnosis.images_u8), "image")
    found = f"{pluralize(diagnosis.faults, 'fault') if diagnosis.faults else 'No faults'} found."
    return environment.get_template(TEMPLATE).render(
        theme=theme,
        title=f"Diagnosis of {Path(diagnosis.model).name}",
        lead=f"{statistics.depth} layers of {heads}, measured on {images}. {found}",
        findings=diagnosis.findings,
        norm_layer=layer,
        has_tokens=statistics.has_tokens,
        has_outliers=any(mask.any() for mask in outliers),
        samples=[draw_sample(diagnosis, index, layer) for index in choose_samples(outliers)],
        max_distance=max_distance,
        has_highlighted=bool(highlighted),
        head_charts=[Markup(chart) for chart in draw_heads(statistics, highlighted, max_distance)],
        contribution=contribution_table(statistics),
        layer_charts=[Markup(chart) for chart in draw_layers(statistics)],
        num_queries=statistics.num_queries,
    )


def layer_with_largest_norms(statistics: ModelStatistics) -> tuple[int, list[np.ndarray]]:
    """Return the layer whose largest norm is farthest above the median, and its outlier tokens in each image.

    Without tokens it is the last layer, and there are no outliers.
    """
    if not statistics.has_tokens:
        return statistics.depth - 1, [np.zeros(one.attention.shape[1], bool) for one in statistics.images]
    ratios = np.mean([norms_over_median(one.norms)[1:].max(1) for one in statistics.images], 0)
    by_layer = [outliers_by_layer(one.norms) for one in statistics.images]
    counts = np.mean([[mask.any() for mask in one] for one in by_layer], 0)
    layer = int(np.argmax(np.where(counts == counts.max(), ratios, 0)))
    return layer, [one[layer] for one in by_layer]


def choose_samples(outliers: list[np.ndarray]) -> list[int]:
    """Return the indexes of the images to show; images with outlier tokens come first."""
    return sorted(range(len(outliers)), key=lambda i: not outliers[i].any())[:NUM_SAMPLES]


def draw_sample(diagnosis: Diagnosis, index: int, layer: int) -> list[EmbeddedImage]:
    """Draw an image, the norms of its tokens, its attention map and its rollout."""
    image_u8, one = diagnosis.images_u8[index], diagnosis.statistics.images[index]
    images = [embed_image(image_u8, "image")]
    if one.norms.size:
        norms = one.norms[layer + 1].reshape(one.grid_size)
        scale = Scale(float(norms.min()), float(norms.max()))
        drawn = overlay(image_u8, upsample_nearest(norms, one.geometry), scale)
        outliers = outliers_by_layer(one.norms)[layer].reshape(one.grid_size)
        if outliers.any():
            drawn = draw_outline(drawn, upsample_nearest(outliers, one.geometry) > 0, WARM)
        images.append(embed_image(drawn, f"token norms, {norms.min():.3g} to {norms.max():.3g}"))
    for weights, name in ((one.attention[-1], "attention, last layer"), (one.rollout, "rollout")):
        if weights.size:
            heatmap = one.geometry.to_image(weights.reshape(one.grid_size))
            images.append(embed_image(overlay(image_u8, heatmap), name))
    return images


def embed_image(image_u8: np.ndarray, caption: str) -> EmbeddedImage:
    """Encode a thumbnail of an image, uint8 (height, width, 3), as PNG in a data URI."""
    stream = io.BytesIO()
    thumbnail: Image.Image = resize_to_fit(image_u8, (IMAGE_SIDE, IMAGE_SIDE))
    thumbnail.save(stream, "PNG", optimize=True)
    return EmbeddedImage(f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", caption)


def highlighted_heads(findings: tuple[Finding, ...]) -> set[tuple[int, ...]]:
    """Return (layer, head) of the heads that findings on `HIGHLIGHTED_TOPICS` name."""
    return {location for one in findings if one.topic in HIGHLIGHTED_TOPICS for location in one.locations}


def draw_heads(statistics: ModelStatistics, highlighted: set[tuple[int, ...]], max_distance: float) -> list[str]:
    """Draw one chart per layer, with a dot per head."""
    return [
        plot_heads(
            f"layer {layer}",
            statistics.distance[layer],
            statistics.entropy[layer],
            [head for head in range(statistics.num_heads) if (layer, head) in highlighted],
            max_distance,
        )
        for layer in range(statistics.depth)
    ]


def contribution_table(statistics: ModelStatistics) -> ColorTable | None:
    """Make the table of head contributions in per cent; None if they are unknown."""
    if statistics.contribution is None:
        return None
    percent = 100 * statistics.contribution.T
    top, colors = float(max(np.nanmax(percent), 1e-12)), color_table("viridis")
    rows = []
    for head, values in enumerate(percent):
        levels = (255 * np.sqrt(np.clip(values / top, 0, 1))).astype(int)
        cells = [
            Cell(f"{value:.3g}", "rgb({},{},{})".format(*map(int, colors[level])), INK if level > 150 else PAPER)
            for value, level in zip(values, levels, strict=True)
        ]
        rows.append(TableRow(f"head {head}", tuple(cells)))
    columns = [f"layer {layer}" if layer == 0 else str(layer) for layer in range(statistics.depth)]
    return ColorTable(tuple(columns), tuple(rows))


def draw_layers(statistics: ModelStatistics) -> list[str]:
    """Draw the charts of what changes from layer to layer."""
    distance = statistics.distance
    distances = {"mean head": distance.mean(1), "farthest": distance.max(1), "nearest": distance.min(1)}
    max_distance = 1.05 * max(statistics.uniform_distance, float(distance.max()))
    chart = plot_layers("attention distance in patches", distances, 0, max_distance)
    return [*(draw_token_layers(statistics) if statistics.has_tokens else []), chart]


def draw_token_layers(statistics: ModelStatistics) -> list[str]:
    """Draw the charts of the tokens' norms, similarity and change."""
    largest = np.mean([norms_over_median(one.norms).max(1) for one in statistics.images], 0)
    smallest = np.mean([norms_over_median(one.norms).min(1) for one in statistics.images], 0)
    similarity, change = statistics.token_similarity, statistics.relative_change
    norms = {"largest": largest, "smallest": smallest}
    return [
        plot_layers("token norm over the median", norms, 0, float(np.ceil(largest.max())), first_layer=-1),
        plot_layers(
            "similarity of the patches (cosine)", {"cosine": similarity}, min(0, similarity.min()), 1, first_layer=-1
        ),
        plot_layers("relative change by a block", {"change": change}, 0, float(change.max())),
    ]
