"""Start from weights: what is taken over, what is new, what is trained, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny_run import COLORS, MEAN, SIZE, STD, RecordingCallback, finetune_recipe, make_base, make_folder, tiny_recipe

from vitreous.errors import InputError
from vitreous.imaging.preprocessing import Preprocessing
from vitreous.model.classifier import ImageClassifier
from vitreous.model.config import ViTConfig
from vitreous.model.positions import sincos_pos_embed
from vitreous.model.vit import ViT
from vitreous.pretrained.fingerprint import parameters_fingerprint
from vitreous.pretrained.load import load
from vitreous.runs.run_folder import RunFolder
from vitreous.training.from_weights import initial_weights
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import train


@pytest.fixture
def base(tmp_path):
    """A pretrained model for two classes."""
    return make_base(tmp_path / "base")


def still(folder, **changes):
    """A recipe whose steps change nothing: the run's weights are those that it started from."""
    recipe = finetune_recipe(folder, **changes)
    return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=0.0))


def test_a_run_takes_over_structure_preprocessing_and_weights(base, colored_folder, tmp_path):
    callback = RecordingCallback()
    result = train(still(colored_folder), tmp_path / "run", init=str(base), callback=callback)
    before, after = load(base, "cpu"), result.model
    assert after.class_names == ("blue", "green", "red")
    assert after.preprocessing == before.preprocessing
    assert after.vit.config == replace(before.vit.config, num_classes=3)
    old, new = before.vit.state_dict(), after.vit.state_dict()
    assert all(torch.equal(new[name], old[name]) for name in old if not name.startswith("head."))
    assert not new["head.weight"].any() and not new["head.bias"].any()
    assert "the head is new: 3 classes, the model has 2" in callback.notes
    metadata = json.loads(RunFolder(tmp_path / "run").recipe.read_text())
    assert metadata["recipe"]["init"] == str(base.resolve())
    assert metadata["init"] == {"fingerprint": parameters_fingerprint(before.vit), "mean": [*MEAN], "std": [*STD]}


@pytest.mark.parametrize("order", [("blue", "green", "red"), ("red", "blue", "green")])
def test_the_head_is_kept_where_the_classes_are_the_same(order, colored_folder, tmp_path):
    base, callback = make_base(tmp_path / "base", order), RecordingCallback()
    result = train(still(colored_folder), tmp_path / "run", init=str(base), callback=callback)
    image = Image.new("RGB", (30, 20), (200, 100, 50))
    assert dict(result.model.predict(image).scores) == pytest.approx(dict(load(base, "cpu").predict(image).scores))
    suffix = "" if order == ("blue", "green", "red") else ", its rows in the order of the data"
    assert f"the head is kept: its 3 classes are those of the data{suffix}" in callback.notes


def test_a_class_under_another_name_is_named(colored_folder, tmp_path):
    callback = RecordingCallback()
    for names in (("Blue", "green", "RED"), ("Blue", "green", "red", "owl"), ("Blue", "green", "owl")):
        base = make_base(tmp_path / "-".join(names), names)
        train(still(colored_folder), tmp_path / f"run-{base.name}", init=str(base), callback=callback)
    rename = (
        "rename the class(es) 'blue' to 'Blue', 'red' to 'RED', as the model to start from calls them, and it is kept"
    )
    assert [note for note in callback.notes if note.startswith("the head")] == [
        f"the head is new: {rename}",
        "the head is new: 3 classes, the model has 4",
        "the head is new",  # to rename one of three would not keep it
    ]


@pytest.mark.parametrize("pos_embed", ["learned", "sincos", "rope"])
def test_another_image_size_leaves_the_function_as_it_is(pos_embed, colored_folder, tmp_path):
    base = make_base(tmp_path / "base", tuple(COLORS), pos_embed=pos_embed)
    settings = {"model.image_size": (16, 32)}
    result = train(still(colored_folder), tmp_path / "run", init=str(base), settings=settings)
    assert result.model.preprocessing.input_size == result.model.vit.config.image_size == (16, 32)
    images = torch.randn(2, 3, 16, 32)
    assert torch.allclose(result.model.vit(images), load(base, "cpu").vit(images), atol=1e-5)


