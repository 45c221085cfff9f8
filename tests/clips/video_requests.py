"""Video requests from a few options by name, for tests."""

from dataclasses import fields

from vitreous.callbacks import Callback
from vitreous.clips.explain_stage import ExplainStage
from vitreous.clips.maps import map_frames
from vitreous.clips.options import DrawOptions, FrameOptions, OutputOptions, SpeedOptions
from vitreous.clips.request import VideoRequest, method_names
from vitreous.explanation.options import MethodOptions


def make_request(method="attention", **given) -> VideoRequest:
    """The request with these options; each goes to the record that has a field of its name."""
    parts = {}
    kinds = {"options": MethodOptions, "draw": DrawOptions, "frames": FrameOptions, "speed": SpeedOptions}
    for name, kind in {**kinds, "output": OutputOptions}.items():
        own = [field.name for field in fields(kind) if field.name != "query" and field.name in given]
        parts[name] = kind(**{field: given.pop(field) for field in own})
    return VideoRequest(method_names(method), **given, **parts)


def make_stage(model, request) -> ExplainStage:
    """The stage that explains frames, without a query."""
    return ExplainStage(model, request, request.resolve(model), None)


def map_request(model, images, request, queries):
    """The maps of images, each with a query of its own."""
    return map_frames(model, images, request, request.resolve(model), queries)


class OnProgress(Callback):
    """A callback that calls a function with each progress."""

    def __init__(self, function):
        self.function = function

    def on_progress(self, progress):
        self.function(progress)


class Notes(Callback):
    """A callback that calls a function with each note."""

    def __init__(self, function):
        self.function = function

    def on_note(self, text):
        self.function(text)
