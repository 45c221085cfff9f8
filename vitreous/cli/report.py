"""vitreous report"""

from typing import Annotated

from cyclopts import Parameter

from vitreous.cli.console import print_line, print_note, progress
from vitreous.cli.flags import DeviceName, ModelName, OutputFile, SplitName


def report(
    model: ModelName,
    other: Annotated[str | None, Parameter(negative="")] = None,
    /,
    *,
    output: OutputFile = None,
    data: str | None = None,
    split: SplitName = "test",
    count: int | None = None,
    method: str = "gradient-rollout",
    faithfulness: bool = True,
    faithfulness_count: int = 16,
    doctor: bool = True,
    doctor_count: int = 8,
    device: DeviceName = "auto",
) -> int:
    """Write a run's report, or the comparison of two runs, as one HTML page.

    The page needs no network and no other file. Results in the run folder that are of its weights are read
    (evaluation.json, faithfulness.json, doctor.json). What is missing is measured on few images; the page says on how
    many.

    Args:
        other: A second model with the same classes, to compare with.
        output: HTML file; report.html in the run folder by default, comparison.html for two.
        data: Source of images; by default the data that the model was trained on.
        count: Number of images to predict, evenly spaced; up to 1,000 by default, for two models all.
        method: Explanation method of the maps.
        faithfulness: Measure faithfulness, unless the run folder holds it.
        faithfulness_count: Number of images for faithfulness; from 32 on, methods are compared with the baselines.
        doctor: Look for the doctor's findings, unless the run folder holds them.
        doctor_count: Number of images for the doctor's findings.
    """
    from vitreous.diagnostics.report.run import report as run

    with progress("measuring") as callback:
        found = run(
            model, other, output=output, data=data, split=split, count=count, method=method,
            faithfulness_count=faithfulness_count if faithfulness else 0, doctor_count=doctor_count if doctor else 0,
            device=device, callback=callback,
        )  # fmt: skip
    for title in found.missing:
        print_note(f"empty: {title} (the page says why)")
    print_line(f"{found.path} written, {len(found.html.encode()) / 1e6:.2f} MB")
    return 0
