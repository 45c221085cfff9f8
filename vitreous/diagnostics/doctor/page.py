"""The doctor's page: what was found in words, and under it the charts and images that show it."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.diagnostics.doctor.checks_tokens import outliers_by_layer, relative_lengths
from vitreous.diagnostics.doctor.finding import counted
from vitreous.diagnostics.doctor.run import Examination
from vitreous.diagnostics.doctor.statistics import Anatomy
from vitreous.explanation.coordinates import upsample_nearest
from vitreous.files import write_text
from vitreous.render.color import Scale
from vitreous.render.html import Card, Section, figure, img_tag, page, panel
from vitreous.render.image import resize_to_fit
from vitreous.render.outline import draw_outline
from vitreous.render.overlay import overlay
from vitreous.render.plots.svg_charts import Line, dots, lines, table
from vitreous.render.theme import WARM

SAMPLES = 2
IMAGE_SIDE = 360
HEAD_TOPICS = ("dead heads", "uniform heads", "resting heads", "spots in rollout")
"""Of these, the heads are marked in the charts."""


def write_doctor_page(examination: Examination, folder: Path) -> Path:
    """Write doctor.html, one page with everything inside."""
    path = folder / "doctor.html"
    write_text(path, doctor_page(examination))
    return path


def doctor_page(examination: Examination) -> str:
    """The page as HTML."""
    anatomy, faults = examination.anatomy, examination.faults
    heads, images = counted(anatomy.heads, "head"), counted(len(examination.images_u8), "image")
    found = f"{counted(faults, 'fault') if faults else 'No faults'} found."
    lead = f"{anatomy.layers} layers of {heads}, looked at on {images}. {found}"
    cards = [Card(one.topic, one.words, one.meaning, one.level) for one in examination.findings]
    sections = [
        tokens_section(examination),
        heads_section(examination),
        *contribution_section(anatomy),
        layers_section(anatomy),
        how_section(anatomy),
    ]
    return page(f"What is inside {Path(examination.model).name}", lead, cards, sections)


def tokens_section(examination: Examination) -> Section:
    """Sample images with the lengths of their tokens and the maps."""
    layer, found = shown_layer(examination.anatomy)
    rows = "".join(panel(_sample(examination, i, layer), "images") for i in chosen_samples(found))
    words = (
        f"Length of each patch's token out of layer {layer} (the one with the longest, over the median), "
        "where the model's readout attends in the last layer, and rollout through all layers. Each map has its own "
        "color scale."
    )
    if any(marks.any() for marks in found):
        words += " Outlier tokens are outlined in orange."
    return Section("The tokens on the image", words, rows)


def shown_layer(anatomy: Anatomy) -> tuple[int, list[np.ndarray]]:
    """The layer whose longest token is farthest beyond the median, and its outliers in each image."""
    ratios = np.mean([relative_lengths(one.norms)[1:].max(1) for one in anatomy.images], 0)
    by_layer = [outliers_by_layer(one.norms) for one in anatomy.images]
    counts = np.mean([[marks.any() for marks in one] for one in by_layer], 0)
    layer = int(np.argmax(np.where(counts == counts.max(), ratios, 0)))
    return layer, [one[layer] for one in by_layer]


def chosen_samples(found: list[np.ndarray]) -> list[int]:
    """The images to show: those with outliers first."""
    return sorted(range(len(found)), key=lambda i: not found[i].any())[:SAMPLES]


def _sample(examination: Examination, place: int, layer: int) -> str:
    image_u8, geometry = examination.images_u8[place], examination.geometries[place]
    one = examination.anatomy.images[place]
    lengths = one.norms[layer + 1].reshape(one.grid_hw)
    scale = Scale(float(lengths.min()), float(lengths.max()))
    drawn = overlay(image_u8, upsample_nearest(lengths, geometry), scale)
    marks = outliers_by_layer(one.norms)[layer].reshape(one.grid_hw)
    drawn = draw_outline(drawn, upsample_nearest(marks, geometry) > 0, WARM) if marks.any() else drawn
    maps = [geometry.to_image(weights.reshape(one.grid_hw)) for weights in (one.attention[-1], one.rollout)]
    shown = [
        (image_u8, "image"),
        (drawn, f"token lengths, {lengths.min():.3g} to {lengths.max():.3g}"),
        (overlay(image_u8, maps[0]), "attention, last layer"),
        (overlay(image_u8, maps[1]), "rollout"),
    ]
    return "".join(figure(img_tag(small(pixels), words), words) for pixels, words in shown)


def small(image_u8: np.ndarray) -> Image.Image:
    """An image as large as the page shows it."""
    return resize_to_fit(image_u8, (IMAGE_SIDE, IMAGE_SIDE))


def heads_section(examination: Examination) -> Section:
    """A small chart a layer: how far (across) and how widely (up) each head looks."""
    anatomy = examination.anatomy
    marked = {place for one in examination.findings if one.topic in HEAD_TOPICS for place in one.places}
    limit = 1.15 * max(anatomy.uniform_distance, float(anatomy.distance.max()) / 1.15)
    charts = [
        dots(
            f"layer {layer}",
            anatomy.distance[layer],
            anatomy.entropy[layer],
            [head for head in range(anatomy.heads) if (layer, head) in marked],
            limit,
        )
        for layer in range(anatomy.layers)
    ]
    words = (
        f"Each dot is a head. Across: how far it looks, 0 to {limit:.1f} patches, even attention at the dashed line. "
        "Up: how widely, from one token (bottom) to all alike (top)."
    )
    if marked:
        words += " Red: dead, even, resting on a prefix token, or making spots."
    return Section("Heads: how far and how widely they look", words, panel("".join(charts), "multiples"))


def contribution_section(anatomy: Anatomy) -> list[Section]:
    """The table of what each head adds; none where it can't be known."""
    if anatomy.contribution is None:
        return []
    columns = [f"layer {layer}" if layer == 0 else str(layer) for layer in range(anatomy.layers)]
    rows = [f"head {head}" for head in range(anatomy.heads)]
    words = (
        "Length of what a head adds to a token, in per cent of that token's length, mean over tokens and images. "
        "The darker, the less; a head near 0 could be removed."
    )
    drawn = table(100 * anatomy.contribution.T, rows, columns, "{:.3g}", "what each head adds")
    return [Section("What each head adds, in %", words, panel(drawn, "scroll"))]


