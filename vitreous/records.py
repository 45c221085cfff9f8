"""Frozen dataclasses to JSON and back, and single settings changed by name."""

import types
import typing
from collections.abc import Mapping
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
            raise unknown("setting", name, names)
        *outer, last = name.split(".")
        owner, place = reduce(getattr, outer, record), reduce(dict.__getitem__, outer, values)
        place[last] = _checked(text, typing.get_type_hints(type(owner))[last], name)
    return from_dict(type(record), values)


def _checked(text: str, hint: Any, name: str) -> Any:
    try:
        return TypeAdapter(hint).validate_python(_parse(text, hint))
    except ValidationError as error:
        raise InputError(f"setting {name}={text}: {_first_complaint(error)}") from None


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
    return f"{where}: {message}" if where else message
