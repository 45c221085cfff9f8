"""Write figures of explanations: one per image, a grid of several images, all layers and heads, or all methods."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from vitreous.callbacks import Callback, ForwardingCallback, LogCallback, Progress, WithoutProgress
from vitreous.data.image_files import distinct_file_names, list_image_files, read_batches
from vitreous.errors import InputError
from vitreous.evaluation.artifacts import MAX_ARTIFACT_FRACTION, artifact_fraction
from vitreous.explanation.explain import ExplainTask, all_heads, resolve_task, run_task
from vitreous.explanation.figures import (
    METHODS_PER_ROW,
    ExplanationLayout,
    draw_gallery_items,
    draw_layers_by_heads,
    draw_method_tiles,
    gallery_item,
    method_tiles,
)
from vitreous.explanation.registry import METHODS
from vitreous.explanation.result import Explanation
from vitreous.explanation.several_methods import describe_refused, explain_with_methods
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.imaging.writing import check_image_output, save_image
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.sheet import GalleryItem, Tile, fit_tile
from vitreous.workflows.explain_files_request import (
    DEFAULT_COUNT,
    ExplainedFile,
    ExplainedImage,
    ExplainRequest,
    FailedImage,
    WrittenFigure,
    check_request,
    choose_layout,
    output_paths,
    pair_records,
    summarize_pairs,
    without_pixels,
)

if TYPE_CHECKING:
    from vitreous.explanation.model_pair import PairTask


@dataclass(frozen=True)
class _Job:
    """The images to explain, and all that the layouts need for it."""

    classifier: ImageClassifier
    request: ExplainRequest
    task: ExplainTask
    """Of the first method."""
    callback: Callback
    files: Sequence[Path]
    """Empty for test images."""
    truths: Sequence[str | None]
    batches: Iterable[Sequence[np.ndarray | InputError]]
    """The images in order, uint8 (height, width, 3), or why one can't be read; a few in memory at a time."""
    outputs: Sequence[Path]
    """The figure of each image, or the one of all."""
    pair: "PairTask | None" = None
    """Both models of the layout before-after."""
    test_source: tuple[str, str] | None = None  # data and split of test images

    @property
    def count(self) -> int:
        return len(self.truths)

    def names(self) -> list[str]:
        """Return what the images are called in a figure of several."""
        several = len(self.files) > 1
        return list(map(str, distinct_file_names(self.files, extensions=True))) if several else [""] * self.count

    def message(self, done: int) -> str:
        """Describe how many images are done."""
        return f"{self.task.method_name}, {self.of_images(done)}"

    def of_images(self, done: int) -> str:
        """Return "3 of 16 images"."""
        return f"{done} of {self.count} image{'s' * (self.count != 1)}"

    def failed(self, index: int, error: InputError) -> FailedImage:
        """Return which file failed and why; for a test image, raise the error."""
        if not self.files:
            raise error
        return FailedImage(self.files[index], str(error))

    def record(self, index: int, explanation: Explanation) -> ExplainedImage:
        """Return an image's file and true label with its explanation."""
        path = self.files[index] if self.files else None
        place = None if self.test_source is None else (*self.test_source, index)
        return ExplainedImage(path, self.truths[index], without_pixels(explanation), test_image=place)


