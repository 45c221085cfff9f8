"""The verb `video`: exit codes, signals, and what it prints."""

import os
import signal
import time
from fractions import Fraction

import pytest
from video_clips import moving_square
from video_requests import OnProgress

from vitreous.cli import run
from vitreous.signals import interrupt_on_termination
from vitreous.video.encode import write_video


@pytest.mark.parametrize("by", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_leaves_no_partial_file(by, trained_run, clips, tmp_path, monkeypatch, capsys):
    """A signal of the system leaves no file; Ctrl-C leaves a whole file with the frames drawn so far."""
    write_video(clips / "a.mp4", moving_square(40), Fraction(10))
    number = getattr(signal, by)

    def end(progress):
        while not list((tmp_path / "out").glob(".a.*.part.mp4")) and by != "SIGINT":
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    monkeypatch.setattr("vitreous.cli.video.ProgressDisplay", lambda display: OnProgress(end))
    # What started the tests may have them ignore any of these: a shell in the background, nohup, a service.
    usual = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}
    before = {name: signal.signal(getattr(signal, name), handler) for name, handler in usual.items()}
    try:
        assert run(["video", str(trained_run), str(clips / "a.mp4"), "-o", str(tmp_path / "out" / "a.mp4")]) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
    assert [path.name for path in (tmp_path / "out").iterdir()] == (["a.mp4"] if by == "SIGINT" else [])
    assert "Traceback" not in capsys.readouterr().err


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ended = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with interrupt_on_termination():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, ended)


def test_a_failed_video_gives_exit_code_3_and_resume_skips_the_others(trained_run, clips, tmp_path, capsys):
    arguments = ["video", str(trained_run), str(clips), "-o", str(tmp_path / "out"), "--resume"]
    assert run(arguments) == 3
    said = capsys.readouterr()
    assert "2 written, 1 failed" in said.out and "b.mp4" in said.err
    (clips / "b.mp4").unlink()
    assert run(arguments) == 0 and "2 skipped" in capsys.readouterr().out
