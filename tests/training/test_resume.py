"""A run that was stopped, at whatever moment, ends with the same bytes as one that never was."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import make_folder, tiny_recipe

from vitreous.data.augment import Augment
from vitreous.errors import InputError
from vitreous.files import written_beside
from vitreous.records import override, to_dict
from vitreous.training import loop
from vitreous.training.optimizer import OptimizerSettings
from vitreous.training.run_folder import RunFolder, read_metrics
from vitreous.training.teacher import TeacherSettings
from vitreous.workflows.train import Listener, train


def results(path):
    """The bytes that have to be the same."""
    return [(path / "model.safetensors").read_bytes(), RunFolder(path).checkpoint.read_bytes()]


def stop_after(steps):
    """A listener that asks for a stop after so many questions."""
    asked = iter(range(10**6))
    return Listener(stoppable=lambda: nullcontext(lambda: next(asked) >= steps))


def read_header(path):
    """The settings in a run's recipe.json."""
    return json.loads(RunFolder(path).recipe.read_text())["recipe"]


VARIANTS = {
    "muon": {"augment": Augment(flip=True, shift=2, cutout=4)},
    "adamw": {"optimizer": OptimizerSettings("adamw", clip_norm=0.5)},
    "teacher": {"teacher": TeacherSettings(share=0.6, width=3)},
    "stem": {"model": replace(tiny_recipe("").model, stem="conv"), "whitened_patches": False},
    "no average": {"average_decay": None, "precision": "fp32"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_anywhere_and_resumed_gives_the_same_bytes(variant, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, **VARIANTS[variant])
    train(recipe, tmp_path / "whole")
    for steps in (1, 4, 5, 0, 7):
        result = train(recipe, tmp_path / "parts", resume=(tmp_path / "parts").exists(), listener=stop_after(steps))
        assert not result.finished
    assert result.step == 17
    assert train(recipe, tmp_path / "parts", resume=True).finished
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    steps = [line["step"] for line in read_metrics(RunFolder(tmp_path / "parts"))]
    assert steps == sorted(steps)


@pytest.mark.parametrize("seed", range(1))
def test_killed_at_random_instants_gives_the_same_bytes(seed, colored_folder, tmp_path):
    command = [sys.executable, __file__, str(colored_folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)
    random = torch.Generator().manual_seed(seed)
    parts, kills = tmp_path / "parts", 0
    while kills < 4:
        process = subprocess.Popen([*command, str(parts)], env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "training\n"
        time.sleep(torch.rand(1, generator=random).item() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    subprocess.run([*command, str(parts)], check=True, env=environment, stdout=subprocess.DEVNULL)
    assert results(parts) == results(tmp_path / "whole")
    assert not list(parts.rglob("*.part*"))


def test_a_full_disk_leaves_the_last_checkpoint(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder), tmp_path / "run"
    train(recipe, path, listener=stop_after(5))
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
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(SystemExit):
            train(recipe, tmp_path / "parts")
    train(recipe, tmp_path / "parts", resume=True)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_what_resume_refuses(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder), tmp_path / "run"
    with pytest.raises(InputError, match="holds no run to go on with"):
        train(recipe, path, resume=True)
    train(recipe, path, listener=stop_after(5))
    with pytest.raises(InputError, match="holds a run already: add --resume"):
        train(recipe, path)
    with pytest.raises(InputError, match="keeps its data and settings"):
        train(recipe, path, resume=True, settings={"epochs": "3"})
    with pytest.raises(InputError, match="is a run of 'tiny', not of 'other'"):
        train(replace(recipe, name="other"), path, resume=True)
    whole = RunFolder(path).checkpoint.read_bytes()
    RunFolder(path).checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut short or damaged"):
        train(recipe, path, resume=True)


def test_data_that_changed_is_refused_until_accepted(tmp_path):
    pictures = make_folder(tmp_path / "pictures", 12)
    recipe = tiny_recipe(pictures, epochs=2)
    train(recipe, tmp_path / "run", listener=stop_after(1))
    next((pictures / "train" / "red").iterdir()).unlink()
    before = results(tmp_path / "run")
    with pytest.raises(InputError, match=r"aren't those that .* or go on with them by --accept-changed-data"):
        train(recipe, tmp_path / "run", resume=True)
    assert results(tmp_path / "run") == before
    notes = []
    again = {"resume": True, "listener": Listener(notes.append, stoppable=stop_after(1).stoppable)}
    assert train(recipe, tmp_path / "run", accept_changed_data=True, **again).step == 2
    assert any("have changed" in note for note in notes)
    assert any("validation accuracy flatters from here on" in note for note in notes)
    assert train(recipe, tmp_path / "run", resume=True).finished
    (pictures / "train" / "red").rename(pictures / "train" / "rouge")
    with pytest.raises(InputError, match=r"classes of .* aren't those of"):
        train(recipe, tmp_path / "run", resume=True, accept_changed_data=True)


def test_validation_pictures_that_changed_are_refused_too(tmp_path):
    pictures = make_folder(tmp_path / "pictures", 12)
    shutil.copytree(pictures / "test", pictures / "validation")
    recipe, path = tiny_recipe(pictures, epochs=2), tmp_path / "run"
    train(recipe, path, listener=stop_after(1))
    next((pictures / "validation" / "red").iterdir()).unlink()
    with pytest.raises(InputError, match=r"aren't those that .* or go on with them by --accept-changed-data"):
        train(recipe, path, resume=True)
    header = json.loads(RunFolder(path).recipe.read_text())
    older = {name: value for name, value in header["data"].items() if name != "validation_fingerprint"}
    RunFolder(path).recipe.write_text(json.dumps({**header, "data": older}))
    assert train(recipe, path, resume=True, listener=stop_after(1)).step == 2


def test_what_only_costs_time_or_memory_may_change_on_the_way(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder, precision="fp32"), tmp_path / "run"
    train(recipe, tmp_path / "whole")
    train(recipe, path, listener=stop_after(5))
    changes = {"checkpoint_activations": "true", "shard_weights": "true", "checkpoint_seconds": "5"}
    with pytest.raises(InputError, match=r"can't be shared by 1 process\(es\) in 17 part\(s\) each"):
        train(recipe, path, resume=True, settings={"accumulate": "17"})
    with pytest.raises(InputError, match="keeps its data and settings, but for accumulate, "):
        train(recipe, path, resume=True, settings={**changes, "seed": "1"})
    assert not read_header(path)["checkpoint_activations"]
    assert not train(recipe, path, resume=True, settings=changes, listener=stop_after(3)).finished
    known = {name: read_header(tmp_path / "whole")[name] for name in ("data", "model")}
    assert read_header(path) == json.loads(json.dumps(to_dict(override(recipe, changes)))) | known
    assert train(recipe, path, resume=True).finished
    assert results(path) == results(tmp_path / "whole")


def test_a_folder_in_which_a_run_had_hardly_begun_is_free(colored_folder, tmp_path):
    path = tmp_path / "run"
    with written_beside(RunFolder(path).recipe) as unfinished:
        unfinished.write_text("{")
    RunFolder(path).recipe.unlink()
    unfinished.write_text("{")
    with pytest.raises(InputError, match="leave out --resume to start one"):
        train(tiny_recipe(colored_folder, epochs=1), path, resume=True)
    assert train(tiny_recipe(colored_folder, epochs=1), path).finished
    assert not list(path.rglob("*.part*"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.width": "24", "model.heads": "2"}, r"is \(.*24.*\) there and \(.*16.*\) here"),
        ({"model.depth": "3"}, "blocks.2.* is not known here"),
        ({"optimizer.kind": "adamw"}, "optimizer/adamw/blocks.0.* is not known here"),
        ({"average_decay": "none"}, "average/.* is missing"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(changes, words, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, epochs=1)
    train(recipe, tmp_path / "run", listener=stop_after(1))
    train(override(recipe, changes), tmp_path / "other", listener=stop_after(1))
    RunFolder(tmp_path / "run").checkpoint.write_bytes(RunFolder(tmp_path / "other").checkpoint.read_bytes())
    with pytest.raises(InputError, match=f"is of another model or recipe .*{words}"):
        train(recipe, tmp_path / "run", resume=True)


@pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")
def test_killed_25_times_and_in_the_middle_of_saves_gives_the_same_bytes(colored_folder, tmp_path):
    """Every second time at a random instant, else at one of the steps of writing, files half written included."""
    command = [sys.executable, __file__, str(colored_folder)]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(Path(__file__).parent)}
    environment = {**os.environ, **quiet, "EPOCHS": "100"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment)
    random, parts, reached = np.random.default_rng(0), tmp_path / "parts", []
    for kill in range(25):
        mortal = {**environment, "DIE_AT_WRITE": str(random.integers(30))} if kill % 2 else environment
        process = subprocess.Popen([*command, str(parts)], env=mortal, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and (kill % 2 or process.stdout.readline() == "training\n")
        if kill % 2 == 0:
            time.sleep(random.uniform(0, 0.6))
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it was finished too early for a kill"
        reached.append(max((line["step"] for line in read_metrics(RunFolder(parts))), default=0))
    subprocess.run([*command, str(parts)], check=True, env=environment, stdout=subprocess.DEVNULL)
    assert results(parts) == results(tmp_path / "whole")
    assert not list(parts.rglob("*.part*"))
    assert len(set(reached)) > 8, f"the kills fell too close together: {reached}"


def die_at_write(number: int) -> None:
    """Have the process kill itself at the write, flush or renaming of that number, in the midst of what it writes."""
    left = iter(range(number))
    plain = {name: getattr(Path, name) for name in ("write_bytes", "write_text", "replace")}

    def mortal(name: str):
        def act(path: Path, content, *arguments, **options):
            if next(left, None) is None:
                if name != "replace":
                    plain[name](path, content[: len(content) // 2], *arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return plain[name](path, content, *arguments, **options)

        return act

    for name in plain:
        setattr(Path, name, mortal(name))


if __name__ == "__main__":
    target = sys.argv[2]
    chosen = tiny_recipe(sys.argv[1], epochs=int(os.environ.get("EPOCHS", "12")))
    if "DIE_AT_WRITE" in os.environ:
        die_at_write(int(os.environ["DIE_AT_WRITE"]))
    resume = RunFolder(Path(target)).recipe.exists()

    def tell(text: str) -> None:
        if "learn from" in text:
            sys.stdout.write("training\n")
            sys.stdout.flush()

    train(chosen, target, resume=resume, listener=Listener(tell))
