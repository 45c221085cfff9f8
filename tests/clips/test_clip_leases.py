"""Leases on clips: one worker at a time holds a lease, dead workers lose theirs, and no file is left behind."""

import json
import os
import subprocess
import threading
import time

import pytest

from vitreous.clips import leases
from vitreous.clips.leases import LeaseLostError, LeaseStore, current_process, owner_is_dead
from vitreous.errors import InputError


@pytest.fixture
def notes():
    return []


@pytest.fixture
def worker(tmp_path, notes):
    """Makes workers that share a folder."""
    return lambda: LeaseStore(tmp_path, [tmp_path], notes.append)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.3)
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def leave_lease(folder, **changes):
    """The lease of another process, by default of a live one elsewhere, with something half written."""
    lease = {**current_process(), "token": "abc", "fingerprint": "mark", "machine": "elsewhere", **changes}
    (folder / ".a.1.lease").write_text(json.dumps(lease))
    (folder / ".a.abc.part").mkdir()
    (folder / ".a.abc.part" / "a.mp4").write_text("half")


def test_one_worker_holds_a_lease_until_it_ends_it(worker, tmp_path):
    first, second = worker(), worker()
    with first.acquire("a", "mark") as lease:
        assert lease.is_held() and second.acquire("a", "mark") is None
        with second.acquire("b", "mark"):
            assert left(tmp_path) == [".a.1.lease", ".b.1.lease"]
    assert left(tmp_path) == []
    with second.acquire("a", "mark"):
        assert first.acquire("a", "mark") is None


def test_one_of_many_workers_gets_the_lease(worker):
    workers, gate, granted = [worker() for _ in range(16)], threading.Barrier(16), []

    def take(one):
        gate.wait()
        granted.append(one.acquire("a", "mark"))

    threads = [threading.Thread(target=take, args=[one]) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 16 and sum(lease is not None for lease in granted) == 1


def test_one_of_many_workers_takes_over_from_a_dead_one(worker, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    leave_lease(tmp_path, machine=current_process()["machine"], process=ended.pid)
    test_one_of_many_workers_gets_the_lease(worker)
    assert left(tmp_path) == [".a.1.lease", ".a.2.lease"]


def test_an_owner_is_dead_if_it_is_a_zombie_or_its_pid_was_reused():
    sleeper = subprocess.Popen(["sleep", "60"])
    owner = {**current_process(), "process": sleeper.pid, "started": leases.start_time(sleeper.pid)}
    assert not owner_is_dead(owner) and owner_is_dead({**owner, "started": "1"})
    sleeper.kill()
    until(lambda: owner_is_dead(owner))
    sleeper.wait()
    assert owner_is_dead(owner)
    assert (
        not owner_is_dead({**owner, "machine": "elsewhere"})
        and not owner_is_dead({})
        and not owner_is_dead(current_process())
    )


def test_an_owner_elsewhere_is_dead_without_heartbeats(worker, tmp_path, hasty):
    leave_lease(tmp_path)
    watching = worker()
    for _ in range(4):
        assert watching.acquire("a", "mark") is None
        time.sleep(0.1)
        os.utime(tmp_path / ".a.1.lease")
    assert watching.acquire("a", "mark") is None
    time.sleep(0.4)
    with watching.acquire("a", "mark") as lease:
        assert lease.number == 2 and left(tmp_path) == [".a.1.lease", ".a.2.lease"], "the half file goes"
        lease.complete()
    assert left(tmp_path) == []


def test_an_old_modification_time_alone_does_not_expire_a_lease(worker, tmp_path):
    """Another machine's clock may be wrong."""
    leave_lease(tmp_path)
    os.utime(tmp_path / ".a.1.lease", (1, 1))
    assert worker().acquire("a", "mark") is None


def test_a_held_lease_sends_heartbeats(worker, hasty):
    watching = worker()
    with worker().acquire("a", "mark"):
        for _ in range(8):
            assert watching.acquire("a", "mark") is None
            time.sleep(0.1)


def test_a_slow_worker_learns_that_its_lease_is_lost(worker, tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(leases, "owner_is_dead", lambda owner: True)
    with worker().acquire("a", "mark") as slow:
        slow.check()
        quick = worker().acquire("a", "mark")
        assert quick.is_held() and not slow.is_held()
        until(lambda: is_lost(slow))
    assert left(tmp_path) == [".a.1.lease", ".a.2.lease"], "it removes nothing, whose number the other's rests on"
    with quick:
        quick.complete()
    assert left(tmp_path) == []


def test_an_interrupt_releases_a_lease_and_a_crash_is_counted(worker, tmp_path):
    for error, number in ((KeyboardInterrupt, 1), (GeneratorExit, 1), (RuntimeError, 1), (RuntimeError, 2)):
        lease = worker().acquire("a", "mark") if number == 1 else None
        if lease is None:
            lease = acquired_from_the_dead(worker, tmp_path)
        assert lease.number == number
        with pytest.raises(error), lease:
            raise error
    assert left(tmp_path) == [".a.1.lease", ".a.2.lease"]
    worker().remove_finished(["b", "a.1"])
    assert len(left(tmp_path)) == 2
    worker().remove_finished(["a"])
    assert left(tmp_path) == []


def test_names_with_dots_and_brackets_are_distinct(worker, tmp_path):
    one = worker()
    taken = [one.acquire(name, "mark") for name in ("a", "a.1", "a.1.lease", "[a]*")]
    assert None not in taken and len(left(tmp_path)) == 4
    one.remove_finished(["a", "[a]*"])
    assert left(tmp_path) == [".a.1.1.lease", ".a.1.lease.1.lease"]


def test_another_command_is_noted_once(worker, tmp_path, notes):
    leave_lease(tmp_path, fingerprint="other")
    watching = worker()
    assert watching.acquire("a", "mark") is None and watching.acquire("a", "mark") is None
    assert len(notes) == 1 and "same command" in notes[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": "x"}', "\udcff"])
def test_an_unreadable_lease_is_held_by_another_worker(worker, tmp_path, text, hasty):
    (tmp_path / ".a.1.lease").write_bytes(text.encode("utf-8", "surrogateescape"))
    watching = worker()
    assert watching.acquire("a", "mark") is None
    time.sleep(0.4)
    with watching.acquire("a", "mark") as lease:
        assert lease.number == 2


def test_a_folder_that_can_not_be_written(tmp_path):
    with pytest.raises(InputError, match=r"can't write into .*missing"):
        LeaseStore(tmp_path / "missing", [], print).acquire("a", "mark")


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_lost(lease):
    try:
        lease.check()
    except LeaseLostError:
        return True
    return False


def acquired_from_the_dead(worker, folder):
    lease = json.loads((folder / ".a.1.lease").read_text())
    (folder / ".a.1.lease").write_text(json.dumps({**lease, "started": "1"}))
    return worker().acquire("a", "mark")


@pytest.mark.parametrize("name", ["x" * 250, "字" * 83], ids=["letters", "characters of three bytes"])
def test_the_longest_names_of_clips_have_room_for_a_lease(name, worker, tmp_path):
    store, other = worker(), worker()
    with store.acquire(name, "mark") as lease:
        staging = store.staging_folder(tmp_path, name, lease.token)
        staging.mkdir()
        assert other.acquire(name, "mark") is None and other.acquire(name[:-1], "mark") is not None
    assert not staging.exists() and not store.path(name, 1).exists()
