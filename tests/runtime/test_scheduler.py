"""Steps on a device: one at a time, equal shares of time, and released whatever happens. The tests advance the clock."""

import ctypes
import threading
import time
from collections import Counter

import pytest

from featviz.runtime import scheduler
from featviz.runtime.scheduler import Scheduler


class Clock:
    """A clock that only the test advances."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    return clock


def await_queue(scheduler: Scheduler, length: int) -> None:
    """Wait until that many steps are queued."""
    deadline = time.monotonic() + 10
    while len(scheduler._waiting) < length:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def contend(scheduler: Scheduler, clock: Clock, steps: dict[str, float], rounds: int) -> list[str]:
    """Start runs with steps of so many seconds; all are queued again before the next is admitted. Return the order of admissions."""
    order, lock, stop = [], threading.Lock(), threading.Event()

    def work(name: str, seconds: float) -> None:
        slot = scheduler.slot()
        while not stop.is_set():
            with slot:
                if stop.is_set():
                    return
                await_queue(scheduler, len(steps) - 1)
                clock.now += seconds
                with lock:
                    order.append(name)
                    if len(order) == rounds:
                        stop.set()

    threads = [threading.Thread(target=work, args=item) for item in steps.items()]
    with scheduler.slot():  # So that they arrive in a known order.
        for number, thread in enumerate(threads, start=1):
            thread.start()
            await_queue(scheduler, number)
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    return order


def test_runs_with_equal_steps_alternate_in_order_of_arrival(clock):
    assert contend(Scheduler(), clock, dict.fromkeys("abcd", 1.0), 12) == list("abcd" * 3)


def test_a_run_with_long_steps_gets_as_much_time_as_one_with_short_ones(clock):
    order = Counter(contend(Scheduler(), clock, {"long": 5.0, "short": 1.0, "short too": 1.0}, 77))
    assert order["long"] == pytest.approx(7, abs=1)
    assert order["short"] == pytest.approx(35, abs=2)


def test_a_run_that_joins_late_starts_at_the_virtual_time_without_credit_or_debt(clock):
    scheduler = Scheduler()
    old, new = scheduler.slot(), scheduler.slot()
    for _ in range(100):
        with old:
            clock.now += 1
    with new:
        clock.now += 1
    assert old._finish_tag == 100
    assert new._finish_tag == 100  # Its step started at 99, the start tag of the last step of the old run.


def test_steps_of_sixteen_threads_never_overlap_and_all_are_admitted():
    scheduler, inside, seen, start = Scheduler(), [], Counter(), threading.Barrier(16)

    def work(name: int) -> None:
        slot = scheduler.slot()
        start.wait()
        for _ in range(20):
            with slot:
                inside.append(name)
                assert inside == [name]
                time.sleep(0.0002)
                inside.pop()
                seen[name] += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert seen == dict.fromkeys(range(16), 20)
    assert not scheduler._busy


def test_a_failing_step_releases_the_device():
    slot = Scheduler().slot()
    with pytest.raises(RuntimeError, match="broken"), slot:
        raise RuntimeError("broken")
    with slot:
        pass


def test_a_step_that_stops_waiting_is_withdrawn():
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
        # Raised once the thread runs Python again, after it was admitted: the next step is admitted instead.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    thread.join(timeout=10)
    assert outcome == ["gave up"]
    with scheduler.slot():
        pass
    entry = (0.0, 1, threading.Lock())
    with scheduler.slot():
        scheduler._waiting.append(entry)
        scheduler._withdraw(entry)  # Not admitted yet.
        assert scheduler._busy
    assert not scheduler._busy
