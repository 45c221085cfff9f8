"""The classes that a model predicts over the time of a clip."""

from itertools import islice

import numpy as np

from vitreous.callbacks import Progress
from vitreous.clips.predictions import PredictionPool
from vitreous.errors import InputError
from vitreous.model.classifier import ImageClassifier
from vitreous.web.clips.stored_clip import StoredClip
from vitreous.web.jobs.memory import size_of_model
from vitreous.web.jobs.queue import Job, JobResult
from vitreous.web.jobs.stepwise import images_per_step

MAX_CLASS_FRAMES = 240
"""Frames whose classes are predicted, evenly spread: each n-th, so that there are at most this many."""


class ClassesOverTime:
    """Predicts the classes of a clip's frames, evenly spread, and pools them as `vitreous video` does.

    It is the work of a job, in steps, so that other jobs need not wait for all of the clip.

    Raises:
        InputError: the model has no classes.
    """

    def __init__(self, classifier: ImageClassifier, clip: StoredClip) -> None:
        if not classifier.class_names or classifier.problem_type == "regression":
            raise InputError("this model predicts no classes: there is nothing to show over time")
        count = len(clip.times)
        self._classifier, self._every = classifier, -(-count // MAX_CLASS_FRAMES)
        self._numbers = range(0, count, self._every)
        self._times = [float(one) for one in (*clip.times[:: self._every], clip.end_seconds)]
        self._frames = clip.read(self._every)
        self._pool, self._rows = PredictionPool(classifier.class_names), list[np.ndarray]()
        self._step = images_per_step(size_of_model(classifier), clip.height * clip.width)

    def __call__(self, job: Job) -> JobResult | None:
        """Predict the next frames; the result comes once there are no more."""
        batch = [frame.image_u8 for frame in islice(self._frames, self._step)]
        for prediction in self._classifier.predict_batch(batch) if batch else ():
            start, end = self._times[len(self._rows) : len(self._rows) + 2]
            self._rows.append(self._pool.add(prediction, float("nan"), start, end))
        job.on_progress(Progress(len(self._rows), len(self._numbers), "frames"))
        return None if batch else self._result()

    def _result(self) -> JobResult:
        """Describe what was found; the data are the probabilities of the top classes, float32 (classes, frames)."""
        top = self._pool.top_classes(np.stack(self._rows))
        description: dict[str, object] = {
            "frames": list(self._numbers),
            "every": self._every,
            "classes": list(top),
            "pooled": [[found.rule, found.label, found.score] for found in self._pool.predictions()],
            "segments": [[one.start_seconds, one.end_seconds, one.label] for one in self._pool.segments()],
        }
        return JobResult(description, np.stack(list(top.values())).astype(np.float32).tobytes())
