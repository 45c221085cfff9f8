"""vitreous report: what the page says against evaluation.json, that it needs nothing else, and incomplete runs."""

import itertools
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tiny_run import RecordingCallback, make_folder, tiny_recipe

import vitreous
from vitreous.cli import run as run_command
from vitreous.diagnostics.report.page import page_style
from vitreous.errors import InputError

QUICK = {"faithfulness_count": 0, "doctor_count": 0}
VOID = {"meta", "img", "br", "link"}
FETCHING = {"script", "link", "iframe", "object", "embed", "audio", "video", "source", "base", "form", "use", "image"}


class Page(HTMLParser):
    """The tags of a page, its texts, and whether its tags are nested properly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.texts = html, [], []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if attributes.get("id")]


@pytest.fixture(scope="module")
def measured(trained_run, tmp_path_factory) -> Path:
    """A run with everything measured, and its report."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(trained_run, folder)
    vitreous.evaluate(folder)
    vitreous.report(folder, faithfulness_count=2, doctor_count=2)
    return folder


@pytest.fixture(scope="module")
def page(measured) -> Page:
    return Page((measured / "report.html").read_text())


def test_the_figures_are_those_of_evaluation_json(measured, page):
    scores = json.loads((measured / "evaluation.json").read_text())
    low, high = scores["top1_interval"]
    origin = f"n = {scores['count']} test images of {scores['data']}, read from evaluation.json"
    assert f"test top-1 {scores['top1']:.2%} 95 %: {low:.1%} to {high:.1%} {origin}; Wilson interval" in page.text
    assert f"{origin}; bootstrap interval" in page.text
    assert f"test loss {scores['loss']:.4g}" in page.text and "Read from evaluation.json" in page.text
    cells = re.findall(r'<td class="(right|wrong) l(\d+)">([^<]*)</td>', page.html)
    counts = [0 if text == "·" else int(text) for _, _, text in cells]
    assert counts == [count for row in scores["confusion"] for count in row]
    assert [kind for kind, _, _ in cells] == ["right" if i % 4 == 0 else "wrong" for i in range(9)]
    for one in scores["classes"]:
        assert f"{one['f1']:.1%} ({one['f1_interval'][0]:.0%}–{one['f1_interval'][1]:.0%})" in page.text


def test_the_page_loads_nothing_and_runs_nothing(page):
    for tag, attributes in page.tags:
        assert tag not in FETCHING and not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/") and "style" not in attributes
        assert attributes.get("href", "#").startswith("#") and "srcset" not in attributes
    assert not re.search(r"url\(|@import|https?://", page.html)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-") and "unsafe" not in policy
    assert len(page.html) < 1_000_000


def test_a_screen_reader_has_all_of_it(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images and all(attributes["alt"] for attributes in images)
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and "aria-hidden" not in attributes]
    assert len(charts) >= 5 and all(attributes["role"] == "img" for attributes in charts)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert all(key in ids for attributes in charts for key in attributes["aria-labelledby"].split())
    figures = re.findall(r'<figure class="panel chart">(.*?)</figure>', page.html, re.DOTALL)
    assert len(figures) == len(charts) and all(one.count("<details><summary>") == 1 for one in figures)
    assert all(re.search(r"<tbody>\s*<tr><th", one) for one in figures), "a table behind each chart"
    targets = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert targets <= set(ids) and {"curves", "confusion", "calibration", "examples", "doctor"} <= targets
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(headings))


def test_faithfulness_and_the_doctor_are_measured_and_say_so(page, measured):
    assert "for a few methods, sensitivity-n with 30 sets of each size: 2 test images" in page.text
    assert "not better than" not in page.text
    assert "Fewer than 32 images: methods are not compared" in page.text and "--faithfulness-count 32" in page.text
    for name in ("random map, baseline", "center bias, baseline", "rollout", "gradient-rollout"):
        assert name in page.text
    assert "on the first 2 test images" in page.text and "rollout collapse" in page.text
    assert not (measured / "faithfulness-values.jsonl").exists() and not (measured / "doctor.json").exists()


