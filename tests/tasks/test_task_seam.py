"""The seam: a task that only the test knows is trained, resumed, evaluated, explained, diagnosed, shown on a clip."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from point_task import NAMES, POINT, PointEvaluation, PointModel, PointPrediction
from tiny_run import RecordingCallback

import vitreous
from vitreous.cli.evaluate import print_evaluation
from vitreous.data import sources
from vitreous.data.shapes import draw_shapes
from vitreous.errors import InputError
from vitreous.model.config import ViTConfig
from vitreous.model.lora import LoRASettings
from vitreous.tasks import registry
from vitreous.tasks.task import OutputSpec, TaskMetric
from vitreous.training import training_data
from vitreous.training.recipe import Recipe
from vitreous.training.reference_curve import measure_curve
from vitreous.training_film.filmstrip import draw_filmstrip
from vitreous.training_film.frames import FilmFrames
from vitreous.training_film.history import read_map_history
from vitreous.training_recipes import RECIPES


@pytest.fixture(autouse=True)
def small_task(monkeypatch):
    """Register the task; `shapes` are few and small."""
    monkeypatch.setitem(registry.TASKS, "point", POINT)
    monkeypatch.setattr(sources, "SHAPES_COUNTS_AND_SEEDS", {"train": (400, 1), "test": (60, 2)})


def point_recipe(**changes) -> Recipe:
    model = ViTConfig((32, 32), 8, embed_dim=48, depth=2, num_heads=3, stem="conv")
    own = Recipe("point", "shapes", model, epochs=12, task="point", batch_size=32, validation_fraction=0.1)
    augment = replace(own.augment, flip=True, shift=3)
    return replace(own, augment=augment, precision="fp32", early_stopping_epochs=4, **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run."""
    folder = tmp_path_factory.mktemp("point") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TASKS, "point", POINT)
        patch.setattr(sources, "SHAPES_COUNTS_AND_SEEDS", {"train": (400, 1), "test": (60, 2)})
        result = vitreous.train(point_recipe(), folder, callback=vitreous.Callback())
    return folder, result


def test_the_loop_learns_from_the_truth_that_augmentation_moves(run):
    folder, result = run
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    distances = [line["distance"] for line in lines if line["split"] == "validation"]
    assert distances[-1] < 0.7 * distances[0] and "top1" not in lines[0]
    assert result.metric == POINT.metric and result.validation_score == pytest.approx(min(distances), abs=1e-6)
    assert "validation distance 0." in repr(result) and (folder / "figures" / "curves.png").stat().st_size > 5_000
    assert json.loads((folder / "config.json").read_text())["task"] == "point"


def test_progress_is_told_in_the_metric_of_the_task(tmp_path):
    callback = RecordingCallback(stop_after=10)
    vitreous.train(point_recipe(), tmp_path / "run", callback=callback)
    assert "distance 0." in str(callback.progress[0]) and "top-1" not in str(callback.progress[0])


def test_a_resumed_run_has_the_same_bytes(run, tmp_path):
    folder, _ = run
    assert not vitreous.train(point_recipe(), tmp_path / "run", callback=RecordingCallback(stop_after=25)).finished
    assert vitreous.train(point_recipe(), tmp_path / "run", resume=True, callback=vitreous.Callback()).finished
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_the_loaded_model_answers_as_the_task_does(run):
    model = vitreous.load(run[0])
    image = draw_shapes(1, 7, 32).images_u8[0].permute(1, 2, 0).numpy()
    prediction = model.predict(image)
    assert isinstance(model, PointModel) and isinstance(prediction, PointPrediction)
    assert prediction.caption().startswith("at 0.")
    assert isinstance(model.replace(preprocessing=model.preprocessing), PointModel)


def test_evaluate_reports_the_metrics_of_the_task(run, capsys):
    result = vitreous.evaluate(run[0])
    assert isinstance(result, PointEvaluation) and result.metrics["distance"].value == result.distance < 0.25
    assert (run[0] / "figures" / "points.txt").read_text() == "60" and result.files[1].name == "points.txt"
    assert json.loads((run[0] / "evaluation.json").read_text())["distance"] == result.distance
    print_evaluation(result)
    assert capsys.readouterr().out.startswith(f"distance {result.distance:.4f}")


