"""Explain a folder of videos with any number of workers, on any number of machines that see the same folders."""

import json
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from vitreous.callbacks import Callback, ForwardingCallback, Progress
from vitreous.clips.fingerprints import ClipFingerprint, ModelFingerprint
from vitreous.clips.folder import ClipJob, ClipOutcome, clip_record, finished_record, list_jobs, process_clip
from vitreous.clips.leases import Lease, LeaseLostError, LeaseStore, shorten
from vitreous.clips.request import VideoRequest
from vitreous.errors import InputError
from vitreous.explanation.target_parsing import note_unused_target
from vitreous.files import flush_to_disk, make_folder, os_error_reason, write_text
from vitreous.model.classifier import ImageClassifier
from vitreous.runs.migration import migrate_clip_record
from vitreous.video.output import check_output

SUMMARY = "summary.jsonl"
MAX_LOST_WORKERS = 3
"""A video during which this many workers died is given up, since it is probably the cause."""
POLL_SECONDS = 2.0
"""How often a worker without work checks whether one of the others has died."""


class LeasedProgress(ForwardingCallback):
    """Passes progress on and stops the work on a video whose lease another worker has taken over."""

    def __init__(self, lease: Lease, callback: Callback) -> None:
        super().__init__(callback)
        self.lease = lease

    def on_progress(self, progress: Progress) -> None:
        """Pass the progress on while the lease is held.

        Raises:
            LeaseLostError: another worker has taken the video over.
        """
        self.lease.check()
        super().on_progress(progress)


def explain_shared_folder(
    classifier: ImageClassifier,
    folder: Path,
    output: Path,
    request: VideoRequest,
    callback: Callback | None = None,
) -> Generator[ClipOutcome]:
    """Do this worker's part of what `explain_folder` does, and return when every video of the folder is finished.

    Every worker calls this with the same arguments, whenever it is started. One worker at a time processes a video;
    another one takes it over if that worker dies. A video that fails is recorded as failed and not tried again. At the
    end each worker writes the same summary.jsonl into the output, one line per video, ordered by name.

    Yields: the outcome of each video, as soon as it is known; after Ctrl-C the current video is the last.

    Raises:
        InputError: there is no video, the output can't be written, or the model does not support the request.
    """
    jobs, callback = list_jobs(folder, output, request), callback or Callback()
    request.resolve(classifier)
    note_unused_target(request.methods, request.target, callback)
    make_folder(output)
    others = [path for path in (request.output.save_maps, request.output.timeline) if path is not None]
    leases = LeaseStore(output, [output, *others], callback.on_note)
    worker, model = Worker(classifier, request, leases, callback), ModelFingerprint(classifier)
    fingerprints = {job: ClipFingerprint(job.source, job.output.name, request, model) for job in jobs}
    pending, is_waiting = dict(fingerprints), False
    while pending:
        before = len(pending)
        for job, fingerprint in list(pending.items()):
            outcome = worker.attempt(job, fingerprint)
            if outcome is not None:
                del pending[job]
                yield outcome
                if outcome.state == "interrupted":
                    return
        if len(pending) == before:
            if not is_waiting:
                callback.on_note(f"waiting for other workers, which process the last {before} videos")
            is_waiting = True
            time.sleep(max(POLL_SECONDS, before / 5))
    write_summary(output, fingerprints)
    leases.remove_finished(job.record.stem for job in jobs)


def write_summary(output: Path, fingerprints: dict[ClipJob, ClipFingerprint]) -> None:
    """Write the records of all videos into one file, one line per video."""
    rows = [
        finished_record(job, fingerprint) or {"clip": job.source.name, "state": "missing"}
        for job, fingerprint in fingerprints.items()
    ]
    write_text(output / SUMMARY, "".join(json.dumps(row) + "\n" for row in rows))


def count_states(output: Path) -> Counter[str]:
    """Count the videos of a finished shared folder by state: written, truncated, failed, or missing."""
    lines = (output / SUMMARY).read_text(encoding="utf-8").splitlines()
    return Counter(str(migrate_clip_record(json.loads(line))["state"]) for line in lines)


