"""Corrupt videos: each yields its good part or one clear error; none hangs, and nothing is left behind."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import av
import pytest
from corrupt_videos import corrupt_variants, source_videos

from vitreous.errors import InputError
from vitreous.video.options import VideoOptions
from vitreous.video.stream import transform_video

VARIANTS = int(os.environ.get("VITREOUS_DAMAGED", "220"))
SEED = int(os.environ.get("VITREOUS_DAMAGED_SEED", "5"))
SECONDS_EACH = 20
OPTIONS = [VideoOptions(size=32), VideoOptions(size=32), VideoOptions(start=0.1, end=0.4, every=2, size=32)]
OUTPUTS = [".mp4", ".mkv", ".mov", ".webm"]


@contextmanager
def time_limit(seconds):
    def stop(*_):
        raise TimeoutError(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.timeout(3600)
def test_corrupt_videos_give_their_good_part_or_one_line(tmp_path_factory, shared_if_present):
    whole = source_videos(tmp_path_factory.mktemp("whole"), shared_if_present)
    folder = tmp_path_factory.mktemp("damaged")
    threads, outcomes, failures = threading.active_count(), {"whole": 0, "part": 0, "refused": 0}, []
    for number, (name, _, content) in enumerate(corrupt_variants(whole, VARIANTS, SEED)):
        source, target = folder / name, folder / f"out{OUTPUTS[number % len(OUTPUTS)]}"
        source.write_bytes(content)
        start = time.monotonic()
        try:
            with time_limit(SECONDS_EACH):
                outcome = classify_outcome(source, target, OPTIONS[number % len(OPTIONS)])
        except Exception as error:  # noqa: BLE001 - each kind is a finding
            failures.append(f"{name} to {target.suffix}: {type(error).__name__}: {error}")
        else:
            outcomes[outcome] += 1
            source.unlink()
        target.unlink(missing_ok=True)
        left = {path.name for path in folder.iterdir()} - {failure.split(" ")[0] for failure in failures}
        if left or threading.active_count() != threads:
            failures.append(f"{name} left {left}, {threading.active_count() - threads} threads")
        if time.monotonic() - start > SECONDS_EACH / 2:
            failures.append(f"{name} took {time.monotonic() - start:.0f} s")
    assert not failures, f"{outcomes}; in {folder}:\n" + "\n".join(failures)
    assert min(outcomes.values()) > VARIANTS / 20, outcomes


def classify_outcome(source, target, options):
    """ "whole" or "part", where a clip came out that plays, or "refused"."""
    try:
        result = transform_video(source, target, lambda frames: [frame.image_u8 for frame in frames], options=options)
    except InputError as error:
        assert "\n" not in str(error)
        assert not target.exists()
        return "refused"
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == result.frames >= 1
    return "part" if result.truncation else "whole"
