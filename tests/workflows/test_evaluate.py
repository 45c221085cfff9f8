"""Evaluation and comparison from Python: the run's recipe is read once, progress is reported, results are saved."""

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_run import tiny_recipe

from vitreous.callbacks import Callback
from vitreous.diagnostics import evaluation_set
from vitreous.diagnostics.doctor.run import doctor
from vitreous.diagnostics.evaluation_set import training_run
from vitreous.diagnostics.faithfulness.run import faithfulness
from vitreous.diagnostics.localization.run import localization
from vitreous.diagnostics.robustness.run import measure_corruptions, measure_shifts
from vitreous.errors import InputError
from vitreous.pretrained.load import load
from vitreous.tasks.registry import find_task
from vitreous.workflows import demo as demo_module
from vitreous.workflows.compare import compare
from vitreous.workflows.convert import ConvertedModel
from vitreous.workflows.data import inspect_data
from vitreous.workflows.demo import demo
from vitreous.workflows.evaluate import evaluate
from vitreous.workflows.train import train
from vitreous.workflows.train_result import TrainResult

LEGACY = Path(__file__).parents[1] / "legacy"


class Recorder(Callback):
    """Records how far a use case is, and its notes."""

    def __init__(self):
        self.at, self.lines = [], []

    def on_note(self, text):
        self.lines.append(text)

    def on_progress(self, progress):
        self.at.append((progress.done, progress.total))


@pytest.fixture
def own_run(trained_run, tmp_path) -> Path:
    return shutil.copytree(trained_run, tmp_path / "run")


def test_recipe_json_is_read_once(own_run, colored_folder, tmp_path, monkeypatch):
    read, reads = evaluation_set.read_metadata, []
    monkeypatch.setattr(evaluation_set, "read_metadata", lambda folder: reads.append(folder) or read(folder))
    moved = shutil.copytree(colored_folder, tmp_path / "moved")
    evaluate(own_run, temperature=True)
    assert len(reads) == 1
    evaluate(own_run, f"folder:{moved}")
    doctor(own_run, count=1)
    assert len(reads) == 3


def test_recipes_of_earlier_versions_and_partial_ones_are_read(tmp_path):
    for name in ("finished", "stopped", "changed-data"):
        run = training_run(LEGACY / name)
        assert run is not None and run.recipe.steps(100) > 0 and run.metadata["recipe"]["data"] == run.recipe.data
    metadata = json.loads((LEGACY / "finished" / "recipe.json").read_text())
    kept = {key: metadata["recipe"][key] for key in ("name", "data", "model", "epochs")}
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": {**kept, "unknown": 1}}))
    partial = training_run(tmp_path)
    assert partial is not None and partial.recipe.validation_fraction == 0.05 and partial.status() is None
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match=r"recipe\.json"):
        training_run(tmp_path)


def test_progress_covers_all_images(own_run, colored_folder, tmp_path):
    test, both, compared = Recorder(), Recorder(), Recorder()
    plain = evaluate(own_run)
    assert evaluate(own_run, callback=test) == plain
    evaluate(own_run, temperature=True, callback=both)
    assert test.at[-1] == (plain.count, plain.count) and both.at[-1] == (plain.count + 6, plain.count + 6)
    assert both.at[0] == (6, plain.count + 6)
    train(tiny_recipe(colored_folder, epochs=0.3, seed=1), tmp_path / "less")
    compare(own_run, tmp_path / "less", callback=compared)
    assert compared.at[-1] == (2 * plain.count, 2 * plain.count)


@pytest.mark.parametrize(
    "use_case", [compare, doctor, evaluate, faithfulness, localization, measure_corruptions, measure_shifts]
)
@pytest.mark.parametrize("value", [5, 1.5, b"x", [], {}, object(), np.zeros(3), True, ("a", "b"), float("nan")])
def test_arguments_of_a_wrong_type_are_one_clear_line(use_case, value):
    models = ["nowhere", "elsewhere"] if use_case is compare else ["nowhere"]
    for name in ("data", "device", "callback"):
        with pytest.raises(InputError, match=rf"^{name}=.* has the wrong type: {use_case.__name__} takes [^\n]*$"):
            use_case(*models, **{name: value})


def test_the_figure_of_a_comparison_is_a_png(own_run, colored_folder, tmp_path):
    result = compare(own_run, load(own_run, "cpu"), f"folder:{colored_folder}")
    for path in ("", tmp_path / "figure.jpg", tmp_path / "figure"):
        with pytest.raises(InputError, match=r"is not a PNG file: choose a name that ends in \.png"):
            result.save(path)


