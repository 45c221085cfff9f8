"""Explain a video: overlay a model's maps on every frame, and pool its predictions over time."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Unpack

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback
from vitreous.clips.draw_stage import DrawStage
from vitreous.clips.explain_stage import ExplainStage, scale_query
from vitreous.clips.options import Layout, OutputOptions, VideoPrecision
from vitreous.clips.records import VideoRecorder
from vitreous.clips.request import VideoKeywords, VideoRequest, make_request
from vitreous.clips.result import ExplainedVideo
from vitreous.errors import InputError
from vitreous.explanation.options import MethodKeywords, MethodOptions
from vitreous.explanation.regions import PixelRegion, Region
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.files import check_writable
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.render.temporal.smooth import HALF_LIFE_SECONDS
from vitreous.runtime import autocast, choose_precision
from vitreous.tasks.targets import Target
from vitreous.video.info import VideoInfo, read_info
from vitreous.video.options import VideoOptions
from vitreous.video.output import check_output, square_pixels
from vitreous.video.stream import annotate_video


@check_arguments
def explain_video(
    model: str | Path | ImageClassifier,
    video: str | Path,
    output: str | Path,
    *,
    method: str | Sequence[str] = "attention",
    target: str | int | Target | PixelRegion | None = None,
    query: Region | PixelRegion | None = None,
    track: bool = False,
    options: MethodOptions | None = None,
    layout: Layout | None = None,
    smooth: float = HALF_LIFE_SECONDS,
    opacity: float = 1.0,
    edge_aware: bool = False,
    legend: bool = True,
    class_strip: bool = False,
    start: float = 0.0,
    end: float | None = None,
    every: int = 1,
    height: int | None = None,
    quality: int | None = None,
    format: str | None = None,  # noqa: A002 - the name of the option
    timeline: str | Path | None = None,
    save_maps: str | Path | None = None,
    batch_size: int = 16,
    precision: VideoPrecision = "fp32",
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
    **keywords: Unpack[MethodKeywords],
) -> ExplainedVideo:
    """Write a video with the model's maps laid over it; frames, times, size and audio stay the same.

    Frames are streamed, so memory does not grow with the video. The written file is read back and checked before this
    returns. After Ctrl-C, or when the callback stops it, the output ends properly after the frames done so far.

    Example: `explain_video("vitreous:cifar10", "dog.mp4", "out.mp4", target="dog", smooth=0.5)`

    Args:
        model: whatever `load` takes, or a loaded model.
        video: the video to read.
        output: the file to write (.mp4, .mov, .mkv, .webm, .gif), a folder ("frames/") for PNG files, or "-".
        method: a name in the table of methods, or several names, each of which gets a panel.
        target: what the maps explain, as in `explain`; each frame's predicted class by default.
        query: a point (x, y) or a box (x0, y0, x1, y1) in the video's pixels. The patch there, or the mean over the
            patches in the box, is followed instead of the model's readout.
        track: follow the patch at the query point from the first frame on, until a cut.
        options: options of the methods as one record. Of several methods each gets the options that it uses.
        layout, smooth, opacity, edge_aware, legend, class_strip: how the maps are drawn, see `DrawOptions`. `smooth`
            is a half-life in seconds.
        start, end, every: which frames are used, see `FrameOptions`; times are in seconds.
        height, quality, format, timeline, save_maps: what is written, see `OutputOptions`; `height` is in pixels.
        batch_size, precision: see `SpeedOptions`.
        input_size: side, or (height, width), in pixels of the model's input, as in `load`.
        resize_mode: how frames are brought to the model's input size, as in `load`.
        callback: receives the progress in frames and notes about the model, and can stop the work.
        **keywords: single options of the methods, which take precedence: layer, head, head_fusion, discard_ratio,
            n_steps, n_samples, noise_level, patch_window, view, seed; see `MethodKeywords`.

    Returns:
        What was written and found, as an `ExplainedVideo`, which prints as a summary. A source that ends early is
        written up to there; `ExplainedVideo.video.truncation` and the summary say so.

    Raises:
        InputError: a value has the wrong type or is out of range, the video can't be read or written, or there is no
            such method, layer, head, class or option.
    """
    drawing: VideoKeywords = {
        "layout": layout, "smooth": smooth, "opacity": opacity, "edge_aware": edge_aware, "legend": legend,
        "class_strip": class_strip, "start": start, "end": end, "every": every, "batch_size": batch_size,
        "precision": precision,
    }  # fmt: skip
    written: VideoKeywords = {
        "height": height, "quality": quality, "format": format, "timeline": timeline, "save_maps": save_maps,
    }  # fmt: skip
    what: VideoKeywords = {"method": method, "target": target, "query": query, "track": track, "options": options}
    request = make_request({**what, **drawing, **written, **keywords})
    classifier = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
    note_unused_target(request.methods, target, callback)
    return run_request(classifier, video, output, request, callback)


def run_request(
    classifier: ImageClassifier,
    video: str | Path,
    output: str | Path,
    request: VideoRequest,
    callback: Callback | None = None,
) -> ExplainedVideo:
    """Do what `explain_video` does for a loaded model and a request in one record."""
    tasks = request.resolve(classifier)
    check_file_names(request.output)
    info = read_info(video)
    check_output(output, video, request.video_options)
    options = square_pixels(request.video_options, output, info)
    query = scale_query(request.query, info.size_hw, options.output_size(info.size_hw))
    stage = ExplainStage(classifier, request, tasks, query)
    with ExitStack() as stack:
        recorder = stack.enter_context(VideoRecorder(classifier.class_names, request.output, info.size_hw))
        drawing = DrawStage(request, output_seconds(info, request.video_options), recorder.add)
        precision = choose_precision(request.speed.float_precision, classifier.device)
        with autocast(classifier.device, precision):  # Over the whole video, so that weights are cast only once.
            result = annotate_video(
                video,
                output,
                stage.explain,
                drawing.draw,
                request.speed.frames_per_step,
                callback,
                options=request.video_options,
            )
        files = recorder.save()
        if request.output.timeline is not None:
            recorder.save_timeline(request.output.timeline, Path(video).name)
            files.append(request.output.timeline)
        predictions, segments = recorder.pool.predictions(), recorder.pool.segments()
    notes = (*result.notes, *stage.notes())
    return ExplainedVideo(output, result, tuple(predictions), tuple(segments), drawing.flicker(), tuple(files), notes)


def check_file_names(output: OutputOptions) -> None:
    """Check that the files beside the video have the extensions of what they hold, and can be written.

    Raises:
        InputError: names the file.
    """
    for path, suffix in ((output.save_maps, ".npz"), (output.timeline, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise InputError(f"can't write {path}: choose a name that ends in {suffix}")
        if path is not None:
            check_writable(path)


def output_seconds(info: VideoInfo, options: VideoOptions) -> float | None:
    """Return the duration of the output in seconds, or None if the source does not state its own."""
    if info.duration_seconds is None:
        return None
    end = info.duration_seconds if options.end_seconds is None else min(info.duration_seconds, options.end_seconds)
    return float(end - options.start_seconds) if end > options.start_seconds else None
