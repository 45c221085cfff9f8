"""Claims on clips: one worker at a time has a clip, the dead lose theirs, and nothing is left of them."""

import json
import os
import subprocess
import threading
import time

import pytest

from vitreous.clips import leases
from vitreous.clips.leases import ClaimLostError, Claims, has_ended, this_process
from vitreous.errors import InputError


@pytest.fixture
def notes():
    return []


@pytest.fixture
def worker(tmp_path, notes):
    """Makes workers that share a folder."""
    return lambda: Claims(tmp_path, [tmp_path], notes.append)


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(leases, "DEAD_SECONDS", 0.3)
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def leave_claim(folder, **changes):
    """The claim of another process, by default of a live one elsewhere, with something half written."""
    claim = {**this_process(), "token": "abc", "request": "mark", "machine": "elsewhere", **changes}
    (folder / ".a.1.claim").write_text(json.dumps(claim))
    (folder / ".a.abc.part").mkdir()
    (folder / ".a.abc.part" / "a.mp4").write_text("half")


def test_a_clip_is_one_workers_until_that_ends(worker, tmp_path):
    first, second = worker(), worker()
    with first.take("a", "mark") as claim:
        assert claim.is_mine() and second.take("a", "mark") is None
        with second.take("b", "mark"):
            assert left(tmp_path) == [".a.1.claim", ".b.1.claim"]
    assert left(tmp_path) == []
    with second.take("a", "mark"):
        assert first.take("a", "mark") is None


def test_of_many_one_is_granted_a_clip(worker):
    workers, gate, granted = [worker() for _ in range(16)], threading.Barrier(16), []

    def take(one):
        gate.wait()
        granted.append(one.take("a", "mark"))

    threads = [threading.Thread(target=take, args=[one]) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 16 and sum(claim is not None for claim in granted) == 1


def test_of_many_one_takes_over_from_the_dead(worker, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    leave_claim(tmp_path, machine=this_process()["machine"], process=ended.pid)
    test_of_many_one_is_granted_a_clip(worker)
    assert left(tmp_path) == [".a.1.claim", ".a.2.claim"]


def test_a_process_of_this_machine_has_ended_when_it_is_a_zombie_or_its_number_is_anothers():
    sleeper = subprocess.Popen(["sleep", "60"])
    owner = {**this_process(), "process": sleeper.pid, "started": leases.started(sleeper.pid)}
    assert not has_ended(owner) and has_ended({**owner, "started": "1"})
    sleeper.kill()
    until(lambda: has_ended(owner))
    sleeper.wait()
    assert has_ended(owner)
    assert not has_ended({**owner, "machine": "elsewhere"}) and not has_ended({}) and not has_ended(this_process())


def test_a_worker_elsewhere_is_dead_when_its_claim_stands_still(worker, tmp_path, hasty):
    leave_claim(tmp_path)
    watching = worker()
    for _ in range(4):
        assert watching.take("a", "mark") is None
        time.sleep(0.1)
        os.utime(tmp_path / ".a.1.claim")
    assert watching.take("a", "mark") is None
    time.sleep(0.4)
    with watching.take("a", "mark") as claim:
        assert claim.number == 2 and left(tmp_path) == [".a.1.claim", ".a.2.claim"], "the half file goes"
        claim.done()
    assert left(tmp_path) == []


def test_old_times_alone_are_no_sign_of_death(worker, tmp_path):
    """Another machine's clock may be wrong."""
    leave_claim(tmp_path)
    os.utime(tmp_path / ".a.1.claim", (1, 1))
    assert worker().take("a", "mark") is None


def test_a_live_claim_beats(worker, hasty):
    watching = worker()
    with worker().take("a", "mark"):
        for _ in range(8):
            assert watching.take("a", "mark") is None
            time.sleep(0.1)


def test_whoever_was_only_slow_learns_that_the_clip_is_lost(worker, tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(leases, "has_ended", lambda owner: True)
    with worker().take("a", "mark") as slow:
        slow.check()
        quick = worker().take("a", "mark")
        assert quick.is_mine() and not slow.is_mine()
        until(lambda: is_lost(slow))
    assert left(tmp_path) == [".a.1.claim", ".a.2.claim"], "it removes nothing, whose number the other's rests on"
    with quick:
        quick.done()
    assert left(tmp_path) == []


def test_after_an_interrupt_a_claim_is_given_back_and_after_a_crash_it_counts(worker, tmp_path):
    for error, number in ((KeyboardInterrupt, 1), (GeneratorExit, 1), (RuntimeError, 1), (RuntimeError, 2)):
        claim = worker().take("a", "mark") if number == 1 else None
        if claim is None:
            claim = taken_from_the_dead(worker, tmp_path)
        assert claim.number == number
        with pytest.raises(error), claim:
            raise error
    assert left(tmp_path) == [".a.1.claim", ".a.2.claim"]
    worker().clear(["b", "a.1"])
    assert len(left(tmp_path)) == 2
    worker().clear(["a"])
    assert left(tmp_path) == []


def test_names_with_dots_and_brackets_are_told_apart(worker, tmp_path):
    one = worker()
    taken = [one.take(name, "mark") for name in ("a", "a.1", "a.1.claim", "[a]*")]
    assert None not in taken and len(left(tmp_path)) == 4
    one.clear(["a", "[a]*"])
    assert left(tmp_path) == [".a.1.1.claim", ".a.1.claim.1.claim"]


def test_another_command_is_noticed_once(worker, tmp_path, notes):
    leave_claim(tmp_path, request="other")
    watching = worker()
    assert watching.take("a", "mark") is None and watching.take("a", "mark") is None
    assert len(notes) == 1 and "same command" in notes[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": "x"}', "\udcff"])
def test_a_claim_that_can_not_be_read_is_anothers(worker, tmp_path, text, hasty):
    (tmp_path / ".a.1.claim").write_bytes(text.encode("utf-8", "surrogateescape"))
    watching = worker()
    assert watching.take("a", "mark") is None
    time.sleep(0.4)
    with watching.take("a", "mark") as claim:
        assert claim.number == 2


def test_a_folder_that_can_not_be_written_is_said(tmp_path):
    with pytest.raises(InputError, match=r"can't write into .*missing"):
        Claims(tmp_path / "missing", [], print).take("a", "mark")


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_lost(claim):
    try:
        claim.check()
    except ClaimLostError:
        return True
    return False


def taken_from_the_dead(worker, folder):
    claim = json.loads((folder / ".a.1.claim").read_text())
    (folder / ".a.1.claim").write_text(json.dumps({**claim, "started": "1"}))
    return worker().take("a", "mark")
