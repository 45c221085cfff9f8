"""vitreous video"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vitreous.callbacks import Progress, format_clock
from vitreous.cli import EXIT_INTERRUPTED, EXIT_TRUNCATED, print_error
from vitreous.cli.console import ConsoleCallback, Update, print_line, print_note, progress_on
from vitreous.cli.flags import OUTPUT_NAMES, Flag, ModelName
from vitreous.cli.options import (
    DRAW_GROUP,
    EXPLAIN_GROUP,
    FRAME_GROUP,
    OUTPUT_GROUP,
    SPEED_GROUP,
    ExplainOptions,
    InputOptions,
    MethodFlags,
)
from vitreous.clips.options import DrawOptions, FrameOptions, OutputOptions, SpeedOptions
from vitreous.errors import InputError
from vitreous.signals import interrupt_on_termination

if TYPE_CHECKING:
    from vitreous.clips.folder import ClipOutcome
    from vitreous.clips.request import VideoRequest
    from vitreous.clips.result import ExplainedVideo
    from vitreous.model.classifier import ImageClassifier

STATE_ORDER = ("written", "skipped", "truncated", "failed", "interrupted", "missing")


@Parameter(name="*", group=DRAW_GROUP)
@dataclass(frozen=True)
class DrawFlags(DrawOptions):
    """The fields of DrawOptions as flags; those that are off by default have no --no- form."""

    edge_aware: Flag = False
    class_strip: Flag = False

    def draw_options(self) -> DrawOptions:
        """Return the record that a request takes."""
        return DrawOptions(**vars(self))


def video(
    model: ModelName,
    video: Path,
    /,
    *,
    output: Annotated[str | None, Parameter(name=OUTPUT_NAMES, allow_leading_hyphen=True, group=OUTPUT_GROUP)] = None,
    explain: ExplainOptions = ExplainOptions(),
    track: Annotated[Flag, Parameter(group=EXPLAIN_GROUP)] = False,
    methods: MethodFlags = MethodFlags(),
    inputs: InputOptions = InputOptions(),
    draw: DrawFlags = DrawFlags(),
    frames: Annotated[FrameOptions, Parameter(name="*", group=FRAME_GROUP)] = FrameOptions(),
    speed: Annotated[SpeedOptions, Parameter(name="*", group=SPEED_GROUP)] = SpeedOptions(),
    files: Annotated[OutputOptions, Parameter(name="*", group=OUTPUT_GROUP)] = OutputOptions(),
    resume: Annotated[Flag, Parameter(group=OUTPUT_GROUP)] = False,
    shared: Annotated[Flag, Parameter(group=OUTPUT_GROUP)] = False,
) -> int:
    """Overlay a model's attention on a video.

    The video can be a folder of videos. Frames, times, size and audio stay the same. For a folder, each video is
    written into the folder --output with a record NAME.json beside it; a video that can't be read doesn't stop the
    others. The exit code is 3 if a video is truncated or, in a folder, failed.

    Args:
        video: Video file, animated GIF, or a folder of them.
        output: File to write: .mp4, .mov, .mkv, .webm, .gif, a folder "frames/" for PNG files, or "-" for raw frames.
            The video's name with "-attention.mp4" by default. For a folder of videos: a folder.
        track: Follow the patch at --query from the first frame on, until a cut.
        resume: For a folder: skip the videos that the same model and request wrote before.
        shared: For a folder: share it with all workers that run the same command, on machines that see the same
            folders, and resume. Another worker takes over the videos of one that dies. Failed videos are not tried
            again.
    """
    from vitreous.clips.request import VideoRequest

    request = VideoRequest(
        methods=explain.methods,
        options=methods.method_options(),
        target=explain.target,
        query=explain.query_region,
        track=track,
        draw=draw.draw_options(),
        frames=frames,
        speed=speed,
        output=files,
    )
    if not video.is_dir():
        if resume or shared:
            raise InputError(f"--{'resume' if resume else 'shared'} is for a folder of videos: leave it out")
        classifier = inputs.load(model)
        return explain_one(classifier, video, output or f"{video.stem}-attention.mp4", request)
    if output is None:
        raise InputError(f"{video} is a folder: name another folder for the output with -o")
    check_launch(shared=shared)
    classifier = inputs.load(model)
    return explain_all(classifier, video, Path(output), request, resume=resume, shared=shared)


def explain_one(classifier: "ImageClassifier", video: Path, output: str, request: "VideoRequest") -> int:
    """Explain one video and print what was written and found."""
    from vitreous.clips.explain import run_request
    from vitreous.explanation.target_parsing import note_unused_target

    print_result = print_note if output == "-" else print_line
    with progress_on("video", ProgressDisplay) as callback, interrupt_on_termination():
        note_unused_target(request.methods, request.target, callback)
        result = run_request(classifier, video, output, request, callback)
    for line in result.summary():
        print_result(line)
    for line in result.notes:
        print_note(line)
    return exit_code(result, video, request)


def exit_code(result: "ExplainedVideo", video: Path, request: "VideoRequest") -> int:
    """Return 0, or the code for a video that ended early, and print why."""
    from vitreous.clips.folder import written_frames
    from vitreous.video.info import format_frame_count

    if result.video.is_interrupted:
        print_note(f"interrupted after {format_frame_count(result.video.frames)}: these were written")
        return EXIT_INTERRUPTED
    if result.video.truncation is not None:
        frames = written_frames(result, video, request)
        print_error(f"{video} is truncated after {frames} ({result.video.truncation.reason}): these were written")
        return EXIT_TRUNCATED
    return 0


def check_launch(*, shared: bool) -> None:
    """Refuse several processes under torchrun that would each process all videos.

    Raises:
        InputError: there are several.
    """
    from vitreous.runtime import world_size

    if world_size() > 1 and not shared:
        raise InputError(f"{world_size()} processes would each process every video: add --shared to share them")


def explain_all(
    classifier: "ImageClassifier", folder: Path, output: Path, request: "VideoRequest", *, resume: bool, shared: bool
) -> int:
    """Explain every video of a folder, or this worker's part of them, and print the outcome of each and of all."""
    from vitreous.clips.folder import explain_folder, skipped_folders
    from vitreous.clips.workers import explain_shared_folder

    states: Counter[str] = Counter()
    failed: list[str] = []
    for inner in skipped_folders(folder, output):
        print_note(f"the videos in {inner} are skipped: give that folder by itself")
    with progress_on("video", ProgressDisplay) as callback:
        if shared:
            outcomes = explain_shared_folder(classifier, folder, output, request, callback)
        else:
            outcomes = explain_folder(classifier, folder, output, request, callback, resume=resume)
        try:
            with interrupt_on_termination():
                for outcome in outcomes:
                    states[outcome.state] += 1
                    failed += [outcome.job.source.name] if outcome.state == "failed" else []
                    print_outcome(outcome)
        except KeyboardInterrupt:
            states["interrupted"] += 1
    print_line(format_counts(states) + (f": {', '.join(failed)}" if failed else ""))
    if states["interrupted"]:
        return EXIT_INTERRUPTED
    if shared:
        states = print_shared_counts(output)
    return EXIT_TRUNCATED if states["failed"] or states["truncated"] or states["missing"] else 0


