"""The promises of the scheduler, with a simulated clock and with real threads."""

import ctypes
import math
import threading
import time
from collections import Counter
from functools import partial

import pytest
from fair_queue import FairQueue
from hypothesis import given, settings
from hypothesis import strategies as st
from standins import together

from benchmarks.simulation import MIX, PAUSE_SECONDS, Simulation, Visit
from featviz.runtime import scheduler as scheduler_module
from featviz.runtime.scheduler import MOST_PASSED, NEW_SECONDS, Scheduler, Slot, StoppedError, Waiting


class Clock:
    """A clock that only the test advances."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


# Promises, simulated


def visit(arrives: float, seconds: float, steps: int = 10, error: float = 1.0) -> Visit:
    return Visit(arrives, [seconds / steps] * steps, error * seconds)


def simulate(visits: list[Visit], make_scheduler: type[Scheduler] = Scheduler) -> list[Visit]:
    Simulation(make_scheduler, at_once=math.inf).run(visits)
    return visits


VISITS = st.lists(st.builds(visit, st.floats(0, 60), st.floats(0.1, 40), st.integers(1, 30)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(VISITS)
def test_every_run_ends_and_the_device_is_never_idle_while_one_waits(visits):
    simulate(visits)
    assert all(one.arrives < one.first <= one.done < math.inf for one in visits)
    busy = end = 0.0
    for one in sorted(visits, key=lambda one: one.arrives):
        busy, end = busy + sum(one.steps), max(end, one.arrives) + sum(one.steps)
    gaps = sum(len(one.steps) for one in visits) * 0.03  # Of a run that is alone, between a preview and its next step.
    assert end - 1e-6 <= max(one.done for one in visits) <= end + gaps


@settings(max_examples=60, deadline=None)
@given(VISITS)
def test_first_previews_come_first(visits):
    """A run waits for its own first step, and for the first steps of earlier runs that have no preview yet."""
    simulate(visits)
    for one in visits:
        if one.steps[0] < NEW_SECONDS:
            before = [other.steps[0] for other in visits if other.arrives <= one.arrives and other.first > one.arrives]
            waited = sum(min(first, NEW_SECONDS) for first in before)  # One of them is its own.
            assert one.first - one.arrives <= waited + (len(before) + 1) * PAUSE_SECONDS


@settings(max_examples=100, deadline=None)
@given(VISITS)
def test_later_runs_pass_a_run_for_at_most_three_times_its_own_length(visits):
    for one in simulate(visits):
        assert one.passed <= MOST_PASSED * sum(one.steps) + len(visits) * PAUSE_SECONDS


def burst() -> list[Visit]:
    return [visit(0, 20, 200), *(visit(1 + number / 100, 1) for number in range(100))]


def test_a_burst_of_shorter_runs_passes_for_three_times_the_length_and_no_longer():
    long = simulate(burst())[0]
    assert 50 < long.passed < 60
    assert long.done < 90
    assert simulate(burst(), FairQueue)[0].done > 110


@pytest.mark.parametrize("error", [0.6, 1.0, 1.5])
def test_equal_runs_are_done_one_after_the_other(error):
    """At 53 % of the last one's time on average, where equal shares have all of them end last, also if the estimate is wrong."""

    def dreams() -> list[Visit]:
        return [Visit(0, MIX[0].steps, error * MIX[0].seconds) for _ in range(16)]

    visits = simulate(dreams())
    assert [one.done for one in visits] == sorted(one.done for one in visits)
    assert sum(one.done for one in visits) / 16 < 0.55 * max(one.done for one in visits)
    shares = simulate(dreams(), FairQueue)
    assert max(one.done for one in visits) <= 1.01 * max(one.done for one in shares)
    assert sum(one.done for one in shares) / 16 > 0.9 * max(one.done for one in shares)


