"""metrics.jsonl while it grows: what was read stays, half a line waits, and what a resume drops is noticed."""

import json

import pytest

from vitreous.errors import InputError
from vitreous.files import is_locked
from vitreous.runs.metrics_tail import MetricsTail
from vitreous.runs.run_folder import RunFolder, RunLock, append_metrics, drop_metrics_after, read_metrics


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    return RunFolder(tmp_path)


def write_steps(folder, *steps, loss=1.0):
    for step in steps:
        append_metrics(folder, step=step, epoch=step / 10, split="train", loss=loss)


def test_lines_are_read_as_they_come(folder):
    tail = MetricsTail(folder)
    before = tail.lines
    tail.read()
    assert tail.lines is before and before == [], "nothing has changed while there is no file"
    write_steps(folder, 10, 20)
    tail.read()
    first = tail.lines
    assert first == read_metrics(folder)
    write_steps(folder, 30)
    tail.read()
    assert tail.lines is first and first == read_metrics(folder)


def test_half_a_line_waits_for_its_rest(folder):
    tail = MetricsTail(folder)
    write_steps(folder, 10)
    line = json.dumps({"step": 20, "epoch": 2.0, "split": "train", "loss": 0.5}) + "\n"
    for end in (1, len(line) // 2, len(line) - 1):
        folder.metrics.write_text(folder.metrics.read_text().partition("\n")[0] + "\n" + line[:end])
        tail.read()
        assert [one["step"] for one in tail.lines] == [10]
    folder.metrics.write_text(folder.metrics.read_text() + line[-1])
    tail.read()
    assert [one["step"] for one in tail.lines] == [10, 20]


@pytest.mark.parametrize("again", [(20, 30), (20, 30, 40, 50, 60)])
def test_a_resumed_run_takes_the_place_of_the_lines_that_it_dropped(folder, again):
    tail = MetricsTail(folder)
    write_steps(folder, 10, 20, 30, 40)
    tail.read()
    before = tail.lines
    drop_metrics_after(folder, 10)
    write_steps(folder, *again, loss=0.25)
    tail.read()
    assert tail.lines is not before and tail.lines == read_metrics(folder)
    folder.metrics.unlink()
    tail.read()
    assert tail.lines == []


def test_a_damaged_line_is_named_and_those_before_it_are_kept(folder):
    tail = MetricsTail(folder)
    write_steps(folder, 10)
    with folder.metrics.open("a") as file:
        file.write("{broken\n")
    for _ in range(2):
        with pytest.raises(InputError, match=r"line 2 .* is damaged: delete that line"):
            tail.read()
        assert [one["step"] for one in tail.lines] == [10]
    folder.metrics.write_text(folder.metrics.read_text().replace("{broken\n", ""))
    write_steps(folder, 20)
    tail.read()
    assert [one["step"] for one in tail.lines] == [10, 20]


def test_whether_a_run_is_locked_can_be_asked_without_disturbing_it(folder):
    assert is_locked(folder.lock) is None
    lock = RunLock()
    lock.acquire(folder)
    assert is_locked(folder.lock) is True
    lock.close()
    assert is_locked(folder.lock) is False
    lock.acquire(folder)
    lock.close()
