"""What a report reads from the run folder, what it measures, and what it says where something can't be read."""

import json
import shutil
from pathlib import Path

import pytest
from test_report_page import QUICK, Page
from tiny_run import make_folder, tiny_recipe

import vitreous
from vitreous.diagnostics.evaluation_set import training_run
from vitreous.diagnostics.faithfulness.report import MethodReport
from vitreous.diagnostics.report.explanations import faithfulness_table
from vitreous.diagnostics.report.history import read_log, validation_headline
from vitreous.diagnostics.report.performance import class_blocks, matrix_note
from vitreous.evaluation.intervals import Estimate
from vitreous.evaluation.report import evaluate_predictions, to_predictions

CHECKED = {"faithfulness_count": 2, "doctor_count": 2}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("own") / "images")


@pytest.fixture(scope="module")
def evaluated(images, tmp_path_factory) -> Path:
    """A run with every result that a report can read."""
    folder = tmp_path_factory.mktemp("sources") / "run"
    vitreous.train(tiny_recipe(images, epochs=3, keep_maps=2), folder, callback=vitreous.Callback())
    vitreous.evaluate(folder)
    vitreous.faithfulness(folder, count=3, methods=["attention", "gradient-rollout"])
    vitreous.doctor(folder, count=3).save(folder)
    return folder


@pytest.fixture
def run(evaluated, tmp_path) -> Path:
    shutil.copytree(evaluated, tmp_path / "run")
    return tmp_path / "run"


def change(path: Path, **changes) -> None:
    content = json.loads(path.read_text())
    for name, value in changes.items():
        part, _, key = name.rpartition("__")
        (content[part] if part else content)[key or name] = value
    path.write_text(json.dumps(content))


def test_results_of_the_same_weights_and_images_are_read(run):
    text = Page(vitreous.report(run, **CHECKED).html).text
    assert "the training loss has label_smoothing 0.1, which the validation loss hasn't." in text
    assert "images per second on average since it was started or last resumed." in text
    assert "Read from evaluation.json" in text and "Read from faithfulness.json" in text
    assert "with these weights on 3 images" in text and "`" not in text
    assert "vitreous faithfulness RUN --count 32 compares them" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"settings__protocol": 1},
        {"settings__images": "0" * 16},
        {"settings__split": "validation"},
        {"settings__seed": 1},
        {"settings__weights": "0" * 16},
        {"methods": []},
    ],
)
def test_faithfulness_of_other_images_methods_or_protocols_is_measured_again(run, changes):
    change(run / "faithfulness.json", **changes)
    html = vitreous.report(run, **CHECKED).html
    assert "Read from faithfulness.json" not in html and "Measured for this page, for a few methods" in html


@pytest.mark.parametrize("changes", [{"data": "cifar10"}, {"data": ""}, {"split": "train"}, {"weights": "0" * 16}])
def test_findings_of_other_images_are_measured_again(run, changes):
    change(run / "doctor.json", **changes)
    assert "Measured for this page on the first 2 test images" in vitreous.report(run, **CHECKED).html


def test_the_doctor_says_which_images_it_saw(run, images):
    stored = json.loads((run / "doctor.json").read_text())
    assert (stored["data"], stored["split"]) == (f"folder:{images}", "test")
    assert vitreous.doctor(run, next(images.rglob("*.png"))).data == ""


def test_where_the_images_are_gone_the_stored_results_are_shown(run, images, tmp_path):
    score = json.loads((run / "evaluation.json").read_text())["top1"]
    hidden = images.rename(images.with_name("hidden"))
    try:
        report = vitreous.report(run)
    finally:
        hidden.rename(images)
    text = Page(report.html).text
    assert report.missing == ("Measurements",) and f"test top-1 {score:.2%}" in text
    assert "Read from faithfulness.json" in text and "measured with these weights on 3 images" in text
    assert "Confusion" in text and "Over the epochs" in text


