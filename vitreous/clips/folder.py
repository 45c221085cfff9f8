"""Explain the videos of a folder one by one: a bad one doesn't stop the rest, and finished ones can be skipped."""

import json
import unicodedata
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Unpack

from vitreous.arguments import check_arguments
from vitreous.callbacks import Callback, ForwardingCallback, LogCallback, Progress
from vitreous.clips.explain import run_request
from vitreous.clips.fingerprints import ClipFingerprint, ModelFingerprint
from vitreous.clips.request import VideoKeywords, VideoRequest, make_request
from vitreous.clips.result import ExplainedVideo
from vitreous.errors import InputError
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.files import make_folder, os_error_reason, write_text
from vitreous.imaging.preprocessing import ResizeMode
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import load
from vitreous.runs.migration import migrate_clip_record
from vitreous.video.check import IncompleteVideoError
from vitreous.video.formats import FORMATS, find_format
from vitreous.video.info import format_frame_count, read_info
from vitreous.video.trim import expected_frames

VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip
ClipState = Literal["written", "truncated", "interrupted", "failed", "skipped"]


@dataclass(frozen=True)
class ClipJob:
    """One of several videos to explain.

    Attributes:
        source: The video to read.
        output: The file or folder to write.
        record: The JSON file that says that the video is finished.
    """

    source: Path
    output: Path
    record: Path


@dataclass(frozen=True)
class ClipOutcome:
    """What happened to one of several videos. Printing it gives a line, and the summary of what was written.

    Attributes:
        job: Which video it is, and where it is written.
        state: "written"; "truncated": written up to where the source ends early; "interrupted" by Ctrl-C or the
            callback; "failed": it can't be read or written; "skipped": it was written before.
        message: Why the state isn't "written"; empty otherwise.
        result: What was written and found; None if nothing was written now.
    """

    job: ClipJob
    state: ClipState
    message: str = ""
    result: ExplainedVideo | None = None

    def __str__(self) -> str:
        first = f"{self.job.source.name}: {self.state} {self.message}".rstrip()
        return first if self.result is None else f"{first}\n{self.result}"


class NamedProgress(ForwardingCallback):
    """Passes the progress of one job on, with the name of its source as the message."""

    def __init__(self, job: ClipJob, callback: Callback) -> None:
        super().__init__(callback)
        self.job = job

    def on_progress(self, progress: Progress) -> None:
        """Pass the progress on under the job's name."""
        super().on_progress(replace(progress, message=self.job.source.name))


@check_arguments
def explain_videos(
    model: str | Path | ImageClassifier,
    videos: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    resume: bool = False,
    input_size: int | Sequence[int] | None = None,
    resize_mode: ResizeMode | None = None,
    callback: Callback | None = None,
    **keywords: Unpack[VideoKeywords],
) -> list[ClipOutcome]:
    """Explain several videos, or those of a folder, one by one into another folder; a bad one doesn't stop the others.

    Beside each video a record NAME.json is written, from which `resume` knows what is finished.

    Args:
        model: whatever `load` takes, or a loaded model.
        videos: a folder, whose videos are taken by name (the folders in it are not searched), or a list of files.
        output: the folder to write into.
        resume: skip the videos that were written before from the same file, by the same model and settings.
        input_size: side, or (height, width), in pixels of the model's input, as in `load`.
        resize_mode: how frames are brought to the model's input size, as in `load`.
        callback: receives the progress in frames, with the video's name as its message, and notes; if it stops the
            work, the current video ends properly after the frames done so far, and is the last.
        **keywords: as in `explain_video`: method, target, query, layout, smooth, start, end, ... `save_maps` and
            `timeline` are folders here.

    Returns:
        The outcome of each video, in order: its state, the files, and for what was written now an `ExplainedVideo`.

    Raises:
        InputError: there is no video, the output can't be written, or the model does not support the request.

    Example:
        >>> for one in vitreous.explain_videos("vitreous:cifar10", "clips", "explained", every=2):  # doctest: +SKIP
        ...     print(one.job.source, one.state, one.result and one.result.predictions[0])
    """
    request, callback = make_request(keywords), callback or LogCallback()
    if isinstance(videos, str | Path):
        found = Path(videos)
        if not found.is_dir():
            raise InputError(
                f"{videos} is not a folder: give a folder or a list of videos, or use explain_video for one"
            )
        for inner in skipped_folders(found, Path(output)):
            callback.on_note(f"the videos in {inner} are skipped: give that folder by itself")
    else:
        found = [Path(video) for video in videos]
    classifier = load(model, input_size=input_size, resize_mode=resize_mode, callback=callback)
    return list(explain_folder(classifier, found, Path(output), request, callback, resume=resume))


