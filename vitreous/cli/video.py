"""vitreous video"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitreous.cli import EXIT_BROKE_OFF, EXIT_INTERRUPTED, complain
from vitreous.cli.console import clock, note, progress, say
from vitreous.errors import InputError
from vitreous.process_tuning import share_cores

if TYPE_CHECKING:
    from vitreous.clips.explain import ExplainedVideo
    from vitreous.clips.folder import ClipJob, ClipOutcome
    from vitreous.clips.request import VideoRequest
    from vitreous.model.classifier import ImageClassifier

Flag = Annotated[bool, Parameter(negative="")]
Tell = Callable[[int, int | None], None]
ORDER = ("written", "skipped", "broke off", "failed", "interrupted", "missing")
MOST_SEGMENTS = 20


def video(
    model: str,
    clip: Path,
    /,
    *,
    output: Annotated[str | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)] = None,
    method: str = "attention",
    layout: Literal["contour", "heads", "layers", "methods", "overlay", "side-by-side", "spotlight"] | None = None,
    target: str | None = None,
    query: str | None = None,
    track: Flag = False,
    layer: int | None = None,
    head: int | None = None,
    fusion: Literal["mean", "max", "min"] = "mean",
    discard: float = 0.0,
    view: Literal["colors", "similarity", "norms"] = "colors",
    strength: float = 1.0,
    edges: Flag = False,
    legend: bool = True,
    smooth: float = 0.2,
    strip: Flag = False,
    timeline: Path | None = None,
    data_out: Path | None = None,
    start: float = 0.0,
    end: float | None = None,
    every: int = 1,
    size: int | None = None,
    quality: int | None = None,
    format: str | None = None,  # noqa: A002 - the name of the option
    model_size: int | None = None,
    model_fit: Literal["squash", "crop", "aspect", "letterbox"] | None = None,
    batch_size: int = 16,
    precision: Literal["auto", "bf16", "fp32", "int8"] = "fp32",
    resume: Flag = False,
    shared: Flag = False,
) -> int:
    """Lay over a clip what a model looks at: same frames, times, size and sound. Or over every clip of a folder.

    Of a folder, each clip is written into the folder --output with a record NAME.json beside it; one that can't be
    read doesn't stop the others. The exit code is 3 where a clip broke off or, in a folder, failed.

    Args:
        model: Run folder, weights file, or origin:name such as hf:facebook/dinov2-small.
        clip: Video file, an animated GIF, or a folder of them.
        output: File to write: .mp4, .mov, .mkv, .webm, .gif, a folder "frames/" of PNG files, or "-" for raw frames;
            the clip's name with "-attention.mp4" by default. Of a folder of clips: a folder.
        method: How to explain; `vitreous methods` lists them and the settings that each one takes. Several, with
            commas between, get a panel each.
        layout: How it is shown: the map over the image by default; heads and layers show each one of the attention.
        target: What the maps shall explain: a class, or "cat - dog"; each frame's predicted class by default.
        query: A place X,Y in the clip's pixels, or a box X0,Y0,X1,Y1, whose patches are followed instead of what the
            model's head reads.
        track: Carry the query along with what lies there in the first frame, until a cut.
        layer: Layer to show, counted from 0; -1 is the last.
        head: Head to show, counted from 0; all of them by default.
        fusion: How heads are joined.
        discard: Share of each layer's smallest weights that rollout leaves out.
        view: What the method features shows: PCA as colors, similarity to --query, or norms.
        strength: Of the effect, 0 to 1.
        edges: Bring the map to the image's edges.
        legend: Write method and colors on the image.
        smooth: Half-life in seconds of the smoothing over time, which what moves is spared; 0 for none.
        strip: Draw the classes over time under the clip.
        timeline: PNG file of classes, segments and the map's entropy over time. Of a folder of clips: a folder.
        data_out: NPZ file for the maps, with a CSV file of predictions beside it. Of a folder of clips: a folder.
        start: Second of the clip to begin at.
        end: Second of the clip to end at.
        every: Take one frame of so many, and show it until the next one taken.
        size: Height of the output in pixels.
        quality: The encoder's crf: lower is better and larger.
        format: Of an output whose name has no ending, such as webm or png.
        model_size: Side in pixels that the model is given; its own by default.
        model_fit: How frames are brought to that size: squashed, their center cut out, in their own shape with about
            its area, or with bars around them; the model's own way by default.
        batch_size: Frames that go through the model at a time.
        precision: bf16 makes the model about 1.5 times as fast where the hardware has it, and moves maps by little;
            auto takes it there. int8 makes it about twice as fast, with AVX-512 VNNI and for methods without
            gradients.
        resume: Of a folder of clips: skip those that this model and request wrote before, or the good part of.
        shared: Of a folder of clips: share it with all who run the same command, on machines that see the same
            folders, and resume. Clips of a worker that dies are done by another; those that failed are not tried again.
    """
    share_cores()
    from vitreous.clips.request import request_from
    from vitreous.explanation.coordinates import parse_region_yx, swapped
    from vitreous.pretrained.load import load

    followed = parse_region_yx(query)
    given: dict[str, Any] = {
        "layout": layout, "explained": target, "query": followed and swapped(followed), "track": track, "layer": layer,
        "head": head, "fusion": fusion, "discard": discard, "view": view, "strength": strength, "edges": edges,
        "legend": legend, "smooth": smooth, "strip": strip, "timeline": timeline, "data_out": data_out, "start": start,
        "end": end, "every": every, "size": size, "quality": quality, "format": format, "batch_size": batch_size,
        "precision": precision,
    }  # fmt: skip
    request = request_from([name.strip() for name in method.split(",")], given)
    if clip.is_dir():
        if output is None:
            raise InputError(f"{clip} is a folder: name another one for the output with -o")
        check_launch(shared=shared)
        return folder(
            load(model, size=model_size, fit=model_fit), clip, Path(output), request, resume=resume, shared=shared
        )
    if resume or shared:
        raise InputError(f"--{'resume' if resume else 'shared'} is for a folder of clips: leave it out")
    return single(load(model, size=model_size, fit=model_fit), clip, output or f"{clip.stem}-attention.mp4", request)


def single(classifier: "ImageClassifier", clip: Path, output: str, request: "VideoRequest") -> int:
    """Explain one clip, and say what came of it."""
    from vitreous.clips.explain import write_explained

    tell_all = note if output == "-" else say
    with progress("video") as display, interrupted_by_termination():
        explained = write_explained(classifier, clip, output, request, teller(display))
    for line in findings(explained, output):
        tell_all(line)
    for line in explained.notes:
        note(line)
    return exit_code(explained, clip, request)


def exit_code(explained: "ExplainedVideo", clip: Path, request: "VideoRequest") -> int:
    """0, or what a clip that ended early means; said in a line."""
    from vitreous.clips.folder import frames_of
    from vitreous.video.info import in_frames

    video = explained.video
    if video.is_interrupted:
        note(f"interrupted after {in_frames(video.frames)}: these were written")
        return EXIT_INTERRUPTED
    if video.broke_off is not None:
        frames = frames_of(explained, clip, request)
        complain(f"{clip} broke off after {frames} ({video.broke_off.reason}): these were written")
        return EXIT_BROKE_OFF
    return 0


def check_launch(*, shared: bool) -> None:
    """Refuse several processes under torchrun that would each do all clips.

    Raises:
        InputError: there are several.
    """
    from vitreous.runtime import processes

    if processes() > 1 and not shared:
        raise InputError(f"{processes()} processes would each do every clip: add --shared, and they share them")


def folder(
    classifier: "ImageClassifier", clips: Path, output: Path, request: "VideoRequest", *, resume: bool, shared: bool
) -> int:
    """Explain every clip of a folder, or this worker's share of them, and say what came of each, and of all."""
    from vitreous.clips.folder import explain_folder, folders_left_out
    from vitreous.clips.workers import share_folder

    states: Counter[str] = Counter()
    failed: list[str] = []
    for inner in folders_left_out(clips, output):
        note(f"the clips in {inner} are left out: give that folder by itself")
    with progress("video") as display:
        tellers: dict[Path, Tell] = {}

        def tell(job: "ClipJob", done: int, total: int | None) -> None:
            tellers.setdefault(job.source, teller(display, f"{job.source.name} · "))(done, total)

        if shared:
            outcomes = share_folder(classifier, clips, output, request, tell, on_note=note)
        else:
            outcomes = explain_folder(classifier, clips, output, request, tell, resume=resume)
        try:
            with interrupted_by_termination():
                for outcome in outcomes:
                    states[outcome.state] += 1
                    failed += [outcome.job.source.name] if outcome.state == "failed" else []
                    report(outcome)
        except KeyboardInterrupt:
            states["interrupted"] += 1
    say(in_words(states) + (f": {', '.join(failed)}" if failed else ""))
    if states["interrupted"]:
        return EXIT_INTERRUPTED
    if shared:
        states = in_all(output)
    return EXIT_BROKE_OFF if states["failed"] or states["broke off"] or states["missing"] else 0