@dataclass(frozen=True)
class Worker:
    """One of the workers that share a folder."""

    classifier: ImageClassifier
    request: VideoRequest
    leases: LeaseStore
    callback: Callback

    def attempt(self, job: ClipJob, fingerprint: ClipFingerprint) -> ClipOutcome | None:
        """Process a video unless it is finished; return None if another worker holds its lease."""
        record = finished_record(job, fingerprint)
        if record is not None:
            return skipped(job, record)
        lease = self.leases.acquire(job.record.stem, fingerprint.current)
        if lease is None:
            return None
        try:
            with lease:
                record = finished_record(job, fingerprint)
                if record is None:
                    return self.process(job, fingerprint.current, lease)
                lease.complete()
                return skipped(job, record)
        except LeaseLostError:
            return None

    def process(self, job: ClipJob, fingerprint: str, lease: Lease) -> ClipOutcome:
        """Process a leased video and record the outcome.

        Raises:
            LeaseLostError: another worker has taken the video over and will record it.
        """
        outcome = self.write_staged(job, lease)
        if outcome.state == "interrupted":
            return outcome
        if not lease.is_held():
            raise LeaseLostError(lease.name)
        try:
            if outcome.result is not None:
                job.record.unlink(missing_ok=True)  # It names files that are replaced now.
                self.publish(lease)
        except OSError as error:
            if not lease.is_held():
                raise LeaseLostError(lease.name) from error
            outcome = ClipOutcome(job, "failed", f"can't write {job.output}: {os_error_reason(error)}")
        write_text(job.record, json.dumps(clip_record(outcome, fingerprint), indent=1) + "\n")
        lease.complete()
        return outcome

    def write_staged(self, job: ClipJob, lease: Lease) -> ClipOutcome:
        """Write a video into the lease's staging folders; the outcome names the final paths."""
        if lease.number > MAX_LOST_WORKERS:
            return ClipOutcome(job, "failed", f"{job.source}: {lease.number - 1} workers died while processing it")
        try:
            # Files of a worker that died just before it recorded the video may be overwritten.
            if lease.number == 1:
                check_output(job.output, job.source, self.request.video_options)
        except InputError as error:
            return ClipOutcome(job, "failed", str(error))
        folder = self.leases.staging_folder(job.output.parent, lease.name, lease.token)
        staged, callback = replace(job, output=folder / job.output.name), LeasedProgress(lease, self.callback)
        outcome = process_clip(self.classifier, staged, self.staged_request(lease), callback)
        return self.final_outcome(outcome, job, lease)

    def staged_request(self, lease: Lease) -> VideoRequest:
        """Return the request with the lease's staging folders for maps and timelines."""
        output = self.request.output
        maps, timeline = (
            folder and self.leases.staging_folder(folder, lease.name, lease.token)
            for folder in (output.save_maps, output.timeline)
        )
        return replace(self.request, output=replace(output, save_maps=maps, timeline=timeline))

    def final_outcome(self, outcome: ClipOutcome, job: ClipJob, lease: Lease) -> ClipOutcome:
        """Return the outcome as it will be when the staged files are at their final paths."""
        if outcome.state == "interrupted":
            return ClipOutcome(job, "interrupted", f"{job.source} was not finished: it is left to another worker")
        message = outcome.message.replace(f".{shorten(lease.name)}.{lease.token}.part/", "")
        result = outcome.result
        if result is not None:
            files = tuple(path.parent.parent / path.name for path in result.files)
            result = replace(result, output=job.output, files=files)
        return ClipOutcome(job, outcome.state, message, result)

    def publish(self, lease: Lease) -> None:
        """Move the staged files to their final paths."""
        for folder in self.leases.output_folders:
            staging = self.leases.staging_folder(folder, lease.name, lease.token)
            if not staging.is_dir():
                continue
            for staged in list(staging.iterdir()):
                final = folder / staged.name
                if final.is_dir():  # A folder is not replaced by renaming.
                    final.replace(staging / f"{staged.name}.before")
                staged.replace(final)
            flush_to_disk(folder)


def skipped(job: ClipJob, record: dict[str, object]) -> ClipOutcome:
    """Return the outcome of a video that was finished before, or by another worker."""
    return ClipOutcome(job, "skipped", f"finished already: {record['state']}")
