"""The figures of `localization`: scores as bars, and the images that the maps fall on best and worst."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from vitreous.data.masks import MaskedImage, load_masked
from vitreous.diagnostics.localization.bars import Bar, Panel, score_bars
from vitreous.diagnostics.localization.measures import SHOWN
from vitreous.diagnostics.localization.run import LocalisationResult, maps_of, settings_of
from vitreous.explanation.options import MethodOptions
from vitreous.explanation.patch_maps import BASELINES
from vitreous.imaging.writing import save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.outline import draw_outline
from vitreous.render.overlay import overlay
from vitreous.render.sheet import Tile, tile

RANDOM = BASELINES[0]
EACH = 3
"""Images shown of the best, and as many of the worst."""


def draw_localization(
    result: LocalisationResult,
    model: str | Path | ImageClassifier,
    folder: Path,
    *,
    settings: MethodOptions | None = None,
    count: int | None = None,
) -> list[Path]:
    """Write localization.png (bars) and localization-maps.png (best and worst images) into a folder."""
    bars, maps = folder / "localization.png", folder / "localization-maps.png"
    draw_bars(result, bars)
    classifier = load(model)
    source = load_masked(result.data, classifier.preprocessing.input_size, count)
    save_image(best_and_worst(result, classifier, source.images, settings), maps)
    return [bars, maps]


def draw_bars(result: LocalisationResult, path: Path) -> None:
    """One panel a measure, one bar a method."""
    panels = []
    for measure, words in SHOWN.items():
        scores = [(maps, maps.scores[measure]) for maps in result.maps]
        bars = tuple(Bar(maps.name, one.value, one.low, one.high, maps.baseline) for maps, one in scores)
        panels.append(Panel(words, bars, "{:.1f} ×" if measure == "energy_over_chance" else "{:.0%}"))
    images = f"{len(result.names):,} images of {source_words(result.data)}"
    score_bars(panels, f"Do the maps fall on the object?  {images}, higher is better", path)


def source_words(source: str) -> str:
    """A source without the path that leads to it."""
    name, _, folder = source.partition(":")
    return Path(folder).resolve().name if folder else name


def best_and_worst(
    result: LocalisationResult,
    classifier: ImageClassifier,
    images: Sequence[MaskedImage],
    settings: MethodOptions | None,
) -> Image.Image:
    """Rows: images with the object's outline; columns: the image itself, then the map of each method."""
    methods = [maps.name for maps in result.maps if not maps.baseline]
    by_name = {one.name: (number, one) for number, one in enumerate(images)}
    order = result.ordered()
    places = order if len(order) <= 2 * EACH else [*order[:EACH], *order[-EACH:]]
    asked = {name: settings_of(name, settings) for name in methods}
    tiles, rows, whole = [], [], len(places) == len(order)
    for rank, place in enumerate(places):
        name = result.names[place]
        tiles += _row(result, place, classifier, by_name[name], asked)
        rows.append("" if whole else "best" if rank < EACH else "worst")
    columns = ["image", *methods, RANDOM]
    title = "Where the maps fall, by average precision of their pixels; the object is outlined"
    return tile(tiles, len(columns), [] if whole else rows, columns, title)


def _row(
    result: LocalisationResult,
    place: int,
    classifier: ImageClassifier,
    numbered: tuple[int, MaskedImage],
    asked: dict[str, MethodOptions],
) -> list[Tile]:
    number, image = numbered
    image_u8, mask = image.read()
    words = (*image.name.replace("/", ", ").split(", "), f"object {mask.mean():.0%}")
    tiles = [Tile(draw_outline(image_u8, mask), words)]
    heats = maps_of(classifier, [(number, image_u8)], asked)
    measured = {maps.name: maps.images[place] for maps in result.maps}
    for name in [*asked, RANDOM]:
        one = measured[name]
        words = (f"precision {one.precision:.0%}", f"{one.energy:.0%} on it", f"peak {'on' if one.pointing else 'off'}")
        tiles.append(Tile(draw_outline(overlay(image_u8, heats[name][0]), mask), words))
    return tiles
