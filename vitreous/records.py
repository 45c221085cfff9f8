"""Frozen dataclasses to JSON and back, and single settings changed by name."""

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vitreous.errors import InputError, unknown

Record = TypeVar("Record")


def to_dict(record: Any) -> dict[str, Any]:
    """A record and the records in it as plain dictionaries, lists, strings and numbers."""
    return asdict(record)


def from_dict(kind: type[Record], values: Mapping[str, Any], origin: str = "") -> Record:
    """The record of class `kind` with these values, each checked against its type.

    Raises:
        InputError: a value doesn't fit; names the field and `origin`, where the values come from.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise InputError(f"{origin + ': ' if origin else ''}{_first_complaint(error)}") from None


def override(record: Record, settings: Mapping[str, str]) -> Record:
    """A copy of `record` with settings changed: {"optimizer.learning_rate": "1e-3"}.

    Raises:
        InputError: a setting doesn't exist (names the nearest), or its value doesn't fit.
    """
    for name, text in settings.items():
        names = setting_names(record)
        if name not in names:
            raise unknown("setting", name, names)
        record = _with_setting(record, name.split("."), text, name)
    return record


def _with_setting(record: Any, path: list[str], text: str, name: str) -> Any:
    if len(path) > 1:
        inner = _with_setting(getattr(record, path[0]), path[1:], text, name)
        return replace(record, **{path[0]: inner})
    hint = typing.get_type_hints(type(record))[path[0]]
    try:
        value = TypeAdapter(hint).validate_python(_parse(text, hint))
    except ValidationError as error:
        raise InputError(f"setting {name}={text}: {_first_complaint(error)}") from None
    return replace(record, **{path[0]: value})


def _parse(text: str, hint: Any) -> Any:
    """What a text stands for, before its type is checked: none, a list, or itself."""
    optional = isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)
    if optional and text.lower() in ("none", "null", "off"):
        return None
    if typing.get_origin(hint) is tuple:
        return text.strip("()[]").replace("x", ",").split(",")
    return text


def setting_names(record: Any, before: str = "") -> list[str]:
    """All names that `override` takes for a record, the inner ones with dots."""
    names = []
    for field in fields(record):
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
