"""Memory is promised before a run begins, and given back however it ends."""

import pytest

from featviz.dream import DeepDream
from featviz.errors import LimitError
from featviz.machine import memory
from featviz.ui import running
from featviz.ui.memory import Memory


def test_runs_fit_beside_each_other_and_one_too_many_is_told_and_takes_nothing():
    room = Memory(free=lambda: 10e9)
    with room.promised(4e9), room.promised(5e9):
        with (
            pytest.raises(LimitError, match=r"may take 2\.0 GB .* leave 1\.0 GB; please choose a smaller size"),
            room.promised(2e9),
        ):
            pass
        with room.promised(1e9):
            pass
    with room.promised(6e9):
        pass


def test_one_that_is_alone_is_let_in_and_what_is_free_is_asked_anew():
    free = [1e9, 9e9]
    room = Memory(free=lambda: free.pop(0))
    with room.promised(2e9), pytest.raises(LimitError), room.promised(0.1e9):
        pass
    with room.promised(2e9), room.promised(6e9):
        pass


def test_a_run_gives_its_memory_back_when_it_ends_fails_or_is_closed(monkeypatch):
    room = Memory(free=lambda: 10e9)
    monkeypatch.setattr(running, "MEMORY", room)
    monkeypatch.setattr(running, "memory", lambda recipe, size: 6e9)

    def run(recipe, **pictures):
        yield 1
        if recipe.seed:
            raise RuntimeError
        yield 2

    started = running.within_memory(run)
    whole, closed = started(DeepDream()), started(DeepDream())
    assert next(whole) == 1
    with pytest.raises(running.gr.Error, match="please choose a smaller size"):
        next(closed)
    assert list(whole) == [2]
    stopped = started(DeepDream())
    next(stopped)
    stopped.close()
    with pytest.raises(running.gr.Error):
        list(started(DeepDream(seed=1)))
    assert room._promised == 0


def test_a_larger_picture_needs_more_and_sixteen_of_the_default_size_need_little():
    small, large = (memory(DeepDream(size=size), (1200, 900)) for size in (400, 4096))
    assert 16 * small < 8e9
    assert large > 1e9