def print_outcome(outcome: "ClipOutcome") -> None:
    """Print what happened to one video of a folder."""
    name = outcome.job.source
    if outcome.result is not None:
        for line in outcome.result.summary():
            print_line(line)
        for line in outcome.result.notes:
            print_note(f"{name}: {line}")
    if outcome.state == "skipped":
        print_line(f"{outcome.job.output}: {outcome.message}")
    elif outcome.message:
        print_error(f"{name}: {outcome.state} {outcome.message}" if outcome.result else outcome.message)


def print_shared_counts(output: Path) -> Counter[str]:
    """Print how the videos of a shared folder ended, whichever worker processed them, and return the counts."""
    from vitreous.clips.workers import SUMMARY, count_states

    states = count_states(output)
    print_line(f"{output / SUMMARY}: {states.total()} videos in total: {format_counts(states)}")
    return states


def format_counts(states: Counter[str]) -> str:
    """Return how many videos are in which state: "2 written, 1 failed".

    >>> format_counts(Counter(failed=1, written=2))
    '2 written, 1 failed'
    """
    ordered = sorted(states.items(), key=lambda pair: STATE_ORDER.index(pair[0]))
    return ", ".join(f"{count} {state}" for state, count in ordered)


class ProgressDisplay(ConsoleCallback):
    """Shows the frames done, the rate and the time left, of each video by itself."""

    def __init__(self, update: Update) -> None:
        super().__init__(update)
        self._starts: dict[str, float] = {}

    def describe(self, progress: Progress) -> str:
        """Describe the progress of the video that the message names."""
        name = progress.message
        started = self._starts.setdefault(name, time.monotonic()) if name else self._started
        rate = progress.done / max(1e-9, time.monotonic() - started)
        left = (
            f" · {format_clock(max(0, progress.total - progress.done) / rate)} left" if progress.total and rate else ""
        )
        return f"{f'{name} · ' if name else ''}frame {progress.done} · {rate:.1f} frames/s{left}"
