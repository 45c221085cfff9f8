"""Reference curves: the stored ones fit their recipes, and a run is compared only if the settings are equal."""

import shutil
from dataclasses import replace
from statistics import mean, stdev

import numpy as np
import pytest
from PIL import Image
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training import reference_curve
from vitreous.training.reference_comparison import describe_reference, find_reference
from vitreous.training.reference_curve import find_curve, measure_curve, store_curve
from vitreous.training_recipes import RECIPES
from vitreous.workflows.train import train

STORED = sorted(path.stem for path in reference_curve.CURVES.glob("*.json"))


@pytest.fixture(scope="module")
def measured(colored_folder, tmp_path_factory):
    """Train two runs that differ in the seed, for four epochs each."""
    runs = [tmp_path_factory.mktemp("measured") / str(seed) for seed in (0, 1)]
    for seed, run in enumerate(runs):
        train(tiny_recipe(colored_folder, seed=seed), run)
    return runs


@pytest.fixture
def stored(measured, tmp_path, monkeypatch):
    """Store their reference curve where runs look for it."""
    monkeypatch.setattr(reference_curve, "CURVES", tmp_path / "curves")
    curve = measure_curve(measured, "a test")
    assert store_curve(curve) == tmp_path / "curves" / "tiny.json"
    return curve


def scores_of(run) -> dict[int, float]:
    return {line["step"]: line["top1"] for line in read_metrics(RunFolder(run)) if line["split"] == "validation"}


def notes_of(recipe, path, **options) -> list[str]:
    callback = RecordingCallback()
    train(recipe, path, callback=callback, **options)
    return [note for note in callback.notes if "reference" in note]


def test_there_is_a_curve_for_an_existing_recipe():
    assert "cifar10-quick" in STORED and set(STORED) <= set(RECIPES)


@pytest.mark.parametrize("name", STORED)
def test_stored_curves_fit_the_present_recipes(name):
    curve, recipe = find_curve(name), RECIPES[name]()
    as_run = replace(recipe.model, num_classes=curve.recipe.model.num_classes, in_chans=curve.recipe.model.in_chans)
    data = replace(curve.data, source=recipe.data)
    different = curve.difference(replace(recipe, model=as_run), data)
    assert different is None, f"{name} has changed ({different}): measure again by benchmarks/reference_curve.py"
    assert curve.points[-1].step == recipe.steps(curve.data.training) and len(curve.seeds) >= 1
    assert all(0 < point.mean < 1 for point in curve.points)
    assert all((point.std is None) == (len(curve.seeds) == 1) for point in curve.points)
    assert all(0 <= (point.std or 0) < 0.1 for point in curve.points)


def test_a_curve_is_the_mean_and_standard_deviation_of_its_runs(stored, measured):
    scores = [scores_of(run) for run in measured]
    assert len(stored.points) == 4 and stored.seeds == (0, 1) and stored.machine == "a test"
    for point in stored.points:
        pair = [score[point.step] for score in scores]
        assert point.mean == pytest.approx(mean(pair), abs=1e-6) and point.std == pytest.approx(stdev(pair), abs=1e-6)
    assert find_curve("tiny") == stored, "written and read again"
    assert find_curve("other") is None


def test_a_run_is_compared_after_each_validation(stored, colored_folder, tmp_path):
    first, *lines = notes_of(tiny_recipe(colored_folder, seed=7), tmp_path / "run")
    assert first.startswith("reference: mean ± standard deviation of 2 seeds, 20") and "other validation" not in first
    own = scores_of(tmp_path / "run")
    assert [line.split(":")[0] for line in lines] == ["epoch 1.1", "epoch 2.1", "epoch 3.1", "epoch 3.9"]
    for line, point in zip(lines, stored.points, strict=True):
        reference = f"reference {100 * point.mean:.1f} ± {100 * point.std:.1f}"
        assert line.split(": ")[1] == f"{100 * own[point.step]:.1f} %, {reference}"