def report(outcome: "ClipOutcome") -> None:
    """Say what came of one clip of a folder."""
    name = outcome.job.source
    if outcome.explained is not None:
        for line in findings(outcome.explained, str(outcome.job.target)):
            say(line)
        for line in outcome.explained.notes:
            note(f"{name}: {line}")
    if outcome.state == "skipped":
        say(f"{outcome.job.target}: {outcome.words}")
    elif outcome.words:
        complain(f"{name}: {outcome.state} {outcome.words}" if outcome.explained else outcome.words)


def in_all(output: Path) -> Counter[str]:
    """Say how the clips of a shared folder ended, whoever did them; return how many in which state."""
    from vitreous.clips.workers import SUMMARY, summary_of

    states = summary_of(output)
    say(f"{output / SUMMARY}: {states.total()} clips in all: {in_words(states)}")
    return states


def in_words(states: Counter[str]) -> str:
    """How many clips are in which state: "2 written, 1 failed"."""
    return ", ".join(f"{count} {name}" for name, count in sorted(states.items(), key=lambda pair: ORDER.index(pair[0])))


@contextmanager
def interrupted_by_termination() -> Generator[None]:
    """Let the signals with which schedulers, torchrun and a terminal that closes end a process tidy up first.

    They raise KeyboardInterrupt at once: there may be no time to complete a file. What is ignored (by nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def teller(display: Callable[[float, float | None, str], None], name: str = "") -> Tell:
    """What is called with frames done and in all, and shows them with the rate and the time that is left."""
    started = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        rate = done / max(1e-9, time.monotonic() - started)
        left = f" · {clock(max(0, total - done) / rate)} left" if total and done else ""
        display(done, total, f"{name}frame {done} · {rate:.1f} frames/s{left}")

    return tell


def findings(explained: "ExplainedVideo", output: str) -> list[str]:
    """What was written and found, in lines."""
    info, video = explained.video.info, explained.video
    height, width = info.size_hw
    seconds, sound = float(info.duration_seconds or 0), info.sound or "none"
    lines = [f"{output}: {video.frames} frames, {seconds:.2f} s, {width} × {height} pixels, sound: {sound}"]
    if explained.answers:
        lines.append("the clip: " + ", ".join(answer.words() for answer in explained.answers))
    lines += [f"  {segment.words()}" for segment in explained.segments[:MOST_SEGMENTS]]
    if len(explained.segments) > MOST_SEGMENTS:
        lines.append(f"  ... and {len(explained.segments) - MOST_SEGMENTS} segments more")
    if words := explained.flicker.words():
        lines.append(words)
    return lines + [f"{path}" for path in explained.files]
