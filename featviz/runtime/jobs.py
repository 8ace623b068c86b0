"""Runs that do not depend on a connection: each has an id and a thread of its own, and any number of watchers follow it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Literal

from PIL import Image

from featviz import limits
from featviz.errors import FeatvizError, JobError, LimitError
from featviz.networks.hub import DownloadProgress
from featviz.recipes.recipe import Recipe
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview

State = Literal["waiting", "running", "done", "stopped", "failed"]
"""`waiting`: for other runs, before it begins. The last three are final."""

Run = Callable[..., Generator[Preview | DownloadProgress, None, None]]
"""A function such as `featviz.stream`. Takes a recipe, its pictures by role and, if it can be steered, `steer`."""

AT_ONCE = 32
"""The most runs that share the devices, if memory allows; others wait in the queue. The scheduler orders the runs that have begun, the
queue keeps the order of arrival: more runs at once lower the mean time to a result (`benchmarks/simulation.py`)."""

KEPT_PER_OWNER, KEPT = 30, 1000
"""Most ended jobs that are remembered, of an owner and in all. Each takes about a kilobyte; its picture is a file."""

GRADIENT = "gradient.png"
"""The file beside a result that has the gradient image of the last step."""

INTERNAL_ERROR = "Something went wrong on the server, and the error was logged. Please try again, or try another picture."

UNATTENDED = "The run ended early because nobody was watching it."

logger = logging.getLogger(__name__)


def explain(error: Exception) -> str:
    """Return the sentence for an error of a run. An unexpected error is logged and gets a general sentence."""
    if isinstance(error, FeatvizError):
        return str(error)
    logger.error("A run failed.", exc_info=error)
    return INTERNAL_ERROR


def deleted_error() -> JobError:
    """Return the error for a result whose file was deleted."""
    return JobError(f"This result was deleted from the server after {limits.HOURS_KEPT.value} h; please run it again.")


class Result:
    """The latest picture of a run that has ended: its numbers, and a file. The picture stays in memory until it is written."""

    def __init__(self, recipe: Recipe, preview: Preview, write: Callable[[Image.Image], str]):
        self.recipe, self.size, self.measures = recipe, preview.picture.size, preview.measures
        self.step, self.steps, self.done = preview.step, preview.steps, preview.done
        self._picture: Image.Image | None = preview.picture
        self._gradient = preview.gradient
        self._write, self._file = write, ""
        self._lock = threading.Lock()

    @property
    def exists(self) -> bool:
        """Whether the result has not been deleted."""
        return self._picture is not None or Path(self._file).is_file()

    def file(self) -> str:
        """Return the path of the file. The first call writes it and drops the picture from memory.

        Raises:
            JobError: the file has been deleted.
            Also what `write` raises; the picture stays in memory then, and the next call tries again.
        """
        with self._lock:
            if self._picture is not None:
                self._file, self._picture = self._write(self._picture), None
                if self._gradient is not None:
                    self._gradient.save(Path(self._file).with_name(GRADIENT))
                    self._gradient = None
        if not self.exists:
            raise deleted_error()
        return self._file

    def gradient_file(self) -> str | None:
        """Return the path of the gradient image of the last step, None if the recipe shows none. Raises as `file` does."""
        path = Path(self.file()).with_name(GRADIENT)
        return str(path) if path.is_file() else None


@dataclass(frozen=True)
class Update:
    """What a job has reached."""

    state: State
    latest: Preview | None = None
    """The newest preview while the run works. None before the first and after the end, when there is a `result`."""
    download: DownloadProgress | None = None
    """Set while the run's network is downloaded."""
    waiting: Waiting | None = None
    """What the run has waited for since the latest preview, or waits for before it begins; None if it has not waited."""
    part: Part | None = None
    """The middle of the step under way, if it is long. Never the result."""
    result: Result | None = None
    """The latest picture after the end; None if there was no step."""
    error: str = ""
    """Why the run ended, unless it was done or somebody stopped it: one sentence."""

    @property
    def final(self) -> bool:
        """Whether the run has ended, so that no other update follows."""
        return self.state in ("done", "stopped", "failed")


