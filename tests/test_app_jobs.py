"""The queue in front of the model and the process behind it. A stand-in answers; no model is loaded."""

from __future__ import annotations

import os
import signal

import pytest

import app_stand_in
from elysium.app import jobs, worker
from elysium.app.jobs import Cancelled, Job, JobFailed, JobQueue, ModelProcess, QueueFull
from elysium.app.worker import ModelSettings
from elysium.errors import ElysiumError, InputError, ModelError


@pytest.fixture
def process(monkeypatch):
    monkeypatch.setattr(worker, "serve", app_stand_in.serve)
    made = ModelProcess(ModelSettings("stand-in"))
    yield made
    made.stop()


@pytest.fixture
def queue(process):
    made = JobQueue(process, max_waiting=2, job_seconds=60)
    yield made
    made.close()


def running(job: Job) -> Job:
    """The job, once its process reports something."""
    for progress in job.updates():
        if progress.done:
            return job
    raise AssertionError("it never ran")


def test_a_job_is_done_and_progress_ends_with_it(queue):
    assert queue.submit("a", "double", number=21).result() == 42


def test_progress_says_how_many_frames_of_how_many_and_who_waits(queue):
    first = running(queue.submit("a", "slow"))
    assert (first.progress.stage, first.progress.done, first.progress.total) == ("tracking", 3, 10)
    second, third = queue.submit("b", "double", number=1), queue.submit("c", "double", number=2)
    assert [job.progress.waiting for job in (second, third)] == [1, 2]
    queue.cancel("b")
    assert third.progress.waiting == 1
    queue.cancel("a")
    assert third.result() == 4
    with pytest.raises(Cancelled):
        second.result()


def test_a_full_queue_and_a_second_job_of_one_visitor_are_turned_away(queue):
    running(queue.submit("a", "slow"))
    with pytest.raises(QueueFull, match="not done yet"):
        queue.submit("a", "double", number=1)
    waiting = [queue.submit(name, "double", number=1) for name in "bc"]
    with pytest.raises(QueueFull, match=r"2 others wait for it already\. Try again"):
        queue.submit("d", "double", number=1)
    assert queue.busy("b") and not queue.busy("d")
    queue.cancel("a")
    assert [job.result() for job in waiting] == [2, 2]


@pytest.mark.parametrize(("abandon", "value"), [(False, "kept"), (True, "dropped")])
def test_a_cancel_reaches_the_process(queue, abandon, value):
    job = running(queue.submit("a", "slow"))
    assert queue.cancel("a", abandon=abandon) is True
    assert job.result() == value
    assert queue.cancel("a") is False


def test_a_job_that_takes_too_long_is_cancelled(process):
    queue = JobQueue(process, max_waiting=2, job_seconds=0.1)
    assert queue.submit("a", "slow").result() == "kept"
    queue.close()


def test_who_does_not_hear_a_cancel_is_ended_and_started_again(queue, process, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_GRACE_S", 0.1)
    queue.submit("z", "double", number=1).result()
    before = process.pid
    job = queue.submit("a", "deaf")
    for progress in job.updates():
        if progress.stage == "starting":
            break
    queue.cancel("a")
    with pytest.raises(Cancelled):
        job.result()
    assert queue.submit("a", "double", number=4).result() == 8
    assert process.pid not in (None, before)


def test_who_still_writes_what_is_there_after_a_cancel_is_waited_for(queue, process, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_GRACE_S", 3.0)  # less than it takes
    job = running(queue.submit("a", "writes"))
    queue.cancel("a")
    assert job.result() == "written"


def test_a_cancelled_job_that_then_fails_is_no_failure(queue):
    job = running(queue.submit("a", "gives up"))
    queue.cancel("a")
    with pytest.raises(Cancelled, match="given up"):
        job.result()


def test_leaving_after_a_stop_abandons_the_job(queue):
    job = running(queue.submit("a", "slow to stop"))
    queue.cancel("a")
    queue.cancel("a", abandon=True)
    assert job.result() == "dropped"


def test_an_error_of_a_task_is_its_own(queue):
    with pytest.raises(InputError, match=r"The box is empty\. Draw one\."):
        queue.submit("a", "fail").result()
    assert queue.submit("a", "double", number=1).result() == 2


@pytest.mark.parametrize("how", ["by itself", "killed"])
def test_a_process_that_dies_fails_its_job_and_is_started_again(queue, process, how):
    if how == "killed":
        job = running(queue.submit("a", "slow"))
        os.kill(process.pid, signal.SIGKILL)
    else:
        job = queue.submit("a", "die")
    with pytest.raises(JobFailed, match=r"ended before the job was done\. It is being started again"):
        job.result()
    assert queue.submit("a", "double", number=5).result() == 10


def test_a_process_that_was_killed_while_idle_is_started_again(queue, process):
    queue.submit("a", "double", number=1).result()
    os.kill(process.pid, signal.SIGKILL)
    process._process.join()
    assert queue.submit("a", "double", number=2).result() == 4


@pytest.mark.parametrize(
    ("model", "told"), [("missing", "No such model: 'missing'"), ("dies", "ended before it was ready")]
)
def test_a_model_that_cannot_be_loaded_is_told_at_the_start(monkeypatch, model, told):
    monkeypatch.setattr(worker, "serve", app_stand_in.serve)
    with pytest.raises(ModelError, match=told):
        ModelProcess(ModelSettings(model)).start()


def test_closing_ends_every_job(process):
    queue = JobQueue(process, max_waiting=2, job_seconds=60)
    first = running(queue.submit("a", "slow"))
    second = queue.submit("b", "double", number=1)
    queue.close()
    for job in (first, second):
        with pytest.raises(ElysiumError, match="being stopped"):
            job.result()
    assert process.pid is None
    with pytest.raises(QueueFull, match="being stopped"):
        queue.submit("a", "double", number=1)
