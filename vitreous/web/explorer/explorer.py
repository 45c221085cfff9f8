"""What the explorer does: models, images and computations, as the command line does them, for several people."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from vitreous.callbacks import Callback
from vitreous.clips.explain_stage import quantize_classifier
from vitreous.clips.options import SpeedOptions, VideoPrecision
from vitreous.diagnostics.doctor.checks_tokens import outliers_by_layer
from vitreous.diagnostics.doctor.measure import collect_statistics
from vitreous.diagnostics.doctor.run import diagnose
from vitreous.errors import InputError
from vitreous.explanation.explain import ExplainTask, resolve_task, run_task
from vitreous.explanation.options import MethodOptions, merge_options
from vitreous.explanation.regions import validate_region
from vitreous.explanation.registry import METHODS
from vitreous.explanation.text_targets import text_target
from vitreous.model.classifier import ImageClassifier
from vitreous.render.color import COLORMAPS, HIGH_PERCENT, LOW_PERCENT, color_table
from vitreous.render.overlay import (
    GLOW,
    GLOW_COLOR_MAX,
    GRAYING,
    NEGATIVE_COLOR,
    POSITIVE_COLOR,
    TINT,
    dimming_for,
    mean_brightness,
)
from vitreous.runtime import autocast, choose_precision
from vitreous.video.camera import LiveSource
from vitreous.web.clips.classes import ClassesOverTime
from vitreous.web.clips.stored_clip import StoredClip
from vitreous.web.clips.video import ClipVideoRequest, clip_video_work
from vitreous.web.explorer.attention_export import MAX_EXPORT_BYTES, describe_prediction, export_attention
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.explorer.interventions import Intervention, applied, export_changed_attention
from vitreous.web.explorer.maps import MapRequest, check_passes, counted_passes, describe_map
from vitreous.web.explorer.served_models import ServedModels
from vitreous.web.explorer.token_export import export_tokens, share_components
from vitreous.web.jobs.memory import (
    DEFAULT_PASSES,
    check_memory,
    estimate_attention_bytes,
    estimate_map_bytes,
    estimate_video_bytes,
    size_of_model,
)
from vitreous.web.jobs.queue import Job, JobLimitError, JobQueue, JobResult
from vitreous.web.jobs.stepwise import images_per_step
from vitreous.web.live.capture import LiveCapture
from vitreous.web.sessions import Limits, SessionTable, StoredImage, WebSession
from vitreous.web.training.watched_run import WatchedRun
from vitreous.web.uploads import UploadMemory

MAX_VIDEOS = 2
"""Videos that are written at a time: each keeps frames, a decoder and an encoder."""


class Explorer:
    """The models and images of one server, the people who use it, and the thread that computes for them.

    Args:
        models: by the name that the page shows.
        gallery: images of a data set; None without one.
        limits: what is served at most.
        runs: that the page shows while they train.
        live: a camera or video of the server that pages show; None without one.
        precision: of the models, as in `SpeedOptions`.
    """

    def __init__(
        self,
        models: Mapping[str, ImageClassifier],
        gallery: ImageGallery | None = None,
        limits: Limits | None = None,
        runs: Sequence[WatchedRun] = (),
        live: LiveSource | None = None,
        precision: VideoPrecision = "fp32",
    ) -> None:
        self.limits, self.runs = limits or Limits(), tuple(runs)
        self._speed = SpeedOptions(precision=precision)
        if precision == "int8":
            models = {name: quantize_classifier(one) for name, one in models.items()}
        self.models, self.gallery = ServedModels(models), gallery
        self.live = None if live is None else LiveCapture(live)
        self.sessions = SessionTable(self.limits, lambda job: self.queue.cancel(job))
        self.uploads = UploadMemory(self.limits.waiting_bytes)
        self._videos: list[Job] = []
        self.queue = JobQueue(self.limits.jobs, self.limits.session_jobs, self._score_gallery())
        self.palettes = describe_palettes()

    def describe(self) -> dict[str, object]:
        """Describe for JSON what the page needs to begin."""
        gallery = self.gallery
        return {
            "models": self.models.describe(),
            "runs": [{"name": run.name, "model": run.model, "loaded_step": run.loaded_step} for run in self.runs],
            "methods": {name: method_to_json(name) for name in METHODS},
            "gallery": None
            if gallery is None
            else {"source": gallery.source, "split": gallery.split, "count": len(gallery),
                  "class_names": gallery.class_names},
            "live": None if self.live is None else self.live.name,
            "limits": asdict(self.limits),
        }  # fmt: skip

    def start_attention(
        self, session: WebSession, model_index: int, image: StoredImage, intervention: Intervention | None = None
    ) -> Job:
        """Begin to compute the attention of a model on an image; with an intervention, also what it changes.

        Raises:
            InputError: it would take more memory than one request may.
        """
        classifier = self.models.get(model_index)
        size = size_of_model(classifier)
        needed = estimate_attention_bytes(size, min(2 * size.heads * size.tokens**2, MAX_EXPORT_BYTES))
        check_memory(needed, self.limits.memory_bytes, "the attention of all layers")
        if intervention is None:
            return self._start(session, lambda job: export_attention(classifier, image.image_u8), classifier)

        def compute(job: Job) -> JobResult:
            with counted_passes(classifier.model, job, 2):
                return export_changed_attention(classifier, image.image_u8, intervention)

        return self._start(session, compute, classifier)

    def start_tokens(
        self,
        session: WebSession,
        model_index: int,
        image: StoredImage,
        layer: int,
        intervention: Intervention | None = None,
    ) -> Job:
        """Begin to compute the patch tokens of a layer of a model on an image, with an intervention the changed one.

        Raises:
            InputError: it would take more memory than one request may.
        """
        classifier = self.models.get(model_index)
        needed = estimate_map_bytes(size_of_model(classifier), "features", MethodOptions())
        check_memory(needed, self.limits.memory_bytes, "the tokens of a layer")

        def compute(job: Job) -> JobResult:
            with applied(classifier, image.image_u8, intervention):
                return export_tokens(classifier, image.image_u8, layer)

        return self._start(session, compute, classifier)

    def start_diagnosis(self, session: WebSession, model_index: int, image: StoredImage) -> Job:
        """Begin to diagnose a model on one image, as `doctor` does.

        Raises:
            InputError: it would take more memory than one request may.
        """
        classifier = self.models.get(model_index)
        needed = 3 * estimate_attention_bytes(size_of_model(classifier), 0)  # the trace of a whole pass is kept
        check_memory(needed, self.limits.memory_bytes, "the doctor")
        return self._start(session, lambda job: export_diagnosis(classifier, image.image_u8, job), classifier)

    def compare_with_text(self, model_index: int, text: str) -> dict[int, float]:
        """Return the similarities of the gallery's images to a text, by position; any thread may call this.

        Raises:
            InputError: the model takes no texts.
        """
        assert self.gallery is not None
        return self.gallery.similarities(model_index, text_target(self.models.get(model_index), text).embedding)

    def resolve_map(self, model_index: int, request: MapRequest) -> ExplainTask:
        """Look up the method and the target of a map, which may be a text; any thread may call this.

        Raises:
            InputError: there is no such method, it doesn't take what is requested, or it would take too much memory.
        """
        classifier = self.models.get(model_index)
        options = merge_options(None, request.options)
        self._check_method(request.method, options)
        query = None if request.query is None else validate_region(request.query)
        task = resolve_task(classifier, request.method, options, request.target, query)
        needed = estimate_map_bytes(size_of_model(classifier), request.method, task.options)
        check_memory(needed, self.limits.memory_bytes, request.method)
        return task

    def start_map(
        self,
        session: WebSession,
        model_index: int,
        image: StoredImage,
        task: ExplainTask,
        intervention: Intervention | None = None,
        other: StoredImage | None = None,
    ) -> Job:
        """Begin to compute a map by a method that needs the model.

        Args:
            session: whose job it is.
            model_index: of the model.
            image: what is explained.
            task: the method and what it takes, from `resolve_map`.
            intervention: what is changed of the input and of the model; None for nothing.
            other: an image with which this one shares its principal components; None for components of its own.
        """
        classifier = self.models.get(model_index)
        passes = task.options.n_samples or task.options.n_steps or DEFAULT_PASSES.get(task.method_name)

        def compute(job: Job) -> JobResult:
            with (
                counted_passes(classifier.model, job, passes),
                applied(classifier, image.image_u8, intervention),
            ):
                shared = task if other is None else share_components(task, classifier, other.image_u8)
                (found,) = run_task(classifier, [image.image_u8], shared)
            return describe_map(found.patch_map, found.patch_colors, {
                "method": found.method, "caption": found.caption(), "scale_kind": found.scale_kind,
                "layer": found.layer, "head": found.head, "target": found.target, "score": found.score,
                "convergence_delta": found.convergence_delta, "geometry": asdict(found.geometry),
                "prediction": describe_prediction(found.prediction),
            })  # fmt: skip

        return self._start(session, compute, classifier)

    def start_reload(self, session: WebSession, run: WatchedRun) -> Job:
        """Begin to load the newest weights of a run; from then on they are its model, for everybody."""

        def reload(job: Job) -> JobResult:
            classifier = run.reload()
            if run.model is None:
                run.model = self.models.add(run.name, classifier)
            else:
                self.models.replace(run.model, classifier)
            return JobResult({"model": run.model, "step": run.loaded_step})

        return self._start(session, reload, None)

    def start_classes(self, session: WebSession, model_index: int, clip: StoredClip) -> Job:
        """Begin to predict the classes of a clip's frames.

        Raises:
            InputError: there is no such model, or it has no classes.
        """
        classifier = self.models.get(model_index)
        return self._start(session, ClassesOverTime(classifier, clip), classifier)

    def start_video(self, session: WebSession, clip: StoredClip, request: ClipVideoRequest) -> Job:
        """Begin to write a clip with maps, as `vitreous video` does.

        Raises:
            InputError: there is no such method, it doesn't take what is requested, or it would take too much memory.
        """
        classifier = self.models.get(request.model)
        size = size_of_model(classifier)
        speed = replace(self._speed, precision=self._speed.float_precision, batch_size=images_per_step(size))
        wanted = request.to_video_request(speed)
        self._check_method(request.method, wanted.options)
        needed = estimate_video_bytes(size, request.method, wanted.options, wanted.speed.batch_size)
        check_memory(needed, self.limits.memory_bytes, f"a video with {request.method}")
        writing = [job for job in self._videos if not job.state.is_final]
        if any(job.owner == session.id for job in writing):
            raise JobLimitError("a video of yours is being written: let it end, or cancel it, first", is_own=True)
        if len(writing) >= MAX_VIDEOS:
            raise JobLimitError("videos are being written for others: try again in a minute", is_own=False)
        job = self._start(session, clip_video_work(classifier, clip, wanted), classifier)
        self._videos = [*writing, job]
        return job

    def _check_method(self, method: str, options: MethodOptions) -> None:
        """Refuse what this server can't do, or won't.

        Raises:
            InputError: says what.
        """
        check_passes(options)
        if self._speed.precision == "int8" and method in METHODS and METHODS[method].uses_gradients:
            raise InputError(f"int8 has no gradients, which {method} needs: start with another --precision")

    def _start(
        self, session: WebSession, work: Callable[[Job], JobResult | None], classifier: ImageClassifier | None
    ) -> Job:
        """Begin the work of a job; with the model that does it, if one does."""
        job = Job(session.id, partial(self._run, work, classifier), self.limits.job_seconds)
        self.queue.put(job)
        session.add_job(job)
        return job

    def _run(
        self, work: Callable[[Job], JobResult | None], classifier: ImageClassifier | None, job: Job
    ) -> JobResult | None:
        """Do the work at the server's precision, and add which weights have made the result."""
        if classifier is None:
            return work(job)
        with autocast(classifier.device, choose_precision(self._speed.float_precision, classifier.device)):
            result = work(job)
        key = {"weights": self.models.key(classifier)}
        return result and replace(result, description=result.description | key)

    def _score_gallery(self) -> Iterator[object]:
        """Predict the gallery's images by each model, again when it has newer weights; gives None if all are done."""
        done: dict[int, ImageClassifier] = {}
        while self.gallery is not None:
            numbers = range(len(self.models))
            index = next((number for number in numbers if done.get(number) is not self.models.get(number)), None)
            if index is None:
                yield None
                continue
            classifier = done[index] = self.models.get(index)
            for count in self.gallery.score(index, classifier):
                yield count
                if self.models.get(index) is not classifier:
                    break