def explain_folder(
    classifier: ImageClassifier,
    videos: Path | Sequence[Path],
    output: Path,
    request: VideoRequest,
    callback: Callback | None = None,
    *,
    resume: bool = False,
) -> Generator[ClipOutcome]:
    """Write every video of a folder or a list, explained, into another folder, and beside each a record NAME.json.

    `save_maps` and `timeline` of the request, where given, are folders here. With `resume`, videos are skipped whose
    record says that they were written from the same file, by the same model and request.

    Yields: the outcome of each video, in the order of the list, or of the names in a folder; after Ctrl-C the current
        video is the last.

    Raises:
        InputError: there is no video, the output can't be written, or the model does not support the request.
    """
    jobs = list_jobs(videos, output, request)
    request.resolve(classifier)
    note_unused_target(request.methods, request.target, callback)
    make_folder(output)
    model = ModelFingerprint(classifier)
    for job in jobs:
        fingerprint = ClipFingerprint(job.source, job.output.name, request, model)
        if resume and is_finished(job, fingerprint):
            yield ClipOutcome(job, "skipped", "written before")
            continue
        remove_record(job)
        outcome = process_clip(classifier, job, request, callback)
        if outcome.result is not None and outcome.state != "interrupted":
            write_text(job.record, json.dumps(clip_record(outcome, fingerprint.current), indent=1) + "\n")
        yield outcome
        if outcome.state == "interrupted":
            return


def list_jobs(videos: Path | Sequence[Path], output: Path, request: VideoRequest) -> list[ClipJob]:
    """List the videos to explain: those of a folder by name, or those of a list.

    Raises:
        InputError: there is no video, or the output would overwrite the sources.
    """
    videos = find_videos(videos) if isinstance(videos, Path) else list(videos)
    if not videos:
        raise InputError("the list of videos is empty: give one video or more")
    if (missing := next((video for video in videos if not video.is_file()), None)) is not None:
        raise InputError(f"there is no video {missing}: check the path")
    if output.suffix.lower() in FORMATS and not output.exists():
        raise InputError(f"{output} is the name of a file, and there are several videos to write: name a folder")
    if output.resolve() in [video.parent.resolve() for video in videos]:
        raise InputError(f"{output} is the folder of the videos themselves: choose another folder for the output")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file, and there are {len(videos)} videos to write: name a folder")
    wanted = find_format(request.output.format or "mp4")
    if FORMATS[wanted].container == "pipe":
        raise InputError("several videos can't go to one pipe: choose another format")
    suffix = "" if FORMATS[wanted].container == "folder" else wanted
    return [
        ClipJob(video, output / f"{name}{suffix}", output / f"{name}.json")
        for video, name in zip(videos, output_names(videos), strict=True)
    ]


def output_names(videos: Sequence[Path]) -> list[str]:
    """Return a name for the output of each video, all of them different on any file system.

    Videos that differ only in their suffix keep it in the name. Names that are still the same, or differ only in
    capitals or in how an accent is composed, are numbered.

    >>> output_names([Path("a-mp4.mkv"), Path("a.MP4"), Path("a.mp4"), Path("b.gif")])
    ['a-mp4', 'a-mp4-2', 'a-mp4-3', 'b']
    """
    stems = Counter(video.stem for video in videos)
    names = [video.stem if stems[video.stem] == 1 else f"{video.stem}-{video.suffix[1:].lower()}" for video in videos]
    wanted, taken, unique = {comparable(name) for name in names}, set[str](), []
    for name in names:
        chosen, number = name, 1
        while comparable(chosen) in taken or (number > 1 and comparable(chosen) in wanted):
            number += 1
            chosen = f"{name}-{number}"
        taken.add(comparable(chosen))
        unique.append(chosen)
    return unique


