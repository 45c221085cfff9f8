"""A run whose loss or weights are not finite stops, and keeps the last good checkpoint."""

import pytest
import torch
from tiny_run import tiny_recipe

from vitreous.cli import EXIT_BAD_INPUT, run
from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training import loop
from vitreous.training.optimizer import OptimizerSettings
from vitreous.workflows.train import train


def poison(monkeypatch, step, what):
    """Set a weight of the model, or of its average, to NaN right after a step; nothing else shows it yet."""
    original = loop.training_step

    def poisoned(state, setup, accumulator):
        statistics = original(state, setup, accumulator)
        if state.step == step:
            model = state.model if what == "weight" else state.ema.module
            with torch.no_grad():
                model.head.bias[0] = float("nan")
        return statistics

    monkeypatch.setattr(loop, "training_step", poisoned)


def saved_bytes(path):
    return [(path / "model.safetensors").read_bytes(), RunFolder(path).checkpoint.read_bytes()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("step", "what", "words"),
    [
        (20, "weight", "the last step left weights that are not finite at step 20"),
        (20, "average", "the last step left weights that are not finite at step 20"),
        (21, "average", "the validation loss is nan at step 22"),
        (23, "weight", "the loss is nan at step 28"),
    ],
)
def test_the_last_good_checkpoint_is_named_and_stays(
    precision, step, what, words, monkeypatch, colored_folder, tmp_path
):
    recipe, path, kept = tiny_recipe(colored_folder, precision=precision), tmp_path / "run", []
    poison(monkeypatch, step, what)
    original = loop.write_checkpoint
    monkeypatch.setattr(loop, "write_checkpoint", lambda *saved: (original(*saved), kept.append(saved_bytes(path))))
    with pytest.raises(InputError, match=f"{words}: the last good checkpoint is .*state.safetensors, start again"):
        train(recipe, path)
    assert saved_bytes(path) == kept[-1]
    lines = read_metrics(RunFolder(path))
    assert all(line["loss"] is not None for line in lines) and lines[-1]["step"] < 30
    monkeypatch.undo()
    assert train(recipe, path, resume=True).finished


def test_a_loss_that_is_not_finite_stops_a_run_before_its_first_checkpoint(colored_folder, tmp_path):
    recipe = tiny_recipe(
        colored_folder, validation_fraction=0.0, optimizer=OptimizerSettings("adamw", learning_rate=1e30)
    )
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) at step 10: start again, in another output folder, with a lower"
    ):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_command_line_reports_divergence_in_one_line_and_exits_with_2(colored_folder, tmp_path, capsys):
    settings = {
        "epochs": "6", "model.image_size": "16x16", "model.depth": "1", "model.embed_dim": "16", "model.num_heads": "2",
        "batch_size": "16", "optimizer.learning_rate": "1e30", "optimizer.adamw_learning_rate": "1e30",
    }  # fmt: skip
    flags = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    paths = ["--data", f"folder:{colored_folder}", "--output", str(tmp_path / "run")]
    assert run(["train", "cifar10-quick", *paths, *flags]) == EXIT_BAD_INPUT
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vitreous: ")]
    assert len(errors) == 1 and "with a lower optimizer.learning_rate" in errors[0]