def test_sine_cosine_positions_of_another_size_become_a_table():
    model = ViT(ViTConfig(SIZE, 4, embed_dim=16, depth=1, num_heads=2, num_classes=2, pos_embed="sincos"))
    own = Preprocessing(SIZE, "squash", MEAN, STD, 4)
    recipe = tiny_recipe("", model=replace(model.config, image_size=(16, 32), pos_embed="learned"))
    weights = initial_weights(ImageClassifier(model, own, ["a", "b"]), recipe, ("c", "d"), lambda _: None)
    assert torch.equal(weights["pos_embed"], sincos_pos_embed((4, 8), 16, (3, 5)))


def test_settings_of_the_user_win_over_those_of_the_model(base, colored_folder, tmp_path):
    changes = {"resize_mode": "squash", "interpolation": "bicubic", "model.drop_path_rate": 0.1}
    result = train(still(colored_folder), tmp_path / "run", init=str(base), settings=changes)
    assert result.model.preprocessing == Preprocessing(SIZE, "squash", MEAN, STD, 4, 1.0, "bicubic")
    assert result.model.vit.config.drop_path_rate == 0.1


def test_images_are_squashed_for_a_model_that_keeps_their_shape(colored_folder, tmp_path):
    own, callback = Preprocessing(SIZE, "aspect", MEAN, STD, 4), RecordingCallback()
    base = make_base(tmp_path / "base", preprocessing=own)
    result = train(still(colored_folder), tmp_path / "run", init=str(base), callback=callback)
    assert result.model.preprocessing == replace(own, resize_mode="squash")
    assert any(note.startswith("images are squashed to 12 × 20 pixels") for note in callback.notes)


def test_a_new_head_may_read_class_token_and_patches(colored_folder, tmp_path):
    base, callback = make_base(tmp_path / "base", tuple(COLORS)), RecordingCallback()
    settings = {"model.global_pool": "token-avg"}
    result = train(still(colored_folder), tmp_path / "run", init=str(base), settings=settings, callback=callback)
    before, after = load(base, "cpu").vit, result.model.vit
    assert after.config == replace(before.config, global_pool="token-avg")
    assert after.head.weight.shape == (3, 32) and not after.head.weight.any()
    assert "the head is new: it pools by token-avg" in callback.notes
    images = torch.randn(2, 3, *SIZE)
    tokens = before.forward_features(images)
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
    assert torch.allclose(after.forward_head(after.forward_features(images), pre_logits=True), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "wanted", "message"),
    [
        ("token", "avg", "model.global_pool is avg, and the model .* has a class token .* choose token or token-avg"),
        ("token", "map", "choose token or token-avg"),
        ("avg", "token", "has no class token and pools by avg: choose avg"),
        ("attention", "token-avg", "pools by attention: choose attention or avg"),
        ("token", "middle", "middle"),
    ],
)
def test_a_pooling_that_does_not_fit_the_model_is_refused(own, wanted, message, colored_folder, tmp_path):
    base, settings = make_base(tmp_path / "base", global_pool=own), {"model.global_pool": wanted}
    with pytest.raises(InputError, match=message):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base), settings=settings)
    assert not (tmp_path / "run").exists()


