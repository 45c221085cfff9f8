"""The file with all values that were measured so far, from which a stopped measurement continues."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous.diagnostics.faithfulness.metrics import ROAD_FRACTIONS, curve_counts, set_sizes
from vitreous.errors import InputError
from vitreous.files import os_error_reason, write_text
from vitreous.runs.migration import migrate_faithfulness_line

DIGITS = 6
"""Significant digits that are saved; the values in use are rounded too, so that they equal the saved ones."""


@dataclass(frozen=True)
class FaithfulnessSettings:
    """Everything that the values depend on.

    Attributes:
        protocol: Version of the measurement.
        data: Source of the images.
        count: Images.
        weights: Fingerprint of the weights and the preprocessing.
        images: Fingerprint of the images.
    """

    protocol: int
    data: str
    split: str
    count: int
    target: Literal["predicted", "true"]
    seed: int
    weights: str
    images: str


@dataclass
class ValuesFile:
    """A file of JSON lines: first the settings, then the values of one method per line."""

    path: Path
    settings: FaithfulnessSettings
    methods: dict[str, dict[str, np.ndarray]]
    """By method and metric; the first axis is the images."""

    def add(self, method: str, values: Mapping[str, np.ndarray]) -> None:
        """Add the values of a method and write the file.

        Raises:
            InputError: the values of the other methods have other shapes, so the file can't belong to this model.
        """
        try:
            _check_equal_shapes({**self.methods, method: values})
        except ValueError as error:
            raise _damaged(self.path, error) from None
        self.methods[method] = {name: round_values(found) for name, found in values.items()}
        lines = [{"method": name, "values": _to_lists(found)} for name, found in self.methods.items()]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in [asdict(self.settings), *lines]))


def open_values(
    path: Path,
    settings: FaithfulnessSettings,
    *,
    restart: bool = False,
    legacy_weights: Callable[[], str] | None = None,
) -> ValuesFile:
    """Read the values of an earlier measurement with the same settings, or start a new file.

    Args:
        path: the file.
        settings: everything that the values depend on.
        restart: ignore the values that are there.
        legacy_weights: computes the fingerprint of the weights that a file of version 0.1.0 holds.

    Raises:
        InputError: the file is damaged, or holds values of other settings.
    """
    if restart or not path.exists():
        return ValuesFile(path, settings, {})
    try:
        first, *lines = [_parse_line(line) for line in path.read_text(encoding="utf-8").splitlines()]
        _check_settings(path, first, settings, legacy_weights)
        methods = {line["method"]: _to_arrays(line["values"], settings.count) for line in lines}
        _check_equal_shapes(methods)
    except OSError as error:
        raise InputError(f"can't read {path}: {os_error_reason(error)}") from error
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(path, error) from None
    return ValuesFile(path, settings, methods)


def round_values(values: np.ndarray) -> np.ndarray:
    """Round values to DIGITS significant digits, float64."""
    values = np.asarray(values, np.float64)
    return np.array([float(f"{value:.{DIGITS}g}") for value in values.ravel()]).reshape(values.shape)


def _parse_line(text: str) -> dict:
    line = json.loads(text)
    if not isinstance(line, dict):
        raise TypeError("a line is not a JSON object")
    return migrate_faithfulness_line(line)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"{path} is damaged ({reason}): add --restart to measure again, or delete it")


def _check_settings(
    path: Path, saved: dict, settings: FaithfulnessSettings, legacy_weights: Callable[[], str] | None
) -> None:
    """Check that the saved values have the same settings."""
    current = asdict(settings)
    if "legacy_weights" in saved:
        fingerprint = saved["legacy_weights"]
        is_same = legacy_weights is not None and fingerprint == legacy_weights()
        saved = {**saved, "weights": settings.weights if is_same else fingerprint}
        del saved["legacy_weights"]
    for name in [*current, *saved]:
        if saved.get(name) != current.get(name):
            raise InputError(
                f"{path} was measured with other settings ({name}: {saved.get(name)}, now {current.get(name)}): "
                "choose another --output, or add --restart to measure again"
            )


def _to_arrays(values: Mapping[str, list], count: int) -> dict[str, np.ndarray]:
    """Convert the values of a method, if they have the shapes of `score_maps` for so many images."""
    arrays = {name: np.array(found, np.float64) for name, found in values.items()}
    for name, found in arrays.items():
        if found.ndim not in (1, 2) or len(found) != count or not found.size or not np.isfinite(found).all():
            raise ValueError(f"{name} is not a finite value for each of {count} images")
    expected = _expected_shapes(arrays["map"])
    for name in [*expected, *arrays]:
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        if arrays[name].shape[1:] != expected.get(name, ()):
            raise ValueError(f"{name} has the wrong length")
    return arrays


def _expected_shapes(maps: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return the shape, without the images, of what is measured of every map; the rest is one number per image."""
    patches = maps.shape[-1]
    points, fractions = (len(curve_counts(patches)),), (len(ROAD_FRACTIONS),)
    roads = ("road_most", "road_least", "road_most_same", "road_least_same")
    return {
        "map": (patches,),
        **dict.fromkeys(("insertion", "deletion"), points),
        **dict.fromkeys(roads, fractions),
        **{f"sensitivity_{size}": () for size in set_sizes(patches)},
    }


def _check_equal_shapes(methods: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Check that the same metrics were measured of all methods, on maps with the same number of patches."""
    shapes = {
        method: {name: found.shape[1:] for name, found in values.items() if not name.endswith("_absolute")}
        for method, values in methods.items()
    }
    for method, shape in shapes.items():
        if shape != (first := next(iter(shapes.values()))):
            names = sorted(name for name in {*shape, *first} if shape.get(name) != first.get(name))
            raise ValueError(f"{method} has another {names[0]} than {next(iter(shapes))}")


def _to_lists(values: Mapping[str, np.ndarray]) -> dict[str, list]:
    return {name: found.tolist() for name, found in values.items()}
