"""Jobs: watched by any number of clients from any threads, ended in time, and gone when they end."""

import asyncio
import contextvars
import gc
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from standins import PICTURE, Count

from featviz import limits
from featviz.errors import FeatvizError, JobError, LimitError
from featviz.networks.hub import DownloadProgress
from featviz.runtime import jobs as module
from featviz.runtime.jobs import INTERNAL_ERROR, UNATTENDED, Job, Jobs, Update
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview

RECIPE = Count()
PATIENCE = 20.0


class Clock:
    """A clock that only the test advances."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Steps:
    """A run whose steps the test takes one by one. Step n is a picture of the grey n."""

    def __init__(self, steps: int = 1000, error: Exception | None = None):
        self.steps, self.error = steps, error
        self.allowed = threading.Semaphore(0)
        self.asked = self.taken = 0
        self.closed = threading.Event()
        self.fields: list[Count] = []

    def __call__(self, recipe: Count, *, steer: Callable[[], Count] | None = None, **_: Image.Image) -> Generator:
        try:
            for step in range(1, self.steps + 1):
                self.asked = step
                assert self.allowed.acquire(timeout=PATIENCE)
                self.taken = step
                self.fields.append(steer() if steer else recipe)
                yield preview(step, self.steps)
            if self.error:
                raise self.error
        finally:
            self.closed.set()

    def take(self, count: int = 1) -> None:
        for _ in range(count):
            self.allowed.release()


def preview(step: int, steps: int) -> Preview:
    grey = Image.new("RGB", (4, 4), (step % 256,) * 3)
    return Preview(step, steps, "", step / steps, 0.0, 0.0, grey, measures={"psnr": float(step)})


def quick(recipe: Count, **_: Image.Image) -> Generator:
    """A run that does not wait for the test."""
    for step in range(1, recipe.steps + 1):
        yield preview(step, recipe.steps)


@pytest.fixture
def jobs(tmp_path) -> Iterator[Jobs]:
    numbers = iter(range(10**6))

    def write(recipe: Count, picture: Image.Image) -> str:
        path = tmp_path / f"{recipe.name}{next(numbers)}.png"
        picture.save(path)
        return str(path)

    jobs = Jobs(write)
    yield jobs
    jobs.shut_down("The test is over.")
    until(lambda: jobs.working == 0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def seen(updates: Iterator[Update]) -> int:
    """The step of the next update."""
    latest = next(updates).latest
    return latest.step if latest else 0


def reached(job: Job, step: int) -> None:
    until(lambda: job.latest is not None and job.latest.step == step)


def grey(file: str) -> int:
    with Image.open(file) as picture:
        return picture.getpixel((0, 0))[0]


def ended(job: Job) -> Update:
    """The final update."""
    *_, last = job.watch()
    return last


# Watching


def test_a_watcher_gets_the_newest_update_and_last_the_final_one(jobs):
    run = Steps(4)
    job = jobs.start(RECIPE, {"image": PICTURE}, run=run)
    updates = job.watch()
    assert seen(updates) == 0
    run.take()
    assert seen(updates) == 1
    run.take(2)
    reached(job, 3)
    assert seen(updates) == 3  # The second was never shown.
    run.take()
    *_, last = updates
    assert (last.state, last.result.step, last.result.done, last.error) == ("done", 4, True, "")
    assert grey(last.result.file()) == 4
    assert [update.state for update in job.watch()] == ["done"]  # A late watcher gets the end at once.


def test_watchers_of_any_kind_see_growing_steps_and_the_same_end(jobs):
    """Sixteen jobs with eight watchers each, which come, are slow, and leave at random; half of the jobs are stopped."""
    rng = random.Random(0)
    count = 400
    started = [jobs.start(Count(steps=count), {}, run=slowly, owner=f"{number}") for number in range(16)]
    wrong, ends = [], {job.id: [] for job in started}

    def watch(job: Job, chance: random.Random, leaves: int | None) -> None:
        steps = []
        with closing(job.watch()) as updates:
            for number, update in enumerate(updates):
                if update.latest:
                    steps.append(update.latest.step)
                if update.final:
                    ends[job.id].append((update.state, update.result and update.result.step))
                if number == leaves:
                    break
                time.sleep(chance.random() * 0.002)
        if steps != sorted(set(steps)):
            wrong.append(steps)

    async def watch_async(job: Job) -> None:
        steps = [update.latest.step async for update in job.watch_async() if update.latest]
        ends[job.id].append((job.state, job.result and job.result.step))
        if steps != sorted(set(steps)):
            wrong.append(steps)

    threads = [
        threading.Thread(target=watch, args=(job, random.Random(number), None if number < 4 else rng.randrange(20)))
        for job in started
        for number in range(7)
    ]
    threads += [threading.Thread(target=lambda job=job: asyncio.run(watch_async(job))) for job in started]
    threads += [threading.Thread(target=job.stop) for job in started[::2]]
    rng.shuffle(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
    assert wrong == []
    for job in started:
        assert len(set(ends[job.id])) == 1
        assert len(ends[job.id]) >= 5
    assert {job.state for job in started[1::2]} == {"done"}
    assert {job.result.step for job in started[1::2]} == {count}


def slowly(recipe: Count, **_: Image.Image) -> Generator:
    for item in quick(recipe):
        time.sleep(0.0001)
        yield item


def test_an_async_watcher_can_be_cancelled_in_the_middle_of_a_step(jobs):
    run = Steps()
    job = jobs.start(RECIPE, {}, run=run, unattended=0)

    async def leave() -> None:
        updates = job.watch_async()
        assert not (await anext(updates)).final
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(updates), timeout=0.02)

    asyncio.run(leave())
    assert run.taken == 0
    run.take()
    assert run.closed.wait(PATIENCE)
    assert (run.taken, job.state, job.result.step) == (1, "stopped", 1)


# Ending


def test_stop_returns_in_the_middle_of_a_step_keeps_the_picture_and_ends_the_run_after_it(jobs):
    run = Steps()
    job = jobs.start(RECIPE, {}, run=run)
    run.take(2)
    reached(job, 2)
    job.stop()
    assert (job.state, job.result.step, job.result.steps, job.result.done, job.latest) == ("stopped", 2, 1000, False, None)
    assert ended(job) is job.now
    assert jobs.working == 1  # The step is not over.
    run.take(2)
    assert run.closed.wait(PATIENCE)
    assert run.taken == 3
    assert grey(job.result.file()) == 2
    job.stop()  # Again: nothing changes.
    assert job.state == "stopped"


@pytest.mark.parametrize(("unattended", "steps"), [(0, 1), (30, 4)])
def test_a_run_goes_on_unattended_for_so_long_and_keeps_its_picture(jobs, clock, unattended, steps):
    """Each step takes ten seconds. Before anybody attached, the usual time counts."""
    run, other = Steps(), Steps()
    unseen = jobs.start(RECIPE, {}, run=other, unattended=0)
    other.take()
    until(lambda: other.asked == 2)
    assert unseen.state == "running"
    job = jobs.start(RECIPE, {}, run=run, unattended=unattended)
    with closing(job.watch()) as first, closing(job.watch()) as second:
        next(first), next(second)
        first.close()
        clock.now += 1000  # The second still watches.
        other.take()
        assert other.closed.wait(PATIENCE)
        assert unseen.state == "stopped"
    for step in range(1, steps):
        run.take()
        until(lambda step=step: run.asked == step + 1)
        clock.now += 10
    run.take()
    assert run.closed.wait(PATIENCE)
    assert (job.state, job.error, job.result.step) == ("stopped", UNATTENDED, steps)
    assert grey(job.result.file()) == steps


def test_an_iterator_that_is_dropped_in_the_garbage_detaches(jobs):
    run = Steps()
    job = jobs.start(RECIPE, {}, run=run, unattended=0)
    cycle = [job.watch()]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()
    run.take()
    assert run.closed.wait(PATIENCE)
    assert job.state == "stopped"


@pytest.mark.parametrize(
    ("error", "sentence", "logged"),
    [(FeatvizError("The lamp went out."), "The lamp went out.", 0), (KeyError("x"), INTERNAL_ERROR, 1)],
)
def test_an_error_is_a_sentence_and_keeps_the_picture(jobs, caplog, error, sentence, logged):
    run = Steps(2, error)
    job = jobs.start(RECIPE, {}, run=run)
    run.take(2)
    last = ended(job)
    assert (last.state, last.error, last.result.step) == ("failed", sentence, 2)
    assert [record.exc_info[1] for record in caplog.records if record.levelno == logging.ERROR] == [error] * logged


def test_a_download_is_shown_until_the_first_step_and_a_run_without_one_has_no_result(jobs):
    assert ended(jobs.start(RECIPE, {}, run=Steps(0))) == Update("done")
    assert ended(jobs.start(RECIPE, {}, run=Steps(0, FeatvizError("No.")))) == Update("failed", error="No.")
    progress = DownloadProgress("org/model", 1, 2, None)
    go = threading.Event()

    def run(recipe: Count) -> Generator:
        yield progress
        assert go.wait(PATIENCE)
        yield from quick(recipe)

    job = jobs.start(RECIPE, {}, run=run)
    until(lambda: job.download is not None)
    assert (job.download, job.latest) == (progress, None)
    go.set()
    assert ended(job).download is None


def test_shutdown_ends_every_run_with_a_sentence_and_starts_none(jobs):
    run = Steps()
    started = [jobs.start(RECIPE, {}, run=run) for _ in range(2)]
    jobs.shut_down("The server is restarting.")
    assert [(job.state, job.error) for job in started] == [("failed", "The server is restarting.")] * 2
    with pytest.raises(LimitError, match="The server is restarting"):
        jobs.start(RECIPE, {}, run=run)
    run.take(2)
    until(lambda: jobs.working == 0)


# What a run gets, and what stays of it


def test_a_run_gets_its_pictures_the_context_of_the_caller_and_new_settings(jobs):
    visitor = contextvars.ContextVar("visitor")
    visitor.set("Ada")
    run, got = Steps(3), []

    def with_context(recipe: Count, **arguments: object) -> Generator:
        got.append((visitor.get(), arguments["image"]))
        yield from run(recipe, **arguments)

    job = jobs.start(RECIPE, {"image": PICTURE}, run=with_context, steerable=True)
    run.take()
    reached(job, 1)
    job.steer(Count(seconds=0.5))
    run.take(2)
    ended(job)
    assert got == [("Ada", PICTURE)]
    assert [fields.seconds for fields in run.fields] in ([0.0, 0.0, 0.5], [0.0, 0.5, 0.5])


@pytest.mark.parametrize("way", ["done", "stopped", "failed", "stopped while it waits"])
def test_an_ended_job_holds_no_picture(jobs, way):
    jobs._at_once = 0 if way == "stopped while it waits" else 16
    run = Steps(2, FeatvizError("No.") if way == "failed" else None)
    picture = Image.new("RGB", (4, 4))
    weak = weakref.ref(picture)
    job = jobs.start(RECIPE, {"image": picture}, run=run)
    del picture
    run.take()
    if jobs._at_once:
        reached(job, 1)
    if way.startswith("stopped"):
        job.stop()
    run.take()
    ended(job)
    until(lambda: jobs.working == 0)
    run.error = None  # Its traceback.
    gc.collect()
    assert weak() is None
    held, left = [job], []
    while held:  # What the job refers to, other than modules and functions.
        thing = held.pop()
        if isinstance(thing, Image.Image):
            left.append(thing)
        held += [
            one for one in gc.get_referents(thing) if type(one).__module__.startswith(("featviz", "PIL")) or type(one) is dict
        ]
        held = [one for one in held if not (isinstance(one, dict) and "__builtins__" in one)]
    assert left == []


def test_a_result_that_cannot_be_written_stays_in_memory_until_it_can(tmp_path):
    full = [True]

    def write(recipe: Count, picture: Image.Image) -> str:
        if full:
            raise OSError("full")
        picture.save(tmp_path / "a.png")
        return str(tmp_path / "a.png")

    jobs = Jobs(write)
    job = jobs.start(Count(steps=2), {}, run=quick)
    assert ended(job).state == "done"
    with pytest.raises(OSError, match="full"):
        job.result.file()
    full.clear()
    assert grey(job.result.file()) == 2
    Path(job.result.file()).unlink()
    assert not job.result.exists
    with pytest.raises(JobError, match=r"This result was deleted from the server after 2 h; please run it again\."):
        job.result.file()


# Many


def test_jobs_are_found_by_id_and_by_owner(jobs):
    run = Steps()
    first, second, nobody = (jobs.start(RECIPE, {}, run=run, owner=owner) for owner in ("Ada", "Ada", ""))
    other = jobs.start(RECIPE, {}, run=run, owner="Ben")
    assert jobs.find(first.id) is first
    assert jobs.of("Ada") == [second, first]
    assert jobs.of("Ben") == [other]
    assert jobs.of("") == jobs.of("Cy") == []
    assert jobs.find(nobody.id) is nobody
    assert len({job.id for job in (first, second, nobody, other)} | {first.id[:20]}) == 5
    jobs.shut_down("")
    run.take(4)
    with pytest.raises(JobError, match=r"There is no such run: the server was restarted since, or the run ended over 2 h ago\."):
        Jobs(str).find(first.id)


def test_ended_jobs_are_forgotten_in_time_and_those_beyond_the_most(jobs, clock, monkeypatch):
    monkeypatch.setattr(module, "KEPT_PER_OWNER", 2)
    monkeypatch.setattr(module, "KEPT", 4)
    working = jobs.start(RECIPE, {}, run=(run := Steps()), owner="Ada")

    def start(owner: str) -> Job:
        clock.now += 1
        job = jobs.start(Count(steps=1), {}, run=quick, owner=owner)
        ended(job)
        return job

    ada = [start("Ada") for _ in range(3)]
    start("Ben")
    assert jobs.of("Ada") == [ada[2], ada[1], working]
    others = [start("") for _ in range(4)]
    assert jobs.of("Ada") == [working]
    assert jobs.find(others[1].id) is others[1]
    clock.now += limits.HOURS_KEPT.value * 3600
    start("Cy")
    with pytest.raises(JobError):
        jobs.find(others[3].id)
    assert jobs.of("Ada") == [working]
    run.take()


def test_beyond_so_many_at_once_runs_wait_in_order_and_beyond_so_many_they_are_refused(jobs, monkeypatch):
    monkeypatch.setenv(limits.QUEUE.variable, "3")
    jobs._at_once = 2
    runs, order = [Steps() for _ in range(6)], []

    def noted(recipe: Count, **_: object) -> Generator:
        order.append(recipe.steps)
        yield from runs[recipe.steps - 1](recipe)

    started = [jobs.start(Count(steps=number), {}, run=noted) for number in range(1, 6)]
    until(lambda: sorted(order) == [1, 2])
    assert [job.state for job in started] == ["running"] * 2 + ["waiting"] * 3
    with pytest.raises(LimitError, match="3 runs are waiting, the most that the server takes"):
        jobs.start(RECIPE, {}, run=noted)
    started[2].stop()
    started.append(jobs.start(Count(steps=6), {}, run=noted))  # The stopped one counts no more.
    started[0].stop()
    assert len(order) == 2  # It still works.
    runs[0].take()
    until(lambda: order[2:] == [4])
    for job in started:
        job.stop()
    for run in runs:
        run.take()
    until(lambda: jobs.working == 0)
    assert order[2:] == [4]


def test_a_run_that_is_stopped_in_the_middle_of_a_step_hears_it_and_keeps_the_picture_of_the_step_before(jobs):
    inside, ended = threading.Event(), threading.Event()

    def run(recipe: Count, *, stopped: Callable[[], bool], on_part: Callable, **_: Image.Image) -> Generator:
        yield preview(1, 2)
        on_part(Part(1, 4, 1.0, PICTURE))
        inside.set()
        deadline = time.monotonic() + PATIENCE
        while not stopped():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        ended.set()

    job = jobs.start(RECIPE, {}, run=run, interruptible=True)
    assert inside.wait(PATIENCE)
    assert (job.now.part.picture, job.latest.step) == (PICTURE, 1)
    job.stop()
    assert ended.wait(PATIENCE)
    assert (job.state, job.now.result.step, job.now.part) == ("stopped", 1, None)
    assert grey(job.result.file()) == 1  # Of the last whole step.


def test_a_run_in_the_queue_hears_how_many_go_before_it_and_how_long_they_take(jobs):
    jobs._at_once = 2
    runs = [Steps(1) for _ in range(4)]
    *_, short, long = (jobs.start(RECIPE, {}, run=run, expected=each) for run, each in zip(runs, (10, 4, 3, 20), strict=True))
    assert (short.now.waiting, long.now.waiting) == (Waiting(1, 4, 3), Waiting(3, 17, 20))
    runs[1].take()
    until(lambda: long.now.waiting == Waiting(2, 13, 20))
    for run in runs:
        run.take()


def test_updates_say_what_a_run_waits_for_until_its_next_preview():
    seen, begin, told, end = [], threading.Event(), threading.Event(), threading.Event()

    def run(recipe: Count, *, on_wait: Callable, **_: Any) -> Generator:
        assert begin.wait(PATIENCE)
        yield preview(1, 2)
        for waiting in (Waiting(2, 9.0), Waiting(2, 8.9), Waiting(1, 4.0)):
            on_wait(waiting)
            seen.append(job.now)
        told.set()
        assert end.wait(PATIENCE)
        yield preview(2, 2)

    job = Jobs(lambda recipe, picture: "").start(RECIPE, {}, run=run, interruptible=True)
    begin.set()
    assert told.wait(PATIENCE)
    end.set()
    *_, last = job.watch()
    assert [update.waiting for update in seen] == [Waiting(2, 9.0), Waiting(2, 9.0), Waiting(1, 4.0)]
    assert seen[0] is seen[1]
    assert seen[2].latest.step == 1
    assert (last.state, last.waiting) == ("done", None)