@pytest.mark.parametrize("every", [4.5, 6, 8, 12])
@pytest.mark.parametrize("error", [0.7, 1.4])
def test_a_long_run_in_a_stream_of_short_ones_is_done_about_when_equal_shares_would_have_it(every, error):
    def mixed() -> list[Visit]:
        return [visit(0, 24, 60, error), *(visit(1 + every * number, 4, 24) for number in range(20))]

    ours, shares = simulate(mixed()), simulate(mixed(), FairQueue)
    assert ours[0].done <= 1.3 * shares[0].done
    assert sum(one.done for one in ours) <= sum(one.done for one in shares)


def test_the_shorter_of_two_runs_that_arrive_together_is_done_first():
    long, short = simulate([visit(0, 10), visit(0, 5)])
    assert short.done < 7 < long.done


# Credits


def test_a_run_is_credited_its_share_of_what_later_ones_get_and_its_own_service_pays_it_back():
    clock = Clock()
    scheduler = Scheduler(clock)
    early, late = scheduler.slot(30, new=False), scheduler.slot(4, new=False)
    scheduler.join(late, lambda: None)
    scheduler.join(early, lambda: None)
    clock.now = 4
    scheduler.leave(late)
    assert (early.credit, early.rank[0]) == (4, 26)
    clock.now = 7
    scheduler.leave(early)
    assert (early.credit, early.held, late.held) == (1, 3, 4)


def test_a_first_step_that_takes_long_goes_first_for_two_seconds_only():
    clock = Clock()
    scheduler = Scheduler(clock)
    new, old = scheduler.slot(50), scheduler.slot(5, new=False)
    scheduler.join(new, lambda: None)
    scheduler.join(old, lambda: None)
    clock.now = 1.9
    assert not scheduler.outranked()
    clock.now = 2.1
    assert scheduler.outranked()


# Recurring work


def compete(mirrors: int, runs: int, most_waited: list[float] | None = None) -> list[float]:
    """Shares of the device in 30 s: of each mirror, which wants a frame of 0.1 s again and again, and of each long run."""
    clock = Clock()
    scheduler = Scheduler(clock)
    slots = [scheduler.slot(100, new=False) for _ in range(runs)] + [
        scheduler.slot(new=False, recurring=True) for _ in range(mirrors)
    ]
    joined, waits = {}, []

    def join(slot: Slot) -> None:
        joined[slot] = clock.now
        scheduler.join(slot, lambda: waits.append(clock.now - joined[slot]) if slot.recurring else None)

    for slot in slots:
        join(slot)
    while clock.now < 30:
        serving = scheduler._serving
        clock.now += 0.1 if serving.recurring else 0.01
        if serving.recurring or scheduler.outranked():
            scheduler.leave(serving)
            join(serving)
    if most_waited is not None:
        most_waited.append(max(waits))
    return [slot.held / clock.now for slot in slots[runs:] + slots[:runs]]


def test_mirrors_and_a_run_have_equal_shares_and_no_mirror_waits_longer_than_a_round():
    for mirrors in (1, 2, 5):
        waits: list[float] = []
        assert compete(mirrors, 1, waits) == pytest.approx([1 / (mirrors + 1)] * (mirrors + 1), abs=0.02)
        assert waits[0] < (mirrors + 1) * 0.1 + 0.05


def test_many_runs_leave_a_mirror_a_quarter_of_the_device():
    mirror, *runs = compete(1, 12)
    assert mirror == pytest.approx(1 / 4, abs=0.01)
    assert sum(runs) == pytest.approx(3 / 4, abs=0.01)


def test_a_frame_goes_before_the_first_preview_of_a_run_which_then_has_its_share():
    clock = Clock()
    scheduler = Scheduler(clock)
    mirror, new = scheduler.slot(new=False, recurring=True), scheduler.slot(50)
    scheduler.join(new, lambda: None)
    scheduler.join(mirror, lambda: None)
    assert scheduler.outranked()
    scheduler.leave(new)
    scheduler.join(new, lambda: None)
    clock.now = 0.1
    scheduler.leave(mirror)
    scheduler.join(mirror, lambda: None)
    clock.now = 0.15
    assert not scheduler.outranked()
    clock.now = 0.25
    assert scheduler.outranked()


