"""Weights that come as a file or a folder, from anyone: recognized and ready, or refused in one clear line."""

import json
import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import WEIGHTS, save_config, write_weights
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.load import load
from vitreous.pretrained.weight_files import read_tensors

WIDE = ViTConfig((64, 64), 8, num_classes=3, embed_dim=64, depth=2, num_heads=1)
FEATURES = ViTConfig((518, 518), 14, num_classes=0, embed_dim=64, depth=1, num_heads=1, init_values=1.0)


def state(layout: str, config: ViTConfig) -> tuple[ViT, dict[str, torch.Tensor]]:
    """A random model of ours, and its weights as others call them."""
    torch.manual_seed(0)
    vit = ViT(config).eval()
    return vit, FORMATS[layout].to_external(vit.state_dict(), config)


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz"])
def test_any_kind_of_file_gives_the_same_model(ending, tmp_path):
    vit, tensors = state("timm", WIDE)
    path = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        save_file(tensors, path)
    elif ending == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        torch.save({"epoch": 3, "model": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)
    classifier, images = load(path, "cpu", callback=Callback()), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert (classifier.model(images) - vit(images)).abs().max() < 1e-6
    assert classifier.class_names == ("class 0", "class 1", "class 2")


def test_half_precision_is_read_as_single(tmp_path):
    _, tensors = state("timm", WIDE)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        save_file({name: tensor.to(kind) for name, tensor in tensors.items()}, tmp_path / "weights.safetensors")
        weights = load(tmp_path / "weights.safetensors", "cpu", callback=Callback()).model.parameters()
        assert {weight.dtype for weight in weights} == {torch.float32}


def test_defaults_for_a_file_without_config_are_noted(tmp_path, caplog):
    save_file(state("dinov2", FEATURES)[1], tmp_path / "lone.safetensors")
    with caplog.at_level(logging.WARNING, "vitreous"):
        classifier = load(tmp_path / "lone.safetensors", "cpu")
    assert "assuming resize_mode 'aspect' at 224 × 224 pixels, with mean 0.485" in caplog.messages[0]
    assert "does not state its number of heads: assuming 1 of width 64" in caplog.messages[1]
    assert "37 × 37 patches are resampled to each image's own grid, of about 16 × 16" in caplog.messages[2]
    assert classifier.class_names == () and classifier.preprocessing.resize_mode == "aspect"


def test_an_input_size_can_be_given(tmp_path, notes):
    save_file(state("timm", WIDE)[1], tmp_path / "weights.safetensors")
    classifier = load(tmp_path / "weights.safetensors", "cpu", input_size=(48, 80), callback=notes)
    assert classifier.preprocessing.input_size == (48, 80)
    assert "8 × 8 patches are resampled to 6 × 10 (images of 48 × 80 pixels)" in notes.lines[-1]
    image = np.zeros((30, 50, 3), np.uint8)
    assert classifier.preprocess(image)[0].shape == (3, 48, 80)
    assert len(classifier.predict(image).scores) == 3
    assert load(classifier, input_size=32, callback=Callback()).preprocessing.input_size == (32, 32)
    with pytest.raises(InputError, match="can't be cut into patches of 8: use 48 × 48"):
        load(classifier, input_size=50)
    with pytest.raises(InputError, match=r"input_size=\(1, 2, 3\) is invalid"):
        load(classifier, input_size=(1, 2, 3))


def test_a_model_without_classes_raises_instead_of_predicting(tmp_path):
    save_file(state("dinov2", FEATURES)[1], tmp_path / "lone.safetensors")
    classifier = load(tmp_path / "lone.safetensors", "cpu", callback=Callback())
    prediction = classifier.predict(np.zeros((60, 90, 3), np.uint8))
    assert prediction.scores == ()
    for question in (lambda: prediction.label, lambda: prediction.score, lambda: classifier.class_index("cat")):
        with pytest.raises(InputError, match="has no classes, only features"):
            question()


def test_a_model_without_classes_is_saved_and_loaded_as_one(tmp_path):
    save_file(state("dinov2", FEATURES)[1], tmp_path / "lone.safetensors")
    classifier = load(tmp_path / "lone.safetensors", "cpu", callback=Callback())
    save_config(classifier, tmp_path / "run")
    write_weights(classifier.vit.state_dict(), tmp_path / "run" / WEIGHTS)
    again = load(tmp_path / "run", "cpu", callback=Callback())
    assert (again.class_names, again.preprocessing) == ((), classifier.preprocessing)


def test_a_vitreous_file_needs_its_config(tmp_path):
    preprocessing = Preprocessing((64, 64), "squash", (0.5,) * 3, (0.5,) * 3, 8)
    classifier = ImageClassifier(ViT(WIDE), preprocessing, ["a", "b", "c"])
    save_config(classifier, tmp_path)
    write_weights(classifier.vit.state_dict(), tmp_path / WEIGHTS)
    assert load(tmp_path / "model.safetensors", "cpu").class_names == ("a", "b", "c")
    (tmp_path / "config.json").unlink()
    for place in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(InputError, match=r"is a model of Vitreous without its config.json"):
            load(place, "cpu")


class Runs:
    """What a pickle must never get to do."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("code in a weights file was run",)


def damage(path: Path, kind: str) -> None:
    """Write a file that is no good, in one of several ways."""
    tensors = {"weight": torch.ones(20000)}
    if kind == "empty":
        path.touch()
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    elif kind == "words":
        path.write_text("these are words")
    elif kind == "tensors":
        torch.save(tensors, path) if path.suffix != ".safetensors" else save_file(tensors, path)
    elif kind == "cut":
        damage(path, "tensors")
        path.write_bytes(path.read_bytes()[:5000])
    else:
        held: dict[str, object] = {
            "nothing": {},
            "code": Runs(),
            "module": nn.Linear(2, 2),
            "list": [1, 2],
            "number": {"epoch": 1},
            "int8": {"weight": torch.ones(4, 4, dtype=torch.int8)},
            "stretched": {"weight": torch.ones(1, dtype=torch.float16).expand(10**6, 10**6)},
            "sparse": {"weight": torch.eye(4).to_sparse()},
        }
        torch.save(held[kind], path)


BAD = {
    ("empty", ".safetensors"): "is empty",
    ("empty", ".pt"): "is empty",
    ("pointer", ".pth"): "is a Git LFS pointer, not the weights: run 'git lfs pull'",
    ("pointer", ".safetensors"): "is a Git LFS pointer",
    ("words", ".safetensors"): "is damaged or no safetensors file",
    ("words", ".bin"): "is damaged, truncated or no PyTorch file",
    ("words", ".npz"): "is damaged or holds more than plain arrays",
    ("words", ".onnx"): "is an ONNX program",
    ("words", ".txt"): "is not a safetensors file and does not end in .pt, .pth",
    ("cut", ".safetensors"): "is damaged",
    ("cut", ".pt"): "is damaged, truncated",
    ("code", ".pt"): "which can't be read without running code: save only the state_dict",
    ("module", ".pt"): "contains torch.nn.modules.linear.Linear, which can't be read without running code",
    ("int8", ".pt"): "the weight weight is quantized",
    ("stretched", ".pt"): "claims 1000000000000 numbers, more than are stored",
    ("sparse", ".pt"): "the weight weight is sparse",
    ("words", ".distcp"): "is a distributed checkpoint: convert it to one file",
    ("words", ".pt2"): "is an exported program",
    ("words", ".h5"): "is a file of TensorFlow or JAX",
    ("list", ".pt"): "holds no named tensors",
    ("number", ".pt"): "there are no weights in this checkpoint",
    ("nothing", ".pt"): "there are no weights in this checkpoint: it is empty",
    ("tensors", ".pt"): "in no known format",
}


@pytest.mark.parametrize(("kind", "ending"), BAD)
def test_bad_weights_files(kind, ending, tmp_path):
    path = tmp_path / f"weights{ending}"
    damage(path, kind)
    with pytest.raises(InputError) as caught:
        load(path, "cpu")
    assert BAD[kind, ending] in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_a_distributed_checkpoint(tmp_path):
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(InputError, match="is a distributed checkpoint: convert it to one file"):
        load(tmp_path, "cpu")


def test_legacy_pickles_and_object_arrays(tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "old.pt")["weight"].tolist() == [1, 1, 1]
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"f": Runs()}))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    for name in ("plain.pt", "objects.npz"):
        with pytest.raises(InputError, match=name):
            read_tensors(tmp_path / name)


def test_bad_files_of_the_shared_data(shared):
    for name, words in {"git_lfs_pointer.pth": "Git LFS pointer", "truncated_checkpoint.pt": "truncated"}.items():
        with pytest.raises(InputError, match=words):
            load(shared / "bad" / name, "cpu")


def test_real_weights_give_the_reference_outputs(shared):
    classifier = load(shared / "weights" / "dinov2-vits14.safetensors", "cpu", input_size=224, callback=Callback())
    reference = np.load(shared / "reference" / "dinov2-vits14-two-cats-224.npz")
    with torch.no_grad():
        found = classifier.model(torch.from_numpy(reference["pixel_values"]))
    expected = torch.from_numpy(reference["last_norm_tokens"])[:, 0]
    assert (found - expected).abs().max() < 1e-2 * expected.abs().max()


HEADS = replace(WIDE, embed_dim=128, num_heads=4)  # models of this width usually have 2
HEADS_OF = {
    "timm": HEADS,
    "hf-vit": HEADS,
    "torchvision": HEADS,
    "siglip": replace(HEADS, global_pool="avg"),
    "dinov2": replace(HEADS, num_classes=0, init_values=1.0),
}


@pytest.mark.parametrize("layout", HEADS_OF)
def test_an_assumed_number_of_heads_is_noted_with_how_to_give_it(layout, tmp_path, notes):
    _, tensors = state(layout, HEADS_OF[layout])
    save_file(tensors, tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", "cpu", callback=notes).vit.config.num_heads == 2
    (line,) = [line for line in notes.lines if "number of heads: assuming 2 of width 64" in line]
    stated = re.search(r"a config\.json with (\{.*\}) beside it", line)[1]
    (tmp_path / "config.json").write_text(json.dumps(dict.fromkeys(json.loads(stated), 4)))
    notes.lines.clear()
    loaded = load(tmp_path, "cpu", callback=notes)
    assert loaded.vit.config.num_heads == 4 and not any("number of heads" in line for line in notes.lines)


def test_heads_that_the_weights_show_are_not_noted(tmp_path, notes):
    save_file(state("timm", replace(WIDE, qk_norm=True))[1], tmp_path / "weights.safetensors")
    load(tmp_path / "weights.safetensors", torch.device("cpu"), callback=notes)
    assert not any("number of heads" in line for line in notes.lines)
