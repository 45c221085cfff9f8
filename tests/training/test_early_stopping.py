"""Early stopping: when a run ends, which weights it keeps, and that neither depends on interruptions."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.diagnostics.evaluation_set import TrainingRun
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.runs.run_folder import RunFolder, read_metadata, read_metrics
from vitreous.tasks.classification import evaluation
from vitreous.tasks.classification.task import CLASSIFICATION
from vitreous.tasks.evaluation import TrainingStatus, status_to_json
from vitreous.tasks.task import TaskMetric
from vitreous.training.early_stopping import BestValidation, parse_best, stops_early, validation_is_due
from vitreous.training.recipe import Recipe
from vitreous.training_recipes import find_recipe
from vitreous.workflows.train import train

TOP1 = CLASSIFICATION.metric


def patient_recipe(folder, **changes):
    return tiny_recipe(folder, epochs=8, early_stopping_epochs=2, **changes)


@pytest.fixture
def worse_after_two(monkeypatch):
    """Validations of 50, 90, 80, 90 % ... with a loss that grows."""
    scores, compute = [0.5, 0.9, 0.8, 0.9, 0.7, 0.9, 0.9, 0.9], evaluation.compute_metrics

    def scripted(recipe_scores):
        queue = iter(recipe_scores)

        def metrics(*arguments):
            top1 = next(queue)
            return replace(compute(*arguments), top1=top1, loss=1.0 + list(scores).index(top1) / 10)

        monkeypatch.setattr(evaluation, "compute_metrics", metrics)

    return lambda skip=0: scripted(scores[skip:])


def run_of(path):
    folder = RunFolder(path)
    return TrainingRun(folder, patient_recipe(""), read_metadata(folder))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_run_ends_when_no_validation_is_better_and_keeps_the_best_weights(
    ema_decay, colored_folder, tmp_path, worse_after_two
):
    recipe, callback = patient_recipe(colored_folder, ema_decay=ema_decay), RecordingCallback()
    worse_after_two()
    result = train(recipe, tmp_path / "run", callback=callback)
    validations = [line for line in read_metrics(RunFolder(tmp_path / "run")) if line["split"] == "validation"]
    assert [line["top1"] for line in validations] == [0.5, 0.9, 0.8, 0.9]
    assert result.finished and result.step == validations[-1]["step"] < result.steps
    assert result.validation_score == 0.9
    best = validations[1]["step"]
    assert f"stopped early after step {result.step} of {result.steps}" in callback.notes
    assert f"the weights are those of step {best}, of the best validation: 90.00%" in callback.notes
    worse_after_two()
    train(recipe, tmp_path / "short", callback=RecordingCallback(best))
    kept, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "short"))
    assert all(torch.equal(weight, expected[name]) for name, weight in kept.items())
    status = run_of(tmp_path / "run").status()
    assert status == TrainingStatus(result.step, result.steps, stopped_early=True) and status.message is None
    assert status_to_json(status) == {"step": result.step, "steps": result.steps, "stopped_early": True}


@pytest.mark.parametrize("stop_after", [10, 15, 20])
def test_an_interrupted_run_ends_at_the_same_step(stop_after, colored_folder, tmp_path, worse_after_two):
    recipe = patient_recipe(colored_folder)
    worse_after_two()
    whole = train(recipe, tmp_path / "whole")
    worse_after_two()
    train(recipe, tmp_path / "parts", callback=RecordingCallback(stop_after))
    done = [line for line in read_metrics(RunFolder(tmp_path / "parts")) if line["split"] == "validation"]
    worse_after_two(len(done))
    assert train(recipe, tmp_path / "parts", resume=True).step == whole.step
    for read in (lambda path: path / "model.safetensors", lambda path: RunFolder(path).checkpoint):
        assert read(tmp_path / "parts").read_bytes() == read(tmp_path / "whole").read_bytes()
    callback = RecordingCallback()
    again = train(recipe, tmp_path / "parts", resume=True, callback=callback)
    assert again.finished and again.step == whole.step and again.validation_score == 0.9
    assert callback.notes[-1] == "the run is finished: nothing to do"


def test_without_it_the_last_weights_are_kept(colored_folder, tmp_path, worse_after_two):
    worse_after_two()
    result = train(replace(patient_recipe(colored_folder), early_stopping_epochs=0), tmp_path / "run")
    assert result.step == result.steps and not any(
        name.startswith("best/") for name in load_file(RunFolder(tmp_path / "run").checkpoint)
    )


@pytest.mark.parametrize("images", [100, 103, 97])
def test_patience_is_counted_in_whole_epochs_whatever_the_size_of_batches(images):
    recipe = Recipe("mine", "cifar10", ViTConfig(), epochs=40, batch_size=10, early_stopping_epochs=2)
    validations = [step for step in range(1, recipe.steps(images) + 1) if validation_is_due(step, recipe, images)]
    for index, step in enumerate(validations[:-3]):
        if step < recipe.steps(images) * recipe.schedule.warmup_fraction:
            continue
        later = range(step, recipe.steps(images))
        assert (
            next(one for one in later if stops_early(one, BestValidation(step, 0.5, 1), recipe, images))
            == (validations[index + 2])
        )


def test_patience_is_as_long_a_part_of_a_run_that_min_steps_made_longer():
    recipe = replace(find_recipe("finetune"), batch_size=24, early_stopping_epochs=5, min_steps_between_validations=1)
    early, best = BestValidation(3, 0.4, 1.0), BestValidation(30, 0.9, 1.0)  # ten epochs of 24 images are ten steps

    def end(best, recipe):
        return next(step for step in range(best.step, 201) if stops_early(step, best, recipe, 24))

    assert [end(one, recipe) for one in (early, best)] == [20 + 100, 30 + 100]  # the warm-up takes 20 steps
    assert end(best, replace(recipe, epochs=150)) == 30 + 6  # int(5 * 200 / 150)
    whole = replace(recipe, min_steps=0, epochs=200)
    assert [end(one, whole) for one in (early, best)] == [20 + 5, 30 + 5]


def test_steps_between_validations_have_a_lower_bound():
    recipe = find_recipe("finetune")

    def validations(images, **changes):
        changed = replace(recipe, **{"batch_size": min(32, images), **changes})
        return [step for step in range(1, changed.steps(images) + 1) if validation_is_due(step, changed, images)]

    assert validations(24) == list(range(10, 201, 10))  # an epoch is one step
    assert validations(24, min_steps=205)[-2:] == [200, 205]
    assert validations(24, min_steps_between_validations=0) == list(range(1, 201))
    assert validations(320) == list(range(10, 201, 10)) and validations(1600) == list(range(50, 501, 50))
    assert validations(100) == list(range(10, 201, 10))  # an epoch is 3.1 steps
    with pytest.raises(InputError, match="min_steps_between_validations is -1: it must be 0 to"):
        replace(recipe, min_steps_between_validations=-1)


def test_equal_accuracies_are_compared_by_their_loss():
    best = BestValidation(3, 0.5, 1.0)
    assert best.is_better_than(None, TOP1) and BestValidation(4, 0.6, 2.0).is_better_than(best, TOP1)
    assert BestValidation(4, 0.5, 0.9).is_better_than(best, TOP1)
    assert not BestValidation(4, 0.5, 1.0).is_better_than(best, TOP1)
    assert not BestValidation(4, 0.4, 0.1).is_better_than(best, TOP1)
    error = TaskMetric("error", "error", "error in pixels", higher_is_better=False, is_fraction=False)
    assert BestValidation(4, 0.4, 2.0).is_better_than(best, error)
    assert not BestValidation(4, 0.6, 0.1).is_better_than(best, error)
    assert BestValidation(4, 0.5, 0.9).is_better_than(best, error)


def test_early_stopping_without_validation_images_is_refused(colored_folder, tmp_path):
    with pytest.raises(InputError, match="early_stopping_epochs needs validation images: raise validation_fraction"):
        train(patient_recipe(colored_folder, validation_fraction=0.0), tmp_path / "run")
    with pytest.raises(InputError, match="early_stopping_epochs is -1: it must be at least 0"):
        tiny_recipe(colored_folder, early_stopping_epochs=-1)


def test_checkpoints_of_earlier_versions_call_the_score_top1():
    earlier, today = {"step": 3, "top1": 0.5, "loss": 1.25}, {"step": 3, "score": 0.5, "loss": 1.25}
    assert parse_best(earlier) == parse_best(today) == BestValidation(3, 0.5, 1.25)


def test_a_score_that_is_not_a_number_is_the_worst():
    known, unknown = BestValidation(1, 0.1, 2.0), BestValidation(2, float("nan"), 1.0)
    assert known.is_better_than(unknown, TOP1) and not unknown.is_better_than(known, TOP1)
