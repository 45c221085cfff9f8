"""A run whose files are damaged is refused in one line, before its images are read."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.callbacks import Callback
from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder
from vitreous.training.distillation import DistillationSettings
from vitreous.workflows import train_start as workflow
from vitreous.workflows.train import train

STEPS = 4
PYTHONS_WORDS = ("indices", "object", "('step')", "Expecting", "line 1 column", "recursion", "digits", "NoneType")


@pytest.fixture(scope="module")
def stopped(colored_folder, tmp_path_factory):
    """A run that was stopped after 2 of its 4 steps, and its recipe."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    recipe = tiny_recipe(
        colored_folder, epochs=0.56, ema_decay=None, distillation=DistillationSettings(weight=0.5, teacher_width=4)
    )
    assert train(recipe, path, callback=RecordingCallback(2)).steps == STEPS
    return path, recipe


@pytest.fixture
def refused(stopped, tmp_path, monkeypatch):
    """Copies the run, damages the copy, and returns the message with which it is refused."""

    def read_images(*_):
        raise AssertionError("the images are read before the damage is found")

    def refuse(damage) -> str:
        path, recipe = stopped
        shutil.copytree(path, tmp_path / "run")
        damage(RunFolder(tmp_path / "run"))
        monkeypatch.setattr(workflow, "load_training_data", read_images)
        with pytest.raises(InputError) as caught:
            train(recipe, tmp_path / "run", resume=True, callback=Callback())
        message = str(caught.value).replace(str(tmp_path), "")
        assert "\n" not in message and len(message) < 1000 and not [one for one in PYTHONS_WORDS if one in message]
        return message

    return refuse


def test_the_run_itself_can_be_resumed(stopped, tmp_path):
    path, recipe = stopped
    shutil.copytree(path, tmp_path / "run")
    assert train(recipe, tmp_path / "run", resume=True, callback=Callback()).step == STEPS


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (json.dumps({"step": STEPS + 1}), f"damaged or of another run (it is of step 5, and this run has {STEPS})"),
        (json.dumps({"step": 10**12}), "damaged or of another run (it is of step 1000000000000, and this run has"),
        ("{}", "truncated or corrupt (its step is None)"),
        ("[]", "truncated or corrupt (its step is None)"),
        ('{"step": {}}', "truncated or corrupt (its step is {})"),
        ('{"step": 1.5}', "truncated or corrupt (its step is 1.5)"),
        ('{"step": true}', "truncated or corrupt (its step is True)"),
        ('{"step": -1}', "truncated or corrupt (its step is -1)"),
        ('{"step": 1e400}', "truncated or corrupt (its step is inf)"),
        ('{"step": %s}' % ("9" * 4000), "damaged or of another run (it is of step <int>"),
        ('{"step": %s}' % ("9" * 5000), "truncated or corrupt (it has no step)"),
        ("two", "truncated or corrupt (it has no step)"),
        ("[" * 100_000, "truncated or corrupt (it has no step)"),
        (None, "truncated or corrupt (it has no step)"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_step_of_a_checkpoint(state, words, refused):
    def change(folder):
        save_file(load_file(folder.checkpoint), folder.checkpoint, None if state is None else {"state": state})

    assert words in refused(change)


@pytest.mark.parametrize("name", ["model/head.weight", "teacher/head.bias", "optimizer/adamw/norm.weight/exp_avg"])
@pytest.mark.parametrize(
    "value",
    [torch.tensor(float("nan")), torch.tensor(float("inf")), torch.tensor(1), torch.tensor(1j)],
    ids=["nan", "inf", "integer", "complex"],
)
def test_a_checkpoint_with_values_that_are_no_numbers(name, value, refused):
    def change(folder):
        tensors = load_file(folder.checkpoint)
        tensors[name] = value.expand(tensors[name].shape).contiguous()
        save_file(tensors, folder.checkpoint, {"state": '{"step": 2}'})

    message = refused(change)
    assert f"truncated or corrupt ({name} has values that are NaN, infinite or no real numbers)" in message


def test_a_checkpoint_that_is_cut_off(refused):
    message = refused(lambda folder: folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:-1000]))
    assert "truncated or corrupt" in message


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_checkpoint_that_is_no_file(make, refused):
    def change(folder):
        folder.checkpoint.unlink()
        make(folder.checkpoint)

    assert "truncated or corrupt (it is no file)" in refused(change)


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("recipe", "batch_size", 10**12, "batch_size is 1000000000000, more than the 114 training images"),
        ("recipe", "epochs", 1e300, "epochs is 1e+300: it must be at most 1,000,000"),
        ("recipe", "epochs", 0.1, "damaged or of another run (it is of step 2, and this run has 1)"),
        ("recipe", "epochs", "2", "epochs: input should be a valid number"),
        ("recipe", "seed", True, "seed: input should be a valid integer"),
        ("data", "training", -5, "data.training is -5: it must be the number of training images"),
        ("data", "training", 10**30, "data.training is 1000000000000000000000000000000: it must be"),
        ("data", "training", "114", "data.training is '114': it must be the number of training images"),
        ("model", "depth", 10**6, "depth is 1000000: it must be at most 10,000"),
        ("model", "depth", 9000, "depth is 9000, far more than"),
        ("model", "embed_dim", 2 * 10**9, "embed_dim is 2000000000, far more than"),
        ("model", "image_size", [4 * 10**6, 4 * 10**6], "more than 65536, which is the limit"),
    ],
)
def test_a_recipe_with_odd_numbers(section, name, value, words, refused):
    def change(folder):
        content = json.loads(folder.recipe.read_text())
        {"recipe": content["recipe"], "model": content["recipe"]["model"], "data": content["data"]}[section][name] = (
            value
        )
        folder.recipe.write_text(json.dumps(content))

    assert words in refused(change)


def test_a_recipe_that_is_no_file(refused):
    def change(folder):
        folder.recipe.unlink()
        os.mkfifo(folder.recipe)

    assert "holds no run to resume" in refused(change)


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1e400, "split": "train"}', '{"step": true, "split": "train"}', '{"step": -1, "split": "train"}',
        '{"step": 1, "split": 3}', '{"step": 1, "split": "validation", "top1": "high"}',
        '{"step": 1, "split": "train", "loss": {}}', '{"step": 1, "split": "train", "loss": 1%s}' % ("0" * 400),
        '{"step": %s, "split": "train"}' % ("9" * 400), '{"step": %s, "split": "train"}' % ("9" * 5000), "[" * 100_000,
    ],
    ids=lambda line: line[:60],
)  # fmt: skip
def test_a_line_of_metrics_with_odd_values(line, refused):
    def change(folder):
        folder.metrics.write_text(line + "\n" + folder.metrics.read_text())

    assert "line 1 of /run/metrics.jsonl is damaged: delete that line" in refused(change)
