"""Several trainings at once: threads don't change each other's numbers, and a run has one trainer at a time."""

import errno
import os
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_run import RecordingCallback, tiny_recipe

from vitreous.callbacks import Callback
from vitreous.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, run
from vitreous.errors import InputError
from vitreous.runs import run_folder
from vitreous.runs.run_folder import RunFolder, RunLock, read_metrics
from vitreous.training import loop
from vitreous.training.distillation import DistillationSettings
from vitreous.workflows import train as workflow
from vitreous.workflows.train import train


def weights(path):
    return (path / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grad_checkpointing": True, "grad_accum_steps": 2},
        {"distillation": DistillationSettings(weight=0.5, teacher_width=4), "whiten_patch_embed": False},
    ],
    ids=["plain", "recomputed", "distilled"],
)
def test_trainings_in_threads_give_the_bytes_of_one_alone(changes, colored_folder, tmp_path):
    recipe, ended = tiny_recipe(colored_folder, epochs=1, **changes), threading.Event()
    train(recipe, tmp_path / "alone", callback=Callback())

    def draw() -> None:
        while not ended.is_set():
            torch.rand(100)
            torch.manual_seed(5)

    other = threading.Thread(target=draw)
    other.start()
    try:
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda name: train(recipe, tmp_path / name, callback=Callback()), "abc"))
    finally:
        ended.set()
        other.join()
    assert [weights(tmp_path / name) for name in "abc"] == 3 * [weights(tmp_path / "alone")]


@pytest.mark.parametrize(
    "changes",
    [{}, {"grad_checkpointing": True, "distillation": DistillationSettings(weight=0.5, teacher_width=4)}],
    ids=["plain", "distilled"],
)
def test_training_leaves_the_global_random_numbers_alone(changes, colored_folder, tmp_path):
    seen = []

    class Watch(Callback):
        def should_stop(self) -> bool:
            seen.append(torch.get_rng_state())
            return False

    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(tiny_recipe(colored_folder, epochs=0.3, **changes), tmp_path / "run", callback=Watch())
    assert len(seen) > 1 and all(torch.equal(before, state) for state in [*seen, torch.get_rng_state()])


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_training_works_where_gradients_are_off(without, colored_folder, tmp_path):
    recipe = tiny_recipe(colored_folder, epochs=0.5)
    train(recipe, tmp_path / "usual", callback=Callback())
    with without():
        result = train(recipe, tmp_path / "run", callback=Callback())
        assert not torch.is_grad_enabled()
    assert result.finished and weights(tmp_path / "run") == weights(tmp_path / "usual")


def test_a_run_that_is_being_trained_is_refused_to_others(colored_folder, tmp_path):
    recipe, path, refused = tiny_recipe(colored_folder, epochs=1), tmp_path / "run", []

    class ResumeToo(Callback):
        def should_stop(self) -> bool:
            with pytest.raises(InputError, match="is being trained by another process or thread: wait"):
                train(recipe, path, resume=True, callback=Callback())
            refused.append(1)
            return False

    train(recipe, path, callback=RecordingCallback(2))
    assert train(recipe, path, resume=True, callback=ResumeToo()).finished
    steps = [line["step"] for line in read_metrics(RunFolder(path)) if line["split"] == "train"]
    assert refused and steps == sorted(set(steps))
    assert train(recipe, path, resume=True, callback=Callback()).finished


def test_two_starts_in_one_folder_are_told_apart(colored_folder, tmp_path, monkeypatch):
    lock, folder = RunLock(), RunFolder(tmp_path)
    lock.acquire(folder)
    with pytest.raises(InputError, match="is being trained"):
        train(tiny_recipe(colored_folder, epochs=1), tmp_path, callback=Callback())
    lock.close()
    assert train(tiny_recipe(colored_folder, epochs=0.1), tmp_path, callback=Callback()).finished


