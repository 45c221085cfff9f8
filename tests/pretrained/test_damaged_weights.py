"""Weights behind a strange prefix, or with parts missing or of another shape: one line that says where."""

import pytest
import torch
from safetensors.torch import save_file

from vitreous.callbacks import Callback
from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import fill_weights
from vitreous.model.vit import ViT
from vitreous.pretrained.formats.registry import FORMATS
from vitreous.pretrained.import_weights import ExternalCheckpoint, build_classifier

CONFIG = ViTConfig((16, 16), 4, num_classes=3, embed_dim=64, depth=3, num_heads=1)
SCALED = ViTConfig((16, 16), 4, num_classes=0, embed_dim=64, depth=3, num_heads=1, init_values=1.0)
MODELS = {"timm": CONFIG, "hf-vit": CONFIG, "torchvision": CONFIG, "hf-dinov2": SCALED, "dinov2": SCALED}
LAST = {
    "timm": "blocks.2.",
    "hf-vit": "vit.encoder.layer.2.",
    "torchvision": "encoder.layers.encoder_layer_2.",
    "hf-dinov2": "encoder.layer.2.",
    "dinov2": "blocks.2.",
}


def weights(format_name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return FORMATS[format_name].to_external(ViT(MODELS[format_name]).state_dict(), MODELS[format_name])


def build(tensors, config=None, callback=None):
    checkpoint = ExternalCheckpoint("weights.pt", tensors, config or {})
    return build_classifier(checkpoint, torch.device("cpu"), callback or Callback())


def refused(tensors, config=None) -> str:
    with pytest.raises(InputError) as raised:
        build(tensors, config)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("prefix", ["net.", "module.net.encoder_q.", "net.module.", "backbone.net.", "model.net."])
@pytest.mark.parametrize("format_name", MODELS)
def test_an_unknown_prefix_is_removed_with_a_note(format_name, prefix, notes):
    tensors = weights(format_name)
    expected = build(tensors).model.state_dict()
    found = build({prefix + name: tensor for name, tensor in tensors.items()}, callback=notes).model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    removed = [line for line in notes.lines if "was removed from the names of all weights" in line]
    assert len(removed) == 1 and "net." in removed[0]
    notes.lines.clear()
    build(tensors, callback=notes)
    assert not any("was removed from" in line for line in notes.lines)


@pytest.mark.parametrize("format_name", MODELS)
def test_unexpected_tensors_are_named(format_name):
    prefix, outside = "net.tower.", {"net.criterion.weight": torch.ones(3), "net.neck.weight": torch.ones(3)}
    message = refused({prefix + name: tensor for name, tensor in weights(format_name).items()} | outside)
    assert f"the nearest is {format_name}, behind '{prefix}" in message
    assert "leave out" in message and "'net.criterion.weight'" in message and "missing" not in message


def test_missing_tensors_behind_a_prefix_are_named():
    tensors = {f"net.{name}": tensor for name, tensor in weights("timm").items() if name != "pos_embed"}
    assert refused(tensors) == (
        "weights.pt: these weights are in no known format; the nearest is timm, behind 'net.': it has 'pos_embed', "
        "which are missing here"
    )


@pytest.mark.parametrize("format_name", MODELS)
def test_a_block_that_is_missing_is_named(format_name):
    tensors, block = weights(format_name), LAST[format_name].replace("2", "1", 1)
    message = refused({name: tensor for name, tensor in tensors.items() if not name.startswith(block)})
    assert f"weights.pt, read as {format_name}: these weights lack '{block.removeprefix('vit.')}" in message
    for name in tensors:
        if name.startswith(LAST[format_name]) and not name.endswith(
            ("query.bias", "key.bias", "value.bias", "qkv.bias")
        ):
            message = refused({other: tensor for other, tensor in tensors.items() if other != name})
            assert f"read as {format_name}: these weights lack '{name.removeprefix('vit.')}'" in message


def test_a_missing_last_block_is_found_by_the_depth_in_config_json():
    tensors = {name: tensor for name, tensor in weights("hf-vit").items() if not name.startswith(LAST["hf-vit"])}
    assert build(tensors).vit.config.depth == 2
    message = refused(tensors, {"num_hidden_layers": 3})
    assert (
        "lack 'encoder.layer.2.attention.attention.query.weight'" in message and "config.json says 3 blocks" in message
    )
    assert "have 2 blocks, their config.json says 1" in refused(tensors, {"num_hidden_layers": 1})


@pytest.mark.parametrize("format_name", MODELS)
def test_every_tensor_of_another_shape_is_an_error_of_one_line_that_names_it(format_name):
    tensors = weights(format_name)
    for name, tensor in tensors.items():
        if name.endswith("mask_token"):
            continue
        for changed in (tensor.flatten()[:2].clone(), tensor.flatten()[0].clone(), tensor[..., :-1], tensor[:0]):
            message = refused(tensors | {name: changed})
            assert format_name in message


def test_the_tensor_that_does_not_fit_is_named_with_its_shape():
    tensors = weights("timm")
    message = refused(tensors | {"blocks.1.norm1.weight": torch.ones(5)})
    assert "read as timm: 'blocks.1.norm1.weight' (5,) can't become the (64,) that a timm model" in message
    message = refused(tensors | {"patch_embed.proj.weight": torch.ones(64)})
    assert "patch embedding of shape (64,)" in message


def test_the_command_line_reports_it_in_one_line(tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in weights("timm").items() if "blocks.1." not in name}, path)
    assert run(["explain", str(path), "image.png"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "read as timm: these weights lack 'blocks.1.norm1.weight'" in message


def test_a_stem_of_an_earlier_version_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"stem.layers.0.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="has the convolutional stem of an earlier Vitreous, no longer known: train"):
        fill_weights(ViT(CONFIG), path)
