"""Explain a folder of clips with any number of workers, on any number of machines that see the same folders."""

import json
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.clips.explain import check_model
from vitreous.clips.folder import (
    ClipJob,
    ClipOutcome,
    Progress,
    explained,
    fingerprint,
    jobs_of,
    model_mark,
    record_of,
    settled,
)
from vitreous.clips.leases import Claim, ClaimLostError, Claims
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.files import flush_to_disk, make_folder, reason, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.pretrained.load import log
from vitreous.video.output import check_target

SUMMARY = "summary.jsonl"
MOST_LOST = 3
"""A clip on which so many workers died is given up: it is likely to be the cause."""
LOOK_SECONDS = 2.0
"""How often a worker without work looks whether one of the others has died."""


def share_folder(
    classifier: ImageClassifier,
    folder: Path,
    output: Path,
    request: VideoRequest,
    on_progress: Progress | None = None,
    *,
    on_note: Callable[[str], object] = log,
) -> Generator[ClipOutcome]:
    """Do this worker's share of what `explain_folder` does, and return when every clip of the folder is done.

    Every worker does this with the same arguments, whenever it is started. A clip is done by one of them at a time,
    and again by another where that one died. One that fails is recorded as failed and not tried again. At the end
    each worker writes the same summary.jsonl into the output: a line a clip, by name.

    Yields: the outcome of each clip, as soon as it is known; after Ctrl-C the clip in work is the last.

    Raises:
        InputError: no clips, an output that can't be written, or a request that doesn't fit the model.
    """
    jobs = jobs_of(folder, output, request)
    check_model(classifier, request)
    make_folder(output)
    others = [place for place in (request.data_out, request.timeline) if place is not None]
    worker = Worker(classifier, request, Claims(output, [output, *others], on_note), on_progress)
    model = model_mark(classifier)
    marks = {job: fingerprint(job, model, request) for job in jobs}
    pending, is_waiting = dict(marks), False
    while pending:
        before = len(pending)
        for job, mark in list(pending.items()):
            outcome = worker.attempt(job, mark)
            if outcome is not None:
                del pending[job]
                yield outcome
                if outcome.state == "interrupted":
                    return
        if len(pending) == before:
            if not is_waiting:
                on_note(f"waiting for other workers, who have the last clips: {before}")
            is_waiting = True
            time.sleep(max(LOOK_SECONDS, before / 5))
    rows = [settled(job, mark) or {"clip": job.source.name, "state": "missing"} for job, mark in marks.items()]
    write_text(output / SUMMARY, "".join(json.dumps(row) + "\n" for row in rows))
    worker.claims.clear(job.record.stem for job in jobs)


def summary_of(output: Path) -> Counter[str]:
    """How many clips of a shared folder that is done are in which state: written, broke off, failed, or missing."""
    lines = (output / SUMMARY).read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["state"] for line in lines)


@dataclass(frozen=True)
class Worker:
    """One of those that share a folder."""

    classifier: ImageClassifier
    request: VideoRequest
    claims: Claims
    on_progress: Progress | None

    def attempt(self, job: ClipJob, mark: str) -> ClipOutcome | None:
        """Do a clip, unless it is done; None where another worker has it."""
        record = settled(job, mark)
        if record is not None:
            return skipped(job, record)
        claim = self.claims.take(job.record.stem, mark)
        if claim is None:
            return None
        try:
            with claim:
                record = settled(job, mark)
                if record is None:
                    return self.work(job, mark, claim)
                claim.done()
                return skipped(job, record)
        except ClaimLostError:
            return None

    def work(self, job: ClipJob, mark: str, claim: Claim) -> ClipOutcome:
        """Do a claimed clip, and record what became of it.

        Raises:
            ClaimLostError: another worker has taken it over, and will do that.
        """
        outcome = self.outcome(job, claim)
        if outcome.state == "interrupted":
            return outcome
        if not claim.is_mine():
            raise ClaimLostError(claim.name)
        try:
            if outcome.explained is not None:
                job.record.unlink(missing_ok=True)  # it speaks of the files that are replaced now
                self.publish(claim)
        except OSError as error:
            if not claim.is_mine():
                raise ClaimLostError(claim.name) from error
            outcome = ClipOutcome(job, "failed", f"can't write {job.target}: {reason(error)}")
        write_text(job.record, json.dumps(record_of(outcome, mark), indent=1) + "\n")
        claim.done()
        return outcome

    def outcome(self, job: ClipJob, claim: Claim) -> ClipOutcome:
        """Write a clip into the claim's own folders, as if they were those that it will lie in."""
        if claim.number > MOST_LOST:
            return ClipOutcome(job, "failed", f"{job.source}: {claim.number - 1} workers died while they worked on it")
        try:
            # What a worker left that died just before it recorded the clip may be written over.
            if claim.number == 1:
                check_target(job.target, job.source, self.request.options)
        except InputError as error:
            return ClipOutcome(job, "failed", str(error))

        def tell(_: ClipJob, done: int, total: int | None) -> None:
            claim.check()
            if self.on_progress is not None:
                self.on_progress(job, done, total)

        staged = replace(job, target=self.claims.staging(job.target.parent, claim.name, claim.token) / job.target.name)
        return self.at_its_place(explained(self.classifier, staged, self.staged_request(claim), tell), job, claim)

    def staged_request(self, claim: Claim) -> VideoRequest:
        """The request, with the claim's own folders for data and timelines."""
        places = {"data_out": self.request.data_out, "timeline": self.request.timeline}
        staged = {name: self.claims.staging(place, claim.name, claim.token) for name, place in places.items() if place}
        return replace(self.request, **staged)

    def at_its_place(self, outcome: ClipOutcome, job: ClipJob, claim: Claim) -> ClipOutcome:
        """The outcome as it is once the claim's files are moved."""
        if outcome.state == "interrupted":
            return ClipOutcome(job, "interrupted", f"{job.source} was not finished: it is left to another worker")
        words = outcome.words.replace(f".{claim.name}.{claim.token}.part/", "")
        found = outcome.explained
        if found is not None:
            found = replace(found, files=tuple(path.parent.parent / path.name for path in found.files))
        return ClipOutcome(job, outcome.state, words, found)

    def publish(self, claim: Claim) -> None:
        """Move what was written to its place."""
        for place in self.claims.places:
            staging = self.claims.staging(place, claim.name, claim.token)
            if not staging.is_dir():
                continue
            for made in list(staging.iterdir()):
                target = place / made.name
                if target.is_dir():  # a folder is not replaced by renaming
                    target.replace(staging / f"{made.name}.before")
                made.replace(target)
            flush_to_disk(place)


def skipped(job: ClipJob, record: dict[str, object]) -> ClipOutcome:
    """The outcome of a clip that was done before, or by another worker."""
    return ClipOutcome(job, "skipped", f"done already: {record['state']}")
