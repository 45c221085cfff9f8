"""The doctor from the command line: text, JSON, and a page that loads nothing else."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vitreous.cli import run
from vitreous.diagnostics.doctor.run import doctor
from vitreous.explanation.regions import upsample_nearest
from vitreous.imaging.geometry import Geometry

LEVELS = {"fault", "note", "ok", "unknown"}


class PageParser(HTMLParser):
    """Checks that tags are closed in order, and collects what they load."""

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.tags, self.links = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        self.links += [value for name, value in attrs if name == "xlink:href"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def diagnosed(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor & <co>")
    assert run(["doctor", str(trained_run), "-o", str(folder), "--count", "3"]) == 0
    return folder


def test_findings_are_printed(trained_run, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)).save(tmp_path / "a.png")
    assert run(["doctor", str(trained_run), str(tmp_path / "a.png"), "-o", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 layers of 2 heads, 1 image ·" in said
    for topic in ("outlier tokens", "dead heads", "rollout", "attention distance"):
        assert topic in said


def test_json_contains_the_findings_and_the_statistics(diagnosed):
    content = json.loads((diagnosed / "doctor.json").read_text())
    assert content["images"] == 3 and {one["level"] for one in content["findings"]} <= LEVELS
    assert content["faults"] == sum(one["level"] == "fault" for one in content["findings"])
    assert np.array(content["statistics"]["entropy"]).shape == (2, 2)
    keys = [key for one in (content, content["statistics"], *content["findings"]) for key in one]
    keys += [key for one in content["findings"] for key in one["values"]]
    assert "relative_entropy" in keys and all(re.fullmatch("[a-z][a-z0-9_]*", key) for key in keys), keys


def test_the_page_is_complete_and_loads_nothing(diagnosed):
    text = (diagnosed / "doctor.html").read_text(encoding="utf-8")
    page = PageParser()
    page.feed(text)
    assert not page.open and "script" not in page.tags and "link" not in page.tags
    assert page.loaded and all(uri.startswith("data:image/png;base64,") for uri in page.loaded)
    assert page.links and all(link.startswith("#") for link in page.links)
    assert 'name="viewport"' in text and "url(" not in text and page.tags.count("img") == 8
    assert "Contribution of each head" in text and "nan" not in text


def test_a_diagnosis_is_saved_as_the_command_writes_it(diagnosed, trained_run, tmp_path):
    diagnosis = doctor(trained_run, count=3, device="cpu")
    assert diagnosis.save(tmp_path) == (tmp_path / "doctor.json", tmp_path / "doctor.html")
    assert (tmp_path / "doctor.json").read_text() == (diagnosed / "doctor.json").read_text()
    assert json.loads(json.dumps(diagnosis.to_json())) == json.loads((tmp_path / "doctor.json").read_text())


def test_json_on_screen(trained_run, tmp_path, capsys):
    assert run(["doctor", str(trained_run), "--count", "2", "-o", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2


def test_cells_lie_in_the_area_that_the_model_received():
    geometry = Geometry((10, 30), (8, 8), (0.0, 10.0, 10.0, 20.0))
    grid = np.arange(1, 5).reshape(2, 2)
    drawn = upsample_nearest(grid, geometry)
    assert drawn.shape == (10, 30) and (drawn[:, :10] == 1).all() and (drawn[:, 20:] == 1).all()
    assert (drawn[:5, 15:20] == 2).all() and (drawn[5:, 10:15] == 3).all() and (drawn[5:, 15:20] == 4).all()


def test_folders_of_images_and_of_masks_are_sources_too(trained_run, tmp_path, capsys):
    clip = tmp_path / "square"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for i in range(3):
        for place, image in ((f"frames/{i}.png", pixels), (f"masks/{i}.png", pixels[..., 0])):
            (clip / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(clip / place)
    (clip / "frames/notes.txt").write_text("no image")
    for data, count in ((f"masks:{tmp_path}", 3), (clip / "frames", 3), (f"folder:{clip / 'frames'}", 3)):
        assert run(["doctor", str(trained_run), "--data", str(data), "-o", str(tmp_path / "out"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == count
    assert run(["doctor", str(trained_run), "--data", f"masks:{tmp_path / 'none'}"]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.png"], "missing.png"),
        (["--data", "cifr10"], "did you mean 'cifar10'"),
        (["--count", "0"], "a count of 0"),
        (["--device", "toaster"], "no device 'toaster'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, words, trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", str(trained_run), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and not list(tmp_path.iterdir())


def test_a_model_of_unknown_data_needs_images(trained_run, tmp_path, capsys):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((trained_run / name).read_bytes())
    assert run(["doctor", str(tmp_path)]) == 2
    assert "name images after the model, or a source with --data" in " ".join(capsys.readouterr().err.split())
