"""Files that an earlier version of Vitreous wrote, read as they are written today.

Each kind of file has a small table of old and new names, and one function that applies it. Weights and model
configurations have theirs in `vitreous.model.migration`.
"""

from collections.abc import Mapping

from vitreous.model.migration import CONFIG_KEYS, migrate_config

RECIPE_KEYS = {
    "resolution.share": "progressive_resizing.fraction",
    "resolution.scale": "progressive_resizing.initial_scale",
    "teacher.share": "distillation.weight",
    "teacher.temperature": "distillation.temperature",
    "teacher.width": "distillation.teacher_width",
    "teacher.learning_rate": "distillation.teacher_learning_rate",
    "teacher.adamw_learning_rate": "distillation.teacher_adamw_learning_rate",
    "optimizer.stem_pace": "optimizer.stem_lr_scale",
    "optimizer.clip_norm": "optimizer.clip_grad_norm",
    "schedule.warmup": "schedule.warmup_fraction",
    "whitened_patches": "whiten_patch_embed",
    "resize": "resize_mode",
    "average_decay": "ema_decay",
    "accumulate": "grad_accum_steps",
    "checkpoint_activations": "grad_checkpointing",
    "shard_weights": "fsdp",
}
"""Settings of a recipe, in recipe.json, in reference curves and on the command line (--set). Those of its model are in
`vitreous.model.migration`."""
RECIPE_VALUES = {"resize_mode": {"stretch": "squash"}}
"""Values of a recipe by the key of today."""
NATIVE_SIZES = {"cifar10": (32, 32), "cifar100": (32, 32), "mnist": (28, 28)}
"""Sources that were resized by bilinear interpolation before recipes recorded it; images of files were not."""
UNRECORDED_SETTINGS = {"validation_by_class": False}
"""Settings that earlier runs didn't have, with the values that they went by, where these aren't the defaults."""
METRICS_KEYS = {"pictures_per_second": "images_per_second"}
"""Keys of the lines of metrics.jsonl."""

CLIP_RECORD_KEYS = {"answers": "predictions"}
"""NAME.json of a folder of videos, and the lines of its summary.jsonl. The old key "request" held a fingerprint over
old names; `ClipFingerprint` computes it again."""
CLIP_STATES = {"broke off": "truncated"}


def migrate_clip_record(record: dict[str, object]) -> dict[str, object]:
    """Return the record of an explained video under today's names.

    >>> migrate_clip_record({"clip": "a.mp4", "state": "broke off", "answers": {}})
    {'clip': 'a.mp4', 'state': 'truncated', 'predictions': {}}
    """
    found = {CLIP_RECORD_KEYS.get(name, name): value for name, value in record.items()}
    if isinstance(state := found.get("state"), str):
        found["state"] = CLIP_STATES.get(state, state)
    return found


