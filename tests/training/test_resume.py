"""Resume: a run that was stopped, at whatever moment, ends with the same bytes as an uninterrupted one."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_run import RecordingCallback, make_base, make_folder, tiny_recipe

from vitreous.data.augment import Augment
from vitreous.errors import InputError
from vitreous.files import atomic_write
from vitreous.model.lora import LoRASettings
from vitreous.records import override, to_dict
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training import loop
from vitreous.training.distillation import DistillationSettings
from vitreous.training.optimizer import OptimizerSettings
from vitreous.workflows.train import train


def results(path):
    """Read the files that have to be the same."""
    lora = [RunFolder(path).lora.read_bytes()] if RunFolder(path).lora.exists() else []
    return [(path / "model.safetensors").read_bytes(), RunFolder(path).checkpoint.read_bytes(), *lora]


def read_recipe(path):
    """Read the settings in a run's recipe.json."""
    return json.loads(RunFolder(path).recipe.read_text())["recipe"]


VARIANTS = {
    "muon": {"augment": Augment(flip=True, shift=2, cutout=4)},
    "adamw": {"optimizer": OptimizerSettings("adamw", clip_grad_norm=0.5)},
    "teacher": {"distillation": DistillationSettings(weight=0.6, teacher_width=3)},
    "stem": {"model": replace(tiny_recipe("").model, stem="conv"), "whiten_patch_embed": False},
    "no average": {"ema_decay": None, "precision": "fp32"},
    "mixing": {"augment": Augment(mixup=0.4, cutmix=1.0), "class_weights": "balanced"},
    "randaugment": {"augment": Augment(flip=True, randaugment_ops=2)},
    "early stopping": {"early_stopping_epochs": 10},
    "from weights": {"init": "base", "optimizer": OptimizerSettings(layer_decay=0.7)},
    "head": {"init": "base", "tune": "head"},
    "frozen": {"init": "base", "frozen_layers": 1},
    "lora": {"init": "base", "tune": "lora", "lora": LoRASettings(2, targets=("q", "v", "fc1"))},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_anywhere_and_resumed_gives_the_same_bytes(variant, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, **VARIANTS[variant])
    if recipe.init:
        recipe = replace(recipe, init=str(make_base(tmp_path / recipe.init)))
    train(recipe, tmp_path / "whole")
    for steps in (1, 4, 5, 0, 7):
        result = train(
            recipe, tmp_path / "parts", resume=(tmp_path / "parts").exists(), callback=RecordingCallback(steps)
        )
        assert not result.finished
    assert result.step == 17
    assert train(recipe, tmp_path / "parts", resume=True).finished
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    steps = [line["step"] for line in read_metrics(RunFolder(tmp_path / "parts"))]
    assert steps == sorted(steps)


class Starter:
    """Starts runs that are killed, each in a process of its own (see killable_worker.py)."""

    def __init__(self, folder: Path, epochs: float) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path(__file__).parent)}
        script = [sys.executable, str(Path(__file__).with_name("killable_worker.py")), str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen(script, env={**os.environ, **quiet}, **pipes)
        self.epochs = epochs

    def __enter__(self) -> "Starter":
        return self

    def __exit__(self, *_) -> None:
        with self.process:
            self.process.stdin.close()
        assert self.process.returncode == 0

    def run(self, output: Path, *, after: float | None = None, die_at: int | None = None) -> int:
        """Train and return the exit status; the process is killed `after` seconds of training, if given."""
        self.process.stdin.write(json.dumps({"output": str(output), "epochs": self.epochs, "die_at": die_at}) + "\n")
        process, line = int(self.process.stdout.readline()), self.process.stdout.readline()
        if after is not None and line == "training\n":
            time.sleep(after)
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(process, signal.SIGKILL)
        while not line.startswith("ended"):
            line = self.process.stdout.readline()
        return int(line.split()[1])


def test_killed_again_and_again_and_in_the_middle_of_saves_it_gives_the_same_bytes(colored_folder, tmp_path):
    """Every second time it is killed at a random moment, otherwise while it writes or renames a file."""
    random, parts, reached = np.random.default_rng(0), tmp_path / "parts", []
    kills, epochs = (25, 100) if "VITREOUS_SLOW" in os.environ else (8, 32)
    with Starter(colored_folder, epochs=epochs) as starter:
        assert starter.run(tmp_path / "whole") == 0
        for kill in range(kills):
            kill_at = {"die_at": int(random.integers(30))} if kill % 2 else {"after": random.uniform(0, 0.2)}
            assert starter.run(parts, **kill_at) == signal.SIGKILL, f"it finished before it could be killed: {reached}"
            reached.append(max((line["step"] for line in read_metrics(RunFolder(parts))), default=0))
        assert starter.run(parts) == 0
    assert results(parts) == results(tmp_path / "whole")
    assert not list(parts.rglob("*.part*"))
    assert len(set(reached)) > kills // 3, f"the kills were too close together: {reached}"


def test_a_full_disk_keeps_the_last_checkpoint(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder), tmp_path / "run"
    train(recipe, path, callback=RecordingCallback(5))
    before = results(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[0]) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match="file too large"):
            train(recipe, path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert results(path) == before
    assert not list(path.rglob("*.part*"))
    assert train(recipe, path, resume=True).finished


def test_a_kill_between_weights_and_checkpoint_costs_nothing(colored_folder, tmp_path, monkeypatch):
    recipe = tiny_recipe(colored_folder, epochs=1, checkpoint_seconds=1000.0)
    train(recipe, tmp_path / "whole")

    def killed(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", killed)
        with pytest.raises(SystemExit):
            train(recipe, tmp_path / "parts")
    train(recipe, tmp_path / "parts", resume=True)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_resume_refuses_what_does_not_fit(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder), tmp_path / "run"
    with pytest.raises(InputError, match="holds no run to resume"):
        train(recipe, path, resume=True)
    train(recipe, path, callback=RecordingCallback(5))
    with pytest.raises(InputError, match="holds a run already: resume it"):
        train(recipe, path)
    with pytest.raises(InputError, match="keeps its settings"):
        train(recipe, path, resume=True, settings={"epochs": 3})
    with pytest.raises(InputError, match="is a run of 'tiny', not of 'other'"):
        train(replace(recipe, name="other"), path, resume=True)
    whole = RunFolder(path).checkpoint.read_bytes()
    RunFolder(path).checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated or corrupt"):
        train(recipe, path, resume=True)


def test_data_that_changed_is_refused_until_accepted(tmp_path):
    images = make_folder(tmp_path / "images", 12)
    recipe = tiny_recipe(images, epochs=2)
    train(recipe, tmp_path / "run", callback=RecordingCallback(1))
    next((images / "train" / "red").iterdir()).unlink()
    before = results(tmp_path / "run")
    with pytest.raises(InputError, match=r"aren't those that .* or continue with them by accept_changed_data"):
        train(recipe, tmp_path / "run", resume=True)
    assert results(tmp_path / "run") == before
    callback = RecordingCallback(1)
    assert train(recipe, tmp_path / "run", accept_changed_data=True, resume=True, callback=callback).step == 2
    assert any("have changed" in note for note in callback.notes)
    assert any("validation accuracy may be optimistic from here on" in note for note in callback.notes)
    assert train(recipe, tmp_path / "run", resume=True).finished
    (images / "train" / "red").rename(images / "train" / "rouge")
    with pytest.raises(InputError, match=r"classes of .* aren't those of"):
        train(recipe, tmp_path / "run", resume=True, accept_changed_data=True)


def stored_metadata(path):
    """Read all of a run's recipe.json."""
    return json.loads(RunFolder(path).recipe.read_text())


def test_a_run_resumes_with_images_that_were_moved(tmp_path):
    images = make_folder(tmp_path / "images", 12)
    recipe, path = tiny_recipe(images, epochs=2), tmp_path / "run"
    train(recipe, tmp_path / "whole")
    train(recipe, path, callback=RecordingCallback(1))
    moved = images.rename(tmp_path / "moved")
    with pytest.raises(
        InputError, match=r"there is no folder .*images, .* if it was moved, resume with data folder:NEW"
    ):
        train(recipe, path, resume=True)
    other = make_folder(tmp_path / "others", 13)
    with pytest.raises(InputError, match=r"others' aren't those that .*--accept-changed-data"):
        train(recipe, path, data=f"folder:{other}", resume=True)
    assert stored_metadata(path)["recipe"]["data"] == f"folder:{images}"
    assert not train(recipe, path, data=f"folder:{moved}", resume=True, callback=RecordingCallback(1)).finished
    metadata = stored_metadata(path)
    assert metadata["recipe"]["data"] == metadata["data"]["source"] == f"folder:{moved}"
    assert "earlier_data" not in metadata
    assert train(recipe, path, resume=True).finished  # the new folder is recorded
    assert results(path) == results(tmp_path / "whole")
    again = moved.rename(images)
    assert train(recipe, path, data=f"folder:{again}", resume=True).finished
    assert stored_metadata(path)["recipe"]["data"] == f"folder:{again}", "evaluate looks there"


def test_a_finished_run_keeps_the_record_of_its_images(tmp_path):
    images = make_folder(tmp_path / "images", 12)
    recipe, path = tiny_recipe(images, epochs=2), tmp_path / "run"
    train(recipe, path)
    before = [*results(path), (path / "config.json").read_bytes(), RunFolder(path).recipe.read_bytes()]
    for number in range(20):  # as many as make more steps
        shutil.copy(images / "train" / "red" / "0.png", images / "train" / "red" / f"more{number}.png")
    callback = RecordingCallback()
    result = train(recipe, path, resume=True, accept_changed_data=True, callback=callback)
    assert result.finished and result.step == result.steps
    assert callback.notes[-1] == "the run is finished: nothing to do"
    assert not any("resuming" in note for note in callback.notes if "after step" not in note)
    assert [*results(path), (path / "config.json").read_bytes(), RunFolder(path).recipe.read_bytes()] == before


def test_the_metadata_record_until_which_step_which_images_were_used(tmp_path):
    images = make_folder(tmp_path / "images", 12)
    recipe, path = tiny_recipe(images, epochs=8), tmp_path / "run"
    train(recipe, path, callback=RecordingCallback(2))
    first = stored_metadata(path)
    accepted = {"resume": True, "accept_changed_data": True}
    next((images / "train" / "red").iterdir()).unlink()
    whole = RunFolder(path).checkpoint.read_bytes()
    RunFolder(path).checkpoint.write_bytes(whole[:-1000])
    with pytest.raises(InputError, match="truncated or corrupt"):
        train(recipe, path, **accepted)
    assert stored_metadata(path) == first
    RunFolder(path).checkpoint.write_bytes(whole)
    for steps in (0, 3):  # the second time the images are those that are known
        train(recipe, path, **accepted, callback=RecordingCallback(steps))
    second = stored_metadata(path)
    assert second["earlier_data"] == [{"until_step": 2, **first["data"]}]
    assert second["data"]["fingerprint"] != first["data"]["fingerprint"]
    next((images / "train" / "blue").iterdir()).unlink()
    train(recipe, path, **accepted, callback=RecordingCallback(0))
    next((images / "train" / "blue").iterdir()).unlink()
    train(recipe, path, **accepted, callback=RecordingCallback(0))  # no step was taken with the third set
    steps = [one["until_step"] for one in stored_metadata(path)["earlier_data"]]
    assert steps == [2, 5] and stored_metadata(path)["earlier_data"][1] == {"until_step": 5, **second["data"]}


def test_validation_images_that_changed_are_refused_too(tmp_path):
    images = make_folder(tmp_path / "images", 12)
    shutil.copytree(images / "test", images / "validation")
    recipe, path = tiny_recipe(images, epochs=2), tmp_path / "run"
    train(recipe, path, callback=RecordingCallback(1))
    next((images / "validation" / "red").iterdir()).unlink()
    with pytest.raises(InputError, match=r"aren't those that .* or continue with them by accept_changed_data"):
        train(recipe, path, resume=True)
    metadata = json.loads(RunFolder(path).recipe.read_text())
    older = {name: value for name, value in metadata["data"].items() if name != "validation_fingerprint"}
    RunFolder(path).recipe.write_text(json.dumps({**metadata, "data": older}))
    assert train(recipe, path, resume=True, callback=RecordingCallback(1)).step == 2


@pytest.mark.parametrize("variant", ["lora", "no average"])
def test_what_is_gone_of_a_finished_model_is_written_again(variant, colored_folder, tmp_path):
    changes = dict(VARIANTS[variant])
    if variant == "lora":
        changes["init"] = str(make_base(tmp_path / "base"))
    path, recipe = tmp_path / "run", tiny_recipe(colored_folder, epochs=1, **changes)
    train(recipe, path)
    names = ["config.json", "model.safetensors", *(["lora.safetensors"] if variant == "lora" else [])]
    before = {name: (path / name).read_bytes() for name in names}
    for gone in (names, names[:1], names[1:]):
        for name in gone:
            (path / name).unlink()
        callback = RecordingCallback()
        assert train(recipe, path, resume=True, callback=callback).finished
        assert callback.notes[-1] == f"the run is finished: {' and '.join(gone)} written again from its checkpoint"
        assert {name: (path / name).read_bytes() for name in names} == before


@pytest.mark.parametrize("steps", [None, 5])
def test_a_model_without_its_checkpoint_is_not_trained_over(steps, colored_folder, tmp_path):
    path, recipe = tmp_path / "run", tiny_recipe(colored_folder, epochs=1)
    train(recipe, path, callback=RecordingCallback(steps))
    weights = (path / "model.safetensors").read_bytes()
    RunFolder(path).checkpoint.unlink()
    with pytest.raises(
        InputError, match=r"holds a model, but no checkpoint to resume from: restore .*state.safetensors"
    ):
        train(recipe, path, resume=True)
    assert (path / "model.safetensors").read_bytes() == weights
    (path / "model.safetensors").unlink()
    callback = RecordingCallback()
    assert train(recipe, path, resume=True, callback=callback).finished
    assert "the run has no checkpoint: it starts again from its first step" in callback.notes


def test_a_run_from_before_validation_by_class_keeps_its_validation_images(tmp_path):
    images, path = make_folder(tmp_path / "images", 12), tmp_path / "run"
    recipe = tiny_recipe(images, epochs=2, validation_by_class=False)
    train(recipe, tmp_path / "whole")
    train(recipe, path, callback=RecordingCallback(1))
    metadata = json.loads(RunFolder(path).recipe.read_text())
    del metadata["recipe"]["validation_by_class"]
    RunFolder(path).recipe.write_text(json.dumps(metadata))
    assert train(recipe, path, resume=True).finished
    assert results(path) == results(tmp_path / "whole")
    today = train(tiny_recipe(images, epochs=2), tmp_path / "today")
    data = [json.loads((one / "recipe.json").read_text())["data"] for one in (path, today.path)]
    assert data[0] == metadata["data"] and data[0]["validation_fingerprint"] != data[1]["validation_fingerprint"]


def test_settings_of_time_and_memory_may_change_on_resume(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder, precision="fp32"), tmp_path / "run"
    train(recipe, tmp_path / "whole")
    train(recipe, path, callback=RecordingCallback(5))
    changes = {"grad_checkpointing": True, "fsdp": True, "checkpoint_seconds": 5}
    with pytest.raises(InputError, match=r"can't be split over 1 process\(es\) with 17 micro-batch\(es\) each"):
        train(recipe, path, resume=True, settings={"grad_accum_steps": 17})
    with pytest.raises(InputError, match="keeps its settings, except grad_accum_steps, "):
        train(recipe, path, resume=True, settings={**changes, "seed": 1})
    assert not read_recipe(path)["grad_checkpointing"]
    assert not train(recipe, path, resume=True, settings=changes, callback=RecordingCallback(3)).finished
    known = {name: read_recipe(tmp_path / "whole")[name] for name in ("data", "model")}
    assert read_recipe(path) == json.loads(json.dumps(to_dict(override(recipe, changes)))) | known
    assert train(recipe, path, resume=True).finished
    assert results(path) == results(tmp_path / "whole")


def test_a_folder_in_which_a_run_was_only_being_created_is_free(colored_folder, tmp_path):
    path = tmp_path / "run"
    with atomic_write(RunFolder(path).recipe) as unfinished:
        unfinished.write_text("{")
    RunFolder(path).recipe.unlink()
    unfinished.write_text("{")
    with pytest.raises(InputError, match=r"leave out resume .* to start one"):
        train(tiny_recipe(colored_folder, epochs=1), path, resume=True)
    assert train(tiny_recipe(colored_folder, epochs=1), path).finished
    assert not list(path.rglob("*.part*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.embed_dim": 24, "model.num_heads": 2}, r"is \(.*24.*\) there and \(.*16.*\) here"),
        ({"model.depth": "3"}, "blocks.2.* is unexpected"),
        ({"optimizer.kind": "adamw"}, "optimizer/adamw/blocks.0.* is unexpected"),
        ({"ema_decay": None}, "ema/.* is missing"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(changes, words, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, epochs=1)
    train(recipe, tmp_path / "run", callback=RecordingCallback(1))
    train(override(recipe, changes), tmp_path / "other", callback=RecordingCallback(1))
    RunFolder(tmp_path / "run").checkpoint.write_bytes(RunFolder(tmp_path / "other").checkpoint.read_bytes())
    with pytest.raises(InputError, match=f"is of another model or recipe .*{words}"):
        train(recipe, tmp_path / "run", resume=True)