def test_any_recipe_starts_from_weights(base, colored_folder, tmp_path):
    result = train(tiny_recipe(colored_folder, epochs=1), tmp_path / "run", init=str(base))
    config = load(base, "cpu").vit.config
    assert result.model.vit.config == replace(config, num_classes=3, drop_path_rate=0.2, patch_drop_rate=0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": ""}, r"finetune needs a model to start from: give init \(--init\)"),
        ({"data": ""}, r"finetune needs images to train on: give data \(--data\)"),
        ({"init": "nowhere"}, "nowhere"),
    ],
)
def test_a_recipe_that_names_too_little_is_refused(changes, message, base, colored_folder, tmp_path):
    with pytest.raises(InputError, match=message):
        train(finetune_recipe(colored_folder, **{"init": str(base), **changes}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["model", "model.depth", "model.patch_size"])
def test_settings_that_the_weights_decide_are_refused(name, base, colored_folder, tmp_path):
    value = "S/16" if name == "model" else 4
    with pytest.raises(InputError, match=f"{name} is that of the model to start from: leave it out"):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base), settings={name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"whiten_patch_embed": True}, "whiten_patch_embed would replace the patch embedding of the model"),
        ({"tune": "lora", "lora.rank": 1000}, r"lora\.rank is 1000: it must be at most \d+, the width of the model"),
    ],
)
def test_settings_against_the_weights_are_refused(settings, message, base, colored_folder, tmp_path):
    with pytest.raises(InputError, match=message):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base), settings=settings)
    assert not (tmp_path / "run").exists()


def test_a_size_that_is_no_whole_number_of_patches_is_refused(base, colored_folder, tmp_path):
    with pytest.raises(InputError, match="use 16 × 20, 20 × 20"):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base), settings={"model.image_size": "17x20"})


def test_another_number_of_channels_is_refused(colored_folder, tmp_path):
    gray = make_base(tmp_path / "gray", in_chans=1)
    with pytest.raises(InputError, match=r"gray' takes images of 1 channel\(s\), and those of '.*' have 3: choose"):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(gray))


def test_gray_images_tune_a_model_of_color_images(base, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("VITREOUS_DATA", str(shared))
    recipe = finetune_recipe(tmp_path, epochs=0.001, batch_size=8)
    assert not train(recipe, tmp_path / "run", data="mnist", init=str(base), callback=RecordingCallback(2)).finished
    assert train(recipe, tmp_path / "run", resume=True).finished
    tuned = load(tmp_path / "run")
    assert tuned.model.config.in_chans == 3 and tuned.class_names[7] == "7"
    assert evaluate(tmp_path / "run").count == 10_000


def test_a_single_class_is_refused(base, colored_folder, tmp_path):
    folder = tmp_path / "one"
    shutil.copytree(colored_folder / "train" / "red", folder / "train" / "red")
    with pytest.raises(InputError, match=r"has 1 class folder\(s\), 2 or more are needed"):
        train(finetune_recipe(folder), tmp_path / "run", init=str(base))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora.rank": 4}, "lora.rank needs tune=lora, without which it changes nothing: leave it out"),
        ({"tune": "head", "lora.targets": ("q",)}, "lora.targets needs tune=lora"),
        ({"tune": "head", "model.drop_path_rate": 0.1}, "model.drop_path_rate needs tune=full or lora"),
        ({"tune": "head", "model.patch_drop_rate": 0.1}, "model.patch_drop_rate needs tune=full or lora"),
        ({"augment.randaugment_magnitude": 5}, "augment.randaugment_magnitude needs augment.randaugment_ops above 0"),
        ({"fsdp": True}, "fsdp needs several processes, started by torchrun"),
    ],
)
def test_settings_that_change_nothing_are_refused(settings, message, base, colored_folder, tmp_path):
    with pytest.raises(InputError, match=f"^{message}"):
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base), settings=settings)
    assert not (tmp_path / "run").exists()


def test_settings_of_a_recipe_may_change_nothing(base, colored_folder, tmp_path):
    recipe = finetune_recipe(colored_folder, epochs=0.1, fsdp=True, tune="head")
    used = {"model.drop_path_rate": 0, "augment.randaugment_magnitude": 5, "augment.randaugment_ops": 1}
    assert train(recipe, tmp_path / "run", init=str(base), settings=used).finished


