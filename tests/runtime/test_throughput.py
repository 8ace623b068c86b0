"""Corrections of predicted seconds."""

from featviz.runtime.throughput import RUNS_KEPT, Corrections


def test_a_correction_is_the_median_of_the_latest_runs_of_its_kind():
    corrections = Corrections()
    assert corrections.factor("style", 1.25) == 1.25
    for seconds in (6, 6, 5, 95, 6):
        corrections.record("style", 3, seconds)
    assert corrections.factor("style") == 2  # One run that took 95 s changes nothing.
    assert corrections.factor("dream") == 1
    for _ in range(RUNS_KEPT):
        corrections.record("style", 3, 12)
    assert corrections.factor("style") == 4
