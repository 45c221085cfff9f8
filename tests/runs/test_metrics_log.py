"""Metrics go to metrics.jsonl always, and to TensorBoard if the recipe asks for it."""

import sys
import types

import pytest
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.errors import InputError
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.workflows.train import train


class Recorder:
    """Replaces TensorBoard's writer."""

    made: list["Recorder"]

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.points, self.closed = folder, purge_step, [], False
        Recorder.made.append(self)

    def add_scalar(self, name, value, step):
        self.points.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    module = types.ModuleType("torch.utils.tensorboard")
    module.__dict__["SummaryWriter"] = Recorder
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    Recorder.made = []
    return Recorder.made


def test_tensorboard_gets_the_values_of_metrics_jsonl(tensorboard, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, epochs=2, tensorboard=True)
    train(recipe, tmp_path / "run", callback=RecordingCallback(stop_after=5))
    train(recipe, tmp_path / "run", resume=True)
    first, second = tensorboard
    lines = read_metrics(RunFolder(tmp_path / "run"))
    assert first.folder == str(tmp_path / "run" / "tensorboard") and first.closed and second.closed
    assert (first.purge_step, second.purge_step) == (1, 6)
    assert max(step for *_, step in first.points) == 5 < min(step for *_, step in second.points)
    points = {(name, step): value for name, value, step in first.points + second.points}
    for line in lines:
        for name in ("loss", "top1"):
            assert points[f"{line['split']}/{name}", line["step"]] == pytest.approx(line[name], rel=1e-5)
    assert ("train/learning_rate", lines[-2]["step"]) in points or ("train/learning_rate", lines[-1]["step"]) in points


def test_without_the_package_the_error_is_one_line_and_nothing_is_started(monkeypatch, colored_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"tensorboard=true needs the package tensorboard .*pip install tensorboard"):
        train(tiny_recipe(colored_folder, tensorboard=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny_recipe(colored_folder, epochs=1), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
