"""What the run folder alone says: curves, recipe, versions, hardware, data, and the command that reproduces the run."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vitreous.diagnostics.evaluation_set import TrainingRun
from vitreous.diagnostics.report.charts import loss_chart, metric_chart
from vitreous.diagnostics.report.content import ChartGrid, Command, DataTable, Headline, Section
from vitreous.diagnostics.report.reproduction import (
    count_processes,
    format_setting_text,
    reproduction_command,
    setting_of,
)
from vitreous.errors import InputError
from vitreous.evaluation.intervals import wilson_interval
from vitreous.records import setting_names
from vitreous.runs.run_folder import read_metrics
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training.checkpoint import CheckpointReader
from vitreous.training.early_stopping import BestValidation
from vitreous.training.recipe import Recipe
from vitreous.training.reference_comparison import find_reference, reference_band


@dataclass(frozen=True)
class RunLog:
    """The lines of metrics.jsonl, read once for the whole page.

    Attributes:
        problem: why there are none, if the file is damaged.
    """

    metrics: Sequence[Mapping[str, Any]]
    problem: str = ""


def read_log(run: TrainingRun) -> RunLog:
    """Read the lines of a run; damage costs the page what it says about them, and nothing else."""
    try:
        return RunLog(read_metrics(run.folder))
    except InputError as error:
        return RunLog((), str(error))


def curves_section(run: TrainingRun, log: RunLog) -> Section:
    """Show loss and metric over the epochs, with the recipe's reference if there is one."""
    if log.problem:
        return Section("curves", "Training", missing=f"Not shown: {log.problem}.")
    metrics, notes, reference = log.metrics, [], None
    metric = find_task(run.recipe.task).metric
    with suppress(InputError):  # of a damaged reference, the curves are shown without it
        curve = find_reference(run.folder, run.recipe, notes.append) if "fingerprint" in run.data else None
        reference = reference_band(curve)
    charts = [chart for chart in (loss_chart(metrics), metric_chart(metrics, metric, reference)) if chart]
    if not charts:
        return Section("curves", "Training", missing="Nothing is logged yet: the first line follows after ten steps.")
    rows = [line for line in metrics if line["split"] == "train" and line.get("images_per_second")]
    speed = ""
    if rows:
        rate = f"{rows[-1]['images_per_second']:,.0f} images per second"
        speed = f" Training took {rate} on average since it was started or last resumed."
    changes = training_loss_changes(run.recipe)
    loss = f", and the training loss has {' and '.join(changes)}, which the validation loss hasn't" if changes else ""
    note = f"From metrics.jsonl, {len(metrics):,} lines. Training values are of augmented images{loss}.{speed}"
    return Section("curves", "Training", " ".join([note, *map(_as_sentence, notes)]), (ChartGrid(tuple(charts)),))


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def training_loss_changes(recipe: Recipe) -> list[str]:
    """Name the settings that are on and by which the training loss is another one than the validation loss."""
    augment, found = recipe.augment, []
    if recipe.label_smoothing:
        found.append(f"label_smoothing {recipe.label_smoothing:g}")
    if recipe.class_weights != "none":
        found.append(f"class_weights {recipe.class_weights}")
    found += [f"{name} {getattr(augment, name):g}" for name in ("mixup", "cutmix") if getattr(augment, name)]
    if recipe.distillation.weight:
        found.append(f"distillation.weight {recipe.distillation.weight:g}")
    return found


def validation_headline(run: TrainingRun, log: RunLog) -> Headline | None:
    """Return the validation score of the weights that are saved, with the interval of an accuracy; None without one.

    It is the last one that the run has logged, and under early stopping the best one.
    """
    metric = find_task(run.recipe.task).metric
    lines = [line for line in log.metrics if line["split"] == "validation"]
    best = best_validation(run)
    line = next((line for line in lines if best and line["step"] == best.step), lines[-1] if lines else None)
    if line is None or not isinstance(value := line.get(metric.name), float | int):
        return None
    images = run.data.get("validation")
    interval = ""
    if isinstance(images, int) and images > 0 and metric.name == "top1":
        interval = format_ends(metric, wilson_interval(value * images, images))
    count = f"{images:,} images" if isinstance(images, int) else "the images"
    chosen = f"; chosen as the best of {len(lines)} validations, so it is optimistic" if best else ""
    note = f"on {count} held out of training, at epoch {line['epoch']:.3g}; logged during training{chosen}"
    return Headline(f"validation {metric.label}", metric.format(value, 2), interval, note)


def best_validation(run: TrainingRun) -> BestValidation | None:
    """Return the validation whose weights a run saves, if early stopping chose them."""
    with suppress(InputError):  # a damaged checkpoint says nothing
        if run.recipe.early_stopping_epochs and run.folder.checkpoint.is_file():
            return CheckpointReader(run.folder.checkpoint).best
    return None


def format_ends(metric: TaskMetric, interval: tuple[float, float]) -> str:
    """Write an interval.

    >>> format_ends(TaskMetric("top1", "top-1", "accuracy"), (0.761, 0.779))
    '95 %: 76.1% to 77.9%'
    """
    return f"95 %: {metric.format(interval[0], 1)} to {metric.format(interval[1], 1)}"


def provenance_section(run: TrainingRun) -> Section:
    """Show the command that reproduces the run, and everything that decides its result."""
    recipe, title = run.recipe, "Command that reproduces it"
    processes = count_processes(run.metadata)
    command, changed = reproduction_command(recipe, processes), run.metadata.get("earlier_data")
    if command is None:
        text = (
            f"vitreous.train(recipe, {str(run.folder.path)!r})  # a Recipe of your own, with the values of recipe.json"
        )
    else:
        text = command
    settings = _settings_of(recipe)
    same = "The same versions on the same hardware give the same bits." if command and processes == 1 else ""
    if changed:
        same = "The images changed during the run, so that it can't be repeated from the present ones alone."
    return Section(
        "provenance", "How it was made", f"From recipe.json. {same}".strip(),
        (
            Command(title, text),
            DataTable("Versions, hardware and data", ("", "value"), tuple(_facts(run))),
            DataTable(f"All {len(settings)} settings", ("setting", "value"), tuple(settings), is_folded=True),
        ),
    )  # fmt: skip


def setting_texts(run: TrainingRun) -> dict[str, str]:
    """Return everything that decides the result of a run: facts and settings, by name."""
    return dict([*_facts(run), *_settings_of(run.recipe)])


def _settings_of(recipe: Recipe) -> list[tuple[str, str]]:
    return [(name, format_setting_text(setting_of(recipe, name))) for name in setting_names(recipe)]


def _facts(run: TrainingRun) -> list[tuple[str, str]]:
    metadata = run.metadata
    facts = [
        ("Vitreous", f"{metadata.get('vitreous', 'unknown')}, commit {metadata.get('commit') or 'unknown'}"),
        ("torch, Python", f"{metadata.get('torch', 'unknown')}, {metadata.get('python', 'unknown')}"),
        ("hardware", str(metadata.get("device", "unknown"))),
        *_data_facts(run.data),
    ]
    if isinstance(init := metadata.get("init"), Mapping):
        facts.append(("started from", ", ".join(f"{name} {value}" for name, value in init.items() if value)))
    return facts


def _data_facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("data", str(data.get("source", "unknown")))]
    for split in ("training", "validation"):
        count = data.get(split)
        fingerprint = data.get("fingerprint" if split == "training" else "validation_fingerprint")
        if count is not None:
            facts.append((f"{split} images", f"{count:,}" + (f", SHA-256 {fingerprint}" if fingerprint else "")))
    return facts
