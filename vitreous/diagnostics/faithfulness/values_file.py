"""The values that a faithfulness run has measured so far: a file that a stopped run is taken up from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.diagnostics.faithfulness.metrics import ROAD_SHARES, set_sizes, steps
from vitreous.errors import InputError
from vitreous.files import reason, write_text

DIGITS = 6
"""Significant ones that are kept: what is read back is then to the bit what was written."""


@dataclass
class ValuesFile:
    """One JSON object a line: first what was asked, then each method's values; written whole each time."""

    path: Path
    asked: dict[str, Any]
    """All that the values depend on."""
    methods: dict[str, dict[str, np.ndarray]]
    """By method and measure; the first axis is the images."""

    def add(self, method: str, values: Mapping[str, np.ndarray]) -> None:
        """Keep a method's values, and have them on the disk before going on.

        Raises:
            InputError: what was there is of another model's shapes, so that it can't be right.
        """
        try:
            _check_alike({**self.methods, method: values})
        except ValueError as error:
            raise _damaged(self.path, error) from None
        self.methods[method] = {name: rounded(found) for name, found in values.items()}
        lines = [{"method": name, "values": _lists(found)} for name, found in self.methods.items()]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in [self.asked, *lines]))


def open_values(path: Path, asked: dict[str, Any], *, restart: bool = False) -> ValuesFile:
    """The values at `path`, or none yet.

    Args:
        asked: all that the values depend on; the file's must be the same.
        restart: forget what is there.

    Raises:
        InputError: the file is damaged, or holds values of other settings.
    """
    if restart or not path.exists():
        return ValuesFile(path, asked, {})
    try:
        first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not isinstance(first, dict):
            raise TypeError("no settings")
        _check_same(path, first, asked)
        methods = {line["method"]: _arrays(line["values"], asked["count"]) for line in lines}
        _check_alike(methods)
    except OSError as error:
        raise InputError(f"can't read {path}: {reason(error)}") from error
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(path, error) from None
    return ValuesFile(path, asked, methods)


def rounded(values: np.ndarray) -> np.ndarray:
    """Values to DIGITS significant digits, float64."""
    values = np.asarray(values, np.float64)
    return np.array([float(f"{value:.{DIGITS}g}") for value in values.ravel()]).reshape(values.shape)


def _damaged(path: Path, error: Exception) -> InputError:
    words = " ".join(str(error).split())
    return InputError(f"{path} is damaged ({words}): add --restart to measure anew, or delete it")


def _check_same(path: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in [*asked, *there]:
        if there.get(name) != asked.get(name):
            raise InputError(
                f"{path} was measured with other settings ({name}: {there.get(name)}, now {asked.get(name)}): "
                "choose another --output, or add --restart to measure anew"
            )


def _arrays(values: dict[str, Any], count: int) -> dict[str, np.ndarray]:
    """One method's values as arrays, if they are what `judge` measures of so many images."""
    arrays = {name: np.array(found, np.float64) for name, found in values.items()}
    for name, found in arrays.items():
        if found.ndim not in (1, 2) or len(found) != count or not found.size or not np.isfinite(found).all():
            raise ValueError(f"{name} is not a finite value for each of {count} images")
    wanted = _shapes(arrays["map"])
    for name in [*wanted, *arrays]:
        if name not in arrays:
            raise ValueError(f"{name} is missing")
        if arrays[name].shape[1:] != wanted.get(name, ()):
            raise ValueError(f"{name} is of another length than it must be")
    return arrays


def _shapes(maps: np.ndarray) -> dict[str, tuple[int, ...]]:
    """What is measured of every map, by name, and its shape without the images; the rest is a number an image."""
    patches = maps.shape[-1]
    points, shares = (len(steps(patches)),), (len(ROAD_SHARES),)
    roads = ("road-most", "road-least", "road-most-same", "road-least-same")
    return {
        "map": (patches,),
        **dict.fromkeys(("insertion", "deletion"), points),
        **dict.fromkeys(roads, shares),
        **{f"sensitivity-{size}": () for size in set_sizes(patches)},
    }


def _check_alike(methods: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """All methods have maps of as many patches, and what was measured of one was measured of all."""
    kinds = {
        method: {name: found.shape[1:] for name, found in values.items() if not name.endswith("-absolute")}
        for method, values in methods.items()
    }
    for method, kind in kinds.items():
        if kind != (first := next(iter(kinds.values()))):
            names = sorted(name for name in {*kind, *first} if kind.get(name) != first.get(name))
            raise ValueError(f"{method} has another {names[0]} than {next(iter(kinds))}")


def _lists(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: found.tolist() for name, found in values.items()}
