"""Turns on a device: one at a time, fairly, and free again whatever happens. Clocks are moved by hand."""

import ctypes
import threading
import time
from collections import Counter

import pytest

from featviz.runtime import scheduler
from featviz.runtime.scheduler import Scheduler


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    return clock


def arrived(device: Scheduler, number: int) -> None:
    """Wait until that many are waiting."""
    deadline = time.monotonic() + 10
    while len(device._waiting) < number:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def contend(device: Scheduler, clock: Clock, steps: dict[str, float], rounds: int) -> list[str]:
    """Runs with steps of so many seconds, all waiting again before the next is let in; who was let in, in order."""
    order, lock, stop = [], threading.Lock(), threading.Event()

    def work(name: str, seconds: float) -> None:
        slot = device.slot()
        while not stop.is_set():
            with slot:
                if stop.is_set():
                    return
                arrived(device, len(steps) - 1)
                clock.now += seconds
                with lock:
                    order.append(name)
                    if len(order) == rounds:
                        stop.set()

    threads = [threading.Thread(target=work, args=item) for item in steps.items()]
    gate = device.slot()
    with gate:  # So that they begin in a known order.
        for number, thread in enumerate(threads, start=1):
            thread.start()
            arrived(device, number)
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    return order


def test_runs_with_equal_steps_take_turns_in_the_order_they_came(clock):
    assert contend(Scheduler(), clock, dict.fromkeys("abcd", 1.0), 12) == list("abcd" * 3)


def test_a_run_with_long_steps_gets_as_much_time_as_one_with_short_ones(clock):
    order = Counter(contend(Scheduler(), clock, {"long": 5.0, "short": 1.0, "short too": 1.0}, 77))
    assert order["long"] == pytest.approx(7, abs=1)
    assert order["short"] == pytest.approx(35, abs=2)


def test_who_comes_late_is_let_in_next_and_owes_nothing_and_is_owed_nothing(clock):
    device = Scheduler()
    old, new = device.slot(), device.slot()
    for _ in range(100):
        with old:
            clock.now += 1
    with new:
        clock.now += 1
    assert old._had == 100
    assert new._had == 100  # As if it had had what the old one had before its last step.


def test_sixteen_threads_never_overlap_and_all_are_let_in_equally_often():
    device, inside, seen, start = Scheduler(), [], Counter(), threading.Barrier(16)

    def work(name: int) -> None:
        slot = device.slot()
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
    assert not device._busy


def test_a_failing_step_leaves_the_device_to_the_next():
    device = Scheduler()
    slot = device.slot()
    with pytest.raises(RuntimeError, match="broken"), slot:
        raise RuntimeError("broken")
    with slot:
        pass


def test_who_gives_up_waiting_is_forgotten():
    device, outcome = Scheduler(), []

    def wait() -> None:
        try:
            with device.slot():
                outcome.append("entered")
        except KeyboardInterrupt:
            outcome.append("gave up")

    thread = threading.Thread(target=wait)
    with device.slot():
        thread.start()
        arrived(device, 1)
        # Raised once the thread runs Python again, which is when its turn has come: the turn goes on to the next.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
    thread.join(timeout=10)
    assert outcome == ["gave up"]
    with device.slot():
        pass
    entry = (0.0, 1, threading.Lock())
    with device.slot():
        device._waiting.append(entry)
        device._give_up(entry)  # Its turn had not come yet.
        assert device._busy
    assert not device._busy