def test_explanations_take_the_targets_of_the_task_and_draw_its_answer(run):
    images = draw_shapes(2, 7, 32)
    image = images.images_u8[0].permute(1, 2, 0).numpy()
    found = vitreous.explain(run[0], image, method="input-x-gradient", target="x")
    assert found.target == "x" and found.score == pytest.approx(dict(found.prediction.scores)["x"], abs=1e-5)
    for layout in ("single", "side-by-side"):  # the point is drawn on the image, beside the map
        figure = np.asarray(found.figure(layout=layout)).astype(int)
        assert (np.abs(figure - (255, 0, 255)).max(-1) < 60).sum() > 20, layout
    with pytest.raises(InputError, match="there is no coordinate 'cat': choose y or x"):
        vitreous.explain(run[0], image, target="cat")
    maps = vitreous.attribute(vitreous.load(run[0]), torch.zeros(1, 3, 32, 32), method="rollout", target="y")
    assert maps.shape == (1, 4, 4)


def test_doctor_and_video_take_it(run, tmp_path, clips):
    assert vitreous.doctor(run[0], count=2).statistics.depth == 2
    result = vitreous.explain_video(run[0], clips / "a.mp4", tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 0 and result.predictions == ()


def test_the_film_draws_its_prediction(run):
    history = read_map_history(run[0])
    assert history.metric == POINT.metric and isinstance(history.predictions[-1][0], PointPrediction)
    assert history.truth(0) is None and history.is_correct(-1, 0) is None
    frame = FilmFrames(history, "side-by-side", 540).frame(len(history.steps) - 1)
    assert (np.abs(frame.astype(int) - (255, 0, 255)).max(-1) < 90).sum() > 20
    assert draw_filmstrip(history.select([0, 1])).width > 500


def test_the_report_shows_its_metrics_and_predictions(run, tmp_path):
    assert "validation distance" in (run[0] / "report.html").read_text(), "written during training"
    report = vitreous.report(run[0], output=tmp_path / "report.html", count=20, doctor_count=2)
    assert "test distance" in report.html and "at 0." in report.html and "Confusion" not in report.html
    assert report.missing == ("Faithfulness of the maps",)
    other = vitreous.report(run[0], vitreous.load(run[0]), output=tmp_path / "two.html", count=20)
    assert "first model: distance" in other.html and "second model: distance" in other.html


def test_what_the_task_cannot_do_is_refused(run, tmp_path, colored_folder):
    with pytest.raises(InputError, match=r"has no boxes, from which point learns: choose other data"):
        vitreous.train(point_recipe(), tmp_path / "a", data=f"folder:{colored_folder}")
    with pytest.raises(InputError, match=r"point can't be distilled: set distillation.weight=0"):
        vitreous.train(point_recipe(), tmp_path / "b", settings={"distillation.weight": 0.5})
    gone = "folder:/no/such/folder"  # the images aren't read: that may take minutes
    with pytest.raises(InputError, match=r"augment.mixup can't mix the boxes"):
        vitreous.train(point_recipe(), tmp_path / "c", data=gone, settings={"augment.mixup": 0.2})
    with pytest.raises(InputError, match=r"there is no task 'points': did you mean 'point'\?"):
        vitreous.train(point_recipe(), tmp_path / "d", data=gone, settings={"task": "points"})
    with pytest.raises(InputError, match=r"the task point doesn't use label_smoothing: set label_smoothing=0.0"):
        vitreous.train(point_recipe(), tmp_path / "d", data=gone, settings={"label_smoothing": 0.1})
    with pytest.raises(InputError, match=r"a temperature can't be fitted for the task point: leave out --temperature"):
        vitreous.evaluate(run[0], temperature=True)
    with pytest.raises(InputError, match=r"this measures classifiers, and the model's task is point"):
        vitreous.measure_shifts(run[0])
    with pytest.raises(InputError, match=r"this measures classifiers, and the model's task is point"):
        vitreous.faithfulness(run[0], output=tmp_path / "e")
    with pytest.raises(InputError, match=r"take this model for a classifier, and its task is point"):
        vitreous.convert(run[0], "timm", tmp_path / "f")
    with pytest.raises(InputError, match=r"has no boxes, by which point is measured: choose other --data"):
        vitreous.evaluate(run[0], f"folder:{colored_folder}")
    assert not any((tmp_path / name).exists() for name in "abcdef")


def test_the_head_of_another_task_is_not_kept(run, tmp_path):
    recipe = replace(RECIPES["finetune"](), epochs=0.1, min_steps=1, validation_fraction=0.1)
    notes = RecordingCallback()
    result = vitreous.train(recipe, tmp_path / "run", data="shapes", init=str(run[0]), callback=notes)
    assert result.model.task == "classification" and len(result.model.class_names) == 8
    assert any("the head is new" in note for note in notes.notes)


def tuned_from(folder, **changes) -> Recipe:
    """A recipe that starts from a run and changes nothing in one step."""
    own = replace(RECIPES["finetune"](), task="point", data="shapes", init=str(folder), epochs=0.1, min_steps=1)
    still = replace(own.optimizer, learning_rate=0.0)
    return replace(own, optimizer=still, validation_fraction=0.1, batch_size=32, label_smoothing=0.0, **changes)


@pytest.mark.parametrize("names", [NAMES, ()])
def test_the_head_of_the_same_task_is_kept_with_names_and_without(names, tmp_path, monkeypatch):
    monkeypatch.setitem(registry.TASKS, "point", replace(POINT, describe_outputs=lambda images: OutputSpec(2, names)))
    vitreous.train(replace(point_recipe(), epochs=0.1), tmp_path / "first", callback=vitreous.Callback())
    notes = RecordingCallback()
    tuned = vitreous.train(tuned_from(tmp_path / "first"), tmp_path / "tuned", callback=notes).model
    assert any("the head is kept" in note for note in notes.notes) and tuned.class_names == names
    assert torch.equal(tuned.vit.head.weight, vitreous.load(tmp_path / "first", "cpu").vit.head.weight.to(tuned.device))


def test_a_lora_file_gives_a_model_of_its_task(run, tmp_path):
    recipe = tuned_from(run[0], tune="lora", lora=LoRASettings(rank=2))
    tuned = vitreous.train(recipe, tmp_path / "tuned", callback=vitreous.Callback()).model
    applied = vitreous.apply_lora(run[0], tmp_path / "tuned" / "lora.safetensors")
    assert isinstance(tuned, PointModel) and isinstance(applied, PointModel)


def test_the_metric_of_a_task_may_be_its_loss(tmp_path, monkeypatch):
    metric = TaskMetric("loss", "loss", "loss", higher_is_better=False, is_fraction=False)
    monkeypatch.setitem(registry.TASKS, "point", replace(POINT, metrics=(metric,)))
    callback = RecordingCallback(stop_after=10)
    vitreous.train(point_recipe(), tmp_path / "run", callback=callback)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["loss"] == pytest.approx(callback.progress[0].loss, rel=1e-5) != callback.progress[0].score


def test_a_score_that_is_no_float_resumes(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.TASKS, "point", replace(POINT, measure=lambda *_: {"distance": 1, "loss": 2}))
    recipe = replace(point_recipe(), epochs=4)
    assert not vitreous.train(recipe, tmp_path / "run", callback=RecordingCallback(stop_after=25)).finished
    assert vitreous.train(recipe, tmp_path / "run", resume=True, callback=vitreous.Callback()).finished


def test_changed_truth_is_noticed_on_resume(tmp_path, monkeypatch):
    vitreous.train(point_recipe(), tmp_path / "run", callback=RecordingCallback(stop_after=1))
    load = training_data.load_train_validation

    def with_other_boxes(*arguments):
        training, validation = load(*arguments)
        return replace(training, boxes=training.boxes.flip(0)), validation

    monkeypatch.setattr(training_data, "load_train_validation", with_other_boxes)
    with pytest.raises(InputError, match=r"aren't those that .* was started with"):
        vitreous.train(point_recipe(), tmp_path / "run", resume=True)


def test_a_reference_curve_is_of_the_metric_of_the_task(run):
    curve = measure_curve([run[0]], "a test")
    lines = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert [point.mean for point in curve.points] == [
        pytest.approx(line["distance"], abs=1e-6) for line in lines if line["split"] == "validation"
    ]


def test_the_model_is_checked_before_images_are_read(run, monkeypatch):
    def refuse(classifier):
        raise InputError("not this one")

    monkeypatch.setitem(registry.TASKS, "point", replace(POINT, check_model=refuse))
    with pytest.raises(InputError, match="not this one"):
        vitreous.evaluate(run[0], "folder:/no/such/folder")


def test_before_and_after_are_maps_of_the_target_of_the_task(run, monkeypatch):
    default = replace(POINT, default_target=lambda classifier: POINT.find_target(classifier, "x"))
    monkeypatch.setitem(registry.TASKS, "point", default)
    image = draw_shapes(1, 7, 32).images_u8[0].permute(1, 2, 0).numpy()
    pair = vitreous.explain_before_after(run[0], image, before=run[0], method="input-x-gradient")
    assert (pair.before.target, pair.after.target, pair.is_target_shared) == ("x", "x", True)
    assert np.array_equal(pair.before.patch_map, pair.after.patch_map)
