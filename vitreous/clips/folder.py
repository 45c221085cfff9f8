"""Explain a folder of clips, one after the other: a bad one doesn't stop the rest, and finished ones can be skipped."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from vitreous.clips.explain import ExplainedVideo, check_model, write_explained
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.files import make_folder, reason, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.model.vit import ViT
from vitreous.video.check import IncompleteClipError
from vitreous.video.formats import FORMATS, named
from vitreous.video.info import in_frames, read_info
from vitreous.video.trim import expected_frames

CLIP_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf",
    ".ogv", ".ts", ".webm", ".wmv",
)  # fmt: skip


@dataclass(frozen=True)
class ClipJob:
    """A clip, the file or folder to be written, and the record that says that this is done."""

    source: Path
    target: Path
    record: Path


@dataclass(frozen=True)
class ClipOutcome:
    """What became of one clip; `explained` only where it was written now."""

    job: ClipJob
    state: Literal["written", "broke off", "interrupted", "failed", "skipped"]
    words: str = ""
    explained: ExplainedVideo | None = None


Progress = Callable[[ClipJob, int, int | None], None]


def explain_folder(
    classifier: ImageClassifier,
    folder: Path,
    output: Path,
    request: VideoRequest,
    on_progress: Progress | None = None,
    *,
    resume: bool = False,
) -> Generator[ClipOutcome]:
    """Write every clip of a folder, explained, into another one, and beside each a record NAME.json of what was found.

    `request.data_out` and `request.timeline`, where given, are folders here. With `resume`, clips are skipped whose
    record says that they were written whole from the same file, by the same model and request.

    Yields: the outcome of each clip, in the order of the names; after Ctrl-C the clip in work is the last.

    Raises:
        InputError: no clips, an output that can't be written, or a request that doesn't fit the model.
    """
    jobs = jobs_of(folder, output, request)
    check_model(classifier, request)
    make_folder(output)
    model = model_mark(classifier)
    for job in jobs:
        mark = fingerprint(job, model, request)
        if resume and is_done(job, mark):
            yield ClipOutcome(job, "skipped", "written before")
            continue
        forget(job)
        outcome = explained(classifier, job, request, on_progress)
        if outcome.explained is not None and outcome.state != "interrupted":
            write_text(job.record, json.dumps(record_of(outcome, mark), indent=1) + "\n")
        yield outcome
        if outcome.state == "interrupted":
            return


def jobs_of(folder: Path, output: Path, request: VideoRequest) -> list[ClipJob]:
    """The clips of a folder by name; two of one name but another ending keep the ending in the output's name.

    Raises:
        InputError: there are none, or they would be written over.
    """
    clips = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and p.is_file() and p.name[0] != "."
    )
    if not clips:
        raise InputError(f"there is no clip in {folder}: its files' names must end in {', '.join(CLIP_SUFFIXES)}")
    if output.suffix.lower() in FORMATS and not output.exists():
        raise InputError(f"{output} is the name of a file, and {folder} is a folder of clips: name a folder")
    if output.resolve() == folder.resolve():
        raise InputError(f"{output} is the folder of the clips themselves: choose another one for the output")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file, and there are {len(clips)} clips to write: name a folder")
    wanted = named(request.options.format or "mp4")
    if FORMATS[wanted].container == "pipe":
        raise InputError("the clips of a folder can't go to one pipe: choose another format")
    ending = "" if FORMATS[wanted].container == "folder" else wanted
    stems = Counter(clip.stem for clip in clips)
    names = [clip.stem if stems[clip.stem] == 1 else f"{clip.stem}-{clip.suffix[1:].lower()}" for clip in clips]
    return [ClipJob(clip, output / f"{n}{ending}", output / f"{n}.json") for clip, n in zip(clips, names, strict=True)]


def folders_left_out(folder: Path, output: Path) -> list[Path]:
    """The folders within one, and beside the output, whose clips are not looked for."""
    inner = [one for one in folder.iterdir() if one.is_dir() and one.resolve() != output.resolve()]
    return sorted(one for one in inner if any(clip.suffix.lower() in CLIP_SUFFIXES for clip in one.iterdir()))


def explained(
    classifier: ImageClassifier, job: ClipJob, request: VideoRequest, on_progress: Progress | None
) -> ClipOutcome:
    """Do one clip; what is wrong with it, or with writing it, becomes its outcome."""
    tell = None if on_progress is None else lambda done, total: on_progress(job, done, total)
    try:
        result = write_explained(classifier, job.source, job.target, request_of(job, request), tell)
    except (InputError, IncompleteClipError) as error:
        return ClipOutcome(job, "failed", " ".join(str(error).split()))
    except OSError as error:
        return ClipOutcome(job, "failed", reason(error))
    if result.video.is_interrupted:
        return ClipOutcome(job, "interrupted", f"after {in_frames(result.video.frames)}", result)
    if result.video.broke_off is not None:
        why = f"after {frames_of(result, job.source, request)} ({result.video.broke_off.reason}): these were written"
        return ClipOutcome(job, "broke off", why, result)
    return ClipOutcome(job, "written", "", result)


def frames_of(result: ExplainedVideo, source: Path, request: VideoRequest) -> str:
    """How many frames were written of a clip that broke off, in words, and of how many if the clip says so."""
    return in_frames(result.video.frames, expected_frames(read_info(source), request.options))


def request_of(job: ClipJob, request: VideoRequest) -> VideoRequest:
    """The request for one clip: files of its name in the folders for data and timelines."""
    name = job.record.stem
    return replace(
        request,
        data_out=None if request.data_out is None else request.data_out / f"{name}.npz",
        timeline=None if request.timeline is None else request.timeline / f"{name}.png",
    )


def forget(job: ClipJob) -> None:
    """Remove the record of a clip that is done again, since it speaks of files that will be replaced.

    Raises:
        InputError: the folder can't be written.
    """
    try:
        job.record.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"can't replace {job.record}: {reason(error)}; choose another place") from error


def fingerprint(job: ClipJob, model: str, request: VideoRequest) -> str:
    """Changes with the clip (size and time of its file), the model (see `model_mark`), and the request."""
    stat = job.source.stat()
    parts = (stat.st_size, stat.st_mtime_ns, model, request, job.target.name)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def model_mark(classifier: ImageClassifier) -> str:
    """Changes with a model's name, configuration, preprocessing, classes and weights: 0.3 s for 100 M parameters."""
    config = classifier.model.config if isinstance(classifier.model, ViT) else None
    parts = (classifier.origin, config, classifier.preprocessing, classifier.class_names)
    digest = hashlib.sha256(repr(parts).encode())
    for name, weight in classifier.model.state_dict().items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def is_done(job: ClipJob, mark: str) -> bool:
    """Whether the record says so, and what it speaks of is there."""
    record = settled(job, mark)
    return record is not None and record.get("state") != "failed"


def settled(job: ClipJob, mark: str) -> dict[str, object] | None:
    """The record of a clip that was written by this model and request, and is there still, or that failed."""
    try:
        record = json.loads(job.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("request") != mark or "state" not in record:
        return None
    files = [] if record["state"] == "failed" else [job.target, *(Path(name) for name in record.get("files", []))]
    return record if all(file.exists() for file in files) else None


def record_of(outcome: ClipOutcome, mark: str) -> dict[str, object]:
    """What the record of a clip holds that was written, or failed."""
    explained, clip = outcome.explained, {"clip": outcome.job.source.name, "state": outcome.state}
    if explained is None:
        return {**clip, "notes": [outcome.words], "files": [], "request": mark}
    video = explained.video
    return {
        **clip,
        "frames": video.frames,
        "seconds": float(video.info.duration_seconds or 0),
        "size_hw": list(video.info.size_hw),
        "answers": {one.rule: [one.name, one.probability] for one in explained.answers},
        "segments": [[one.start_seconds, one.end_seconds, one.name] for one in explained.segments],
        "notes": [*explained.notes, *([outcome.words] if outcome.words else [])],
        "files": [str(path) for path in explained.files],
        "request": mark,
    }
