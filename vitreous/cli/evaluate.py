"""vitreous evaluate"""

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import DeviceName, Flag, JsonFlag, ModelName, SplitName
from vitreous.errors import InputError

MAX_CLASSES_IN_MATRIX = 10
"""With more classes the confusion matrix is only drawn, not printed."""

if TYPE_CHECKING:
    from vitreous.evaluation.intervals import Interval
    from vitreous.evaluation.report import ClassificationReport, TemperatureScaling
    from vitreous.tasks.evaluation import Evaluation


def evaluate(
    model: ModelName,
    /,
    *,
    data: str | None = None,
    split: SplitName = "test",
    temperature: Flag = False,
    corruptions: Annotated[list[str] | None, Parameter(consume_multiple=(0, 1), negative="")] = None,
    shifts: Flag = False,
    count: int | None = None,
    skip_unreadable: Flag = False,
    json_: JsonFlag = False,
    device: DeviceName = "auto",
) -> int:
    """Evaluate a model on images that it was not trained on.

    Prints accuracy, loss, precision, recall, confusion and calibration. Every metric comes with its 95 % confidence
    interval. For a run and its own test images, the metrics and figures are also saved in the run folder.

    Args:
        data: Source of images; by default the data that the model was trained on.
        temperature: Fit temperature scaling on the validation images, and report its effect too.
        corruptions: Evaluate on corrupted images only: 15 corruptions at 5 severities. Without a value they are
            generated, in the manner of CIFAR-10-C. With cifar10-c:DIR they are the published files in DIR, and the
            accuracies are comparable with published ones. The model is evaluated 76 times, which takes about half an
            hour for 10,000 images on two cores; --count chooses fewer images.
        shifts: Evaluate on images shifted by 0 to 8 pixels and rotated by up to 45 degrees only.
        count: Number of images for --corruptions and --shifts; all by default.
        skip_unreadable: Skip images that can't be read and list them, instead of refusing the data.
        json_: Print the metrics as one JSON object.
    """
    if corruptions is not None or shifts:
        from vitreous.cli.robustness import RobustnessFlags, robustness

        if temperature or skip_unreadable:
            option = "--temperature" if temperature else "--skip-unreadable"
            raise InputError(f"{option} applies to unchanged images only: leave it out, or evaluate twice")
        corrupted_data = None if corruptions is None else next(iter(corruptions), "generated")
        return robustness(RobustnessFlags(model, data, split, count, device, corrupted_data, shifts, json_))
    if count is not None:
        raise InputError("--count is for --corruptions and --shifts: leave it out")
    from vitreous.workflows.evaluate import evaluate as run

    with progress("evaluating") as callback:
        result = run(
            model, data, split=split, temperature=temperature, skip_unreadable=skip_unreadable, device=device,
            callback=callback,
        )  # fmt: skip
    if json_:
        print_line(json.dumps(result.to_json()))
    else:
        if result.status is not None and result.status.message:
            print_line(result.status.message)
        print_evaluation(result)
    if result.write_error is not None:
        raise InputError(result.write_error)
    if result.files and not json_:
        print_note(f"{result.files[0]} and {len(result.files) - 1} images in {result.files[1].parent} written")
    return 0


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print an evaluation on standard output: a classifier's in tables, any other as its metrics, one per line."""
    from vitreous.evaluation.report import ClassificationReport

    if isinstance(evaluation, ClassificationReport):
        print_report(evaluation)
    else:
        print_line(evaluation.summary())


def print_report(report: "ClassificationReport") -> None:
    """Print the report on a classifier on standard output."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    accuracies = [("top-1", report.top1, report.top1_interval)]
    if report.top5 is not None and report.top5_interval is not None:
        accuracies.append(("top-5", report.top5, report.top5_interval))
    values = " · ".join(f"{name} {value:.2%}" for name, value, _ in accuracies)
    print_line(f"{values} · loss {report.loss:.4f} · {report.count:,} images")
    low, high = report.loss_interval
    intervals = " · ".join(format_interval(interval) for _, _, interval in accuracies)
    print_line(f"95 %: {intervals} · {low:.4f} to {high:.4f}")
    table = Table("class", *(Column(name, justify="right") for name in ("precision", "recall", "F1", "images")))
    for one in report.classes:
        pairs = [(one.precision, one.precision_interval), (one.recall, one.recall_interval), (one.f1, one.f1_interval)]
        table.add_row(Text(one.name), *(_cell(*pair) for pair in pairs), f"{one.count:,}")
    Console().print(table)
    if len(report.classes) <= MAX_CLASSES_IN_MATRIX:
        print_confusion(report)
    print_confidence(report)


def format_interval(interval: "Interval", decimals: int = 1) -> str:
    """Format an interval of fractions in per cent.

    >>> format_interval((0.761, 0.779))
    '76.1 to 77.9 %'
    """
    return f"{100 * interval[0]:.{decimals}f} to {100 * interval[1]:.{decimals}f} %"


def _cell(value: float, interval: "Interval") -> str:
    low, high = interval
    return f"{value:.1%} [dim]{100 * low:.0f}–{100 * high:.0f}[/]"


def print_confusion(report: "ClassificationReport") -> None:
    """Print the confusion matrix on standard output."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    print_line("\nconfusion matrix (rows: true class, columns: predicted class)")
    names = [one.name for one in report.classes]
    table = Table("true label", *(Column(Text(name[:5]), justify="right") for name in names), box=None)
    for name, row in zip(names, report.confusion, strict=True):
        table.add_row(Text(name), *(str(count) if count else "·" for count in row))
    Console().print(table)


def print_confidence(report: "ClassificationReport") -> None:
    """Print calibration, selective prediction and temperature scaling, a few lines each."""
    calibration, selective = report.calibration, report.selective
    interval = format_interval(calibration.ece_interval, 2)
    print_line(
        f"\nexpected calibration error {calibration.ece:.2%} (95 %: {interval}; up to {calibration.ece_by_chance:.2%} "
        "by chance)"
    )
    for point in selective.points[:-1]:
        interval = format_interval(point.accuracy_interval)
        print_line(f"accuracy {point.accuracy:.1%} on the {point.coverage:.0%} most confident (95 %: {interval})")
    interval = format_interval(selective.aurc_interval, 2)
    print_line(
        f"area under the risk-coverage curve {selective.aurc:.2%} (95 %: {interval}), optimal "
        f"{selective.aurc_optimal:.2%}"
    )
    if report.temperature is not None:
        print_temperature(report.temperature)


def print_temperature(scaling: "TemperatureScaling") -> None:
    """Print the effect of temperature scaling on loss and calibration, one line each."""
    from vitreous.evaluation.calibration import is_at_limit

    images = f"{scaling.num_validation_images:,} validation images"
    print_line(f"temperature {scaling.temperature:.3f}, fitted on {images}; before and after:")
    before, after = (
        f"{low:.4f} to {high:.4f}" for low, high in (scaling.loss_before_interval, scaling.loss_after_interval)
    )
    print_line(f"  loss {scaling.loss_before:.4f} (95 %: {before}) → {scaling.loss_after:.4f} ({after})")
    before, after = (format_interval(one, 2) for one in (scaling.ece_before_interval, scaling.ece_after_interval))
    print_line(
        f"  expected calibration error {scaling.ece_before:.2%} (95 %: {before}) → {scaling.ece_after:.2%} ({after})"
    )
    if is_at_limit(scaling.temperature):
        print_note("the temperature is at the end of the search range: the validation images are too few or too easy")
