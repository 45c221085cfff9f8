"""Torch's waiting threads sleep while cores are shared, and spin again afterwards."""

import os
import subprocess
import sys
import threading

import pytest

from vitreous import cli, process_tuning
from vitreous.process_tuning import (
    MAX_TEAM,
    QUIET_SAMPLES,
    SleepingTeam,
    can_start_threads,
    monitor_cores,
    team_size,
    waited_fraction,
)  # fmt: skip

SECOND = 10**9
CHOSEN = (*process_tuning.USER_CHOICES, "OMP_NUM_THREADS")


def test_the_fraction_counts_threads_that_are_new_and_forgets_those_that_ended():
    before = {"1": (SECOND, SECOND), "2": (SECOND, 0)}
    now = {"1": (2 * SECOND, SECOND), "3": (0, SECOND)}
    assert waited_fraction(before, now) == 0.5
    assert waited_fraction(now, now) is None  # idle


@pytest.fixture
def watched(monkeypatch):
    """Watch with given times, one for each look; yields a function that returns what teams were begun and ended."""
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    teams: list[str] = []

    class Team:
        def __init__(self, libraries: list[str]) -> None:
            teams.append("sleep")

        def close(self) -> None:
            teams.append("spin")

    def watch(looks: list[tuple[int, int]]) -> tuple[list[str], list[str]]:
        notes, ended, times = [], threading.Event(), iter(looks)

        def look() -> dict[str, tuple[int, int]]:
            if (found := next(times, None)) is not None:
                return {"1": found}
            ended.set()
            raise SystemExit

        monkeypatch.setattr(process_tuning, "_waiting_times", look)
        monkeypatch.setattr(process_tuning, "_openmp_libraries", lambda: ["libgomp"])
        monkeypatch.setattr(process_tuning, "SleepingTeam", Team)
        monkeypatch.setattr(process_tuning, "SAMPLE_SECONDS", 0.001)
        with pytest.raises(SystemExit):
            process_tuning._monitor_forever(notes.append)
        assert ended.is_set()
        return teams, notes

    return watch


def test_threads_sleep_while_others_use_the_cores_and_it_is_said_once(watched):
    step = SECOND // 1000
    crowded = [(look * step, look * step) for look in range(1, 5)]
    quiet = [(4 * step, 4 * step)] * 50 + [(look * step, 4 * step) for look in range(5, 5 + QUIET_SAMPLES)]
    last = quiet[-1][0]
    again = [(last + look * step, 4 * step + look * step) for look in range(1, 3)]
    teams, notes = watched([*crowded, *quiet, *again])
    assert teams == ["sleep", "spin", "sleep"] and len(notes) == 1 and "OMP_WAIT_POLICY=ACTIVE" in notes[0]


def test_on_cores_of_their_own_they_spin(watched):
    assert watched([(look * SECOND, look) for look in range(30)]) == ([], [])


@pytest.mark.parametrize("choice", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "9"}, {"OMP_NUM_THREADS": "1"}])
def test_a_users_choice_stays(choice, monkeypatch):
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    assert not monitor_cores() and "vitreous-cores" not in [thread.name for thread in threading.enumerate()]


def test_where_threads_cannot_be_created_they_spin_on(watched, monkeypatch):
    tried: list[int] = []
    monkeypatch.setattr(process_tuning, "can_start_threads", lambda count: bool(tried.append(count)))
    monkeypatch.setattr(process_tuning, "_waiting_times", lambda: {"1": (SECOND, SECOND)})
    monkeypatch.setattr(process_tuning, "_openmp_libraries", lambda: ["libgomp", "another"])
    monkeypatch.setattr(process_tuning, "SleepingTeam", None)
    process_tuning._monitor_forever(pytest.fail)
    assert tried == [4 * team_size()]


def test_threads_are_tried_all_at_once_and_a_limit_is_found():
    assert can_start_threads(20) and not [one for one in threading.enumerate() if one.name.endswith("(wait)")]
    code = (
        "import resource; from pathlib import Path; from vitreous.process_tuning import can_start_threads;"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize() + 2**26;"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size)); print(can_start_threads(1), can_start_threads(400))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_team_has_one_thread_more_than_the_process_may_use_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert team_size() == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MAX_TEAM)))
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    assert not monitor_cores()


def test_a_library_that_is_gone_is_passed_over(tmp_path):
    team = SleepingTeam([str(tmp_path / "libgomp.so.1"), "libc.so.6"])
    team.close()


@pytest.mark.parametrize(("verb", "called"), [("video", "share"), ("live", "share"), ("train", "monitor")])
def test_video_and_live_always_share_and_the_others_watch(verb, called, monkeypatch):
    calls = []
    monkeypatch.setattr(process_tuning, "share_cores", lambda: calls.append("share"))
    monkeypatch.setattr(process_tuning, "monitor_cores", lambda _: calls.append("monitor"))
    monkeypatch.setattr(process_tuning, "keep_freed_memory", lambda: True)
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert calls == [called]


def test_a_team_sleeps_in_the_copy_of_openmp_that_torch_uses_and_ends():
    import torch

    torch.rand(8, 8) @ torch.rand(8, 8)
    libraries = process_tuning._openmp_libraries()
    if not libraries:
        pytest.skip("this torch uses another OpenMP")
    before = threading.active_count()
    team = SleepingTeam(libraries)
    assert threading.active_count() == before + 1
    team.close()
    assert threading.active_count() == before


def test_the_first_use_of_torch_begins_to_watch_and_the_import_does_not():
    code = (
        "import threading, vitreous as vt; names = lambda: [one.name for one in threading.enumerate()];"
        "assert 'vitreous-cores' not in names(); vt.InputError; assert 'vitreous-cores' not in names();"
        "vt.ViT; print('vitreous-cores' in names())"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(bool(process_tuning._waiting_times()))