def test_a_damaged_line_of_metrics_costs_the_curves_alone(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write("{damaged\n" * 2)
    report = vitreous.report(run)
    assert "Training" in report.missing and "metrics.jsonl" in Page(report.html).text
    assert "Read from evaluation.json" in report.html and "Confusion" not in report.missing


def test_a_report_on_other_data_leaves_that_of_the_run(run, tmp_path, monkeypatch):
    vitreous.report(run)
    before, other = (run / "report.html").read_bytes(), make_folder(tmp_path / "other", count=8)
    monkeypatch.chdir(tmp_path)
    report = vitreous.report(run, data=f"folder:{other}", **QUICK)
    assert report.path == Path("report.html") and (run / "report.html").read_bytes() == before
    assert f"n = 6 test images of folder:{other}, measured for this page" in Page(report.html).text
    monkeypatch.chdir(run)
    with pytest.raises(vitreous.InputError, match="choose another --output"):
        vitreous.report(".", data=f"folder:{other}", **QUICK)
    assert Path("report.html").read_bytes() == before


def test_a_split_without_images_is_refused(images, tmp_path):
    run = tmp_path / "run"
    recipe = tiny_recipe(images, epochs=0.5, validation_fraction=0.0, report=True)
    vitreous.train(recipe, run, callback=vitreous.Callback())
    before = (run / "report.html").read_bytes()
    with pytest.raises(vitreous.InputError, match=r"validation_fraction 0.0 leaves no validation images"):
        vitreous.report(run, split="validation", **QUICK)
    assert (run / "report.html").read_bytes() == before


def test_data_without_test_images_are_called_validation_images(tmp_path):
    folder = make_folder(tmp_path / "images", count=12)
    (folder / "test").rename(folder / "validation")
    run = vitreous.train(tiny_recipe(folder, epochs=0.5), tmp_path / "run", callback=vitreous.Callback()).path
    report = vitreous.report(run, **CHECKED)
    text = Page(report.html).text
    assert f"folder:{folder} has no test images: all figures are of its validation images." in text
    assert "test top-1" not in text and text.count("validation top-1") == 1
    assert "first 2 validation images" in text and "2 validation images of" in text
    assert 'alt="test image' not in report.html and 'alt="validation image' in report.html
    other = vitreous.train(tiny_recipe(folder, epochs=1, seed=1), tmp_path / "other", callback=vitreous.Callback()).path
    pair = vitreous.report(run, other, output=tmp_path / "two.html").html
    assert "has no test images: all figures are of its validation images." in pair and 'alt="test image' not in pair


def test_the_strip_is_drawn_from_the_kept_maps(run):
    (run / "figures" / "filmstrip.png").unlink()
    report = vitreous.report(run)
    page = Page(report.html)
    lines = [json.loads(line) for line in (run / "maps.jsonl").read_text().splitlines()[1:]]
    count = min(8, len(lines))
    assert f"at {count} of {len(lines)} kept steps, from step 0 to step {lines[-1]['step']}." in page.text
    assert sum(attributes["alt"].startswith("maps of fixed images") for tag, attributes in page.tags if tag == "img")
    table = report.html[report.html.index("Predictions of the fixed images: table") :]
    assert table.partition("</table>")[0].count('<tr><th scope="row">image ') == 2 * count


def test_the_validation_score_is_that_of_the_saved_weights(images, tmp_path):
    run = tmp_path / "run"
    recipe = tiny_recipe(images, epochs=6, early_stopping_epochs=4, keep_maps=2, report=True)
    result = vitreous.train(recipe, run, callback=vitreous.Callback())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["split"] == "validation"]
    found = training_run(run)
    headline = validation_headline(found, read_log(found))
    assert headline.value == f"{result.validation_score:.2%}"
    assert f"chosen as the best of {len(validations)} validations" in headline.note
    best = max(validations, key=lambda line: (line["top1"], -line["loss"]))
    assert f"at epoch {best['epoch']:.3g};" in headline.note
    assert "saves the weights of its best validation" in Page((run / "report.html").read_text()).text


def method_report(count: int) -> MethodReport:
    score = Estimate(0.5, 0.4, 0.6, count, "higher")
    return MethodReport("rollout", False, {"insertion": score}, {"insertion": ("random map",)}, False, {}, {})


def test_few_images_are_not_compared_with_the_baselines():
    cells = [faithfulness_table([method_report(count)]).rows[0][1] for count in (31, 32)]
    assert cells == ["0.50 (0.40 to 0.60)", "0.50 (0.40 to 0.60), not better than random map"]


def test_many_classes_have_no_matrix_and_absent_ones_no_rank():
    import torch

    names = tuple(f"class {index}" for index in range(24))
    logits = torch.eye(24)[:20].double()
    report = evaluate_predictions(to_predictions(logits, torch.arange(20)), names)
    assert matrix_note(report) == "Of 24 classes, the pairs that are confused most."
    grid, table = class_blocks(report)
    assert len(grid.charts[0].table.rows) == 20 and len(table.rows) == 24
    assert grid.charts[0].note == "without 4 classes that have no images here"
