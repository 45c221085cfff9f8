"""The queue of the web app: fair, bounded, and of one mind about cancelling."""

import threading
import time

import pytest

from vitreous.callbacks import Progress
from vitreous.errors import InputError
from vitreous.web.explorer import image_gallery
from vitreous.web.explorer.image_gallery import ImageGallery
from vitreous.web.jobs import stepwise
from vitreous.web.jobs.memory import PassSize
from vitreous.web.jobs.queue import Job, JobLimitError, JobQueue, JobResult
from vitreous.web.jobs.stepwise import images_per_step


def finish(job, seconds=5.0):
    end = time.monotonic() + seconds
    while not job.state.is_final:
        assert time.monotonic() < end, job.state
        time.sleep(0.005)
    return job.state


@pytest.fixture
def queue():
    made = JobQueue(max_jobs=6, max_own_jobs=3)
    yield made
    made.close()


def blocker(queue):
    """A job that runs until the returned event is set."""
    release, started = threading.Event(), threading.Event()

    def work(job):
        started.set()
        release.wait(5)
        return JobResult({})

    queue.put(Job("blocker", work, 10))
    queue.start()
    assert started.wait(5)
    return release


def test_everyone_takes_turns(queue):
    release, order = blocker(queue), []

    def job(owner, name):
        made = Job(owner, lambda _: order.append(name) or JobResult({}), 10)
        queue.put(made)
        return made

    jobs = [job("ann", "a1"), job("ann", "a2"), job("ann", "a3"), job("bob", "b1"), job("cy", "c1")]
    assert [queue.jobs_before(one) for one in jobs] == [1, 4, 5, 2, 3]
    release.set()
    assert {finish(one).state for one in jobs} == {"done"} and order == ["a1", "b1", "c1", "a2", "a3"]


def test_the_queue_is_bounded_for_one_and_for_all(queue):
    release = blocker(queue)
    for _ in range(3):
        queue.put(Job("ann", lambda _: JobResult({}), 10))
    with pytest.raises(JobLimitError) as own:
        queue.put(Job("ann", lambda _: JobResult({}), 10))
    for owner in ("bob", "cy", "dee"):
        queue.put(Job(owner, lambda _: JobResult({}), 10))
    with pytest.raises(JobLimitError) as common:
        queue.put(Job("eve", lambda _: JobResult({}), 10))
    assert own.value.is_own and not common.value.is_own
    release.set()


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_at_its_next_step(queue):
    release = blocker(queue)
    waiting = Job("ann", lambda _: pytest.fail("it was cancelled"), 10)
    queue.put(waiting)
    queue.cancel(waiting)
    assert waiting.state.state == "cancelled" and len(queue) == 0
    release.set()
    begun = threading.Event()

    def steps(job):
        for done in range(10_000):
            begun.set()
            time.sleep(0.002)
            job.on_progress(Progress(done, 10_000))
        return JobResult({})

    running = Job("ann", steps, 10)
    queue.put(running)
    assert begun.wait(5)
    queue.cancel(running)
    assert finish(running).state == "cancelled" and running.result is None and queue.counts["cancelled"] == 2


def test_a_job_that_takes_too_long_fails_and_the_next_one_runs(queue):
    def endless(job):
        while True:
            time.sleep(0.005)
            job.on_progress(Progress(0, None))

    slow, next_one = Job("ann", endless, 0.1), Job("bob", lambda _: JobResult({"a": 1}), 10)
    queue.put(slow)
    queue.put(next_one)
    queue.start()
    assert finish(slow).state == "failed" and "0.1 seconds" in slow.state.message
    assert finish(next_one).state == "done" and next_one.result == JobResult({"a": 1})


def test_errors_are_told_in_one_line_and_ours_are_not_shown(queue, caplog):
    def bad(job):
        raise InputError("there is no layer 99:\nchoose another")

    def bug(job):
        raise KeyError("/home/secret")

    jobs = [Job("ann", bad, 10), Job("ann", bug, 10)]
    for job in jobs:
        queue.put(job)
    queue.start()
    messages = [finish(job).message for job in jobs]
    assert messages[0].startswith("there is no layer 99:") and "\n" not in messages[0]
    assert "secret" not in messages[1] and "secret" in caplog.text