def explain_files(
    model: str | Path | ImageClassifier,
    paths: Sequence[Path],
    request: ExplainRequest,
    output: Path | None,
    callback: Callback | None = None,
) -> Iterator[ExplainedFile]:
    """Explain image files, or test images where none are named, and yield each figure once it is written.

    Few images are in memory at a time, however many there are. Several images become one grid, unless `output` is a
    folder (a name without a suffix) or they are more than MAX_GRID. One of several images that can't be explained is
    yielded with the reason, and the others are written. If the callback stops the work, the figures of the images
    explained so far are written, and none if there are no such images.

    Args:
        model: whatever `load` takes, or a loaded model.
        paths: image files, and folders of them.
        request: what is explained, and how it is drawn.
        output: the file or folder to write; by default a name in the current folder.
        callback: receives progress, and notes about the maps, which go to the log by default; it can stop the work.

    Raises:
        InputError: the request doesn't fit the images or the model, nothing can be written, or no image can be
            explained.
    """
    check_request(paths, request)
    callback = callback or LogCallback()
    files = list_image_files(paths, output)
    layout = choose_layout(request, len(files), output)
    outputs = output_paths(files, layout, request, output)
    for path in {path.parent: path for path in outputs}.values():
        check_image_output(path)
    classifier = load(model, callback=callback)
    check_model(classifier, request, has_images=bool(files))
    first, options = next(iter(request.options_by_method().items()))
    query = request.query if "query" in METHODS[first].options else None
    pair = _resolve_pair(classifier, request, callback) if layout == "before-after" else None
    task = pair.after if pair else resolve_task(classifier, first, options, request.target, query)
    note_unused_target(list(request.options_by_method()), request.target, callback)
    if files:
        truths = [request.truth or label_from_folder(path, classifier.class_names) for path in files]
        job = _Job(classifier, request, task, callback, files, truths, read_batches(files), outputs, pair)
    else:
        images, labels, found = _test_images(classifier, request)
        job = _Job(classifier, request, task, callback, files, labels, [images], outputs, pair, found)
    yield from _unless_all_fail(LAYOUTS[layout](job), job)


def _resolve_pair(classifier: ImageClassifier, request: ExplainRequest, callback: Callback) -> "PairTask":
    """Load the model before, and look up method and target in both models."""
    from vitreous.diagnostics.model_before import load_pair  # few calls need two models
    from vitreous.explanation.model_pair import resolve_pair_task

    (method, options), *_ = request.options_by_method().items()
    models = load_pair(classifier, request.before, callback)
    return resolve_pair_task(models, method, options, request.target, request.query)


def check_model(classifier: ImageClassifier, request: ExplainRequest, *, has_images: bool) -> None:
    """Refuse a request that doesn't fit the model.

    Raises:
        InputError: the message says what doesn't fit.
    """
    if request.truth is not None:
        classifier.class_index(request.truth)
    if not has_images and not classifier.class_names:
        raise InputError("this model has no classes, so it has no test images: give images after the model")


def _unless_all_fail(results: Iterable[ExplainedFile], job: _Job) -> Iterator[ExplainedFile]:
    """Yield the results, and raise if there is no other than failures."""
    failed = written = 0
    for one in results:
        if isinstance(one, FailedImage) and job.count == 1:
            raise InputError(one.reason)
        failed, written = failed + isinstance(one, FailedImage), written + isinstance(one, WrittenFigure)
        yield one
    if failed and not written:
        raise InputError(f"none of the {failed} images could be explained: see the reason of each")


def _test_images(classifier: ImageClassifier, request: ExplainRequest) -> tuple[list, list[str], tuple[str, str]]:
    """Read the first test images of the request's data, or else of the model's own: images, labels, data and split."""
    # Only here are data sets needed, and all that reads them.
    from vitreous.data.sources import evaluation_split
    from vitreous.diagnostics.evaluation_set import first_test_images, training_run, training_source

    run = training_run(classifier)
    source = request.data or training_source(run, classifier, "give images after the model, or test images with --data")
    images, labels = first_test_images(classifier, run, source, request.count or DEFAULT_COUNT)
    return images, labels, (source, evaluation_split(source, "test", lambda _: None))


def _read(job: _Job) -> Iterator[tuple[int, np.ndarray | InputError]]:
    """Yield the images one by one with their numbers, until the callback stops."""
    index = 0
    for batch in job.batches:
        for image in batch:
            if job.callback.should_stop():
                return
            yield index, image
            index += 1


def _explain(job: _Job) -> Iterator[tuple[int, Explanation | InputError]]:
    """Explain the images batch by batch and yield them with their numbers, until the callback stops."""
    done, rollouts = 0, []
    for batch in job.batches:
        if job.callback.should_stop():
            break
        images = [image for image in batch if isinstance(image, np.ndarray)]
        explained = _explain_batch(job, images, done)
        results = iter(explained)
        for index, image in enumerate(batch, done):
            result = image if isinstance(image, InputError) else next(results, None)
            if result is None:
                break
            if isinstance(result, Explanation) and result.method == "rollout":
                rollouts.append(without_pixels(result))
            yield index, result
        done += len(batch)
        if len(explained) < len(images):
            break
        if len(images) < len(batch):
            job.callback.on_progress(Progress(done, job.count, job.message(done)))
    warn_on_artifacts(rollouts, job.callback)


