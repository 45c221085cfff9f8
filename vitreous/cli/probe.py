"""vitreous probe"""

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.embed import PrecisionName, parse_numbers
from vitreous.cli.flags import Flag, JsonFlag, ModelName, OutputFile
from vitreous.cli.options import InputOptions
from vitreous.errors import InputError

if TYPE_CHECKING:
    from vitreous.evaluation.intervals import Estimate
    from vitreous.transfer.probing.result import ProbeResult


def probe(
    model: ModelName,
    /,
    *,
    data: str | None = None,
    methods: str = "knn,logistic",
    shots: str | None = None,
    draws: int = 5,
    validation_fraction: float = 0.2,
    output: OutputFile = None,
    json_: JsonFlag = False,
    inputs: InputOptions = InputOptions(),
    precision: PrecisionName = "fp32",
    skip_unreadable: Flag = False,
    seed: Annotated[int, Parameter(show=False)] = 0,
) -> int:
    """Measure how well frozen features tell classes apart, and make a classifier of them.

    The features are computed once and kept in the cache folder. k nearest neighbors and logistic regression learn from
    them; validation images choose k and the penalty C, test images only report, with 95 % intervals.

    Args:
        data: Source of labeled images, such as folder:photos, or a file that `vitreous embed` wrote with this model.
        methods: knn, logistic, or both with a comma.
        shots: Also learn from so few training images of each class, such as 1,5,10.
        draws: How often these images are drawn.
        validation_fraction: Of the training images of each class, held out where the source has no validation images.
        output: New folder for probe.json, figures/probe.png and a model: the same weights with a linear head, for
            predict, explain and video.
        json_: Print the result as one JSON object.
        skip_unreadable: Leave out images that can't be read and list them, instead of refusing the data.
    """
    from vitreous.transfer.probing.run import check_probe
    from vitreous.transfer.probing.run import probe as run

    if data is None:
        raise InputError("no images are named: give a source of labeled ones, such as --data folder:photos")
    names = [name.strip() for name in methods.split(",")]
    numbers = [] if shots is None else parse_numbers(shots, "shots", "1,5,10")
    check_probe(names, numbers, draws, output)
    classifier = inputs.load(model)
    with progress("probing") as callback:
        result = run(
            classifier, data, output, methods=names, shots=numbers, draws=draws,  # ty: ignore[invalid-argument-type]
            validation_fraction=validation_fraction, seed=seed, precision=precision, skip_unreadable=skip_unreadable,
            callback=callback,
        )  # fmt: skip
    if json_:
        print_line(json.dumps(result.to_json()))
        return 0
    print_scores(result)
    if output is not None and result.classifier is not None:
        print_note(f"{output}: a model for predict, explain and video; probe.json; figures/probe.png")
    elif output is not None:
        print_note(f"{output}: probe.json; figures/probe.png")
    return 0


def print_scores(result: "ProbeResult") -> None:
    """Print a table of the scores on standard output."""
    from rich.console import Console
    from rich.table import Column, Table

    from vitreous.transfer.probing.result import SETTING_NAMES

    training, validation, test = result.counts
    print_line(f"{result.data}: {training:,} training, {validation:,} validation, {test:,} test images")
    columns = ("accuracy", "95 %", "by class", "validation", "chosen")
    numbers = [Column(name, justify="right", no_wrap=True) for name in columns]
    table = Table(Column("method", no_wrap=True), Column("shots", no_wrap=True), *numbers, box=None)
    for one in result.scores:
        low, high = (
            f"{value:.1g}" if value < 1 else f"{value:.0f}" for value in (min(one.settings), max(one.settings))
        )
        setting = f"{SETTING_NAMES[one.method]} {low}" + (f"–{high}" if low != high else "")
        mean = "" if one.class_mean is None else f"{one.class_mean.value:.1%}"
        table.add_row(
            one.method, "all" if one.shots is None else str(one.shots), f"{one.accuracy.value:.1%}",
            _interval(one.accuracy), mean, f"{one.validation_accuracy:.1%}", setting,
        )  # fmt: skip
    Console().print(table)


def _interval(estimate: "Estimate") -> str:
    return f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
