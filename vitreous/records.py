"""Convert frozen dataclasses to plain dictionaries and back, and change single settings by name."""

import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from vitreous.errors import InputError, unknown


class DataclassInstance(Protocol):
    """Any instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T")
Record = TypeVar("Record", bound=DataclassInstance)
Setting = str | int | float | bool | Sequence[int] | Sequence[float] | None
"""The value of one setting: of the field's own type, or as text, as a command line gives it ("1e-3", "48x64")."""
TOO_DEEP = "its lists or objects are nested too deeply"


def to_dict(record: DataclassInstance) -> dict[str, Any]:
    """Convert a record, and the records in it, to dictionaries, lists, strings and numbers."""
    return asdict(record)


def from_dict(kind: type[T], values: object, origin: str = "") -> T:
    """Build a value of the type `kind`, usually a record, and check each part against its type.

    Args:
        kind: the type to build, such as `Recipe`.
        values: its parts, of Python's types; text that reads as a number or as true or false is one.
        origin: where the values come from, for the message.

    Raises:
        InputError: a value doesn't fit; the message names the field and `origin`.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(f"{origin + ': ' if origin else ''}{_first_error(error)}") from None


def from_json(kind: type[T], values: object, origin: str = "") -> T:
    """Build a value of the type `kind`, usually a record, from what a JSON file holds of it.

    Nothing is converted: the text "yes" is not true, nor is true the number 1.

    Args:
        kind: the type to build, such as `Recipe` or `tuple[str, ...]`.
        values: the contents of the file, or the part of them that this value is in.
        origin: where the values come from, for the message.

    Raises:
        InputError: a value doesn't fit; the message names the field and `origin`.
    """
    start = f"{origin}: " if origin else ""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except RecursionError:
        raise InputError(start + TOO_DEEP) from None
    except ValidationError as error:
        is_syntax = error.errors()[0]["type"] == "json_invalid"  # of the text above, which is not the file's
        raise InputError(start + (_syntax_fault(values) if is_syntax else _first_error(error))) from None


def _syntax_fault(values: object) -> str:
    """Return why values that Python's parser has read from a JSON file are refused by pydantic's."""
    try:
        return _half_character(values) or TOO_DEEP
    except RecursionError:
        return TOO_DEEP


def _half_character(values: object, where: str = "") -> str:
    """Return where a text isn't Unicode, because it has a surrogate, one half of a character; empty if none has."""
    if isinstance(values, str) and any("\ud800" <= character <= "\udfff" for character in values):
        return f"{where + ': ' if where else ''}the text '{values}' is not valid Unicode"
    inner: Iterable[tuple[object, object]] = ()
    if isinstance(values, Mapping):
        inner = values.items()
    elif isinstance(values, list | tuple):
        inner = enumerate(values)
    for key, value in inner:
        if found := _half_character(key, where) or _half_character(value, f"{where}.{key}".lstrip(".")):
            return found
    return ""


def override(record: Record, settings: Mapping[str, Setting]) -> Record:
    """Return a copy of a record with some settings changed; all are checked together.

    Args:
        record: a frozen dataclass such as a `Recipe`.
        settings: values by name, with dots for the records inside: `{"epochs": 8, "optimizer.learning_rate": "1e-3"}`.

    Raises:
        InputError: a setting doesn't exist (the message names the nearest), or its value doesn't fit.
    """
    values = to_dict(record)
    for name, setting in settings.items():
        names = setting_names(record)
        if name not in names:
            raise _unknown_setting(name, names)
        *outer, last = name.split(".")
        owner, inner = reduce(getattr, outer, record), reduce(dict.__getitem__, outer, values)
        inner[last] = _checked(setting, typing.get_type_hints(type(owner), include_extras=True)[last], name)
    return from_dict(type(record), values)


def setting_names(record: DataclassInstance, prefix: str = "") -> list[str]:
    """List the names that `override` takes for a record, the inner ones with dots; its field `name` is left out."""
    names = []
    for field in fields(record):
        if field.name == "name":
            continue
        value = getattr(record, field.name)
        inner = is_dataclass(value) and not isinstance(value, type)
        names += setting_names(value, f"{prefix}{field.name}.") if inner else [prefix + field.name]
    return names


def _unknown_setting(name: str, names: Sequence[str]) -> InputError:
    """Build the error for a setting that doesn't exist: suggest its name in other groups, else the nearest."""
    group, _, last = name.rpartition(".")
    elsewhere = [one for one in names if one.rpartition(".")[2] == last]
    if elsewhere:
        return InputError(f"there is no setting '{name}': did you mean {' or '.join(elsewhere)}?")
    siblings = [inner for outer, _, inner in (one.rpartition(".") for one in names) if outer == group]
    return (
        unknown(f"setting of {group}" if group else "setting", last, siblings)
        if siblings
        else unknown("setting", name, names)
    )


def _checked(setting: Setting, hint: Any, name: str) -> object:
    value = _parse(setting, hint) if isinstance(setting, str) else setting
    is_tuple = typing.get_origin(_without_annotation(hint)) is tuple
    if is_tuple and isinstance(value, (list, tuple)) and len(value) != (needed := _tuple_length(hint, value)):
        given = setting if isinstance(setting, str) else ",".join(map(str, value))
        example = ",".join(map(str, [*value[:1]] * needed))
        raise InputError(f"setting {name}={given}: give {needed} values, such as {example}")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InputError(f"setting {name}={setting}: {_message(error.errors()[0]['msg'])}") from None


def _tuple_length(hint: Any, value: Sequence[object]) -> int:
    """The number of values that a tuple of this type holds; any number for one that ends in an ellipsis."""
    kinds = typing.get_args(_without_annotation(hint))
    return len(value) if Ellipsis in kinds else len(kinds)


def _parse(text: str, hint: Any) -> object:
    """Split the text of a tuple, turn "none" into None, and leave any other text for pydantic to read."""
    plain = _without_annotation(hint)
    optional = isinstance(plain, types.UnionType) and type(None) in typing.get_args(plain)
    if optional and text.lower() in ("none", "null", "off"):
        return None
    if typing.get_origin(plain) is not tuple:
        return text
    parts = text.strip("()[]").replace("x", ",").split(",")
    is_number = len(parts) == 1 and plain is not hint and parts[0].strip().isdecimal()
    return int(parts[0]) if is_number else parts  # an annotated tuple takes one number too: a square


def _without_annotation(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    message = _message(first["msg"])
    return message if message.startswith(f"{where}.") or not where else f"{where}: {message}"


def _message(text: str) -> str:
    message = text.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