def _explain_batch(job: _Job, images: Sequence[np.ndarray], done: int) -> Sequence[Explanation | InputError]:
    """Explain images up to where the callback stops; if one can't be explained, each by itself.

    Raises:
        InputError: none of the first images can be explained, all for the same reason.
    """
    if not images:
        return []
    try:
        counted = _Offset(job.callback, done, job.count, lambda progress: job.message(int(progress.done)))
        return run_task(job.classifier, images, job.task, counted)
    except InputError as error:
        if len(images) == 1:
            return [error]
    results = [one for i in range(len(images)) for one in _explain_batch(job, images[i : i + 1], done + i)]
    reasons = {str(one) if isinstance(one, InputError) else "" for one in results}
    if done == 0 and len(reasons) == 1 and (reason := reasons.pop()):  # of the request, not of an image
        raise InputError(reason)
    return results


class _Offset(ForwardingCallback):
    """Counts what is done from an offset, out of a total, with a message of its own."""

    def __init__(self, callback: Callback, done: int, total: int, message: Callable[[Progress], str]) -> None:
        super().__init__(callback)
        self.done, self.total, self.message = done, total, message

    def on_progress(self, progress: Progress) -> None:
        """Pass the progress on."""
        moved = Progress(self.done + progress.done, self.total, progress.message)
        super().on_progress(replace(moved, message=self.message(moved)))


def _write_each(job: _Job, layout: ExplanationLayout) -> Iterator[ExplainedFile]:
    for index, result in _explain(job):
        if isinstance(result, InputError):
            yield job.failed(index, result)
            continue
        result.save(job.outputs[index], job.truths[index], layout)
        summary = result.prediction.caption() or result.caption()
        yield WrittenFigure(job.outputs[index], summary, (job.record(index, result),))


def _write_grid(job: _Job) -> Iterator[ExplainedFile]:
    """Write the explanations as one figure; no figure, if there are none."""
    items: list[GalleryItem] = []
    records, first, names = [], None, job.names()
    for index, result in _explain(job):
        if isinstance(result, InputError):
            yield job.failed(index, result)
            continue
        first = first or without_pixels(result)
        items.append(gallery_item(result, job.truths[index], names[index]))
        records.append(job.record(index, result))
    if first is None:
        return
    save_image(draw_gallery_items(items, first), job.outputs[0])
    known = [item.is_correct for item in items if item.is_correct is not None]
    summary = f"{len(items)} images" + (f", {sum(known)} of {len(known)} correct" if known else "")
    yield WrittenFigure(job.outputs[0], summary, tuple(records))


def _write_sheets(job: _Job) -> Iterator[ExplainedFile]:
    for index, image in _read(job):
        try:
            heads = all_heads(job.classifier, _checked(image))
        except InputError as error:
            yield job.failed(index, error)
            continue
        save_image(draw_layers_by_heads(_checked(image), heads), job.outputs[index])
        del heads
        yield WrittenFigure(job.outputs[index], "every layer and head")
        job.callback.on_progress(Progress(index + 1, job.count, job.of_images(index + 1)))