def test_a_single_run_is_a_reference_without_standard_deviation(measured, colored_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_curve, "CURVES", tmp_path / "curves")
    store_curve(measure_curve(measured[:1], "a test"))
    first, *lines = notes_of(tiny_recipe(colored_folder, seed=7), tmp_path / "run")
    assert first.startswith("reference: one run, seed 0, 20") and len(lines) == 4
    assert all(line.endswith(" (one run)") and "±" not in line for line in lines)


def test_a_run_with_other_settings_says_so_once_and_is_not_compared(stored, colored_folder, tmp_path):
    notes = notes_of(tiny_recipe(colored_folder, epochs=1, label_smoothing=0.2, batch_size=8), tmp_path / "run")
    assert notes == [
        "this run isn't compared with the reference curve of tiny, which was measured with "
        "epochs 4, not 1; batch_size 16, not 8; label_smoothing 0.1, not 0.2"
    ]
    assert not notes_of(replace(tiny_recipe(colored_folder, epochs=1), name="unmeasured"), tmp_path / "unmeasured")


def test_a_run_on_other_data_gets_no_note(stored, colored_folder, tmp_path):
    own = shutil.copytree(colored_folder, tmp_path / "own")
    assert notes_of(tiny_recipe(own, epochs=1), tmp_path / "run") == []


def test_settings_that_do_not_affect_the_curve_may_differ(stored, colored_folder):
    own = replace(stored.recipe, seed=9, grad_accum_steps=2, checkpoint_seconds=5.0, precision="fp32")
    assert stored.difference(own, stored.data) is None
    assert stored.difference(replace(own, keep_maps=3, report=not own.report), stored.data) is None
    assert "model.embed_dim 16, not 32" in stored.difference(
        replace(own, model=replace(own.model, embed_dim=32)), stored.data
    )
    assert "training images" in stored.difference(own, replace(stored.data, training=3))


def test_other_validation_images_widen_the_expected_range(stored):
    curve = replace(stored, data=replace(stored.data, validation=2500))
    curve = replace(curve, points=(replace(curve.points[-1], mean=0.77),))
    assert describe_reference(curve, "another").endswith(
        "on other validation images, which changes an accuracy by ± 0.8 more"
    )


def test_a_resumed_run_is_still_compared(stored, colored_folder, tmp_path):
    callback = RecordingCallback(stop_after=20)
    assert not train(tiny_recipe(colored_folder), tmp_path / "run", callback=callback).finished
    lines = [note for note in callback.notes if note.startswith("epoch")]
    lines += notes_of(tiny_recipe(colored_folder), tmp_path / "run", resume=True)[1:]
    assert [line[:7] for line in lines] == ["epoch 1", "epoch 2", "epoch 3", "epoch 3"]


def test_the_reference_is_a_band_in_the_figure(stored, colored_folder, tmp_path, measured):
    train(tiny_recipe(colored_folder, seed=7), tmp_path / "run")

    def grays(run):
        with Image.open(run / "figures" / "curves.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        return int((np.abs(pixels - (217, 219, 224)).max(2) <= 2).sum())  # MUTED at a quarter on white

    assert grays(tmp_path / "run") > grays(measured[0]) + 500


def test_runs_that_cannot_be_averaged_are_refused(measured, colored_folder, tmp_path, monkeypatch):
    def error_for(*runs):
        with pytest.raises(InputError) as caught:
            measure_curve(runs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    first, second = measured
    assert "have the seeds 0, 0" in error_for(first, first)
    assert "is not a run of Vitreous" in error_for(first, tmp_path / "nothing")
    train(tiny_recipe(colored_folder, epochs=1, seed=5), tmp_path / "short")
    assert "differ in more than the seed" in error_for(first, tmp_path / "short")
    lines = (second / "metrics.jsonl").read_text()
    monkeypatch.setattr(reference_curve, "read_metrics", lambda folder: read_metrics(folder)[:-1])
    assert "isn't finished" in error_for(first, second) and (second / "metrics.jsonl").read_text() == lines


def test_a_corrupt_curve_gives_one_line(stored, tmp_path):
    (tmp_path / "curves" / "tiny.json").write_text("{")
    with pytest.raises(InputError, match=r"tiny.json is not JSON"):
        find_reference(RunFolder(tmp_path), stored.recipe, lambda text: None)
