"""A config.json with huge or odd values gives one line, in little memory and time, whoever wrote it."""

import json
import time

import pytest

from vitreous.errors import InputError
from vitreous.files import read_json
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.create import create_model
from vitreous.pretrained.load import load
from vitreous.workflows.convert import convert

MAX_SECONDS = 5
HUGE, NAN, INFINITE = 10**9, float("nan"), float("inf")
OWN = {
    "model": [
        ("embed_dim", HUGE), ("embed_dim", 192 * 10**7), ("embed_dim", True), ("embed_dim", 1), ("embed_dim", "wide"),
        ("embed_dim", -64), ("embed_dim", NAN), ("embed_dim", INFINITE), ("depth", 10**6), ("depth", 0), ("depth", 1.5),
        ("num_classes", 10**10), ("reg_tokens", HUGE), ("in_chans", HUGE), ("mlp_ratio", HUGE), ("mlp_ratio", INFINITE),
        ("mlp_ratio", NAN), ("mlp_ratio", -1), ("image_size", [HUGE, HUGE]), ("image_size", 4 * 10**6),
        ("image_size", [1, 2, 3]), ("image_size", {}), ("patch_size", HUGE), ("patch_size", 0), ("num_heads", HUGE),
        ("num_heads", None), ("norm_eps", NAN), ("norm_eps", 1e300), ("qk_norm", "yes"), ("depth", "2"),
        ("mlp_ratio", 10**400), ("init_values", 1e300), ("global_pool", 3), ("stem", []), ("stem_convs", "x"),
    ],
    "preprocessing": [
        ("input_size", [40000, 40000]), ("input_size", HUGE), ("input_size", -4), ("input_size", "32"),
        ("mean", [NAN] * 3), ("std", [0, 0, 0]), ("mean", "gray"), ("patch_size", True), ("crop_pct", NAN),
        ("crop_pct", 1e-9), ("crop_pct", "0.9"), ("resize_mode", None), ("interpolation", 3),
    ],
    None: [
        ("model", None), ("model", []), ("model", 3), ("preprocessing", None), ("preprocessing", "crop"),
        ("class_names", 3), ("class_names", [1, 2, 3]), ("class_names", {}), ("problem_type", 3), ("problem_type", []),
        ("function_to_apply", "relu"), ("task", "segmentation"), ("task", 5), ("task", None),
    ],
}  # fmt: skip
OTHERS = {
    "hf": [
        (key, value)
        for key in ("num_attention_heads", "image_size", "num_hidden_layers", "patch_size", "layer_norm_eps")
        for value in (HUGE, -1, 0, 1.5, NAN, INFINITE, "many", [], {}, True, 10**400)
        if (key, value) != ("layer_norm_eps", 0)
    ]
    + [("hidden_act", 3), ("hidden_act", []), ("problem_type", 3), ("vision_config", 3), ("id2label", [1])],
    "timm": [
        ("model_args", 3), ("pretrained_cfg", []), ("pretrained_cfg", "x"), ("architecture", 3),
        ("model_args", {"global_pool": "max"}),
        ("model_args", {"num_heads": NAN}), ("model_args", {"img_size": HUGE}), ("model_args", {"img_size": "x"}),
        ("pretrained_cfg", {"input_size": 3}), ("pretrained_cfg", {"input_size": [3, HUGE, HUGE]}),
        ("pretrained_cfg", {"mean": "x"}), ("pretrained_cfg", {"crop_pct": "x"}), ("pretrained_cfg", {"std": [0] * 3}),
        ("pretrained_cfg", {"crop_pct": NAN}), ("pretrained_cfg", {"interpolation": [1]}),
    ],
}  # fmt: skip
PROCESSOR = [
    ("size", "x"), ("size", HUGE), ("size", NAN), ("size", -3), ("size", []), ("size", {"height": "x", "width": 3}),
    ("size", {"height": None, "width": None}), ("image_mean", "x"), ("image_mean", [1, 2]), ("image_std", [0, 0, 0]),
    ("image_std", [None]), ("resample", "x"), ("resample", []), ("rescale_factor", "x"), ("rescale_factor", NAN),
    ("crop_size", "x"), ("image_processor", 3),
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model in our form, timm's and transformers'."""
    folder = tmp_path_factory.mktemp("models")
    model = create_model("nano/4-32", num_classes=3, global_pool="token")
    classifier = ImageClassifier(model, Preprocessing(32, "squash", (0.5,) * 3, (0.5,) * 3, 4), ["a", "b", "c"])
    classifier.save(folder / "own")
    for library in ("timm", "hf"):
        convert(classifier, library, folder / library)
    return folder


def refused(folder) -> str:
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        load(folder, "cpu")
    assert time.monotonic() - start < MAX_SECONDS
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500
    return str(caught.value)


def copy(folders, library: str, tmp_path, name: str, change) -> None:
    for file in (folders / library).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / name).read_text())
    change(content)
    (tmp_path / name).write_text(json.dumps(content))


@pytest.mark.parametrize(("part", "key", "value"), [(part, *one) for part, values in OWN.items() for one in values])
def test_a_config_of_our_own(part, key, value, folders, tmp_path):
    copy(folders, "own", tmp_path, "config.json", lambda c: (c if part is None else c[part]).update({key: value}))
    refused(tmp_path)


def test_class_names_that_are_equal_get_their_numbers(folders, tmp_path):
    copy(folders, "own", tmp_path, "config.json", lambda config: config.update(class_names=["a"] * 3))
    assert load(tmp_path, "cpu").class_names == ("a (class 0)", "a (class 1)", "a (class 2)")


@pytest.mark.parametrize(("library", "key", "value"), [(lib, *one) for lib, values in OTHERS.items() for one in values])
def test_a_config_of_another_library(library, key, value, folders, tmp_path):
    copy(folders, library, tmp_path, "config.json", lambda config: config.update({key: value}))
    refused(tmp_path)


@pytest.mark.parametrize(("key", "value"), PROCESSOR)
def test_a_processor_of_transformers(key, value, folders, tmp_path):
    copy(folders, "hf", tmp_path, "preprocessor_config.json", lambda content: content.update({key: value}))
    refused(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a": ' * 100_000, '{"a": 1' + "0" * 5000 + "}", '{"a": 1, "a": 2}', "[]", "", "\udcff", '{"a":'],
    ids=["list", "record", "digits", "twice", "no record", "empty", "no text", "cut"],
)
def test_json_that_is_none(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"is not (a )?JSON"):
        read_json(path)
