"""Check the arguments of public functions against their annotations: a value of the wrong type gives one clear line."""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, Unpack, get_args, get_origin

import numpy as np

from vitreous.callbacks import Callback
from vitreous.errors import InputError, unknown

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

PLAIN = {
    str: (("a string", "strings"), str),
    Path: (("a path", "paths"), PathLike),
    int: (("an integer", "integers"), Integral),
    float: (("a number", "numbers"), Real),
    bool: (("True or False", "truth values"), (bool, np.bool_)),
    types.NoneType: (("None", "None"), types.NoneType),
}
"""For each plain type what a message calls it, one and several, and the classes whose instances are accepted."""
MAX_CHARACTERS = 60
"""The longest value that a message shows; of a longer one it names the type."""
OTHER_ARGUMENTS = {
    "device": ("model", "load the model on it: vitreous.load(model, device)"),
    "": ("settings", 'settings of the recipe are given as settings={"model.depth": 6}'),
}
"""Where an argument that a function lacks is given instead, by its name ("": any), if the function has the other."""


def check_arguments(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a function raise an InputError where an argument has another type than its annotation says.

    A keyword that the function lacks is a TypeError with the nearest ones.
    Plain values, sequences of them, records and callbacks are checked; numbers and arrays of NumPy reach the function
    as Python's own. An annotation with any other class, such as an image, a model or a Target, is left to the function,
    which knows more about it.

    >>> @check_arguments
    ... def cut(end: float | None = None) -> float | None:
    ...     return end
    >>> cut(2)
    2
    >>> cut("1s")
    Traceback (most recent call last):
    vitreous.errors.InputError: end='1s' has the wrong type: cut takes a number or None
    """
    signature = inspect.signature(function)
    annotations = [pair for parameter in signature.parameters.values() for pair in _annotations(parameter)]
    known = [name for name, _ in annotations if name != "self"]
    hints = {name: kinds for name, hint in annotations if all(map(_is_checkable, kinds := list(_alternatives(hint))))}
    title = getattr(function, "__name__", repr(function))

    def check(name: str, value: object) -> Any:
        if name not in hints:
            return value
        if not any(_fits(value, kind) for kind in hints[name]):
            raise InputError(_describe(title, name, value, hints[name]))
        return _as_plain(value)

    @wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if wrong := next((name for name in kwargs if name not in known), None):
            raise TypeError(_describe_unknown(title, wrong, known))
        names = [*signature.parameters, *("" for _ in args)]  # Python itself refuses too many arguments
        plain = [check(name, one) for name, one in zip(names, args, strict=False)]
        return function(*plain, **{name: check(name, one) for name, one in kwargs.items()})

    return checked


def show(value: object) -> str:
    """Return how a message shows a value: as Python writes it, if that is short, else its type.

    >>> show("1s"), show(np.zeros((2, 2)))
    ("'1s'", '<ndarray>')
    """
    text = repr(value)
    return f"<{type(value).__name__}>" if len(text) > MAX_CHARACTERS or "\n" in text else text


def _annotations(parameter: inspect.Parameter) -> list[tuple[str, object]]:
    """Return the name and the annotation of a parameter; of keywords that a TypedDict names, those of each."""
    if parameter.kind is not parameter.VAR_KEYWORD:
        return [(parameter.name, parameter.annotation)]
    is_named = get_origin(parameter.annotation) is Unpack
    return list(get_args(parameter.annotation)[0].__annotations__.items()) if is_named else []


def _alternatives(hint: object) -> Iterator[object]:
    """Yield the members of a union, or else the annotation itself."""
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        for one in get_args(hint):
            yield from _alternatives(one)
    else:
        yield hint


def _is_checkable(kind: object) -> bool:
    if get_origin(kind) is Sequence:
        return all(map(_is_checkable, _alternatives(get_args(kind)[0])))
    return kind in PLAIN or get_origin(kind) is Literal or kind is Callback or _is_record(kind)


def _is_record(kind: object) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


def _fits(value: object, kind: object) -> bool:
    """Return whether a value has a type; a choice is only checked to be of text or a number, not to exist."""
    if kind is int or kind is float:
        return isinstance(value, PLAIN[kind][1]) and not isinstance(value, bool)
    if get_origin(kind) is Literal:
        return isinstance(value, tuple({type(choice) for choice in get_args(kind)}))
    if get_origin(kind) is Sequence:
        inner = list(_alternatives(get_args(kind)[0]))
        listed = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
        return listed and all(any(_fits(one, each) for each in inner) for one in value)
    return isinstance(value, PLAIN[kind][1] if kind in PLAIN else kind)  # ty: ignore[invalid-argument-type]


def _as_plain(value: object) -> object:
    """Turn numbers and arrays of NumPy, and lists of such numbers, into Python's own."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple) and any(isinstance(one, np.generic) for one in value):
        return [_as_plain(one) for one in value]
    return value


def _describe(function: str, name: str, value: object, kinds: Sequence[object]) -> str:
    """Return the message: the value, and what the function takes instead."""
    words = list(dict.fromkeys(map(_words, kinds)))
    takes = " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    record = next((kind for kind in kinds if _is_record(kind)), None)
    hint = ""
    if isinstance(value, type) and any(isinstance(kind, type) and issubclass(value, kind) for kind in kinds):
        hint = f"; give an instance, {value.__name__}()"
    elif isinstance(record, type) and isinstance(value, Mapping):
        hint = f", such as {record.__name__}({', '.join(f'{key}={one!r}' for key, one in value.items())})"
    return f"{name}={show(value)} has the wrong type: {function} takes {takes}{hint}"


def _describe_unknown(function: str, name: str, known: Sequence[str]) -> str:
    """Return the message for a keyword that a function lacks."""
    for missing, (other, words) in OTHER_ARGUMENTS.items():
        if missing == name and other in known:
            return f"{function} has no argument '{name}': {words}"
    message, (other, words) = str(unknown("argument", name, known, function)), OTHER_ARGUMENTS[""]
    return f"{message}; {words}" if other in known else message


def _words(kind: object, number: int = 0) -> str:
    """Name a type: one value of it, or several for the number 1."""
    if get_origin(kind) is Literal:
        return ", ".join(map(repr, get_args(kind)))
    if get_origin(kind) is Sequence:
        return f"a list of {' or '.join(_words(one, 1) for one in _alternatives(get_args(kind)[0]))}"
    return PLAIN[kind][0][number] if kind in PLAIN else f"a vitreous.{getattr(kind, '__name__', kind)}"  # ty: ignore[invalid-argument-type]