def migrate_recipe(values: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a recipe under today's names.

    Raises:
        InputError: a field of the model's configuration is of no version.

    >>> migrate_recipe({"name": "mine", "resize": "stretch", "teacher": {"share": 0.5, "width": 8}})
    {'name': 'mine', 'resize_mode': 'squash', 'distillation': {'weight': 0.5, 'teacher_width': 8}}
    >>> migrate_recipe({"data": "mnist", "model": {"image_size_hw": [64, 64]}})
    {'data': 'mnist', 'model': {'image_size': [64, 64]}, 'interpolation': 'bilinear'}
    """
    migrated: dict[str, object] = {}
    for key, value in values.items():
        inner = {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, Mapping) else {key: value}
        for old, one in inner.items():
            _insert(migrated, RECIPE_KEYS.get(old, old), one)
    for key, renamed in RECIPE_VALUES.items():
        if isinstance(value := migrated.get(key), str):
            migrated[key] = renamed.get(value, value)
    if "model" in values:
        migrated["model"] = model = migrate_config(values["model"])
        native = NATIVE_SIZES.get(str(values.get("data")))
        size = model.get("image_size") if isinstance(model, Mapping) else None
        resized = native is not None and isinstance(size, list | tuple) and tuple(size) != native
        migrated.setdefault("interpolation", "bilinear" if resized else "bicubic")
    return migrated


def _insert(values: dict[str, object], name: str, value: object) -> None:
    """Set a value by its name with dots, in nested dictionaries."""
    group, _, last = name.rpartition(".")
    inner = values.setdefault(group, {}) if group else values
    assert isinstance(inner, dict)
    inner[last] = value


def migrate_run_metadata(metadata: Mapping[str, object]) -> dict[str, object]:
    """Return the contents of recipe.json, or of a reference curve, under today's names."""
    recipe = metadata.get("recipe")
    return {**metadata, "recipe": migrate_recipe(recipe)} if isinstance(recipe, Mapping) else dict(metadata)


def with_unrecorded_settings(metadata: Mapping[str, object]) -> dict[str, object]:
    """Return the contents of the recipe.json of a run, with what the run went by before there were settings for it."""
    recipe = metadata.get("recipe")
    if not isinstance(recipe, Mapping) or "validation_fraction" not in recipe:
        return dict(metadata)
    return {**metadata, "recipe": {**UNRECORDED_SETTINGS, **recipe}}


def migrate_metrics(line: Mapping[str, float | str | None]) -> dict[str, float | str | None]:
    """Return a line of metrics.jsonl under today's names.

    >>> migrate_metrics({"step": 10, "pictures_per_second": 310.0})
    {'step': 10, 'images_per_second': 310.0}
    """
    return {METRICS_KEYS.get(key, key): value for key, value in line.items()}


def migrate_checkpoint_name(name: str) -> str:
    """Return the name of a tensor in a checkpoint, whose model has today's names already, under today's prefix.

    >>> migrate_checkpoint_name("average/head.bias")
    'ema/head.bias'
    """
    return f"ema/{name.removeprefix('average/')}" if name.startswith("average/") else name


def current_setting(name: str) -> str | None:
    """Return today's name of a recipe's setting that an earlier version had, or None if the name was never changed.

    >>> current_setting("teacher.share"), current_setting("model.width"), current_setting("epochs")
    ('distillation.weight', 'model.embed_dim', None)
    """
    group, _, field = name.partition(".")
    if group == "model" and field in CONFIG_KEYS:
        return f"model.{CONFIG_KEYS[field]}"
    return RECIPE_KEYS.get(name)


FAITHFULNESS_KEYS = {"pictures": "images", "model": "legacy_weights"}
"""Keys of the first line of faithfulness-values.jsonl. The old key "model" held a fingerprint over old names, which
`vitreous.diagnostics.faithfulness.run` computes again."""
FAITHFULNESS_BASELINES = {"centred blob": "center bias"}
"""Names of the baselines in faithfulness-values.jsonl."""


def migrate_metric_name(name: str) -> str:
    """Return the name of a metric in faithfulness-values.jsonl and faithfulness.json under today's spelling.

    >>> migrate_metric_name("randomised-all-absolute"), migrate_metric_name("sensitivity-8")
    ('randomized_all_absolute', 'sensitivity_8')
    """
    return name.replace("randomised-", "randomized-").replace("-", "_")


def migrate_faithfulness_line(line: dict[str, object]) -> dict[str, object]:
    """Return a line of faithfulness-values.jsonl under today's names.

    >>> migrate_faithfulness_line({"protocol": 2, "model": "6b41c2f0e2d13a55", "pictures": "81d8d58c28d59c1e"})
    {'protocol': 2, 'legacy_weights': '6b41c2f0e2d13a55', 'images': '81d8d58c28d59c1e'}
    >>> migrate_faithfulness_line({"method": "centred blob", "values": {}})
    {'method': 'center bias', 'values': {}}
    >>> migrate_faithfulness_line({"method": "rollout", "values": {"randomised-all": [0.5]}})
    {'method': 'rollout', 'values': {'randomized_all': [0.5]}}
    >>> migrate_faithfulness_line({"method": "rollout", "values": {"road-most": [[0.5]]}})
    {'method': 'rollout', 'values': {'road_most': [[0.5]]}}
    """
    found = {FAITHFULNESS_KEYS.get(name, name): value for name, value in line.items()}
    if isinstance(method := found.get("method"), str):
        found["method"] = FAITHFULNESS_BASELINES.get(method, method)
    if isinstance(values := found.get("values"), Mapping):
        found["values"] = {migrate_metric_name(str(name)): value for name, value in values.items()}
    return found
