"""Distributed training: several processes under torchrun train as one does, and end together."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed_worker import torchrun_command, torchrun_environment
from safetensors.torch import load_file
from tiny_run import RecordingCallback, make_base, tiny_recipe
from torch.distributed import TCPStore

from vitreous.errors import InputError
from vitreous.records import override
from vitreous.runs.run_folder import RunFolder, read_metrics
from vitreous.training.distributed import DistributedContext, shard_of
from vitreous.workflows.train import train

SHORT = {"epochs": "1.5", "checkpoint_seconds": "1000", "batch_size": "17"}
"""Ten steps of 17 images, which two processes can't split evenly. (Not 15: the first batch would have five images of
each class, and the gradient of the head's bias would be zero up to rounding, which AdamW turns into whole steps.)"""


slow = pytest.mark.skipif("VITREOUS_SLOW" not in os.environ, reason="slow: set VITREOUS_SLOW=1")


def start(*arguments, resume="if started", home=None, **changes):
    """Start a distributed run with torchrun, in the folder `home`."""
    command = torchrun_command(*arguments, **changes)
    return subprocess.Popen(
        command, env=torchrun_environment(resume), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home
    )


def two_hosts(images, homes, fault, resume="if started", **changes):
    """Run the documented command on two hosts, both of them this one, in a folder each: outputs and exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}")
    hosts = [
        start(images, Path("run"), (*address, f"--node-rank={number}"), fault, resume=resume, home=home, **changes)
        for number, home in enumerate(homes)
    ]
    outputs = [host.communicate(timeout=120) for host in hosts]
    return [(*texts, host.returncode) for texts, host in zip(outputs, hosts, strict=True)]


def make_homes(tmp_path):
    """Make the working directories of two hosts that share no disk."""
    homes = [tmp_path / "here", tmp_path / "there"]
    for home in homes:
        home.mkdir()
    return homes


def alone(folder, output, **changes):
    """Return the losses of the same run in this process, and the tensors of its checkpoint."""
    callback = RecordingCallback()
    recipe = override(tiny_recipe(folder, precision="fp32"), changes)
    train(recipe, output, resume=RunFolder(output).recipe.exists(), callback=callback)
    return callback.losses, load_file(RunFolder(output).checkpoint)


def largest_difference(tensors, others):
    assert tensors.keys() == others.keys()
    return max((tensors[name] - others[name]).abs().max().item() for name in tensors)


def test_shards_cover_all_items():
    for count in (1, 7, 16):
        for shards in (1, 2, 3, 7):
            items = [item for index in range(shards) for item in range(count)[shard_of(count, index, shards)]]
            assert items == list(range(count))


def test_a_single_process_exchanges_nothing():
    context = DistributedContext()
    assert context.is_rank0 and context.shard(5) == slice(0, 5)
    assert context.broadcast_from_rank0(lambda: 3) == 3 and context.all_gather(4) == [4] and context.any(True)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "grad_accum_steps": "2",
            "optimizer.clip_grad_norm": "0.5",
            "distillation.weight": "0.6",
            "distillation.teacher_width": "3",
        },
        {"fsdp": "true", "optimizer.clip_grad_norm": "0.5", "model.stem": "conv", "whiten_patch_embed": "false"},
        {"init": "base", "tune": "lora", "fsdp": "true", "early_stopping_epochs": "9", "augment.mixup": "0.3"},
        {"init": "base", "tune": "head", "optimizer.layer_decay": "0.7"},
        {"init": "base", "frozen_layers": "1", "fsdp": "true", "optimizer.clip_grad_norm": "1"},
    ],
)
def test_two_processes_train_as_one_does_up_to_rounding(changes, colored_folder, tmp_path):
    """Stopped by the second process after four steps, and finished on one."""
    if "init" in changes:
        changes = {**changes, "init": str(make_base(tmp_path / "base"))}
    whole, theirs = alone(colored_folder, tmp_path / "whole", **SHORT, **{**changes, "grad_accum_steps": "1"})
    torchrun = start(
        colored_folder, tmp_path / "parts", ("--nproc-per-node=2",), "rank == 1 and step == 4", **SHORT, **changes
    )
    printed, errors = torchrun.communicate(timeout=120)
    assert torchrun.returncode == 0, errors
    assert json.loads(RunFolder(tmp_path / "parts").recipe.read_text())["device"].endswith("2 processes")
    first = json.loads(printed)
    assert len(first) == 1
    losses, mine = alone(colored_folder, tmp_path / "parts", **SHORT, **changes)
    assert (4 * first[0] + 6 * losses[0]) / 10 == pytest.approx(whole[0], abs=1e-6)
    assert largest_difference(mine, theirs) < 1e-3
    steps = [line["step"] for line in read_metrics(RunFolder(tmp_path / "parts")) if line["split"] == "train"]
    assert steps == [4, 10]


@pytest.mark.parametrize("which", [0, 1])
def test_hosts_with_different_images_are_refused(which, monkeypatch, colored_folder, tmp_path):
    def all_of(self, mine):
        return [mine, tuple("others" if place == which else print_ for place, print_ in enumerate(mine))]

    monkeypatch.setattr(DistributedContext, "all_gather", all_of)
    with pytest.raises(InputError, match="aren't the same in all processes: give each host the same data"):
        train(tiny_recipe(colored_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_failing_process_ends_those_on_another_host_and_tells_them_why(colored_folder, tmp_path):
    fault, started = "rank == 1 and step == 3 and fail(KeyError('out of luck'))", time.monotonic()
    first, second = two_hosts(colored_folder, [tmp_path] * 2, fault, **SHORT)
    assert time.monotonic() - started < 60
    assert "vitreous: process 1, on another host, failed: KeyError: 'out of luck'" in first[1]
    assert "KeyError: 'out of luck'" in second[1] and "Traceback" in second[1]
    assert first[2] == second[2] == 1


def test_hosts_that_share_no_disk_resume_a_run(colored_folder, tmp_path, monkeypatch):
    """Started in one process, and resumed by two hosts, each with a shard of the weights; one has the run's folder.

    Each has the images in a folder of its own.
    """
    changes = {**SHORT, "fsdp": "true"}
    whole, theirs = alone(colored_folder, tmp_path / "whole", **changes)
    recipe, callback = override(tiny_recipe(colored_folder, precision="fp32"), changes), RecordingCallback(stop_after=4)
    homes = make_homes(tmp_path)
    train(recipe, homes[0] / "run", callback=callback)
    for home in homes:
        shutil.copytree(colored_folder, home / "images")
    monkeypatch.setenv("IMAGES", "folder:images")
    first, second = two_hosts(colored_folder, homes, "", "yes", **changes)
    assert first[2] == second[2] == 0, first[1] + second[1]
    assert (4 * callback.losses[0] + 6 * json.loads(first[0])[0]) / 10 == pytest.approx(whole[0], abs=1e-6)
    assert largest_difference(load_file(RunFolder(homes[0] / "run").checkpoint), theirs) < 1e-3
    metadata = json.loads(RunFolder(homes[0] / "run").recipe.read_text())
    assert metadata["recipe"]["data"] == f"folder:{homes[0] / 'images'}" and "earlier_data" not in metadata
    assert [path.name for path in homes[1].iterdir()] == ["images"]


@slow
@pytest.mark.parametrize(
    ("fault", "changes", "words"),
    [
        ("rank == 1 and step == 3 and os.kill(os.getpid(), 9)", {}, "(SIGKILL)"),
        ("rank == 0 and step == 3 and fail(KeyError('out of luck'))", {}, "KeyError: 'out of luck'"),
        ("", {"batch_size": "1"}, "vitreous: batch_size is 1: it can't be split over 2 process(es)"),
        ("", {"data": "folder:/nowhere"}, "vitreous: there is no folder /nowhere"),
    ],
)
def test_the_failure_of_one_process_ends_all_and_is_reported_once(fault, changes, words, colored_folder, tmp_path):
    started = time.monotonic()
    torchrun = start(colored_folder, tmp_path / "run", ("--nproc-per-node=2",), fault, **{**SHORT, **changes})
    errors = torchrun.communicate(timeout=120)[1]
    assert torchrun.returncode == 1 and time.monotonic() - started < 60
    assert words in errors and errors.count("vitreous: ") <= 1


@slow
def test_hosts_that_share_no_disk_train_together_from_the_start(colored_folder, tmp_path):
    _, theirs = alone(colored_folder, tmp_path / "whole", **SHORT)
    homes = make_homes(tmp_path)
    for fault, resume in (("rank == 1 and step == 4", "no"), ("", "yes")):
        first, second = two_hosts(colored_folder, homes, fault, resume, **SHORT)
        assert first[2] == second[2] == 0, first[1] + second[1]
    assert largest_difference(load_file(RunFolder(homes[0] / "run").checkpoint), theirs) < 1e-3
    assert not list(homes[1].iterdir())


@slow
def test_a_restart_by_torchrun_leaves_other_runs_alone(colored_folder, tmp_path):
    alone(colored_folder, tmp_path / "run", **SHORT)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*") if path.is_file()}
    options = ("--nproc-per-node=2", "--max-restarts=1")
    again = start(colored_folder, tmp_path / "run", options, "", resume="no", **{**SHORT, "epochs": "3"})
    errors = again.communicate(timeout=120)[1]
    assert again.returncode == 1 and errors.count("holds a run already: resume it") == 2
    assert {path: path.read_bytes() for path in before} == before


@slow
def test_a_restart_by_torchrun_resumes_the_run(colored_folder, tmp_path):
    whole, theirs = alone(colored_folder, tmp_path / "whole", epochs="4", batch_size="17", checkpoint_seconds="0")
    once = "rank == 1 and step == 15 and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and os.kill(os.getpid(), 9)"
    options = ("--nproc-per-node=2", "--max-restarts=1")
    again = start(colored_folder, tmp_path / "run", options, once, epochs="4", batch_size="17", checkpoint_seconds="0")
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    losses = json.loads(printed.splitlines()[-1])
    assert len(losses) < len(whole) and losses == pytest.approx(whole[-len(losses) :], abs=1e-4)
    assert largest_difference(load_file(RunFolder(tmp_path / "run").checkpoint), theirs) < 1e-2


@pytest.fixture
def torchrun(monkeypatch):
    """Make this process look like one that torchrun has launched or restarted; each call is a launch."""
    stores = []

    def launch(store=None, *, restart=0):
        stores.append(store or TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        names = {
            "WORLD_SIZE": 1,
            "RANK": 0,
            "LOCAL_RANK": 0,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": stores[-1].port,
        }
        elastic = {"RUN_ID": "none", "RESTART_COUNT": restart, "USE_AGENT_STORE": True}
        for name, value in {**names, **{f"TORCHELASTIC_{name}": value for name, value in elastic.items()}}.items():
            monkeypatch.setenv(name, str(value))
        return stores[-1]

    return launch


def test_a_restarted_process_resumes_only_its_own_run(torchrun, colored_folder, tmp_path):
    recipe, path = tiny_recipe(colored_folder, precision="fp32", batch_size=17), tmp_path / "run"

    class Unlucky(RecordingCallback):
        def on_progress(self, progress):
            if RunFolder(path).checkpoint.exists():
                raise KeyError("out of luck")

    store = torchrun()
    with pytest.raises(KeyError):
        train(recipe, path, settings={"epochs": 2}, callback=Unlucky())
    torchrun()
    for restart in (0, 1):
        torchrun(restart=restart)
        with pytest.raises(InputError, match="holds a run already: resume it"):
            train(recipe, path, settings={"epochs": 2})
    torchrun(store, restart=1)
    result = train(recipe, path, settings={"epochs": 2})
    assert result.finished and result.steps == 13


def test_a_port_in_use_gives_one_line(monkeypatch, colored_folder, tmp_path):
    """The processes are started without torchrun here, which would take the port itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        for name, value in {**environment, "MASTER_PORT": str(taken.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=r"the port of 127.0.0.1:\d+ is in use: choose another MASTER_PORT"):
            train(tiny_recipe(colored_folder), tmp_path / "run")
    monkeypatch.delenv("RANK")
    with pytest.raises(InputError, match=r"can't meet at .*: start them with torchrun"):
        train(tiny_recipe(colored_folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@slow
def test_the_command_line_runs_under_torchrun(colored_folder, tmp_path):
    """`torchrun -m vitreous train` trains once and prints once."""
    small = ["--set", "epochs=0.2", "--set", "model.depth=1", "--set", "model.image_size=16x16"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "vitreous", "train"]
    command = [
        *launch,
        "cifar10-quick",
        "--data",
        f"folder:{colored_folder}",
        "--output",
        str(tmp_path / "run"),
        *small,
    ]
    result = subprocess.run(command, env=torchrun_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("validation top-1") == 1 and result.stdout.count("next: vitreous evaluate") == 1
