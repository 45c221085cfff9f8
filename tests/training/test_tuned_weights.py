"""What of a pretrained model is trained: all weights, the last blocks, LoRA matrices or the head."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import SIZE, RecordingCallback, finetune_recipe, make_base, tiny_recipe

from vitreous.cli import run
from vitreous.errors import InputError
from vitreous.model.lora import LoRASettings
from vitreous.model.lora_file import read_lora, write_lora
from vitreous.pretrained.apply_lora import apply_lora
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder
from vitreous.training.from_weights import freeze_weights
from vitreous.training.optimizer import EMBEDDINGS
from vitreous.training.recipe import with_settings
from vitreous.training_recipes import find_recipe
from vitreous.training_recipes.finetune import suited_settings
from vitreous.workflows.train import train


@pytest.fixture
def base(tmp_path):
    """A pretrained model for two classes."""
    return make_base(tmp_path / "base")


@pytest.mark.parametrize("tune", ["head", "lora"])
def test_only_what_is_tuned_changes(tune, base, colored_folder, tmp_path):
    callback = RecordingCallback()
    recipe = finetune_recipe(colored_folder, tune=tune, epochs=2)
    result = train(recipe, tmp_path / "run", init=str(base), callback=callback)
    old, new = load(base, "cpu").vit.state_dict(), result.model.vit.state_dict()
    changed = {name for name in old if old[name].shape != new[name].shape or not torch.equal(old[name], new[name])}
    heads = {"head.weight", "head.bias"}
    assert (
        changed == heads
        if tune == "head"
        else changed == heads | {f"blocks.{i}.attn.{part}.weight" for i in range(2) for part in ("qkv", "proj")}
    )
    kind = "head" if tune == "head" else "LoRA matrices and head"
    assert any(f"trained: {kind}, " in note for note in callback.notes)
    states = {name.split("/")[2] for name in load_file(RunFolder(tmp_path / "run").checkpoint) if "optimizer/" in name}
    assert states >= heads and all(name in heads or ".lora_" in name for name in states)


@pytest.mark.parametrize(("frozen", "kind"), [(1, "the last block, final norm and head"), (2, "final norm and head")])
def test_the_first_layers_stay_frozen(frozen, kind, base, colored_folder, tmp_path):
    callback = RecordingCallback()
    recipe = finetune_recipe(colored_folder, frozen_layers=frozen, epochs=2)
    result = train(recipe, tmp_path / "run", init=str(base), callback=callback)
    old, new = load(base, "cpu").vit.state_dict(), result.model.vit.state_dict()
    same = {name for name in old if old[name].shape == new[name].shape and torch.equal(old[name], new[name])}
    first = tuple(f"blocks.{index}." for index in range(frozen))
    assert same == {name for name in old if name.startswith((*first, *EMBEDDINGS))}
    assert any(f"trained: {kind}, " in note for note in callback.notes)


def test_frozen_layers_change_no_gradient_of_the_others(base):
    images, model = torch.randn(3, 3, *SIZE), load(base, "cpu").vit
    for frozen in (0, 1):
        model.zero_grad()
        freeze_weights(
            model, replace(find_recipe("finetune"), init=str(base), model=model.config, frozen_layers=frozen)
        )
        model(images).square().sum().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        if not frozen:
            expected = gradients
    assert len(gradients) < len(expected) and all(torch.equal(gradients[name], expected[name]) for name in gradients)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frozen_layers": 3}, "frozen_layers is 3: it must be 0 to 2, the model's depth"),
        ({"frozen_layers": -1}, "frozen_layers is -1: it must be 0 to"),
        ({"frozen_layers": 1, "tune": "lora"}, "frozen_layers needs tune=full"),
        ({"frozen_layers": 1, "init": ""}, "frozen_layers is 1, which needs a model to start from"),
    ],
)
def test_frozen_layers_that_cannot_be_are_refused(changes, message, base, colored_folder, tmp_path):
    settings = {"epochs": 1, "data": f"folder:{colored_folder}", "init": str(base), **changes}
    with pytest.raises(InputError, match=message):
        train("finetune", tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_the_run_holds_the_merged_model(base, colored_folder, tmp_path):
    recipe = finetune_recipe(
        colored_folder, tune="lora", lora=LoRASettings(targets=("q", "v")), epochs=2, ema_decay=0.5
    )
    result = train(recipe, tmp_path / "run", init=str(base))
    stored = load_file(RunFolder(tmp_path / "run").checkpoint)
    average = {name.removeprefix("ema/"): weight for name, weight in stored.items() if name.startswith("ema/")}
    qkv, prefix = average["blocks.1.attn.qkv.weight"], "blocks.1.attn.qkv.lora_"
    expected = qkv.clone()
    for index, part in enumerate((0, 2)):  # q and v
        update = average[f"{prefix}B"][index] @ average[f"{prefix}A"][index]
        expected[16 * part : 16 * part + 16] += 2.0 * update  # alpha / rank
    assert torch.equal(qkv, load(base, "cpu").vit.state_dict()["blocks.1.attn.qkv.weight"])
    found = result.model.vit.state_dict()["blocks.1.attn.qkv.weight"]
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(found, qkv, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "learning_rate", "layer_decay"),
    [
        ({}, 5e-4, 0.6),
        ({"tune": "lora"}, 2e-3, 1.0),
        ({"tune": "lora", "optimizer.learning_rate": 1e-3}, 1e-3, 1.0),
        ({"tune": "lora", "optimizer.layer_decay": 0.6}, 2e-3, 0.6),
    ],
)
def test_lora_has_rates_of_its_own(settings, learning_rate, layer_decay):
    recipe = find_recipe("finetune")
    optimizer = with_settings(recipe, suited_settings(recipe, settings)).optimizer
    assert (optimizer.learning_rate, optimizer.layer_decay) == (learning_rate, layer_decay)


def test_a_recipe_with_rates_of_its_own_keeps_them_for_lora(base, colored_folder, tmp_path):
    recipe = finetune_recipe(colored_folder, tune="lora")
    recipe = replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=3e-4))
    assert suited_settings(recipe, {}) == {}
    train(recipe, tmp_path / "own", init=str(base))
    train(finetune_recipe(colored_folder), tmp_path / "suited", init=str(base), settings={"tune": "lora"})
    rates = [
        json.loads(RunFolder(tmp_path / name).recipe.read_text())["recipe"]["optimizer"] for name in ("own", "suited")
    ]
    assert [(one["learning_rate"], one["layer_decay"]) for one in rates] == [(3e-4, 0.6), (2e-3, 1.0)]


@pytest.mark.parametrize("name", ["tiny", "finetune"])
def test_tuning_without_a_model_is_refused(name, colored_folder, tmp_path):
    with pytest.raises(InputError, match=r"tune is 'head', which needs a model to start from: give init"):
        train(replace(tiny_recipe(colored_folder, tune="head"), name=name), tmp_path / "run")


@pytest.mark.parametrize("pool", ["token", "token-avg"])
def test_a_lora_file_on_its_base_is_the_model_of_the_run(pool, base, colored_folder, tmp_path):
    recipe = finetune_recipe(colored_folder, tune="lora", lora=LoRASettings(2, targets=("k", "proj", "fc2")))
    settings = {"model.image_size": (16, 32), "model.global_pool": pool}
    result = train(recipe, tmp_path / "run", init=str(base), settings=settings)
    file = RunFolder(tmp_path / "run").lora
    assert set(load_file(file)) == {"head.weight", "head.bias"} | {
        f"blocks.{block}.{owner}.lora_{matrix}"
        for block in range(2)
        for owner in ("attn.qkv", "attn.proj", "mlp.fc2")
        for matrix in "AB"
    }
    before = load(base, "cpu")
    kept = {name: weight.clone() for name, weight in before.vit.state_dict().items()}
    for found in (*(apply_lora(model, place, "cpu") for model in (base, before) for place in (file, file.parent)),
                  load(file, "cpu")):  # fmt: skip
        assert (found.preprocessing, found.class_names) == (result.model.preprocessing, result.model.class_names)
        assert found.vit.config == result.model.vit.config
        expected = result.model.vit.state_dict()
        assert all(torch.equal(weight, expected[name]) for name, weight in found.vit.state_dict().items())
    assert all(torch.equal(weight, kept[name]) for name, weight in before.vit.state_dict().items())


def test_a_lora_file_that_does_not_fit_is_refused(base, colored_folder, tmp_path):
    run = train(finetune_recipe(colored_folder, tune="lora"), tmp_path / "run", init=str(base)).path
    file, other = RunFolder(run).lora, make_base(tmp_path / "other", embed_dim=24)
    with pytest.raises(InputError, match=r"adapts another model than .*other: it was trained on '.*base', whose weigh"):
        apply_lora(other, file)
    with pytest.raises(InputError, match=r"model.safetensors is no LoRA file of Vitreous"):
        apply_lora(base, base / "model.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        apply_lora(base, tmp_path / "nothing.safetensors")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match="is damaged or no safetensors file"):
        apply_lora(base, file)


def test_a_lora_file_is_a_model_where_its_base_is_found(base, colored_folder, tmp_path, capsys):
    result = train(finetune_recipe(colored_folder, tune="lora"), tmp_path / "run", init=str(base))
    file, image = RunFolder(result.path).lora, min(colored_folder.glob("test/*/*.png"))
    printed = []
    for model in (file, result.path):
        assert run(["predict", str(model), str(image), "--json", "--device", "cpu"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    again = train(finetune_recipe(colored_folder, tune="head"), tmp_path / "again", init=str(file))
    assert again.model.vit.config == result.model.vit.config
    base.rename(tmp_path / "moved")
    advice = r"which can't be loaded \(.*\): give its place by vitreous.apply_lora\(MODEL, '.*lora.safetensors'\)"
    with pytest.raises(InputError, match=rf"lora.safetensors adapts '.*base', {advice}"):
        load(file)
    make_base(base, embed_dim=24)
    with pytest.raises(InputError, match=r"adapts another model than .*base: it was trained on '.*base', whose weigh"):
        load(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [("factory:os:getcwd", "adapts 'factory:os:getcwd', a function"), ("lora.safetensors", "which adapts this file")],
)
def test_a_lora_file_that_names_code_or_itself_is_refused(name, message, base, colored_folder, tmp_path, monkeypatch):
    path = train(finetune_recipe(colored_folder, tune="lora"), tmp_path / "run", init=str(base)).path
    monkeypatch.chdir(path)
    tensors, description = read_lora(Path("lora.safetensors"))
    write_lora(tensors, replace(description, base=name), Path("lora.safetensors"))
    with pytest.raises(InputError, match=message):
        load("lora.safetensors")