class Job:
    """A run under way or ended. All methods may be called from any thread and return at once. Made by `Jobs.start`."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        *,
        owner: str,
        expected: float,
        unattended: float,
        steerable: bool,
        interruptible: bool,
        write: Callable[[Image.Image], str],
        explain: Callable[[Exception], str],
    ):
        self.id = secrets.token_urlsafe(16)
        self.recipe, self.owner, self._expected = recipe, owner, expected
        self.started = time.monotonic()
        """By `time.monotonic`."""
        self.ended = math.inf
        """By `time.monotonic`, when the run has ended."""
        self._settings = recipe
        """Its live fields are those that the run uses, if it can be steered."""
        steering: dict[str, Callable] = {"steer": lambda: self._settings} if steerable else {}
        interruption: dict[str, Callable] = {}
        if interruptible:
            interruption = {"stopped": self._must_end, "on_wait": self.publish_waiting, "on_part": self.publish_part}
        self._run: Run | None = partial(run, **steering, **interruption)
        self._unattended, self._write, self._explain = unattended, write, explain
        self._update = Update("waiting")
        self._watchers: set[Callable[[], object]] = set()
        # Before anybody has attached, the usual time counts: `unattended` may be 0.
        self._deadline = time.monotonic() + max(unattended, limits.SECONDS_UNATTENDED.value)
        # Reentrant: the garbage collector may close an iterator of `watch` while this thread holds the lock.
        self._lock = threading.RLock()

    @property
    def now(self) -> Update:
        """The newest update."""
        return self._update

    @property
    def state(self) -> State:
        """The state of the newest update."""
        return self._update.state

    @property
    def latest(self) -> Preview | None:
        """The newest preview while the run works."""
        return self._update.latest

    @property
    def download(self) -> DownloadProgress | None:
        """The progress of the download of weights, while there is one."""
        return self._update.download

    @property
    def seconds_left(self) -> float:
        """The seconds of a device that the run is expected to take from now on; 0 after its end."""
        now = self._update  # Another thread may replace it in between.
        return 0.0 if now.final else now.latest.seconds_left if now.latest else self._expected

    @property
    def result(self) -> Result | None:
        """The latest picture after the end."""
        return self._update.result

    @property
    def error(self) -> str:
        """The message of a failed run; "" otherwise."""
        return self._update.error

    def watch(self) -> Generator[Update, None, None]:
        """Yield the newest update whenever there is a newer one, the current one at once, and last the final one.

        Updates in between are skipped if the caller is slower than the run. The caller is attached to the job from the first
        `next` until the iterator ends or is closed.
        """
        changed = threading.Event()
        with self._attached(changed.set):
            seen = None
            while seen is None or not seen.final:
                if self._update is seen:
                    changed.wait()
                    changed.clear()
                else:
                    seen = self._update
                    yield seen

    async def watch_async(self) -> AsyncGenerator[Update, None]:
        """As `watch`, without a thread that waits. Can be cancelled at any time, also in the middle of a step."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # The loop was closed.
                loop.call_soon_threadsafe(changed.set)

        with self._attached(notify):
            seen = None
            while seen is None or not seen.final:
                if self._update is seen:
                    await changed.wait()
                    changed.clear()
                else:
                    seen = self._update
                    yield seen

    def stop(self) -> None:
        """End the run, at its next step or earlier. Its latest picture is the result."""
        self.end("stopped")

    def steer(self, recipe: Recipe) -> None:
        """Give the run new values of its live fields. Other fields of `recipe` are ignored."""
        self._settings = recipe

    def end(self, state: State, error: str = "") -> None:
        """Set the final update, unless there is one. A step under way is completed, and then the run is closed."""
        with self._lock:
            if self._update.final:
                return
            latest = self._update.latest
            result = Result(self.recipe, latest, self._write) if latest else None
            self.ended, self._run = time.monotonic(), None
            self._publish(Update(state, result=result, error=error))

    def work(self) -> None:
        """Run to the end, in the thread that calls this. Does nothing for a job that was stopped before, or that nobody attends."""
        with self._lock:
            run, self._run = self._run, None  # It holds the pictures.
        try:
            if run and not self._must_end():
                self._advance(Update("running"))
                with closing(run()) as items:
                    for item in items:
                        if isinstance(item, DownloadProgress):
                            self._advance(Update("running", download=item))
                        else:
                            self._advance(Update("running", latest=item))
                        if self._must_end():
                            return
                self.end("done")
        except Exception as error:
            self.end("failed", self._explain(error))
        finally:
            if result := self._update.result:
                with suppress(Exception):  # `Result.file` raises it again for whoever asks.
                    result.file()

    def _advance(self, update: Update) -> None:
        with self._lock:
            if not self._update.final:
                self._publish(update)

    def publish_waiting(self, waiting: Waiting) -> None:
        """Tell the watchers what the run waits for."""
        with self._lock:
            before = self._update.waiting
            if before is None or (before.ahead, round(before.seconds)) != (waiting.ahead, round(waiting.seconds)):
                self._advance(replace(self._update, waiting=waiting))

    def publish_part(self, part: Part) -> None:
        """Show the watchers the middle of a step."""
        with self._lock:
            self._advance(replace(self._update, part=part, waiting=None))

    def _must_end(self) -> bool:
        """Return whether the run has been ended, or end it if nobody has attended it for too long."""
        with self._lock:
            abandoned = not self._watchers and time.monotonic() >= self._deadline
        if abandoned:
            self.end("stopped", UNATTENDED)
        return self._update.final

    def _publish(self, update: Update) -> None:
        self._update = update
        for notify in tuple(self._watchers):
            notify()

    @contextmanager
    def _attached(self, notify: Callable[[], object]) -> Iterator[None]:
        """Attach a watcher for the duration of the context. `notify` is called after every update and must not wait."""
        with self._lock:
            self._watchers.add(notify)
        try:
            yield
        finally:
            with self._lock:
                self._watchers.remove(notify)
                self._deadline = time.monotonic() + self._unattended


