"""The speed of a network, and corrections of predicted seconds."""

import math

import pytest

from featviz.runtime.throughput import RUNS_KEPT, Corrections, Speed


def test_a_speed_is_the_line_through_a_small_and_a_large_pass():
    """0.1 s for the fixed work, and 1 GFLOP a second: 0.2 and 1.1 s."""
    speed = Speed.fit((0.1e9, 4e6, 0.2), (1e9, 4e6, 1.1))
    assert speed.flops == pytest.approx(1e9)
    assert speed.fixed_work == pytest.approx(4e7)
    assert speed.seconds(3e9, 8e6) == pytest.approx(3.2)


@pytest.mark.parametrize("least", [0.05, 2.0], ids=["faster in the small", "slower than the large"])
def test_times_that_contradict_each_other_give_the_speed_of_the_large_pass(least):
    speed = Speed.fit((0.1e9, 4e6, least), (1e9, 4e6, 1.0))
    assert (speed.flops, speed.fixed_work) == (1e9, math.inf)
    assert speed.seconds(3e9, 8e6) == 3


def test_a_correction_is_the_median_of_the_latest_runs_of_its_kind():
    corrections = Corrections()
    assert corrections.factor("style", 7, 1.25) == 1.25
    for seconds in (6, 6, 5, 95, 6):
        corrections.record("style", 7, 3, seconds)
    assert corrections.factor("style", 7) == 2  # One run that took 95 s changes nothing.
    assert corrections.factor("dream", 7) == 1
    for _ in range(RUNS_KEPT):
        corrections.record("style", 7, 3, 12)
    assert corrections.factor("style", 7) == 4


def test_runs_of_similar_size_count_most():
    corrections = Corrections()
    for work, seconds in ((1000, 3), (1000, 3), (10, 9), (900, 3)):
        corrections.record("style", work, 3, seconds)
    assert corrections.factor("style", 12) == 3
    assert corrections.factor("style", 950) == 1
    assert corrections.factor("style", 0.01, 1.5) == 1.5  # None is similar: the default.