def _write_methods(job: _Job) -> Iterator[ExplainedFile]:
    """Write the maps of several methods on every image as one figure, up to where the callback stops."""
    options, query = job.request.options_by_method(), job.request.query
    target, per_row = job.task.target if job.task.target_given else None, min(METHODS_PER_ROW, 1 + len(options))
    first: dict[str, Explanation] = {}
    refused: dict[str, str] = {}
    tiles: list[Tile] = []
    records, names, total = [], job.names(), job.count * len(options)
    for index, image in _read(job):
        which = f" · image {index + 1} of {job.count}" if job.count > 1 else ""
        counted = _Offset(
            job.callback, index * len(options), total, lambda progress, which=which: progress.message + which
        )
        try:
            image_u8 = _checked(image)
            columns, reasons = explain_with_methods(job.classifier, [image_u8], options, counted, target, query)
        except InputError as error:
            yield job.failed(index, error)
            continue
        refused |= reasons
        row = [one for (one,) in columns.values()]
        records += [job.record(index, one) for one in row]
        first = {one.method: without_pixels(one) for one in row} | first
        if row:
            given = job.task.target_given
            shown = method_tiles(image_u8, row, target_given=given, name=names[index], columns=per_row)
            tiles += [fit_tile(tile, per_row) for tile in shown]
    if tiles:
        save_image(draw_method_tiles(tiles, list(first.values()), per_row), job.outputs[0])
        shown = "every method" if first.keys() | refused.keys() >= METHODS.keys() else f"{len(first)} methods"
        yield WrittenFigure(job.outputs[0], f"{shown}{describe_refused(refused)}", tuple(records))


def _write_before_after(job: _Job) -> Iterator[ExplainedFile]:
    """Write the maps of two models as one sheet with a row per image, or a figure per image."""
    from vitreous.explanation.before_after import draw_pairs, pair_tiles  # few calls need them
    from vitreous.explanation.model_pair import add_maps_before

    assert job.pair is not None
    rows, pairs, records, names = [], [], [], job.names()
    for index, result in _explain(replace(job, callback=WithoutProgress(job.callback))):
        if isinstance(result, InputError):
            yield job.failed(index, result)
            continue
        (pair,) = add_maps_before(job.pair, [result])
        pairs.append(replace(pair, before=without_pixels(pair.before), after=without_pixels(pair.after)))
        records.append(pair_records(job.record(index, pair.before), job.record(index, pair.after), job.pair.models))
        if len(job.outputs) == job.count:
            pair.save(job.outputs[index], job.truths[index])
            yield WrittenFigure(job.outputs[index], summarize_pairs(records[-1:]), records[-1])
        else:
            rows.append(pair_tiles(pair, job.truths[index], names[index], alone=job.count == 1))
        job.callback.on_progress(Progress(index + 1, job.count, job.message(index + 1)))
    if rows:
        save_image(draw_pairs(rows, pairs), job.outputs[0])
        yield WrittenFigure(job.outputs[0], summarize_pairs(records), tuple(one for both in records for one in both))
    if pairs and all(np.array_equal(pair.before.patch_map, pair.after.patch_map) for pair in pairs):
        job.callback.on_note("the maps before and after are the same: tuning changed nothing that they depend on")


LAYOUTS = {
    **{one: partial(_write_each, layout=one) for one in get_args(ExplanationLayout)},
    "grid": _write_grid,
    "sheet": _write_sheets,
    "methods": _write_methods,
    "before-after": _write_before_after,
}
"""How each layout is written."""


def _checked(image: np.ndarray | InputError) -> np.ndarray:
    """Return an image that could be read, or raise why it couldn't."""
    if isinstance(image, InputError):
        raise image
    return image


def warn_on_artifacts(explanations: Sequence[Explanation], callback: Callback) -> None:
    """Report in one line if artifact patches dominate the rollout of an image, measured as the doctor does."""
    rollouts = [one.patch_map for one in explanations if one.method == "rollout"]
    fractions = [fraction for fraction in map(artifact_fraction, rollouts) if fraction > MAX_ARTIFACT_FRACTION]
    if not fractions:
        return
    where = "this rollout" if len(rollouts) == 1 else f"the rollouts of {len(fractions)} of {len(rollouts)} images"
    callback.on_note(
        f"in {where} artifact patches that stand alone hold {np.mean(fractions):.0%} of the map and hide the rest: "
        "--method attention or legrad shows more, and vitreous doctor looks for the cause"
    )


def label_from_folder(path: Path, class_names: Sequence[str]) -> str | None:
    """Return the class that an image's folder is named after, if it is one of the model's."""
    return path.resolve().parent.name if path.resolve().parent.name in class_names else None
