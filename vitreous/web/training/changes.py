"""What has changed in a run since a browser last asked, for JSON: a cursor says what it has."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from vitreous.render.overlay import dimming_for, mean_brightness
from vitreous.training_film.history import MapHistory
from vitreous.web.training.watched_run import WatchedRun

MAX_LINES, MAX_STEPS = 5000, 16
"""Lines of metrics, and kept steps, in one response; the rest follows with the next."""
PARTS = ("description", "status", "metrics", "maps")
NOTHING = "-"
"""The cursor of a browser that has nothing yet."""


def find_changes(run: WatchedRun, cursor: str) -> tuple[dict[str, object], str]:
    """Return what a browser lacks, and its new cursor.

    A part that hasn't changed is left out. Metrics and maps have a `start`: what the browser has from that number on
    is replaced, so that 0 begins anew, as after the resume of a run whose last lines were dropped.

    Args:
        run: that was refreshed.
        cursor: what the browser got with the last changes; NOTHING at first. Any other text begins anew.
    """
    known = dict(zip(PARTS, cursor.split("_"), strict=False))
    description, status = describe_run(run), {**asdict(run.status), "model": run.model, "loaded_step": run.loaded_step}
    tokens = {"description": _digest(description), "status": _digest(status)}
    both = {"description": description, "status": status}
    changes: dict[str, object] = {name: value for name, value in both.items() if tokens[name] != known.get(name)}
    lines, histories = run.metrics, run.histories
    start = _known_count(known.get("metrics"), run.metrics_key)
    end = min(len(lines), start + MAX_LINES)
    if end > start or known.get("metrics", "").partition(".")[0] != run.metrics_key:
        changes["metrics"] = {"start": start, **metric_columns(lines[start:end], run.metric.name)}
    tokens["metrics"] = f"{run.metrics_key}.{end}"
    kept = len(next(iter(histories.values())).steps) if histories else 0
    start = _known_count(known.get("maps"), run.maps_key)
    end = min(kept, start + MAX_STEPS)
    if end > start or known.get("maps", "").partition(".")[0] != run.maps_key:
        changes["maps"] = {"start": start, **describe_maps(histories, start, end), "key": run.maps_key}
    tokens["maps"] = f"{run.maps_key}.{end}"
    return changes, "_".join(tokens[name] for name in PARTS)


def describe_run(run: WatchedRun) -> dict[str, object]:
    """Describe for JSON what a run is."""
    recipe, band, metric = run.run.recipe, run.reference, run.metric
    reference = None if band is None else {
        "label": band.label, "epochs": band.epochs.tolist(), "means": band.means.tolist(), "stds": band.stds.tolist(),
    }  # fmt: skip
    return {
        "name": run.name, "recipe": recipe.name, "data": recipe.data, "epochs": recipe.epochs, "notes": run.notes,
        "keep_maps": recipe.keep_maps, "metric": asdict(metric), "reference": reference,
    }  # fmt: skip


def metric_columns(lines: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[object]]:
    """Return lines of metrics as columns: whether they are of validation images, and numbers or None."""
    names = {"step": "step", "epoch": "epoch", "loss": "loss", "score": metric, "learning_rate": "learning_rate"}
    columns: dict[str, list[object]] = {name: [line.get(key) for line in lines] for name, key in names.items()}
    return {"validation": [line["split"] == "validation" for line in lines], **columns}


def describe_maps(histories: Mapping[str, MapHistory], start: int, end: int) -> dict[str, object]:
    """Describe kept steps for JSON: maps as float16, little-endian, in base64, and a prediction for each image."""
    if not histories:
        return {"methods": [], "images": [], "steps": []}
    first = next(iter(histories.values()))
    count, rows, columns = first.maps.shape[1:]
    images = [
        {"index": index, "truth": first.truth(number), "dimming": dimming_for(mean_brightness(image_u8))}
        for number, (index, image_u8) in enumerate(zip(first.images.indexes, first.images.images_u8, strict=True))
    ]
    steps = [
        {"step": first.steps[at], "epoch": first.epochs[at],
         "maps": {method: _encode(history.maps[at]) for method, history in histories.items()},
         "predictions": [kept_prediction(first, at, image) for image in range(count)]}
        for at in range(start, end)
    ]  # fmt: skip
    scales = {method: history.scale.high for method, history in histories.items()}
    height, width = first.images.images_u8.shape[1:3]
    return {
        "methods": list(histories), "images": images, "split": first.images.split, "rows": rows, "columns": columns,
        "height": height, "width": width, "scales": scales, "steps": steps,
    }  # fmt: skip


def kept_prediction(history: MapHistory, at: int, image: int) -> dict[str, object] | None:
    """Describe what the model says about an image after a kept step; None where the run didn't keep it."""
    prediction = history.predictions[at][image]
    if prediction is None:
        return None
    return {
        "caption": prediction.caption(),
        "is_correct": history.is_correct(at, image),
        "truth_probability": history.truth_probability(at, image),
    }


def _known_count(token: str | None, key: str) -> int:
    """Return how much of a part a browser has."""
    own, _, count = (token or "").partition(".")
    return int(count) if own == key and count.isascii() and count.isdecimal() and len(count) < 10 else 0


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def _encode(maps: np.ndarray) -> str:
    return b64encode(maps.astype("<f2").tobytes()).decode()