def test_background_work_waits_for_everyone():
    steps = []
    queue = JobQueue(background=iter(lambda: steps.append(time.monotonic()) or len(steps), 3))
    queue.start()
    end = time.monotonic() + 5
    while len(steps) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    job = Job("ann", lambda _: JobResult({}), 10)
    queue.put(job)
    assert finish(job).state == "done"
    queue.close()
    assert len(steps) == 3


def stepped(steps, order, name="long"):
    """Work that takes several steps."""
    left = iter(range(steps, -1, -1))

    def work(job):
        order.append(name)
        return None if next(left) else JobResult({"steps": steps})

    return work


def test_between_the_steps_of_a_job_others_have_their_turn(queue):
    release, order = blocker(queue), []
    long = Job("ann", stepped(3, order), 10)
    short = [Job(owner, lambda _: order.append("short") or JobResult({}), 10) for owner in ("ann", "bob")]
    for job in (long, *short):
        queue.put(job)
    release.set()
    assert finish(long).state == "done" and long.result.description == {"steps": 3}
    assert order == ["long", "short", "short", "long", "long", "long"] and queue.counts["done"] == 4


def test_a_job_in_steps_can_be_cancelled_and_takes_no_more_time_than_it_may(queue):
    queue.start()
    endless = Job("ann", lambda job: time.sleep(0.02), 10)
    queue.put(endless)
    time.sleep(0.1)
    assert endless.state.state == "running"
    queue.cancel(endless)
    assert finish(endless).state == "cancelled"
    slow = Job("ann", lambda job: time.sleep(0.02), 0.1)
    queue.put(slow)
    assert "took longer than 0.1 seconds" in finish(slow).message and slow.state.state == "failed"


@pytest.mark.parametrize(
    ("size", "image_pixels", "images"),
    [
        (PassSize(65, 10_000, 300_000, 4, 12, 3072), 0, 8),  # a tiny model at 32 pixels
        (PassSize(197, 60_000, 21_300_000, 12, 72, 150_528), 0, 2),  # ViT-S/16 at 224
        (PassSize(1370, 300_000, 303_000_000, 24, 384, 804_972), 0, 1),  # ViT-L/14 at 518
        (PassSize(65, 10_000, 300_000, 4, 12, 3072), 1920 * 1080, 3),
        (PassSize(65, 10_000, 300_000, 4, 12, 3072), 3840 * 2160, 1),
    ],
)
def test_a_step_takes_as_many_images_as_its_model_and_their_size_allow(size, image_pixels, images):
    assert images_per_step(size, image_pixels) == images


def passes_over_gallery(colored_folder, classifier):
    """Score the gallery in the background of a queue, with a job after each pass; the sizes of the passes, and jobs."""
    gallery, order = ImageGallery(f"folder:{colored_folder}", 12, print), []
    queue = JobQueue(background=gallery.score(0, classifier))

    def note(module, inputs):
        order.append(len(inputs[0]))
        queue.put(Job("ann", lambda _: order.append("job") or JobResult({}), 10))

    hook = classifier.model.register_forward_pre_hook(note)
    queue.start()
    end = time.monotonic() + 20
    while gallery.num_done(0) < 12 or queue.counts["done"] < sum(one != "job" for one in order):
        assert time.monotonic() < end
        time.sleep(0.01)
    queue.close()
    hook.remove()
    assert len(gallery.scored(0)) == 12
    return order


def test_jobs_come_between_the_passes_over_a_data_set_which_are_shorter_for_larger_models(
    colored_folder, small_classifier, monkeypatch
):
    monkeypatch.setattr("vitreous.web.jobs.queue.BACKGROUND_SECONDS", 0.01)
    assert passes_over_gallery(colored_folder, small_classifier) == [8, "job", 4, "job"]
    with monkeypatch.context() as patch:
        patch.setattr(stepwise, "STEP_GMACS", 1e-6)
        assert passes_over_gallery(colored_folder, small_classifier) == [1, "job"] * 12, "of a large model one"
    monkeypatch.setattr(image_gallery, "STEP_PIXELS", 1)
    assert passes_over_gallery(colored_folder, small_classifier) == [1, "job"] * 12, "of large images one"
