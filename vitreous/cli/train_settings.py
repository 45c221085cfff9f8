"""vitreous train --help-settings"""

import types
import typing
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from vitreous.records import DataclassInstance
    from vitreous.training.recipe import Recipe

FROM_DATA = ("model.num_classes", "model.in_chans")
"""Settings that the images decide."""
FROM_INIT = ("model.image_size", "model.global_pool", "resize_mode", "interpolation", "crop_pct")
"""Settings whose values a model to start from brings, unless the user changes them."""


def settings_lines(
    recipe: "Recipe", *, is_named: bool, of_model: Collection[str] | None = None, changed: Collection[str] = ()
) -> list[str]:
    """Return a line for each setting of a recipe, in groups: name, type, value and meaning.

    Args:
        recipe: whose values are listed.
        is_named: whether the user named it.
        of_model: the settings of the model that can be changed, for a run that starts from one, which decides the
            others and more besides; None if all can.
        changed: the settings that the user has changed.
    """
    title = f"settings of the recipe {recipe.name}" if is_named else f"settings, with the values of {recipe.name}"
    lines = _group_lines(recipe, "", None if of_model is None else set(FROM_INIT) - set(changed))
    if of_model is not None:
        settable = [f"  {name}=" for name in of_model]
        lines = [line for line in lines if not line.startswith("  model.") or line.startswith(tuple(settable))]
    return [f"{title}; change any with --set NAME=VALUE", *lines]


def _group_lines(record: "DataclassInstance", prefix: str, from_init: Collection[str] | None) -> list[str]:
    from docstring_parser import parse_from_object

    hints = typing.get_type_hints(type(record), include_extras=True)
    texts = {one.arg_name: " ".join((one.description or "").split()) for one in parse_from_object(type(record)).params}
    lines, groups = ["", prefix.rstrip(".") or "the run"], []
    for field in fields(record):
        value, name = getattr(record, field.name), prefix + field.name
        if is_dataclass(value) and not isinstance(value, type):
            groups += _group_lines(value, f"{name}.", from_init)
        elif field.name != "name" and name not in FROM_DATA:
            text = f"  # {texts[field.name]}" if texts.get(field.name) else ""
            shown = "that of the model to start from" if from_init and name in from_init else format_value(value)
            lines.append(f"  {name}={shown}  ({format_type(hints[field.name])}){text}")
    return lines + groups


def format_value(value: object) -> str:
    """Return a value as --set takes it.

    >>> format_value((32, 48)), format_value(None), format_value(True)
    ('32,48', 'none', 'true')
    """
    if isinstance(value, tuple):
        return ",".join(map(format_value, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def format_type(hint: object) -> str:
    """Return the type of a setting in words.

    >>> format_type(float | None), format_type(Literal["cosine", "linear"]), format_type(tuple[float, float])
    ('float or none', 'cosine, linear', 'float,float')
    >>> format_type(tuple[Literal["q", "k"], ...])
    'some of q, k'
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:  # a pair that one number can stand for
        return f"{typing.get_args(inner[0])[0].__name__} or {format_type(inner[0])}"
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is types.UnionType:
        return " or ".join(map(format_type, inner))
    if origin is tuple and Ellipsis in inner:
        return f"some of {format_type(inner[0])}"
    if origin is tuple:
        return ",".join(format_type(one) for one in inner)
    if hint is type(None):
        return "none"
    return "true or false" if hint is bool else {str: "text"}.get(hint, getattr(hint, "__name__", str(hint)))
