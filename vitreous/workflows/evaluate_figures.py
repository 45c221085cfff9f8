"""The figures of `evaluate`: confusion, reliability, selective prediction, and the most confident mistakes."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.image_set import ImageSet
from vitreous.evaluation.calibration import Calibration
from vitreous.evaluation.report import Evaluation, Predictions
from vitreous.evaluation.selective import risk_coverage
from vitreous.files import written_beside
from vitreous.render.plots.curves import confusion_matrix
from vitreous.render.plots.reliability import Reliability, reliability_diagram
from vitreous.render.plots.selective import SelectiveCurve, selective_figure
from vitreous.render.sheet import Tile, tile
from vitreous.render.theme import WRONG

FIGURES = ("confusion.png", "reliability.png", "selective.png", "mistakes.png")
MISTAKES_SHOWN, MISTAKES_ACROSS = 24, 6


def draw_evaluation(scores: Evaluation, given: Predictions, images: ImageSet, folder: Path) -> tuple[Path, ...]:
    """Write `FIGURES` into a folder, mistakes.png only where there is one, and give the paths of those written."""
    paths = {name: folder / name for name in FIGURES}
    confusion_matrix(np.array(scores.confusion), images.class_names, paths["confusion.png"])
    diagrams = [reliability("as it answers", scores.calibration)]
    if scores.temperature is not None:
        title = f"with temperature {scores.temperature.temperature:.2f}"
        diagrams.append(reliability(title, scores.temperature.calibration))
    reliability_diagram(diagrams, scores.count, paths["reliability.png"])
    areas = scores.selective
    curve = SelectiveCurve(*risk_coverage(given.confidence, given.correct), areas.aurc, areas.aurc_optimal)
    selective_figure(curve, paths["selective.png"])
    image = mistakes_image(given, images)
    if image is None:
        paths.pop("mistakes.png").unlink(missing_ok=True)
    else:
        with written_beside(paths["mistakes.png"]) as temporary:
            image.save(temporary)
    return tuple(paths.values())


def reliability(title: str, calibration: Calibration) -> Reliability:
    """A calibration as the diagram wants it."""
    rows = [(one.low, one.high, one.count, one.confidence, one.accuracy) for one in calibration.bins]
    return Reliability(title, np.array(rows), calibration.ece, calibration.ece_by_chance)


def mistakes_image(given: Predictions, images: ImageSet) -> Image.Image | None:
    """The wrong answers given with the most confidence, the surest first; None if all are right."""
    wrong = np.flatnonzero(~given.correct)
    if not wrong.size:
        return None
    surest = wrong[np.argsort(-given.confidence[wrong], kind="stable")][:MISTAKES_SHOWN]
    names, tiles = images.class_names, []
    for place in surest.tolist():
        image = images.images_u8[place].expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
        said = f"{names[given.predicted[place]]} {percent(given.confidence[place])}"
        tiles.append(Tile(image, (said, f"truth: {names[images.labels[place]]}"), WRONG))
    title = f"The surest of {wrong.size:,} mistakes among {len(images):,} images"
    return tile(tiles, min(MISTAKES_ACROSS, len(tiles)), title=title)


def percent(share: float) -> str:
    """A probability in per cent, never rounded to a certainty that it is not.

    >>> percent(0.874), percent(0.99996)
    ('87 %', '>99.9 %')
    """
    if share > 0.999:
        return ">99.9 %"
    return f"{100 * share:.1f} %" if share > 0.99 else f"{100 * share:.0f} %"