@pytest.mark.parametrize("code", ["ENOTSUP", "ENOLCK", "ENOSYS"])
@pytest.mark.filterwarnings("error")
def test_a_file_system_without_locks_is_noted_and_trained_on(code, colored_folder, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    notes, recipe = [], tiny_recipe(colored_folder, epochs=0.2)

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    class Listen(Callback):
        def on_note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(recipe, tmp_path / "run", callback=Listen()).finished
    assert [note for note in notes if "has no locks: don't train this run in two processes" in note]
    assert train(recipe, tmp_path / "run", resume=True, callback=Callback()).finished
    assert not (tmp_path / "run" / ".lock").exists()


def test_resume_leaves_the_unfinished_files_of_others(colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder, epochs=0.5), tmp_path / "run"
    train(recipe, path, callback=RecordingCallback(1))
    clip, frames = path / ".clip.1234abcd.part.mp4", path / ".frames.1234abcd.part"
    clip.write_text("being written")
    frames.mkdir()
    left = [path / ".model.77.part.safetensors", path / "checkpoint" / ".state.77.part.safetensors"]
    for each in left:
        each.write_text("left by a kill")
    assert train(recipe, path, resume=True, callback=Callback()).finished
    assert clip.exists() and frames.exists() and not any(each.exists() for each in left)


@pytest.mark.parametrize("how", ["deleted", "renamed"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (loop, "training_step"),
        (loop, "write_weights"),
        (loop, "write_checkpoint"),
        (loop, "training_curves"),
        (run_folder, "_finite"),
        (workflow, "save_config"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_folder_that_is_gone_is_an_error_and_not_made_again(
    module, name, how, colored_folder, tmp_path, monkeypatch
):
    path, original = tmp_path / "run", getattr(module, name)

    def after_removal(*arguments):
        if path.exists():
            shutil.rmtree(path) if how == "deleted" else path.rename(tmp_path / "elsewhere")
        return original(*arguments)

    monkeypatch.setattr(module, name, after_removal)
    with pytest.raises(InputError, match=r"run is gone: the run folder was moved or deleted during training$"):
        train(tiny_recipe(colored_folder, epochs=2), path, callback=Callback())
    assert not path.exists()


def test_a_deletion_that_is_under_way_is_one(colored_folder, tmp_path):
    """`rm -r` deletes the files first, and the folder last."""
    path = tmp_path / "run"

    class Delete(RecordingCallback):
        def should_stop(self) -> bool:
            if self.should_stop_calls == 3:
                for file in path.rglob("*.*"):
                    file.unlink()
            return super().should_stop()

    with pytest.raises(InputError, match=r"run is gone: the run folder was moved or deleted during training$"):
        train(tiny_recipe(colored_folder, epochs=2), path, callback=Delete())
    assert not [file for file in path.rglob("*") if file.is_file()]


def test_sigterm_before_the_first_step_leaves_a_folder_that_can_be_used(colored_folder, tmp_path, monkeypatch, capsys):
    build = workflow.build_run_classifier

    def terminate(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return build(*arguments, **options)

    monkeypatch.setattr(workflow, "build_run_classifier", terminate)
    small = ["--set", "model.depth=1", "--set", "model.embed_dim=16", "--set", "model.num_heads=1", "--epochs", "1"]
    command = ["train", "cifar10-quick", "--data", f"folder:{colored_folder}", "--batch-size", "16", *small]
    command += ["--set", "report=false", "--output", str(tmp_path / "run")]
    before = signal.getsignal(signal.SIGTERM)
    assert run(command) == EXIT_INTERRUPTED and signal.getsignal(signal.SIGTERM) is before
    assert "vitreous: interrupted" in capsys.readouterr().err and RunFolder(tmp_path / "run").recipe.exists()
    monkeypatch.setattr(workflow, "build_run_classifier", build)
    assert run(command) == 0
    assert run(command) == EXIT_BAD_INPUT and "holds a run already: resume it" in capsys.readouterr().err


def test_what_a_run_without_weights_has_kept_is_no_part_of_the_next_one(colored_folder, tmp_path):
    path, other = tmp_path / "run", tmp_path / "other"
    train(tiny_recipe(colored_folder, epochs=1, seed=1, keep_maps=2), path, callback=RecordingCallback(2))
    shutil.rmtree(path / "checkpoint")
    shutil.rmtree(path / "figures")
    (path / "model.safetensors").unlink()
    recipe = tiny_recipe(colored_folder, epochs=0.5, keep_maps=2)
    for each in (path, other):
        assert train(recipe, each, callback=Callback()).finished
    assert RunFolder(path).kept_maps.read_bytes() == RunFolder(other).kept_maps.read_bytes()
    first, second = (read_metrics(RunFolder(each)) for each in (path, other))
    assert [line["step"] for line in first] == [line["step"] for line in second] and weights(path) == weights(other)


def test_sigterm_saves_as_ctrl_c_does(colored_folder, tmp_path, monkeypatch, capsys):
    step, before = loop.training_step, signal.getsignal(signal.SIGTERM)

    def terminate(state, *arguments):
        if state.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, *arguments)

    monkeypatch.setattr(loop, "training_step", terminate)
    small = ["--set", "model.depth=1", "--set", "model.embed_dim=16", "--set", "model.num_heads=1", "--epochs", "1"]
    command = ["train", "cifar10-quick", "--data", f"folder:{colored_folder}", "--batch-size", "16", *small]
    output = ["--output", str(tmp_path / "run")]
    assert run([*command, *output]) == EXIT_INTERRUPTED
    assert "stopped after step 2" in capsys.readouterr().out and signal.getsignal(signal.SIGTERM) is before
    assert RunFolder(tmp_path / "run").checkpoint.exists()
    monkeypatch.setattr(loop, "training_step", step)
    assert run(["train", "cifar10-quick", *output, "--resume"]) == 0