def comparable(name: str) -> str:
    """Return a form that is the same for names that some file systems don't tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def find_videos(folder: Path) -> list[Path]:
    """List the videos of a folder by name.

    Raises:
        InputError: there is none.
    """
    videos = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file() and p.name[0] != "."
    )
    if not videos:
        raise InputError(f"there is no video in {folder}: file names must end in {', '.join(VIDEO_SUFFIXES)}")
    return videos


def skipped_folders(folder: Path, output: Path) -> list[Path]:
    """List the folders inside a folder, other than the output, that hold videos and are not searched."""
    inner = [one for one in folder.iterdir() if one.is_dir() and one.resolve() != output.resolve()]
    return sorted(one for one in inner if any(video.suffix.lower() in VIDEO_SUFFIXES for video in one.iterdir()))


def process_clip(
    classifier: ImageClassifier, job: ClipJob, request: VideoRequest, callback: Callback | None
) -> ClipOutcome:
    """Explain one video; an error in reading or writing it becomes its outcome."""
    named_progress = None if callback is None else NamedProgress(job, callback)
    try:
        result = run_request(classifier, job.source, job.output, clip_request(job, request), named_progress)
    except (InputError, IncompleteVideoError) as error:
        return ClipOutcome(job, "failed", " ".join(str(error).split()))
    except OSError as error:
        return ClipOutcome(job, "failed", os_error_reason(error))
    if result.video.is_interrupted:
        return ClipOutcome(job, "interrupted", f"after {format_frame_count(result.video.frames)}", result)
    if result.video.truncation is not None:
        frames = written_frames(result, job.source, request)
        return ClipOutcome(
            job, "truncated", f"after {frames} ({result.video.truncation.reason}): these were written", result
        )
    return ClipOutcome(job, "written", "", result)


def written_frames(result: ExplainedVideo, source: Path, request: VideoRequest) -> str:
    """Describe how many frames of a truncated video were written, and of how many if the file says so."""
    return format_frame_count(result.video.frames, expected_frames(read_info(source), request.video_options))


def clip_request(job: ClipJob, request: VideoRequest) -> VideoRequest:
    """Return the request for one video: files of its name in the folders for maps and timelines."""
    name, output = job.record.stem, request.output
    save_maps = None if output.save_maps is None else output.save_maps / f"{name}.npz"
    timeline = None if output.timeline is None else output.timeline / f"{name}.png"
    return replace(request, output=replace(output, save_maps=save_maps, timeline=timeline))


def remove_record(job: ClipJob) -> None:
    """Remove the record of a video that is processed again, since its files will be replaced.

    Raises:
        InputError: the folder can't be written.
    """
    try:
        job.record.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"can't replace {job.record}: {os_error_reason(error)}; choose another folder") from error


def is_finished(job: ClipJob, fingerprint: ClipFingerprint) -> bool:
    """Return whether the record says that a video was written, and its files still exist."""
    record = finished_record(job, fingerprint)
    return record is not None and record.get("state") != "failed"


def finished_record(job: ClipJob, fingerprint: ClipFingerprint) -> dict[str, object] | None:
    """Return the record of a video that this model and request wrote, or that failed with them, else None.

    None is also returned if a file that the record names no longer exists.
    """
    try:
        found = json.loads(job.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    record = migrate_clip_record(found) if isinstance(found, dict) else {}
    if "state" not in record or not fingerprint.matches(record):
        return None
    names = record.get("files")
    paths = [Path(name) for name in names] if isinstance(names, list) else []
    files = [] if record["state"] == "failed" else [job.output, *paths]
    return record if all(file.exists() for file in files) else None


def clip_record(outcome: ClipOutcome, fingerprint: str) -> dict[str, object]:
    """Return the record of a video that was written, or failed."""
    result, first = outcome.result, {"clip": outcome.job.source.name, "state": outcome.state}
    if result is None:
        return {**first, "notes": [outcome.message], "files": [], "fingerprint": fingerprint}
    video = result.video
    return {
        **first,
        "frames": video.frames,
        "seconds": float(video.info.duration_seconds or 0),
        "size_hw": list(video.info.size_hw),
        "predictions": {one.rule: [one.label, one.score] for one in result.predictions},
        "segments": [[one.start_seconds, one.end_seconds, one.label] for one in result.segments],
        "notes": [*result.notes, *([outcome.message] if outcome.message else [])],
        "files": [str(path) for path in result.files],
        "fingerprint": fingerprint,
    }
