"""Records of models that an earlier version of Vitreous wrote, read as they are written today."""

from collections.abc import Mapping
from typing import Any

OLD_PREPROCESSING = {"size_hw": "input_size", "resize": "resize_mode", "multiple": "patch_size", "central": "crop_pct"}
"""Field names of `Preprocessing` up to version 0.1, and today's."""
OLD_RESIZE_MODES = {"stretch": "squash"}


def migrate_preprocessing(values: Any) -> Any:
    """Return the fields of a `Preprocessing` under today's names; anything else comes back as it is.

    >>> migrate_preprocessing({"size_hw": [32, 32], "resize": "stretch", "multiple": 4})
    {'input_size': [32, 32], 'resize_mode': 'squash', 'patch_size': 4}
    """
    if not isinstance(values, Mapping):
        return values
    found = {OLD_PREPROCESSING.get(name, name): value for name, value in values.items()}
    if isinstance(mode := found.get("resize_mode"), str):
        found["resize_mode"] = OLD_RESIZE_MODES.get(mode, mode)
    return found
