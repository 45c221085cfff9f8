"""Weights behind a strange beginning, or with parts missing or of another shape: one line that says where."""

import pytest
import torch
from safetensors.torch import save_file

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.serialization import load_weights
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


def weights(layout: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return FORMATS[layout].to_external(ViT(MODELS[layout]).state_dict(), MODELS[layout])


def built(tensors, config=None, notes=None):
    return build_classifier(
        ExternalCheckpoint("weights.pt", tensors, config or {}), torch.device("cpu"), (notes or []).append
    )


def refusal(tensors, config=None) -> str:
    with pytest.raises(InputError) as raised:
        built(tensors, config)
    said = str(raised.value)
    assert "\n" not in said and len(said) < 500
    return said


@pytest.mark.parametrize("beginning", ["net.", "module.net.encoder_q.", "net.module.", "backbone.net.", "model.net."])
@pytest.mark.parametrize("layout", MODELS)
def test_a_beginning_that_nobody_knows_is_left_out_with_a_note(layout, beginning):
    tensors, notes = weights(layout), ["first"]
    expected = built(tensors).model.state_dict()
    found = built({beginning + name: tensor for name, tensor in tensors.items()}, notes=notes).model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    said = [note for note in notes if "stands before the names of all its weights, and is left out" in note]
    assert len(said) == 1 and "net." in said[0]
    notes = ["first"]
    built(tensors, notes=notes)
    assert not any("stands before" in note for note in notes)


@pytest.mark.parametrize("layout", MODELS)
def test_what_stands_beside_a_model_is_named(layout):
    beginning, outside = "net.tower.", {"net.criterion.weight": torch.ones(3), "net.neck.weight": torch.ones(3)}
    said = refusal({beginning + name: tensor for name, tensor in weights(layout).items()} | outside)
    assert f"the nearest is {layout}, behind '{beginning}" in said
    assert "leave out" in said and "'net.criterion.weight'" in said and "missing" not in said


def test_what_is_missing_behind_a_beginning_is_named():
    tensors = {f"net.{name}": tensor for name, tensor in weights("timm").items() if name != "pos_embed"}
    assert refusal(tensors) == (
        "weights.pt: these weights are in no known layout; the nearest is timm, behind 'net.': it has 'pos_embed', "
        "which are missing here"
    )


@pytest.mark.parametrize("layout", MODELS)
def test_a_block_that_is_missing_is_named(layout):
    tensors, block = weights(layout), LAST[layout].replace("2", "1", 1)
    said = refusal({name: tensor for name, tensor in tensors.items() if not name.startswith(block)})
    assert f"weights.pt, read as {layout}: these weights lack '{block.removeprefix('vit.')}" in said
    for name in tensors:
        if name.startswith(LAST[layout]) and not name.endswith(("query.bias", "key.bias", "value.bias", "qkv.bias")):
            said = refusal({other: tensor for other, tensor in tensors.items() if other != name})
            assert f"read as {layout}: these weights lack '{name.removeprefix('vit.')}'" in said


def test_the_last_block_is_missed_where_config_json_counts_them():
    tensors = {name: tensor for name, tensor in weights("hf-vit").items() if not name.startswith(LAST["hf-vit"])}
    assert built(tensors).vit.config.depth == 2
    said = refusal(tensors, {"num_hidden_layers": 3})
    assert "lack 'encoder.layer.2.attention.attention.query.weight'" in said and "config.json says 3 blocks" in said
    assert "have 2 blocks, their config.json says 1" in refusal(tensors, {"num_hidden_layers": 1})


@pytest.mark.parametrize("layout", MODELS)
def test_every_tensor_of_another_shape_is_an_error_of_one_line_that_names_it(layout):
    tensors = weights(layout)
    for name, tensor in tensors.items():
        if name.endswith("mask_token"):
            continue
        for changed in (tensor.flatten()[:2].clone(), tensor.flatten()[0].clone(), tensor[..., :-1], tensor[:0]):
            said = refusal(tensors | {name: changed})
            assert layout in said


def test_the_tensor_that_does_not_fit_is_named_with_its_shape():
    tensors = weights("timm")
    said = refusal(tensors | {"blocks.1.norm1.weight": torch.ones(5)})
    assert "read as timm: 'blocks.1.norm1.weight' (5,) can't become the (64,) that a timm model" in said
    said = refusal(tensors | {"patch_embed.proj.weight": torch.ones(64)})
    assert "patch embedding of shape (64,)" in said


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor for name, tensor in weights("timm").items() if "blocks.1." not in name}, path)
    assert run(["explain", str(path), "image.png"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "read as timm: these weights lack 'blocks.1.norm1.weight'" in said


def test_a_stem_of_an_earlier_version_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"stem.layers.0.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="has the convolutional stem of an earlier Vitreous, no longer known: train"):
        load_weights(ViT(CONFIG), path)
