"""House rules about the public API: what `import vitreous` offers, and that it can be used with nothing else."""

import inspect
import re
import subprocess
import sys
import types
import typing
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path

import pytest

import vitreous

PACKAGE = Path(vitreous.__file__).parent
SNAPSHOT = Path(__file__).with_name("public_api.txt")
NAMES = [name for name in vitreous.__all__ if not name.startswith("__")]


def signature_of(name: str) -> str:
    """One line for a public name: parameters with types and defaults, and the public members of a class with theirs.

    Other public values, such as type aliases, are recorded by their type and text.
    """
    value = getattr(vitreous, name)
    if typing.is_typeddict(value):
        return f"class {name}: {', '.join(f'{key}: {text_of_type(hint)}' for key, hint in hints_of_fields(value))}"
    if inspect.isclass(value):
        fields = {one.name for one in dataclass_fields(value)} if is_dataclass(value) else set()
        members = sorted(key for key in vars(value) if not key.startswith("_") and key not in fields)
        listed = "; ".join(f"{key}{text_of(getattr(value, key))}" for key in members)
        return f"class {name}{text_of(value).removesuffix(' -> None')}: {listed}".rstrip()
    if inspect.isfunction(value):
        return f"def {name}{text_of(value)}"
    return f"{name}: {type(value).__name__} = {stable(str(value))}"


def hints_of_fields(value: type) -> list[tuple[str, object]]:
    return sorted(typing.get_type_hints(value).items())


def text_of(value: object) -> str:
    """The signature of a callable or of a property, on one line; empty for anything else."""
    if isinstance(value, property | cached_property):
        getter = value.func if isinstance(value, cached_property) else value.fget
        return f" -> {text_of_type(inspect.signature(getter).return_annotation)}" if getter else ""
    if not callable(value):
        return ""
    try:
        return stable(str(inspect.signature(value)))
    except (TypeError, ValueError):
        return "(...)"


def text_of_type(hint: object) -> str:
    return stable(hint if isinstance(hint, str) else inspect.formatannotation(hint))


def stable(text: str) -> str:
    """The text without addresses in memory, validators and the modules that hold a type."""
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(text.split()))
    text = re.sub(r"(?:typing\.)?Annotated\[(.*?), BeforeValidator\(.*?PydanticUndefined\)\]", r"\1", text)
    text = re.sub(r"(?:typing\.)?Optional\[(Literal\[[^]]*\])\]", r"\1 | None", text)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


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


def test_no_public_name_is_a_module():
    """Importing `vitreous.NAME` sets the attribute NAME of the package, which would hide a function of that name."""
    modules = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert not modules & set(NAMES)


def test_functions_are_callable_whatever_was_imported_before():
    """In a process of its own: all modules of the package are imported first, then all public names are used."""
    code = """
import importlib, pkgutil, vitreous
for module in pkgutil.walk_packages(vitreous.__path__, "vitreous."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*[name for name in vitreous.__all__ if type(getattr(vitreous, name)).__name__ == "module"])
print(*[name for name in vitreous.__all__ if name[0].islower() and not callable(getattr(vitreous, name))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"


def test_the_snapshot_holds_defaults_and_types():
    def load(path: str, *, count: int = 3) -> list[str]: ...

    assert text_of(load) == "(path: str, *, count: int = 3) -> list[str]"
    assert "size: int = 100" in text_of(dataclass(type("Options", (), {"__annotations__": {"size": int}, "size": 100})))


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
