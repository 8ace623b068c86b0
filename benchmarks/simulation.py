"""### How many visitors an hour does a server bear?

A discrete-event simulation of the scheduler of the library and of the page's queue. Visitors arrive at random (Poisson) and ask
for what the table `MIX` says. Times of steps were measured on two cores; the speeds of GPUs are assumptions. The rows compare the
simulation with the real server, for visitors who come at once. `python -m benchmarks.simulation` prints the table of all loads and
draws simulation.png; it takes a minute and needs no quiet machine.
"""

import heapq
import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf, log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks import users
from benchmarks.measure import Row
from benchmarks.serving import served
from featviz import limits
from featviz.runtime.jobs import AT_ONCE
from featviz.runtime.scheduler import Scheduler, Slot

PREVIEW_SECONDS = 0.25
"""Least seconds between two previews of a run, as of the page."""

CONSUMER_SECONDS = 0.03
"""Until a run asks for its next step after a preview: encoding and sending it."""

PAUSE_SECONDS = 0.1
"""How often a run in service looks at whether another goes before it."""


@dataclass(frozen=True)
class Kind:
    """What a visitor asks for."""

    name: str
    share: float
    """Of all visitors."""
    steps: tuple[float, ...]
    """Seconds of each step on two cores."""
    gigabytes: float
    """Peak memory of the run."""
    speed_up: float = 1.0
    """How much faster a GPU takes this than other kinds."""

    @property
    def seconds(self) -> float:
        return sum(self.steps)


def octaves(first: float, growth: float, number: int, steps: int) -> tuple[float, ...]:
    """Return the times of the steps of a run whose steps take `growth` times longer from one size to the next."""
    return tuple(first * growth**octave for octave in range(number) for _ in range(steps))


MIX = (
    Kind("dream, VGG-19, 400 px", 0.45, octaves(0.033, 2.25, 4, 6), 0.35),
    Kind("dream, EfficientNet, 400 px", 0.25, octaves(0.0075, 1.6, 4, 6), 0.3),
    Kind("style, VGG-19, 384 px", 0.2, octaves(0.12, 2.0, 4, 12), 1.1),
    Kind("activation maps", 0.08, (0.5,), 0.3),
    Kind("zoom of 4 s", 0.02, (0.09,) * 3 * 240, 0.4),
)
"""The steps are rounded from `step_rate` and `style_transfer` in RESULTS.md: 4.5, 0.3, 21.6, 0.5 and 65 s. Shares are assumptions."""


@dataclass(frozen=True)
class Machine:
    """Where the server runs."""

    name: str
    devices: int
    speed: float
    """Relative to two cores of a free Space."""
    start: float = 0.0
    """Seconds before the first step of a run: ZeroGPU lends its card anew to each run."""
    exclusive: bool = False
    """Whether a run has the device from its start to its end, as on ZeroGPU."""
    gigabytes: float = 16.0
    """Memory for runs on each device."""


MACHINES = (
    Machine("free CPU Space", 1, 1.0, gigabytes=14.0),
    Machine("ZeroGPU", 1, 20.0, start=5.0, exclusive=True, gigabytes=60.0),
    Machine("one H100", 1, 40.0, gigabytes=75.0),
    Machine("eight H100", 8, 40.0, gigabytes=75.0),
)
"""Only the first was measured. ZeroGPU's and H100's speed, and the time until a card is lent, are assumptions: VGG-19 at 400 px
leaves most of a large card idle."""


@dataclass
class Visit:
    """A run that a visitor asks for, and what became of it. Times are seconds of the simulation; `inf` if it never came."""

    arrives: float
    steps: Sequence[float]
    """Seconds of the device for each step."""
    expected: float
    """Seconds that the server expects all steps to take."""
    gigabytes: float = 0.0
    start: float = 0.0
    first: float = inf
    """When the first preview was there."""
    done: float = inf
    refused: bool = False
    passed: float = 0.0
    """Seconds for which later visits had the device between this visit's first preview and its end, first previews left out."""


@dataclass
class _Run:
    """A visit under way: its slot, the step that it has reached, and what is left of that."""

    visit: Visit
    scheduler: Scheduler
    slot: Slot
    left: float
    """Seconds of the step under way."""
    step: int = 0
    done: float = 0.0
    """Seconds of the steps before."""
    due: float = 0.0
    """When the next preview is due."""