def layers_section(anatomy: Anatomy) -> Section:
    """What changes from layer to layer."""
    longest = np.mean([relative_lengths(one.norms).max(1) for one in anatomy.images], 0)
    shortest = np.mean([relative_lengths(one.norms).min(1) for one in anatomy.images], 0)
    charts = [
        lines(
            "token length over the median",
            [Line("longest", longest), Line("shortest", shortest)],
            0,
            float(np.ceil(longest.max())),
            first=-1,
        ),
        lines(
            "likeness of the patches (cosine)",
            [Line("cosine", anatomy.similarity)],
            min(0, anatomy.similarity.min()),
            1,
            first=-1,
        ),
        lines("what a block adds, over the token", [Line("change", anatomy.change)], 0, float(anatomy.change.max())),
        lines(
            "attention distance in patches",
            [
                Line("mean head", anatomy.distance.mean(1)),
                Line("farthest", anatomy.distance.max(1)),
                Line("nearest", anatomy.distance.min(1)),
            ],
            0,
            1.05 * max(anatomy.uniform_distance, float(anatomy.distance.max())),
        ),
    ]
    words = "Across: layers, counted from 0; “in” is what the first block is given. Means over the images."
    return Section("From layer to layer", words, panel("".join(charts), "wide-multiples"))


def how_section(anatomy: Anatomy) -> Section:
    """How the numbers were made."""
    words = (
        f"Entropy, distance and likeness are means over {anatomy.queries} rows of each attention matrix, evenly over "
        "the patches. Distance counts patches only, between their centers, weighted by "
        "attention (Dosovitskiy et al. 2021, figure 7). What a head adds is its output through its part of the "
        "projection, and LayerScale where there is one (Kobayashi et al. 2020). All numbers are in doctor.json; the "
        "thresholds, with their reasons, are constants in vitreous/evaluation: diagnosis_of_heads.py, "
        "diagnosis_of_maps.py, diagnosis_of_tokens.py."
    )
    return Section("How it was measured", words, "")