def test_fewer_images_than_classes_are_refused(base, colored_folder, tmp_path):
    folder = tmp_path / "few"
    for name in ("red", "green", "blue"):
        source = sorted((colored_folder / "train" / name).iterdir())[0]
        (folder / "train" / name).mkdir(parents=True)
        shutil.copy(source, folder / "train" / name / "0.png")
    shutil.copytree(colored_folder / "test", folder / "test")
    with pytest.raises(
        InputError,
        match=r"few' has 2 training images for 3 classes, without those that are held out .*, or lower validation_frac",
    ):
        train(finetune_recipe(folder, validation_by_class=False), tmp_path / "run", init=str(base))
    assert train(finetune_recipe(folder), tmp_path / "run", init=str(base)).finished  # none is held out


def test_weights_that_do_not_fit_are_named(base, colored_folder, tmp_path):
    config = json.loads((base / "config.json").read_text())
    config["model"]["reg_tokens"] = 4
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model.safetensors doesn't fit its config.json: .*reg_token") as caught:
        train(finetune_recipe(colored_folder), tmp_path / "run", init=str(base))
    assert "\n" not in str(caught.value)


def test_a_module_that_is_no_vit_of_vitreous_is_refused(colored_folder, tmp_path, monkeypatch):
    from vitreous.pretrained.wrap import wrap
    from vitreous.workflows import train_start

    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = torch.nn.Conv2d(3, 8, 4, 4)

        def forward(self, images):
            return self.patches(images).flatten(2).mean(2)

    wrapped = wrap(Other(), Preprocessing(SIZE, "squash", MEAN, STD, 4), class_names=[])
    monkeypatch.setattr(train_start, "load", lambda *_, **__: wrapped)
    with pytest.raises(InputError, match=r"'other' is a Other, observed but not converted: training needs weights"):
        train(finetune_recipe(colored_folder), tmp_path / "run", init="other")


def test_resume_needs_the_model_no_more_once_there_is_a_checkpoint(base, colored_folder, tmp_path):
    recipe, run = finetune_recipe(colored_folder, epochs=2), tmp_path / "run"
    train(recipe, tmp_path / "whole", init=str(base))
    train(recipe, run, init=str(base), callback=RecordingCallback(3))
    shutil.rmtree(base)
    assert train(recipe, run, resume=True).finished
    for name in ("model.safetensors", "config.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_without_a_checkpoint_starts_again_from_the_same_weights_only(base, colored_folder, tmp_path):
    recipe, run = finetune_recipe(colored_folder), tmp_path / "run"
    train(recipe, tmp_path / "whole", init=str(base))
    train(recipe, run, init=str(base), callback=RecordingCallback(0))
    RunFolder(run).checkpoint.unlink()
    (run / "model.safetensors").unlink()
    shutil.move(base, tmp_path / "kept")
    make_base(base, embed_dim=24)
    with pytest.raises(InputError, match="has other weights than when the run was started: start a new run"):
        train(recipe, run, resume=True)
    shutil.rmtree(base)
    shutil.move(tmp_path / "kept", base)
    assert train(recipe, run, init=str(base), resume=True).finished
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_resume_from_another_model_is_refused(base, colored_folder, tmp_path):
    recipe, run = finetune_recipe(colored_folder, epochs=2), tmp_path / "run"
    train(recipe, run, init=str(base), callback=RecordingCallback(1))
    other = make_base(tmp_path / "other")
    with pytest.raises(InputError, match="keeps its settings"):
        train(recipe, run, init=str(other), resume=True)


def test_few_images_train_without_a_word_about_batches(base, tmp_path):
    callback = RecordingCallback()
    folder = make_folder(tmp_path / "few", 8)
    recipe = finetune_recipe(folder, batch_size=64, min_steps=50)
    assert train(recipe, tmp_path / "run", init=str(base), callback=callback).step == 50
    assert not any("batch" in note for note in callback.notes)