class Simulation:
    """Visits of a server, whose devices are shared by schedulers that are asked as `featviz.runtime.stream` asks them.

    Args:
        make_scheduler: `Scheduler`, or another class with its methods.
        devices: each run goes to the one with the fewest runs.
        at_once: runs that begin at once; others wait.
        queue: visits that may wait; others are refused.
        gigabytes: memory for the runs of each device; what does not fit is refused.
    """

    def __init__(
        self,
        make_scheduler: Callable[..., Scheduler] = Scheduler,
        *,
        devices: int = 1,
        at_once: float = AT_ONCE,
        queue: float = inf,
        gigabytes: float = inf,
    ):
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._schedulers = [make_scheduler(lambda: self.now) for _ in range(devices)]
        self._at_once, self._queue, self._gigabytes = at_once, queue, gigabytes
        self._begun: list[_Run] = []
        self._queued: deque[Visit] = deque()
        self.most_gigabytes = 0.0
        """Of all devices together."""

    def run(self, visits: Sequence[Visit]) -> None:
        """Simulate until all visits are done or refused. Writes into them what became of them."""
        for visit in visits:
            self._at(visit.arrives, partial(self._arrive, visit))
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, when: float, happen: Callable[[], object]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _arrive(self, visit: Visit) -> None:
        if len(self._begun) >= self._at_once and len(self._queued) >= self._queue:
            visit.refused = True
        else:
            self._queued.append(visit)
            self._begin()

    def _begin(self) -> None:
        while self._queued and len(self._begun) < self._at_once:
            visit = self._queued.popleft()
            scheduler = min(self._schedulers, key=lambda one: len(self._sharing(one)))
            reserved = visit.gigabytes + sum(run.visit.gigabytes for run in self._sharing(scheduler))
            if reserved > self._gigabytes:
                visit.refused = True
                continue
            run = _Run(visit, scheduler, scheduler.slot(visit.expected), left=visit.start + visit.steps[0])
            self._begun.append(run)
            self.most_gigabytes = max(self.most_gigabytes, sum(run.visit.gigabytes for run in self._begun))
            self._join(run)

    def _sharing(self, scheduler: Scheduler) -> list[_Run]:
        return [run for run in self._begun if run.scheduler is scheduler]

    def _join(self, run: _Run) -> None:
        run.scheduler.join(run.slot, lambda: self._at(self.now, lambda: self._serve(run)))

    def _serve(self, run: _Run) -> None:
        seconds = min(run.left, PAUSE_SECONDS)
        self._at(self.now + seconds, lambda: self._served(run, seconds))

    def _served(self, run: _Run, seconds: float) -> None:
        visit = run.visit
        run.left -= seconds
        self._note_passing(run, seconds)
        if run.left > 1e-9:
            self._continue(run)
            return
        run.done += visit.steps[run.step]
        run.step += 1
        is_last = run.step == len(visit.steps)
        run.slot.progress(1.0 if is_last else run.done / sum(visit.steps))
        run.left = 0.0 if is_last else visit.steps[run.step]
        if not is_last and self.now < run.due:
            self._continue(run)
            return
        visit.first = min(visit.first, self.now)
        run.scheduler.leave(run.slot)
        if is_last:
            visit.done = self.now
            self._begun.remove(run)
            self._begin()
        else:
            run.due = self.now + CONSUMER_SECONDS + PREVIEW_SECONDS
            self._at(self.now + CONSUMER_SECONDS, lambda: self._join(run))

    def _continue(self, run: _Run) -> None:
        if run.scheduler.outranked():
            run.scheduler.leave(run.slot)
            self._join(run)
        else:
            self._serve(run)

    def _note_passing(self, serving: _Run, seconds: float) -> None:
        if serving.slot.rank[0] >= 0:  # Not on the way to its first preview.
            for run in self._sharing(serving.scheduler):
                if run.visit.first < inf and run.slot.arrival < serving.slot.arrival:
                    run.visit.passed += seconds


def hour(machine: Machine, per_hour: float, seed: int = 0) -> tuple[list[Visit], float]:
    """Return the visits of an hour on a machine, and the most gigabytes of all runs together."""
    rng, visits, now = random.Random(seed), [], 0.0
    while (now := now + rng.expovariate(per_hour / 3600)) < 3600:
        (kind,) = rng.choices(MIX, [kind.share for kind in MIX])
        steps = [seconds / machine.speed for seconds in kind.steps]
        expected = sum(steps) * rng.uniform(1 / 1.5, 1.5)  # Estimates are within a factor of 1.5 in nine of ten.
        visits.append(Visit(now, steps, expected, kind.gigabytes, machine.start))
    at_once = 1 if machine.exclusive else AT_ONCE
    simulation = Simulation(
        devices=machine.devices, at_once=at_once, queue=limits.QUEUE.value + AT_ONCE - at_once, gigabytes=machine.gigabytes
    )
    simulation.run(visits)
    return visits, simulation.most_gigabytes


@dataclass(frozen=True)
class Load:
    """What an hour was like."""

    per_hour: float
    first: float
    """Seconds to the first preview, for 95 of 100 visitors."""
    result: float
    """Seconds to the result, median."""
    result_95: float
    """Seconds to the result, for 95 of 100."""
    refused: float
    """Share of the visitors."""
    gigabytes: float

    @classmethod
    def of(cls, machine: Machine, per_hour: float, hours: int = 3) -> "Load":
        """Simulate some hours, each with other visitors; more of them where visitors are few."""
        simulated = [hour(machine, per_hour, seed) for seed in range(max(hours, round(300 / per_hour)))]
        visits = [visit for visits, _ in simulated for visit in visits]
        served = [visit for visit in visits if not visit.refused]
        firsts, results = ([getattr(visit, name) - visit.arrives for visit in served] for name in ("first", "done"))
        return cls(
            per_hour, _percentile(firsts, 95), _percentile(results, 50), _percentile(results, 95),
            1 - len(served) / len(visits), max(gigabytes for _, gigabytes in simulated),
        )  # fmt: skip


