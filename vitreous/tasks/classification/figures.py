"""The figures of `evaluate`: confusion matrix, reliability diagram, risk-coverage curve and confident mistakes."""

from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.data.image_set import ImageSet
from vitreous.evaluation.calibration import Calibration
from vitreous.evaluation.report import ClassificationReport, Predictions
from vitreous.evaluation.selective import risk_coverage
from vitreous.files import atomic_write
from vitreous.render.plots.confusion import confusion_matrix
from vitreous.render.plots.reliability import Reliability, reliability_diagram
from vitreous.render.plots.selective import RiskCoverageCurve, risk_coverage_figure
from vitreous.render.sheet import Tile, draw_tiles
from vitreous.render.theme import WRONG

FIGURES = ("confusion.png", "reliability.png", "selective.png", "mistakes.png")
MAX_MISTAKES, MISTAKE_COLUMNS = 24, 6


def draw_evaluation(
    report: ClassificationReport, predictions: Predictions, images: ImageSet, folder: Path
) -> tuple[Path, ...]:
    """Write `FIGURES` to a folder and return their paths; mistakes.png is removed if every prediction is correct."""
    paths = {name: folder / name for name in FIGURES}
    confusion_matrix(np.array(report.confusion), images.class_names, paths["confusion.png"])
    diagrams = [to_reliability("without scaling", report.calibration)]
    if report.temperature is not None:
        title = f"with temperature {report.temperature.temperature:.2f}"
        diagrams.append(to_reliability(title, report.temperature.calibration))
    reliability_diagram(diagrams, report.count, paths["reliability.png"])
    selective = report.selective
    coverage, risk = risk_coverage(predictions.confidence, predictions.correct)
    risk_coverage_figure(
        RiskCoverageCurve(coverage, risk, selective.aurc, selective.aurc_optimal), paths["selective.png"]
    )
    sheet = draw_mistakes(predictions, images)
    if sheet is None:
        paths.pop("mistakes.png").unlink(missing_ok=True)
    else:
        with atomic_write(paths["mistakes.png"]) as temporary:
            sheet.save(temporary)
    return tuple(paths.values())


def to_reliability(title: str, calibration: Calibration) -> Reliability:
    """Convert a calibration to the input of the diagram."""
    rows = [(one.low, one.high, one.count, one.confidence, one.accuracy) for one in calibration.bins]
    return Reliability(title, np.array(rows), calibration.ece, calibration.ece_by_chance)


def draw_mistakes(predictions: Predictions, images: ImageSet) -> Image.Image | None:
    """Draw the wrong predictions with the highest confidence, the most confident first; None if there are none."""
    wrong = np.flatnonzero(~predictions.correct)
    if not wrong.size:
        return None
    most_confident = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:MAX_MISTAKES]
    names, tiles = images.class_names, []
    for index in most_confident.tolist():
        image = images.images_u8[index].expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
        prediction = f"{names[predictions.predicted[index]]} {format_confidence(predictions.confidence[index])}"
        tiles.append(Tile(image, (prediction, f"true label: {names[images.labels[index]]}"), WRONG))
    title = f"The most confident of {wrong.size:,} mistakes among {len(images):,} images"
    return draw_tiles(tiles, min(MISTAKE_COLUMNS, len(tiles)), title=title)


def format_confidence(probability: float) -> str:
    """Format a probability in per cent, but never round it up to 100 %.

    >>> format_confidence(0.874), format_confidence(0.99996)
    ('87 %', '>99.9 %')
    """
    if probability > 0.999:
        return ">99.9 %"
    return f"{100 * probability:.1f} %" if probability > 0.99 else f"{100 * probability:.0f} %"
