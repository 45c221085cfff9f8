"""vitreous evaluate"""

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note
from vitreous.errors import InputError

MOST_CLASSES_ON_SCREEN = 10

if TYPE_CHECKING:
    from vitreous.evaluation.intervals import Interval
    from vitreous.evaluation.report import Evaluation, TemperatureScaling


def evaluate(
    model: str,
    /,
    *,
    data: str | None = None,
    split: str = "test",
    temperature: Annotated[bool, Parameter(negative="")] = False,
    corruptions: Annotated[bool, Parameter(negative="")] = False,
    shifts: Annotated[bool, Parameter(negative="")] = False,
    count: int | None = None,
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    device: str = "auto",
) -> int:
    """Measure a model on images it has not learned from: accuracy, loss, precision, recall, confusion, calibration.

    Every score has its interval at 95 % beside it. A run's scores on its own test images are kept in its folder, with
    figures.

    Args:
        model: Run folder or model.safetensors.
        data: Images to measure on; by default those the run was trained on.
        split: test, or validation while settings are still being chosen.
        temperature: Also fit a temperature on the validation images, and say what it does.
        corruptions: Instead, measure on images made worse: 15 kinds at 5 strengths, in the manner of CIFAR-10-C, but
            not comparable with its published files. That is 76 passes: of 10,000 images about half an hour on two
            cores; --count takes fewer.
        shifts: Instead, measure on images shifted by 0 to 8 pixels and turned by up to 45 degrees.
        count: Images to take for --corruptions and --shifts; all by default.
        skip_unreadable: Leave out images that can't be read, and list them, in place of refusing the data.
        json_: Print the scores as one JSON object.
        device: auto, cpu or cuda.
    """
    if corruptions or shifts:
        from vitreous.cli.robustness import robustness
        from vitreous.diagnostics.robustness.run import Sample

        if temperature or skip_unreadable:
            option = "--temperature" if temperature else "--skip-unreadable"
            raise InputError(f"{option} is for the images as they are: leave it out, or measure them apart")
        sample = Sample(data, split, count, device)
        return robustness(model, sample, corruptions=corruptions, shifts=shifts, in_json=json_)
    if count is not None:
        raise InputError("--count is for --corruptions and --shifts: leave it out")
    from vitreous.workflows.evaluate import as_json
    from vitreous.workflows.evaluate import evaluate as run

    scores = run(model, data, split=split, temperature=temperature, skip_unreadable=skip_unreadable, device=device)
    if json_:
        print_line(json.dumps(as_json(scores)))
    else:
        if scores.reached is not None and scores.reached.words:
            print_line(scores.reached.words)
        print_scores(scores)
    if scores.not_kept is not None:
        raise InputError(scores.not_kept)
    if scores.files and not json_:
        print_note(f"{scores.files[0]} and {len(scores.files) - 1} images in {scores.files[1].parent} written")
    return 0


def print_scores(scores: "Evaluation") -> None:
    """The scores as a table on standard output."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    shares = [("top-1", scores.top1, scores.top1_interval)]
    if scores.top5 is not None and scores.top5_interval is not None:
        shares.append(("top-5", scores.top5, scores.top5_interval))
    values = " · ".join(f"{name} {value:.2%}" for name, value, _ in shares)
    print_line(f"{values} · loss {scores.loss:.4f} · {scores.count:,} images")
    low, high = scores.loss_interval
    print_line(f"95 %: {' · '.join(span(interval) for _, _, interval in shares)} · {low:.4f} to {high:.4f}")
    table = Table("class", *(Column(name, justify="right") for name in ("precision", "recall", "F1", "images")))
    for one in scores.classes:
        pairs = [(one.precision, one.precision_interval), (one.recall, one.recall_interval), (one.f1, one.f1_interval)]
        table.add_row(Text(one.name), *(_cell(*pair) for pair in pairs), f"{one.count:,}")
    Console().print(table)
    if len(scores.classes) <= MOST_CLASSES_ON_SCREEN:
        print_confusion(scores)
    print_certainty(scores)


def span(interval: "Interval", decimals: int = 1) -> str:
    """An interval of shares in per cent: "76.1 to 77.9 %"."""
    return f"{100 * interval[0]:.{decimals}f} to {100 * interval[1]:.{decimals}f} %"


def _cell(value: float, interval: "Interval") -> str:
    low, high = interval
    return f"{value:.1%} [dim]{100 * low:.0f}–{100 * high:.0f}[/]"


def print_confusion(scores: "Evaluation") -> None:
    """The confusion matrix on standard output: a row a truth, a column a prediction."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    print_line("\nconfusion: a row a truth, a column what it was taken for")
    names = [one.name for one in scores.classes]
    table = Table("truth", *(Column(Text(name[:5]), justify="right") for name in names), box=None)
    for name, row in zip(names, scores.confusion, strict=True):
        table.add_row(Text(name), *(str(count) if count else "·" for count in row))
    Console().print(table)


def print_certainty(scores: "Evaluation") -> None:
    """Calibration, selective prediction and temperature, a few lines each."""
    own, sure = scores.calibration, scores.selective
    print_line(
        f"\ncalibration error {own.ece:.2%} (95 %: {span(own.ece_interval, 2)}; up to {own.ece_by_chance:.2%} "
        f"could be chance)"
    )
    for one in sure.points[:-1]:
        print_line(f"right: {one.accuracy:.1%} of the surest {one.coverage:.0%} (95 %: {span(one.accuracy_interval)})")
    area = span(sure.aurc_interval, 2)
    print_line(f"area under risk-coverage {sure.aurc:.2%} (95 %: {area}), at best {sure.aurc_optimal:.2%}")
    if scores.temperature is not None:
        print_temperature(scores.temperature)


def print_temperature(scaling: "TemperatureScaling") -> None:
    """What temperature scaling does, a line for each of what it changes."""
    from vitreous.evaluation.calibration import is_at_limit

    print_line(
        f"temperature {scaling.temperature:.3f}, fitted on {scaling.num_validation_images:,} validation images; before and after:"
    )
    before, after = (
        f"{low:.4f} to {high:.4f}" for low, high in (scaling.loss_before_interval, scaling.loss_after_interval)
    )
    print_line(f"  loss {scaling.loss_before:.4f} (95 %: {before}) → {scaling.loss_after:.4f} ({after})")
    before, after = (span(one, 2) for one in (scaling.ece_before_interval, scaling.ece_after_interval))
    print_line(f"  calibration error {scaling.ece_before:.2%} (95 %: {before}) → {scaling.ece_after:.2%} ({after})")
    if is_at_limit(scaling.temperature):
        print_note(
            "the temperature is at the end of what is tried: the validation images are too few or too easy for one"
        )
