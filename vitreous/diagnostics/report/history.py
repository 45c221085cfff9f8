"""What the run folder alone says: curves, recipe, versions, hardware, data, and the command that reproduces the run."""

import shlex
from collections.abc import Mapping
from typing import Any

from vitreous.data.sources import absolute_source
from vitreous.diagnostics.evaluation_set import TrainingRun
from vitreous.diagnostics.report.charts import loss_chart, metric_chart
from vitreous.diagnostics.report.content import ChartGrid, Command, DataTable, Headline, Section, WideImage
from vitreous.diagnostics.report.images import encode_file
from vitreous.errors import InputError
from vitreous.evaluation.intervals import wilson_interval
from vitreous.records import setting_names
from vitreous.runs.run_folder import read_metrics
from vitreous.tasks.registry import find_task
from vitreous.tasks.task import TaskMetric
from vitreous.training.provenance import RESUMABLE_SETTINGS
from vitreous.training.recipe import Recipe
from vitreous.training.reference_comparison import find_reference, reference_band
from vitreous.training_recipes import RECIPES, find_recipe

FROM_IMAGES = ("model.num_classes", "model.in_chans")
"""Settings that the images decide."""
FILMSTRIP = "filmstrip.png"


def curves_section(run: TrainingRun) -> Section:
    """Show loss and metric over the epochs, with the recipe's reference if there is one."""
    metrics, notes = read_metrics(run.folder), []
    metric = find_task(run.recipe.task).metric
    reference = (
        reference_band(find_reference(run.folder, run.recipe, notes.append)) if "fingerprint" in run.data else None
    )
    charts = [chart for chart in (loss_chart(metrics), metric_chart(metrics, metric, reference)) if chart]
    if not charts:
        return Section("curves", "Training", missing="Nothing is logged yet: the first line follows after ten steps.")
    rows = [line for line in metrics if line["split"] == "train" and line.get("images_per_second")]
    speed = f" The last steps took {rows[-1]['images_per_second']:,.0f} images per second." if rows else ""
    note = f"From metrics.jsonl, {len(metrics):,} lines. Training values are of augmented images.{speed}"
    return Section("curves", "Training", " ".join([note, *map(_as_sentence, notes)]), (ChartGrid(tuple(charts)),))


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def filmstrip_section(run: TrainingRun) -> Section:
    """Show the maps of a few fixed images from the first to the last epoch, if the run keeps them."""
    path = run.folder.figures / FILMSTRIP
    description = "maps of a few fixed images, from the first to the last validation"
    image = encode_file(path, description) if path.is_file() else None
    if image is None:
        missing = f"There is no figures/{FILMSTRIP}: a run that keeps the maps of fixed images while it trains has one."
        return Section("filmstrip", "Over the epochs", missing=missing)
    note = "The same images after each validation: where the model looked, from the first epoch to the last."
    return Section("filmstrip", "Over the epochs", note, (WideImage(image),))


def validation_headline(run: TrainingRun) -> Headline | None:
    """Return the last validation score that the run has logged, with the interval of an accuracy; None without one."""
    metric = find_task(run.recipe.task).metric
    lines = [line for line in read_metrics(run.folder) if line["split"] == "validation"]
    if not lines or not isinstance(value := lines[-1].get(metric.name), float | int):
        return None
    images = run.data.get("validation")
    interval = ""
    if isinstance(images, int) and images > 0 and metric.name == "top1":
        interval = format_ends(metric, wilson_interval(value * images, images))
    count = f"{images:,} images" if isinstance(images, int) else "the images"
    note = f"on {count} held out of training, at epoch {lines[-1]['epoch']:.3g}; logged during training"
    return Headline(f"validation {metric.label}", metric.format(value, 2), interval, note)


def format_ends(metric: TaskMetric, interval: tuple[float, float]) -> str:
    """Write an interval.

    >>> format_ends(TaskMetric("top1", "top-1", "accuracy"), (0.761, 0.779))
    '95 %: 76.1% to 77.9%'
    """
    return f"95 %: {metric.format(interval[0], 1)} to {metric.format(interval[1], 1)}"


def provenance_section(run: TrainingRun) -> Section:
    """Show the command that reproduces the run, and everything that decides its result."""
    recipe, title = run.recipe, "Command that reproduces it"
    command = reproduction_command(recipe)
    if command is None:
        text = (
            f"vitreous.train(recipe, {str(run.folder.path)!r})  # a Recipe of your own, with the values of recipe.json"
        )
    else:
        text = command
    settings = _settings_of(recipe)
    same = "The same versions on the same hardware give the same bits." if command else ""
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
    return [(name, _format_setting(_setting_of(recipe, name))) for name in setting_names(recipe)]


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


def reproduction_command(recipe: Recipe) -> str | None:
    """Return the command that trains a run again; None for a recipe that isn't one of the table.

    >>> from dataclasses import replace
    >>> reproduction_command(replace(find_recipe("cifar10-quick"), seed=3, epochs=0.5))
    'vitreous train cifar10-quick --output RUN --epochs 0.5 --seed 3'
    """
    if recipe.name not in RECIPES:
        return None
    base = find_recipe(recipe.name)
    words, settings = ["vitreous", "train", recipe.name, "--output", "RUN"], []
    for name in setting_names(recipe):
        value, usual = _setting_of(recipe, name), _setting_of(base, name)
        is_decided = name in (*FROM_IMAGES, *RESUMABLE_SETTINGS) or (recipe.init and name.startswith("model."))
        if is_decided or value == usual or (name == "data" and _is_same_source(usual, value)):
            continue
        if name == "precision" and usual == "auto":
            continue  # the device decides
        flag = {"optimizer.learning_rate": "--learning-rate"}.get(name, f"--{name.replace('_', '-')}")
        if name in ("data", "init", "epochs", "batch_size", "seed", "optimizer.learning_rate"):
            words += [flag, _format_setting(value)]
        else:
            settings += ["--set", f"{name}={_format_setting(value)}"]
    return shlex.join([*words, *settings])


def _is_same_source(usual: object, value: object) -> bool:
    try:
        return absolute_source(str(usual)) == value
    except InputError:
        return False


def _setting_of(recipe: Recipe, name: str) -> object:
    value: object = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _format_setting(value: object) -> str:
    """Return a value as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_format_setting, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
