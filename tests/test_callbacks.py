"""Callbacks: what they do by default, and those that pass events on."""

from dataclasses import replace

from vitreous.callbacks import Callback, ForwardingCallback, Progress


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