def test_loaded_models_are_compared_like_their_runs(own_run, colored_folder, tmp_path):
    train(tiny_recipe(colored_folder, epochs=0.3, seed=1), tmp_path / "less")
    models = load(own_run, "cpu"), load(tmp_path / "less", "cpu")
    by_path, loaded = compare(own_run, tmp_path / "less", device="cpu"), compare(*models)
    assert loaded == by_path and loaded.first == "run"
    data = f"folder:{colored_folder}"
    again = compare(models[0], load(own_run, "cpu"), data)
    assert again.comparison.top1.value == 0 and again.first == "first model"
    models[0].origin = None
    unknown = compare(*models, data)
    assert unknown.folders == (None, tmp_path / "less") and unknown.comparison == by_path.comparison
    unknown.save(tmp_path / "unknown.png")
    with pytest.raises(InputError, match="both models are the same object"):
        compare(models[0], models[0])


def test_notes_on_the_model_go_to_the_callback(own_run, monkeypatch):
    load, notes = evaluation_set.load, Recorder()

    def load_with_note(model, device, *, callback):
        callback.on_note("positions are resampled")
        return load(model, device, callback=callback)

    monkeypatch.setattr(evaluation_set, "load", load_with_note)
    evaluate(own_run, callback=notes)
    assert notes.lines == ["positions are resampled"]


def test_results_are_converted_and_saved_alike(own_run, colored_folder, tmp_path):
    evaluation = evaluate(own_run)
    assert evaluation.save(tmp_path / "new") == (tmp_path / "new" / "evaluation.json",)
    assert (tmp_path / "new" / "evaluation.json").read_text() == (own_run / "evaluation.json").read_text()
    result = faithfulness(own_run, methods=["attention"], count=2)
    assert [path.name for path in result.save(tmp_path / "new")] == ["faithfulness.json", "faithfulness.png"]
    assert (tmp_path / "new" / "faithfulness.json").read_text() == (own_run / "faithfulness.json").read_text()
    settings = (own_run / "faithfulness-values.jsonl").read_text().splitlines()[0]
    assert list(json.loads(settings)) == ["protocol", "data", "split", "count", "target", "seed", "weights", "images"]
    assert result.to_json()["settings"] == json.loads(settings) and result.settings.count == 2
    with pytest.raises(AttributeError):
        result.settings.count = 3
    report = inspect_data(f"folder:{colored_folder}")
    assert json.loads(json.dumps(report.to_json()))["splits"] == report.splits


def test_a_stopped_demo_returns_the_unfinished_training(tmp_path, monkeypatch):
    stopped = TrainResult(tmp_path, False, 3, 9, find_task("classification").metric, None)
    monkeypatch.setattr(demo_module, "train", lambda *arguments, **keywords: stopped)
    result = demo(tmp_path)
    assert result.training is stopped and result.evaluation is None and result.files == ()
    assert "stopped after step 3" in repr(result)
    training = {
        "path": str(tmp_path),
        "finished": False,
        "step": 3,
        "steps": 9,
        "validation_score": None,
        "metric": "top1",
    }
    assert result.to_json() == {"training": training, "evaluation": None, "files": {}}


def test_a_converted_model_is_converted_to_json(tmp_path):
    model = ConvertedModel(tmp_path, "timm", "timm.create_model()")
    values = {"folder": str(tmp_path), "format_name": "timm", "load_code": "timm.create_model()"}
    assert model.to_json() == values
    assert repr(model) == str(model) == f"{tmp_path} (timm), loaded by\ntimm.create_model()"


def test_results_are_shown_as_short_text(own_run, colored_folder):
    image = str(next(Path(colored_folder).rglob("*.png")))
    diagnosis = doctor(own_run, image)
    assert len(diagnosis.images_u8) == 1
    results = [
        (evaluate(own_run), "test split of "),
        (diagnosis, f"{own_run}: "),
        (localization(own_run, methods="attention", count=40), "40 images of shapes"),
        (measure_corruptions(own_run, count=12), "12 test images of "),
        (measure_shifts(own_run, count=12), "12 test images of "),
        (faithfulness(own_run, methods="attention", count=2), " "),
    ]
    for result, start in results:
        text = repr(result)
        assert text == str(result) and text.startswith(start) and len(text) < 3000 and "=" not in text


def test_one_method_is_given_by_its_name(own_run):
    for function in (faithfulness, localization):
        names = [one.name for one in function(own_run, methods="attention", count=2).methods]
        assert sorted(names) == ["attention", "center bias", "random map"]
        with pytest.raises(InputError, match="no method 'atention'"):
            function(own_run, methods="atention")


@pytest.mark.parametrize("function", [evaluate, compare, doctor, localization, faithfulness, inspect_data, demo])
def test_signatures_are_even(function):
    parameters = inspect.signature(function).parameters
    assert parameters["callback"].kind is inspect.Parameter.KEYWORD_ONLY and list(parameters)[-1] == "callback"
    assert "device" in parameters or function in (inspect_data, demo)
    assert "methods" not in parameters or parameters["methods"].kind is inspect.Parameter.KEYWORD_ONLY


def test_devices_are_used(own_run):
    for call in (doctor, localization):
        with pytest.raises(InputError, match="no device 'toaster'"):
            call(own_run, device="toaster")
