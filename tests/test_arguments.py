"""Arguments of the wrong type give one line that names the value and what is taken, in every public function."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import pytest

import vitreous
from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, LogCallback
from vitreous.errors import InputError
from vitreous.explanation.options import MethodOptions

WITH_CALLBACK = [
    name
    for name in vitreous.__all__
    if inspect.isfunction(value := getattr(vitreous, name)) and "callback" in inspect.signature(value).parameters
]


class Keywords(TypedDict, total=False):
    head: int | None


@check_arguments
def function(
    path: str | Path = "",
    end: float | None = None,
    every: int = 1,
    legend: bool = True,
    names: str | Sequence[str] = (),
    mode: Literal["crop", "squash"] | None = None,
    options: MethodOptions | None = None,
    callback: Callback | None = None,
    image: str | np.ndarray | None = None,
    **keywords: Unpack[Keywords],
) -> str:
    return "called"


@pytest.mark.parametrize(
    "given",
    [
        {"path": Path("a"), "end": 2, "every": np.int64(3), "legend": np.True_, "names": ["a"], "mode": "crop"},
        {"end": np.float32(0.5), "names": ("a", "b"), "mode": "no such mode", "image": 3, "head": None},
        {"options": MethodOptions(), "callback": LogCallback(), "unknown": print},
    ],
)
def test_values_of_the_right_type_reach_the_function(given):
    assert function(**given) == "called"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": b"a"}, "path=b'a' has the wrong type: function takes a string or a path"),
        ({"end": "1s"}, "end='1s' has the wrong type: function takes a number or None"),
        ({"every": 1.5}, "every=1.5 has the wrong type: function takes an integer"),
        ({"every": True}, "every=True has the wrong type: function takes an integer"),
        ({"legend": 1}, "legend=1 has the wrong type: function takes True or False"),
        ({"names": ["a", 3]}, "names=['a', 3] has the wrong type: function takes a string or a list of strings"),
        ({"mode": 3}, "mode=3 has the wrong type: function takes 'crop', 'squash' or None"),
        ({"head": "all"}, "head='all' has the wrong type: function takes an integer or None"),
        ({"end": np.zeros((9, 9))}, "end=<ndarray> has the wrong type: function takes a number or None"),
        (
            {"options": {"layer": 1}},
            "options={'layer': 1} has the wrong type: function takes a vitreous.MethodOptions or None, "
            "such as MethodOptions(layer=1)",
        ),
        (
            {"callback": LogCallback},
            "callback=<class 'vitreous.callbacks.LogCallback'> has the wrong type: function takes a vitreous.Callback "
            "or None; give an instance, LogCallback()",
        ),
    ],
    ids=str,
)
def test_a_wrong_type_is_named_with_what_is_taken(given, message):
    with pytest.raises(InputError) as caught:
        function(**given)
    assert str(caught.value) == message


def test_positional_arguments_are_checked_and_missing_ones_stay_a_type_error():
    with pytest.raises(InputError, match="end='x' has the wrong type"):
        function("a", "x")
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        check_arguments(lambda model: model)()
    with pytest.raises(TypeError, match="takes 0 positional arguments"):
        check_arguments(lambda: None)(1)


@pytest.mark.parametrize("name", WITH_CALLBACK)
def test_a_function_as_callback_is_refused_alike_everywhere(name):
    value = getattr(vitreous, name)
    required = [one.name for one in inspect.signature(value).parameters.values() if one.default is one.empty]
    given = {one: "nothing" for one in required if one != "keywords"}
    with pytest.raises(InputError) as caught:
        value(**given, callback=print)
    expected = f"callback={print!r} has the wrong type: {name} takes a vitreous.Callback or None"
    assert str(caught.value) == expected