def queue_waits(under_way: Sequence[float], queued: Sequence[float]) -> list[Waiting]:
    """Return what each run in the queue waits for. The arguments are the seconds that each run has left, in the order of the starts.

    The run with the least work left is served first, and when it ends the next one of the queue begins.
    """
    left, coming, clock = [(seconds, -1) for seconds in under_way], deque(enumerate(queued)), 0.0
    heapify(left)
    found: dict[int, Waiting] = {}
    for ahead in range(len(left) + len(coming)):
        if coming and len(left) < max(1, len(under_way)):
            place, seconds = coming.popleft()
            heappush(left, (seconds, place))
        seconds, place = heappop(left)
        found[place] = Waiting(ahead, clock, seconds)
        clock += seconds
    return [found[place] for place in range(len(queued))]


class Jobs:
    """The jobs of a server.

    Args:
        write: writes the picture of a result to a file and returns its path.
        explain: returns the sentence for an error of a run.
        at_once: the runs that work at the same time; others wait.
    """

    def __init__(
        self,
        write: Callable[[Recipe, Image.Image], str],
        *,
        explain: Callable[[Exception], str] = explain,
        at_once: int = AT_ONCE,
    ):
        self._write, self._explain, self._at_once = write, explain, at_once
        self._jobs: dict[str, Job] = {}
        """By id, in the order of their starts."""
        self._waiting: deque[tuple[Job, contextvars.Context]] = deque()
        self._lock = threading.Lock()
        self._closed = ""
        self._under_way: set[Job] = set()

    @property
    def working(self) -> int:
        """The number of jobs whose thread runs. A stopped job counts until its current step has ended."""
        return len(self._under_way)

    def start(
        self,
        recipe: Recipe,
        pictures: Mapping[str, Image.Image],
        *,
        run: Run,
        owner: str = "",
        expected: float = 0.0,
        unattended: float | None = None,
        steerable: bool = False,
        interruptible: bool = False,
        write: Callable[[Image.Image], str] | None = None,
    ) -> Job:
        """Start a run of a checked recipe on opened pictures, by role.

        Args:
            run: makes the run's previews; it may yield the progress of a download before them. Called in the job's thread, with
                the context variables of the caller.
            owner: who can find the job by `of`, e.g. the id of a browser; "" for nobody.
            expected: seconds of a device that the run is expected to take. It counts in the waiting times of later runs.
            unattended: seconds for which the run goes on with nobody attached; by default the server's limit. 0 ends it at its
                next step once its last watcher has left.
            steerable: whether `run` takes `steer`, as `stream` does; then `Job.steer` has an effect.
            interruptible: whether `run` takes `stopped`, `on_wait` and `on_part`, as `stream` does; then the run ends in the middle
                of a step or while it waits, and updates say what it waits for and show the middle of long steps.
            write: writes the latest picture to a file and returns its path; by default that of the server.

        Raises:
            LimitError: too many runs are waiting, or the server is shutting down.
        """
        job = Job(
            recipe,
            partial(run, recipe, **pictures),
            owner=owner,
            steerable=steerable,
            interruptible=interruptible,
            expected=expected,
            unattended=limits.SECONDS_UNATTENDED.value if unattended is None else unattended,
            write=write or partial(self._write, recipe),
            explain=self._explain,
        )
        with self._lock:
            if self._closed:
                raise LimitError(self._closed)
            if self.working >= self._at_once and self._count_waiting() >= limits.QUEUE.value:
                raise LimitError(
                    f"{limits.QUEUE.value} runs are waiting, the most that the server takes; please try again later."
                )
            self._forget()
            self._jobs[job.id] = job
            self._waiting.append((job, contextvars.copy_context()))
        self._begin()
        return job

    def find(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobError: there is no job of this id.
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise JobError(
                f"There is no such run: the server was restarted since, or the run ended over {limits.HOURS_KEPT.value} h ago. "
                f"Please start it again."
            ) from None

    def of(self, owner: str) -> list[Job]:
        """Return the jobs of an owner, newest first."""
        with self._lock:
            return [job for job in reversed(self._jobs.values()) if owner and job.owner == owner]

    def shut_down(self, sentence: str) -> None:
        """End every job at its next step, with this sentence as the error, and start no other."""
        with self._lock:
            self._closed, jobs = sentence, list(self._jobs.values())
        for job in jobs:
            job.end("failed", sentence)

    def _begin(self) -> None:
        """Start the threads of waiting jobs, in the order of their starts, up to `at_once`."""
        with self._lock:
            while self._waiting and self.working < self._at_once:
                job, context = self._waiting.popleft()
                thread = threading.Thread(target=context.run, args=(self._work, job), name="job", daemon=True)
                try:
                    thread.start()
                    self._under_way.add(job)
                except RuntimeError as error:  # The system's limit of threads is reached.
                    job.end("failed", self._explain(error))
            queued = [job for job, _ in self._waiting]
            found = queue_waits([job.seconds_left for job in self._under_way], [job.seconds_left for job in queued])
            for job, waiting in zip(queued, found, strict=True):
                job.publish_waiting(waiting)

    def _work(self, job: Job) -> None:
        try:
            job.work()
        finally:
            with self._lock:
                self._under_way.discard(job)
            self._begin()

    def _count_waiting(self) -> int:
        return sum(not job.now.final for job, _ in self._waiting)

    def _forget(self) -> None:
        """Forget the jobs whose files are deleted by now, and the earliest of those that are too many."""
        oldest = time.monotonic() - limits.HOURS_KEPT.value * 3600
        counts: dict[str, int] = {}
        for job in [job for job in reversed(self._jobs.values()) if job.now.final]:
            counts[job.owner] = counts.get(job.owner, 0) + 1
            of_owner = counts[job.owner] if job.owner else 0
            if of_owner > KEPT_PER_OWNER or sum(counts.values()) > KEPT or job.ended < oldest:
                del self._jobs[job.id]
