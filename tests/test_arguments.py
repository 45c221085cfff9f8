"""Arguments of the wrong type give one line that names the value and what is taken, in every public function."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import numpy as np
import pytest
import torch

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
        {"options": MethodOptions(), "callback": LogCallback(), "head": np.int64(1)},
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


def test_numbers_of_numpy_reach_the_function_as_pythons():
    @check_arguments
    def given(
        one: int = 0,
        some: int | Sequence[int] | None = None,
        flag: bool = False,
        size: float = 0.0,
        image: np.ndarray | None = None,
    ) -> tuple:
        return one, some, flag, size, image

    image = np.zeros(3)
    found = given(np.int64(3), np.int32(4), np.True_, np.float32(0.5), image=image)
    assert found[:4] == (3, 4, True, 0.5) and [type(one) for one in found[:4]] == [int, int, bool, float]
    assert found[4] is image
    for some in (np.array([1, 2]), [np.int64(1), 2], (1, np.int64(2))):
        assert [type(one) for one in given(some=some)[1]] == [int, int]


def test_numpy_sizes_layers_and_counts_are_taken():
    vit = vitreous.create_model("nano/4-32", num_classes=2)
    images = torch.zeros(1, 3, 32, 32)
    sheet = vitreous.patches(np.zeros((48, 64, 3), np.uint8), patch_size=np.int64(16), input_size=np.int64(48))
    assert sheet.tobytes() == vitreous.patches(np.zeros((48, 64, 3), np.uint8), patch_size=16, input_size=48).tobytes()
    with pytest.raises(InputError, match=r"input_size=\[1, 2, 3\] is invalid: give a side or"):
        vitreous.patches(np.zeros((48, 64, 3), np.uint8), input_size=[1, 2, 3])
    for layers in (np.int64(1), np.array([1]), [np.int64(-1)]):
        assert len(vitreous.attention_weights(vit.eval(), images, layers=layers)) == 1
    for n in (np.int64(2), np.array([0, 1]), (np.int64(0), 1), range(2)):
        assert len(vit.get_intermediate_layers(images, n)) == 2
    for n in (np.int64(0), np.array([]), np.array([99]), [1.0], 1.5):
        with pytest.raises(InputError, match="the model has"):
            vit.get_intermediate_layers(images, n)
    prediction = vitreous.Prediction((("cat", 0.9), ("dog", 0.1)))
    assert prediction.top_k(np.int64(1)) == prediction.top_k(1)
    assert torch.equal(
        vitreous.attribute(vit, images, method="attention", layer=np.int64(1), head=np.int32(0)),
        vitreous.attribute(vit, images, method="attention", layer=1, head=0),
    )


@pytest.mark.parametrize("name", WITH_CALLBACK)
def test_a_function_as_callback_is_refused_alike_everywhere(name):
    value = getattr(vitreous, name)
    required = [one for one in inspect.signature(value).parameters.values() if one.default is one.empty]
    given = {one.name: 1 if one.annotation is float else "nothing" for one in required if one.name != "keywords"}
    with pytest.raises(InputError) as caught:
        value(**given, callback=print)
    expected = f"callback={print!r} has the wrong type: {name} takes a vitreous.Callback or None"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "keyword", "words"),
    [
        ("explain", "tagret", "explain has no argument 'tagret': did you mean 'target'"),
        ("explain", "input_sise", "did you mean 'input_size'"),
        ("explain", "layers", "did you mean 'layer'"),
        ("explain", "device", r"no argument 'device': load the model on it: vitreous.load\(model, device\)"),
        ("explain_video", "metod", "explain_video has no argument 'metod': did you mean 'method'"),
        ("explain_video", "opasity", "did you mean 'opacity'"),
        ("explain_videos", "opasity", "did you mean 'opacity'"),
        ("explain_frames", "smoth", "did you mean 'smooth'"),
        ("train", "epoch", "train has no argument 'epoch': did you mean 'epochs'"),
        ("train", "model", r"given as settings=\{\"model.depth\": 6\}"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_nearest_argument(name, keyword, words):
    with pytest.raises(TypeError, match=words):
        getattr(vitreous, name)(**{keyword: 1})
