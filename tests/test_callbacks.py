"""Callbacks: what they do by default, and those that pass events on."""

import logging
from dataclasses import replace

from vitreous import callbacks
from vitreous.callbacks import Callback, ForwardingCallback, LogCallback, Progress


class Recorder(Callback):
    """Keeps every event, and asks to stop."""

    def __init__(self):
        self.events = []

    def on_progress(self, progress):
        self.events.append(progress)

    def on_note(self, text):
        self.events.append(text)

    def should_stop(self):
        return True


def test_a_callback_does_nothing_by_default():
    callback = Callback()
    callback.on_progress(Progress(1, 2))
    callback.on_note("note")
    assert callback.should_stop() is False


def test_a_forwarding_callback_passes_every_event_on():
    recorder = Recorder()
    callback = ForwardingCallback(recorder)
    callback.on_progress(Progress(1, 2, "dog.mp4"))
    callback.on_note("note")
    assert recorder.events == [Progress(1, 2, "dog.mp4"), "note"] and callback.should_stop()


def test_a_subclass_changes_one_kind_of_event():
    class Named(ForwardingCallback):
        def on_progress(self, progress):
            super().on_progress(replace(progress, message="cat.mp4"))

    recorder = Recorder()
    Named(recorder).on_progress(Progress(1, None))
    Named(recorder).on_note("note")
    assert recorder.events == [Progress(1, None, "cat.mp4"), "note"]


def test_progress_is_logged_first_last_and_every_ten_seconds(monkeypatch, caplog):
    clock, seconds = iter([0.0, 3.0, 9.9, 10.1, 12.0, 13.0]), callbacks.LOG_SECONDS
    assert seconds == 10
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: 100 + next(clock))
    callback = LogCallback()
    with caplog.at_level("INFO", logger="vitreous"):
        for done in range(1, 7):
            callback.on_progress(Progress(done, 6, "images"))
        callback.on_note("note")
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 6 images",
        "4 of 6 images",
        "6 of 6 images",
        "note",
    ]


def test_the_log_goes_to_standard_error_where_none_is_configured(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger("vitreous"), "propagate", False)
    LogCallback().on_progress(Progress(3, None))
    assert capsys.readouterr().err == "3\n"