def test_a_mirror_that_is_alone_waits_for_nobody():
    clock = Clock()
    scheduler = Scheduler(clock)
    mirror, gone = scheduler.slot(recurring=True), scheduler.slot(recurring=True)
    scheduler.join(mirror, lambda: None)
    clock.now = 5
    scheduler.leave(mirror)
    assert mirror.debt == 5  # Owed to `gone`, which wants nothing.
    admitted = []
    scheduler.join(mirror, lambda: admitted.append(gone))
    assert admitted


# Real threads


def await_queue(scheduler: Scheduler, length: int) -> None:
    """Wait until that many runs are queued."""
    deadline = time.monotonic() + 60
    while len(scheduler._waiting) < length:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_sixteen_threads_never_hold_the_device_together_and_all_are_admitted():
    scheduler, inside, seen, start = Scheduler(), [], Counter(), threading.Barrier(16)

    def work(name: int) -> None:
        slot = scheduler.slot(1.0)
        start.wait()
        for step in range(20):
            with slot:
                for _ in range(2):
                    inside.append(name)
                    assert inside == [name]
                    time.sleep(0.0002)
                    inside.pop()
                    slot.pause()
                seen[name] += 1
                slot.progress(step / 20)

    together(*(partial(work, name) for name in range(16)))
    assert seen == dict.fromkeys(range(16), 20)
    assert scheduler._serving is None


def test_a_run_that_is_interrupted_while_it_waits_is_withdrawn():
    scheduler, outcome = Scheduler(), []

    def wait() -> None:
        try:
            with scheduler.slot():
                outcome.append("entered")
        except KeyboardInterrupt:
            outcome.append("gave up")

    thread = threading.Thread(target=wait)
    with scheduler.slot():
        thread.start()
        await_queue(scheduler, 1)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
        thread.join(timeout=60)
        assert outcome == ["gave up"]
        assert not scheduler._waiting
    with scheduler.slot():
        pass


def test_a_run_that_is_interrupted_after_it_was_admitted_hands_the_device_on():
    scheduler = Scheduler()
    slot = scheduler.slot()
    scheduler.join(slot, lambda: None)  # Admitted; the thread has not noticed yet.
    scheduler.leave(slot)
    scheduler.leave(slot)
    with scheduler.slot():
        scheduler.leave(slot)
        assert scheduler._serving is not None


def test_a_run_that_waits_for_work_in_the_background_reports_no_run_before_it(monkeypatch):
    monkeypatch.setattr(scheduler_module, "POLL_SECONDS", 0.01)
    scheduler, reports, stopped = Scheduler(Clock()), [], iter([False, False, False])
    measurement, first = scheduler.slot(background=True), scheduler.slot(3, new=False)
    second = scheduler.slot(5, new=False, on_wait=reports.append, stopped=lambda: next(stopped, True))
    with measurement:
        assert scheduler.waiting_for(first) is None
        assert scheduler.waiting_for(second) == Waiting(ahead=1, seconds=3, own=5)
        first.progress(1.0)
        with pytest.raises(StoppedError), second:
            pass
    assert reports == []


def test_a_waiting_run_hears_that_it_was_stopped_and_says_what_it_waits_for(monkeypatch):
    monkeypatch.setattr(scheduler_module, "POLL_SECONDS", 0.01)
    clock, stopped, reports = Clock(), threading.Event(), []
    scheduler = Scheduler(clock)
    first, second = scheduler.slot(8, new=False), scheduler.slot(3, new=False)
    waiting = scheduler.slot(20, new=False, stopped=stopped.is_set, on_wait=reports.append)

    def wait() -> None:
        with pytest.raises(StoppedError), waiting:
            pass

    thread = threading.Thread(target=wait)
    with first:
        scheduler.join(second, lambda: None)
        thread.start()
        while not reports:
            time.sleep(0.001)
        stopped.set()
        thread.join(timeout=60)
    assert reports[0] == Waiting(ahead=2, seconds=11, own=20)
    assert reports[0].until_done == 31
    assert [*scheduler._waiting] == []
    scheduler.leave(second)
    with pytest.raises(StoppedError), waiting:
        pass