def _percentile(values: Sequence[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


# What is drawn

PER_HOUR = (10, 30, 100, 200, 300, 400, 500, 700, 1000, 3000, 10_000)

PLOT = Path(__file__).with_name("simulation.png")

PANELS: tuple[tuple[str, Callable[[Load], float], float, float], ...] = (
    ("Seconds to the first preview, 95 of 100", lambda load: load.first, 0.01, 1000),
    ("Seconds to the result, 95 of 100", lambda load: load.result_95, 0.01, 1000),
    ("Per cent refused", lambda load: 100 * load.refused, 0.1, 100),
    ("Gigabytes of all runs, at most", lambda load: load.gigabytes, 0.1, 100),
)
"""Title, what is drawn, and the range of the vertical axis, which is logarithmic. Values beyond it are drawn at its end."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Of the machines (Okabe and Ito, 2008)."""

WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 320, 60, 60, 80


def draw(loads: dict[str, list[Load]]) -> Image.Image:
    """Draw the panels side by side, with visitors an hour on the horizontal axis, logarithmic as well."""
    sheet = Image.new("RGB", (LEFT + len(PANELS) * (WIDTH + GAP), TOP + HEIGHT + 90), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for panel, (title, value, least, most) in enumerate(PANELS):
        left = LEFT + panel * (WIDTH + GAP)

        def at(per_hour: float, value: float, left: int = left, least: float = least, most: float = most) -> tuple[float, float]:
            share = log10(min(max(value, least), most) / least) / log10(most / least)
            return left + WIDTH * log10(per_hour / PER_HOUR[0]) / log10(PER_HOUR[-1] / PER_HOUR[0]), TOP + HEIGHT * (1 - share)

        pen.text((left, TOP - 30), title, "black", font)
        for decade in range(round(log10(least)), round(log10(most)) + 1):
            _, y = at(PER_HOUR[0], 10**decade)
            pen.line([(left, y), (left + WIDTH, y)], "#dddddd")
            pen.text((left - 8, y), f"{10.0**decade:g}", "#444444", font, anchor="rm")
        for per_hour in (10, 100, 1000, 10_000):
            x, _ = at(per_hour, least)
            pen.line([(x, TOP), (x, TOP + HEIGHT)], "#dddddd")
            pen.text((x, TOP + HEIGHT + 8), f"{per_hour:,}", "#444444", font, anchor="mt")
        pen.text((left + WIDTH / 2, TOP + HEIGHT + 30), "visitors an hour", "#444444", font, anchor="mt")
        for colour, points in zip(COLOURS, loads.values(), strict=True):
            pen.line([at(load.per_hour, value(load)) for load in points], colour, 3, joint="curve")
    for number, (colour, name) in enumerate(zip(COLOURS, loads, strict=True)):
        x, y = LEFT + number * 220, TOP + HEIGHT + 66
        pen.line([(x, y + 8), (x + 30, y + 8)], colour, 4)
        pen.text((x + 38, y), name, "black", font)
    pen.text((LEFT + len(loads) * 220, y), "Speeds of GPUs are assumptions.", "#444444", font)
    return sheet


def main() -> None:
    loads = {machine.name: [Load.of(machine, per_hour) for per_hour in PER_HOUR] for machine in MACHINES}
    print("| server | visitors an hour | first preview, 95 % | result, median | result, 95 % | refused | memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, points in loads.items():
        for load in points:
            seconds = " | ".join(f"{value:.3g} s" for value in (load.first, load.result, load.result_95))
            print(f"| {name} | {load.per_hour:,} | {seconds} | {load.refused:.1%} | {load.gigabytes:.1f} GB |")
    draw(loads).save(PLOT, optimize=True)


# The same on a real server

CROWDS = (16, 32)


def rows() -> Iterator[Row]:
    with served() as server:
        users.crowd(server.address, 1)  # With what is done once.
        alone = min(one.done for _ in range(2) for one in users.crowd(server.address, 1))
        yield Row("a dream alone", "s", [alone])
        for crowd in CROWDS:
            steps = [seconds * alone / MIX[0].seconds for seconds in MIX[0].steps]
            simulated = [Visit(0.0, steps, alone) for _ in range(crowd)]
            Simulation().run(simulated)
            for name, visits in (("server", users.crowd(server.address, crowd)), ("simulated", simulated)):
                firsts, results = [one.first for one in visits], [one.done for one in visits]
                yield Row(f"{crowd} at once, {name}: first preview", "s", firsts, f"last: {max(firsts):.1f} s")
                yield Row("result", "s", results, f"mean: {statistics.mean(results):.1f} s, last: {max(results):.1f} s")


if __name__ == "__main__":
    main()
