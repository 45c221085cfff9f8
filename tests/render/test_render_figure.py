"""Figures are written whole, or not at all, from any number of lines and classes; nothing global is touched."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vitreous.errors import InputError
from vitreous.render.plots.confusion import confusion_colors, confusion_matrix, format_percent
from vitreous.render.plots.curves import running_median, series, training_curves


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def log(steps: int) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    for step in range(steps):
        epoch = step / 100
        lines.append({"step": step, "epoch": epoch, "split": "train", "loss": 2 / (1 + epoch), "top1": 0.5})
        if step % 100 == 99:
            scores = {"split": "validation", "loss": 2 / (1 + epoch), "top1": epoch / (1 + epoch)}
            lines.append({"step": step, "epoch": epoch, **scores})
    return lines


@pytest.mark.parametrize("steps", [0, 1, 2, 120, 20_000])
def test_curves_of_any_length(tmp_path, steps):
    training_curves(log(steps), tmp_path / "figures" / "curves.png")
    pixels = read(tmp_path / "figures" / "curves.png")
    assert pixels.shape == (700, 1600, 3)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["curves.png"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_curves_with_values_that_are_not_finite(tmp_path, bad):
    lines = log(300)
    lines[5]["loss"] = lines[50]["epoch"] = bad
    lines[-1].update(loss=bad, top1=bad)
    training_curves(lines, tmp_path / "some.png")
    training_curves([{**line, "loss": bad, "top1": bad} for line in lines], tmp_path / "all.png")
    assert read(tmp_path / "some.png").std() > 0 and read(tmp_path / "all.png").std() > 0


def test_a_resumed_log_and_values_at_the_bounds(tmp_path):
    first, last = ({"split": "validation", "epoch": value, "loss": 1 - value, "top1": value} for value in (0.0, 1.0))
    lines = [first, last]
    training_curves([*lines, *lines], tmp_path / "curves.png")
    assert read(tmp_path / "curves.png").shape[1] == 1600


def test_a_series_holds_only_its_own_lines():
    epochs, values = series(
        [{"epoch": 1, "split": "train", "loss": 2.0}, {"epoch": 2, "split": "validation", "loss": 5.0}], "train", "loss"
    )
    assert epochs.tolist() == [1] and values.tolist() == [2]


def test_one_wild_step_does_not_bend_the_running_median():
    epochs, values = np.arange(1000) / 10, np.ones(1000)
    values[500], values[700] = 1e9, np.nan
    places, medians = running_median(epochs, values)
    assert (medians == 1).all() and places.size == medians.size <= 400
    assert [part.size for part in running_median(np.zeros(0), np.zeros(0))] == [0, 0]


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 11, 20, 21, 100])
def test_confusion_matrices_of_any_size(tmp_path, classes):
    matrix = np.random.default_rng(0).integers(0, 50, (classes, classes)) + 200 * np.eye(classes, dtype=int)
    confusion_matrix(matrix, [f"class {i}" for i in range(classes)], tmp_path / "confusion.png")
    height, width, _ = read(tmp_path / "confusion.png").shape
    assert 1000 <= width <= 1700 and 600 <= height <= 1800


@pytest.mark.parametrize("name", ["x" * 200, "猫", "$a_b$ \\frac", "two\nlines", "", "žluťoučký кот"])
def test_any_name_is_drawn_inside_the_figure(tmp_path, name):
    confusion_matrix(np.array([[5, 1], [0, 9]]), [name, "dog"], tmp_path / "confusion.png")
    pixels = read(tmp_path / "confusion.png")
    assert all((edge == 255).all() for edge in [pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]])


def test_an_empty_class_and_an_empty_matrix(tmp_path):
    confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"], tmp_path / "row.png")
    confusion_matrix(np.zeros((2, 2), int), ["a", "b"], tmp_path / "all.png")
    assert read(tmp_path / "row.png").size and read(tmp_path / "all.png").size


def test_right_is_blue_wrong_is_orange_and_nothing_is_white():
    colors = confusion_colors(np.array([[0.5, 0.5], [0.0, 1.0]]))
    assert colors[0, 0, 2] > colors[0, 0, 0] and colors[0, 1, 0] > colors[0, 1, 2]
    assert (colors[1, 0] == 1).all() and colors.min() >= 0 and colors.max() <= 1


def test_a_small_share_is_not_written_as_none():
    assert [format_percent(value, 0) for value in (100, 99.6, 0.5, 0.2, 1)] == ["100", "100", "<1", "<1", "1"]
    assert format_percent(0.01, 1) == "<0.1"


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        (np.zeros((2, 3), int), ["a", "b"]),
        (np.zeros((2, 2), int), ["a"]),
        (np.array([[1, -1], [0, 1]]), ["a", "b"]),
        (np.zeros((0, 0), int), []),
        (np.zeros(4, int), ["a", "b"]),
    ],
)
def test_a_matrix_that_is_none_is_refused_and_nothing_written(tmp_path, matrix, names):
    with pytest.raises(InputError, match="matrix"):
        confusion_matrix(matrix, names, tmp_path / "confusion.png")
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    training_curves(log(10), path)
    before = path.read_bytes()

    def half(_, target, **__):
        target.write_bytes(b"half")
        raise RuntimeError("power cut")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(RuntimeError, match="power cut"):
        training_curves(log(20), path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        training_curves([], tmp_path / "file" / "curves.png")


def test_importing_is_light_and_drawing_touches_neither_pyplot_nor_torch(tmp_path):
    code = f"""
import sys
from vitreous.render import color, overlay, sheet, text
from vitreous.render.plots import curves
assert "matplotlib" not in sys.modules
curves.training_curves([], {str(tmp_path / "curves.png")!r})
assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
