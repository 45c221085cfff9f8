"""Frozen dataclasses to JSON and back, and single settings changed by name."""

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import reduce
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vitreous.errors import InputError, unknown

Record = TypeVar("Record")


def to_dict(record: Any) -> dict[str, Any]:
    """A record and the records in it as plain dictionaries, lists, strings and numbers."""
    return asdict(record)


def from_dict(kind: type[Record], values: Any, origin: str = "") -> Record:
    """The record (or other type) `kind` with these values, each checked against its type.

    Raises:
        InputError: a value doesn't fit; names the field and `origin`, where the values come from.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(f"{origin + ': ' if origin else ''}{_first_complaint(error)}") from None


def override(record: Record, settings: Mapping[str, str]) -> Record:
    """A copy of `record` with settings changed: {"optimizer.learning_rate": "1e-3"}. They are checked together.

    Raises:
        InputError: a setting doesn't exist (names the nearest), or its value doesn't fit.
    """
    values = to_dict(record)
    for name, text in settings.items():
        names = setting_names(record)
        if name not in names:
            raise _unknown_setting(name, names)
        *outer, last = name.split(".")
        owner, place = reduce(getattr, outer, record), reduce(dict.__getitem__, outer, values)
        place[last] = _checked(text, typing.get_type_hints(type(owner))[last], name)
    return from_dict(type(record), values)


def _unknown_setting(name: str, names: Sequence[str]) -> InputError:
    """The error for a setting that isn't there: those of that name elsewhere, or else the nearest of its group."""
    group, _, last = name.rpartition(".")
    elsewhere = [one for one in names if one.rpartition(".")[2] == last]
    if elsewhere:
        return InputError(f"there is no setting '{name}': did you mean {' or '.join(elsewhere)}?")
    beside = [inner for outer, _, inner in (one.rpartition(".") for one in names) if outer == group]
    return (
        unknown(f"setting of {group}" if group else "setting", last, beside)
        if beside
        else unknown("setting", name, names)
    )


def _checked(text: str, hint: Any, name: str) -> Any:
    value = _parse(text, hint)
    if isinstance(value, list) and len(value) != (needed := _length(hint, value)):
        raise InputError(f"setting {name}={text}: give {needed} values, such as {','.join(value[:1] * needed)}")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InputError(f"setting {name}={text}: {_first_complaint(error)}") from None


def _length(hint: Any, value: list) -> int:
    """How many values a tuple of this type holds."""
    kinds = typing.get_args(hint)
    return len(value) if Ellipsis in kinds else len(kinds)


def _parse(text: str, hint: Any) -> Any:
    """What a text stands for, before its type is checked: none, a list, or itself."""
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    if optional and text.lower() in ("none", "null", "off"):
        return None
    if typing.get_origin(hint) is tuple:
        return text.strip("()[]").replace("x", ",").split(",")
    return text


def setting_names(record: Any, before: str = "") -> list[str]:
    """All names that `override` takes for a record, the inner ones with dots; its own name is none of them."""
    names = []
    for field in fields(record):
        if field.name == "name":
            continue
        value = getattr(record, field.name)
        inner = is_dataclass(value)
        names += setting_names(value, f"{before}{field.name}.") if inner else [before + field.name]
    return names


def _first_complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return message if message.startswith(f"{where}.") or not where else f"{where}: {message}"
