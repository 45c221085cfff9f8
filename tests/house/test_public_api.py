"""House rules about the public API: what `import vitreous` offers, and that it can be used with nothing else."""

import inspect
import re
import types
import typing
from pathlib import Path

import pytest

import vitreous

SNAPSHOT = Path(__file__).with_name("public_api.txt")
NAMES = [name for name in vitreous.__all__ if not name.startswith("__")]


def signature_of(name: str) -> str:
    """One line for a public name: a function's parameters, a class's constructor, or a constant's type."""
    value = getattr(vitreous, name)
    if inspect.isclass(value):
        parameters = ", ".join(str(one).split(":")[0].split("=")[0].strip() for one in parameters_of(value))
        methods = sorted(key for key in vars(value) if not key.startswith("_"))
        return f"class {name}({parameters}): {', '.join(methods)}"
    if callable(value):
        return f"def {name}({', '.join(str(one).split(':')[0].split('=')[0].strip() for one in parameters_of(value))})"
    return f"{name}: {type(value).__name__}"


def parameters_of(value: typing.Callable) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return []


def test_names_are_sorted_complete_and_documented():
    assert list(vitreous.__all__) == sorted(vitreous.__all__)
    for name in NAMES:
        value = getattr(vitreous, name)
        assert name in dir(vitreous)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name} has no docstring"


def test_the_public_api_is_the_recorded_one():
    """To change it on purpose, write the new lines into public_api.txt (python tests/house/test_public_api.py)."""
    assert [signature_of(name) for name in NAMES] == SNAPSHOT.read_text().splitlines()


def hints_of(name: str) -> dict[str, object]:
    """The annotations of a public function, or of a public class's constructor and public methods."""
    value = getattr(vitreous, name)
    functions = [value] if inspect.isfunction(value) else []
    if inspect.isclass(value):
        functions = [one for key, one in vars(value).items() if inspect.isfunction(one) and not key.startswith("_")]
        constructor = vars(value).get("__init__")
        functions += [constructor] if inspect.isfunction(constructor) else []
    found: dict[str, object] = {}
    for function in functions:
        for parameter, hint in function.__annotations__.items():
            found[f"{function.__qualname__}({parameter})"] = hint
    return found


def names_in(hint: object) -> set[str]:
    """Every name that an annotation mentions."""
    if isinstance(hint, str):
        return set(re.findall(r"[A-Za-z_][\w.]*", hint))
    if isinstance(hint, types.GenericAlias | types.UnionType) or typing.get_origin(hint) is not None:
        inner = set().union(*(names_in(one) for one in typing.get_args(hint)))
        origin = typing.get_origin(hint)
        return inner | ({origin.__name__} if isinstance(origin, type) else set())
    if isinstance(hint, list | tuple):
        return set().union(set(), *(names_in(one) for one in hint))
    module = getattr(hint, "__module__", "")
    return {hint.__name__} if isinstance(hint, type) and module.startswith("vitreous") else {str(hint)}


@pytest.mark.parametrize("name", NAMES)
def test_every_type_in_a_signature_can_be_imported(name):
    missing = set()
    for where, hint in hints_of(name).items():
        for mentioned in names_in(hint):
            value = vitreous_class(mentioned)
            if value is not None and mentioned.rpartition(".")[2] not in vitreous.__all__:
                missing.add(f"{where}: {mentioned}")
    assert not missing, "\n".join(sorted(missing))


def vitreous_class(name: str) -> type | None:
    """The class of the package that is called so, among the modules that are loaded."""
    import sys

    bare = name.rpartition(".")[2]
    for key, module in list(sys.modules.items()):
        value = getattr(module, bare, None) if key.startswith("vitreous.") else None
        if inspect.isclass(value) and value.__module__ == key:
            return value
    return None


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_typed(name):
    """No `Any`, no `Callable[..., X]`, no untyped or catch-all keyword arguments, no callbacks but the one protocol."""
    value = getattr(vitreous, name)
    for where, hint in hints_of(name).items():
        text = hint if isinstance(hint, str) else repr(hint)
        assert not re.search(r"\bAny\b|Callable\[\.\.\.", text), f"{where}: {text}"
    if inspect.isfunction(value):
        for parameter in parameters_of(value):
            typed = "Unpack" in repr(parameter.annotation) or repr(parameter.annotation).startswith("*")
            assert parameter.kind is not inspect.Parameter.VAR_KEYWORD or typed, f"{name}(**{parameter.name})"
            assert parameter.annotation is not inspect.Parameter.empty, f"{name}({parameter.name}) has no type"
            assert not parameter.name.startswith("on_"), f"{name}({parameter.name}): use callback"


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(signature_of(name) + "\n" for name in NAMES))