def export_diagnosis(classifier: ImageClassifier, image_u8: np.ndarray, callback: Callback) -> JobResult:
    """Diagnose a model on one image (uint8, height, width, 3), as `doctor` does.

    Returns:
        The findings, faults first, and after each block the outlier tokens as numbers of patches, row by row; None for
        a wrapped model, which doesn't expose its tokens.

    Raises:
        InputError: the attention of the model can't be observed.
    """
    statistics = collect_statistics(classifier, [image_u8], callback)
    findings = [asdict(one) for one in diagnose(statistics)]
    for one in findings:
        del one["values"]  # the numbers behind the message, which the page doesn't use
    norms = statistics.images[0].norms
    outliers = [np.flatnonzero(layer).tolist() for layer in outliers_by_layer(norms)] if norms.size else None
    return JobResult({"findings": findings, "outliers": outliers})


def method_to_json(name: str) -> dict[str, object]:
    """Describe a method for JSON."""
    method = METHODS[name]
    return {
        "summary": method.summary,
        "scale_kind": method.scale_kind,
        "options": sorted(method.options),
        "is_class_specific": method.is_class_specific,
    }


def describe_palettes() -> dict[str, object]:
    """Describe for JSON how maps are drawn: the tables and constants of `render`, so that the page draws the same."""
    return {
        "colormaps": {name: color_table(name).tobytes().hex() for name in COLORMAPS},
        "signed": {"negative": NEGATIVE_COLOR, "positive": POSITIVE_COLOR},
        "overlay": {"graying": GRAYING, "glow": GLOW, "tint": TINT, "glow_color_max": GLOW_COLOR_MAX},
        "percentiles": [LOW_PERCENT, HIGH_PERCENT],
        "defaults": asdict(MethodOptions()),
    }


def describe_image(key: str, image: StoredImage) -> dict[str, object]:
    """Describe an image for JSON."""
    height, width = image.image_u8.shape[:2]
    return {
        "image": key,
        "name": image.name,
        "height": height,
        "width": width,
        "truth": image.truth,
        "dimming": dimming_for(mean_brightness(image.image_u8)),
        "seconds": image.seconds,
    }