def test_results_of_the_run_folder_are_used_until_its_weights_change(trained_run, tmp_path, monkeypatch):
    shutil.copytree(trained_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    vitreous.evaluate("run")
    vitreous.doctor("run", count=3).save("run")
    html = vitreous.report("run", **QUICK).html
    assert "Read from evaluation.json" in html and "measured with these weights on 3 images" in html
    stored = json.loads(Path("run/evaluation.json").read_text())
    Path("run/evaluation.json").write_text(json.dumps({**stored, "weights": "0" * 16}))
    assert "Measured for this page on 30 test images" in vitreous.report("run", **QUICK).html
    Path("run/evaluation.json").write_text(json.dumps({key: one for key, one in stored.items() if key != "weights"}))
    assert "Read from evaluation.json" in vitreous.report("run", **QUICK).html, "of an earlier version, and newer"
    os.utime("run/evaluation.json", (1, 1))
    assert "Measured for this page on 30 test images" in vitreous.report("run", **QUICK).html
    Path("run/evaluation.json").write_text('{"split": "test", "weights": 3')
    notes = RecordingCallback()
    report = vitreous.report("run", count=7, callback=_only_notes(notes), **QUICK)
    assert "Measured for this page on 7 test images of" in report.html and "of 30, evenly spaced" in report.html
    assert any("not used for the report" in note for note in notes.notes)
    assert report.missing == ("Faithfulness of the maps", "Over the epochs") and report.path == Path("run/report.html")


def _only_notes(notes: RecordingCallback) -> vitreous.Callback:
    class Notes(vitreous.Callback):
        def on_note(self, text: str) -> None:
            notes.on_note(text)

    return Notes()


def test_names_with_html_in_them_are_text(tmp_path):
    hostile = ("<script>alert(1)", "\"><img src=x onerror='x'>", "a & b")
    folder = make_folder(tmp_path / "images", count=8)
    for split in ("train", "test"):
        for old, new in zip(("blue", "green", "red"), hostile, strict=True):
            (folder / split / old).rename(folder / split / new)
    model = vitreous.train(tiny_recipe(folder, epochs=0.5), tmp_path / "<b>run", callback=vitreous.Callback()).path
    page = Page(vitreous.report(model, **QUICK).html)
    assert {"script", "b"}.isdisjoint(tag for tag, _ in page.tags) and "<b>run" in page.text
    assert all(name in page.text for name in hostile)
    assert all(attributes["src"].startswith("data:") for tag, attributes in page.tags if tag == "img")


def test_an_unfinished_run_has_a_page_with_what_there_is(colored_folder, tmp_path):
    folder = tmp_path / "run"
    recipe = tiny_recipe(colored_folder, report=True, keep_maps=2)
    stopped = vitreous.train(recipe, folder, callback=RecordingCallback(stop_after=12))
    assert not stopped.finished
    during = Page((folder / "report.html").read_text())
    assert "This run is unfinished: step 12 of 28" in during.text and "Not measured during training" in during.text
    assert "Loss" in during.text and "How it was made" in during.text
    assert "from step 0 to step" in during.text, "the strip of a stopped run"
    vitreous.report(folder, **QUICK)
    assert "This run is unfinished: step 12 of 28" in (html := (folder / "report.html").read_text())
    assert "Measured for this page" in html
    (folder / "model.safetensors").unlink()
    notes = RecordingCallback()
    report = vitreous.report(folder, callback=_only_notes(notes), **QUICK)
    assert "Measurements" in report.missing and "model.safetensors" in Page(report.html).text
    assert "only what the run folder says is shown" in notes.notes[0]
    (folder / "metrics.jsonl").unlink()
    assert "Nothing is logged yet" in Page(vitreous.report(folder, **QUICK).html).text


def test_a_run_writes_its_page_unless_a_setting_says_no(colored_folder, trained_run, tmp_path):
    page = Page((trained_run / "report.html").read_text())
    lines = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["split"] == "validation"][-1]
    assert f"validation top-1 {last['top1']:.2%}" in page.text and "unfinished" not in page.text
    assert "on 6 images held out of training" in page.text
    assert "n = 30 test images of" in page.text and "Doctor's findings" in page.text, "measured when the run ends"
    vitreous.train(
        tiny_recipe(colored_folder, epochs=0.5, report=False), tmp_path / "run", callback=vitreous.Callback()
    )
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_fault_in_the_page_costs_a_note_and_no_run(colored_folder, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("vitreous.diagnostics.report.end_of_training.report", fail)
    monkeypatch.setattr("vitreous.diagnostics.report.end_of_training.write_history_report", fail)
    notes = RecordingCallback()
    recipe = tiny_recipe(colored_folder, epochs=0.5, report=True)
    result = vitreous.train(recipe, tmp_path / "run", callback=notes)
    assert result.finished and vitreous.load(tmp_path / "run").class_names == ("blue", "green", "red")
    assert any("report.html is not up to date (ZeroDivisionError: a fault)" in note for note in notes.notes)


def test_the_measurements_at_the_end_can_be_stopped(colored_folder, tmp_path):
    class Impatient(RecordingCallback):
        def should_stop(self) -> bool:
            return any("measuring the model" in note for note in self.notes)

    notes, recipe = Impatient(), tiny_recipe(colored_folder, epochs=0.5, report=True)
    assert vitreous.train(recipe, tmp_path / "run", callback=notes).finished
    assert any("report.html has no measurements" in note for note in notes.notes)
    assert "Not measured during training" in (tmp_path / "run" / "report.html").read_text()


def test_a_model_that_is_no_run_has_its_measurements(trained_run, colored_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = vitreous.report(vitreous.load(trained_run), data=f"folder:{colored_folder}", output="one.html", **QUICK)
    assert "Confusion" in Page(report.html).text and repr(report).startswith("Report('one.html', 0.")
    vitreous.load(trained_run).save("plain")
    plain = Page(vitreous.report("plain", data=f"folder:{colored_folder}", output="two.html", **QUICK).html)
    assert "How it was made" not in plain.text and "test top-1" in plain.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["RUN", "--method", "rolout"], "there is no method 'rolout': did you mean 'rollout'?"),
        (["RUN", "--count", "0"], "count is 0: give at least 1"),
        (["RUN", "--doctor-count", "-1"], "doctor_count is -1: give at least 0"),
        (["RUN", "--output", "page.pdf"], "page.pdf is not an HTML file: choose a name that ends in .html"),
        (["RUN", "--data", "folder:gone"], "gone"),
        (["RUN", "--device", "cuda:7"], "device 'cuda:7' is not there"),
        (["RUN", "--split", "tset"], "there is no split 'tset': did you mean 'test'?"),
        (["RUN", "RUN"], "are the same model: give two different ones"),
    ],
)
def test_bad_input_is_one_line(trained_run, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_command(["report", *(str(trained_run) if word == "RUN" else word for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "comparison.html").exists()


def test_the_command_line_writes_the_page(measured, tmp_path, capsys):
    arguments = ["report", str(measured), "-o", str(tmp_path / "page.html"), "--no-faithfulness", "--no-doctor"]
    assert run_command(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{tmp_path / 'page.html'} written, 0.")
    assert "empty: Faithfulness of the maps (the page says why)" in captured.err
    with pytest.raises(InputError, match="faithfulness_count is -1"):
        vitreous.report(measured, faithfulness_count=-1)


def test_the_style_has_both_themes():
    assert "prefers-color-scheme: dark" in page_style() and "@media print" in page_style()
