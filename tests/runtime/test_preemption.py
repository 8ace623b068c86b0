"""Other runs have the device in the middle of a step, and results stay the same to the bit."""

import threading
import time
from functools import partial
from itertools import count, pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from standins import small, together

from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime import preemption
from featviz.runtime import stream as stream_module
from featviz.runtime.devices import scheduler
from featviz.runtime.stream import run, stream

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8))

CPU = torch.device("cpu")


DREAM = small(RECIPES["deepdream"])


@pytest.fixture(autouse=True)
def _pause_between_all_operations(monkeypatch):
    monkeypatch.setattr(stream_module, "LONG_STEP", -1.0)
    monkeypatch.setattr(preemption, "PAUSE_SECONDS", 0.0)


def result(recipe: Recipe) -> bytes:
    return run(recipe, device="cpu", **dict.fromkeys(recipe.images, PHOTO)).tobytes()


@pytest.mark.parametrize("name", sorted({*RECIPES} - {"layer_time_lapse"}))  # It is eighteen dreams.
def test_runs_that_take_turns_between_operations_give_the_same_pictures(name, monkeypatch):
    """A run of the recipe and a dream, each in its thread: after every operation, the one that has had the device less goes on."""
    recipes = (small(RECIPES[name]), DREAM)
    expected = list(map(result, recipes))
    pauses: list[int] = []

    def pause(slot) -> None:
        pauses.append(threading.get_ident())
        slot._scheduler.leave(slot)
        slot.__enter__()

    monkeypatch.setattr("featviz.runtime.scheduler.Slot.pause", pause)
    monkeypatch.setattr("featviz.runtime.scheduler.Slot.rank", property(lambda slot: (slot.served, slot.arrival)))
    assert together(*(partial(result, recipe) for recipe in recipes)) == expected
    assert sum(one != other for one, other in pairwise(pauses)) > 20


@pytest.mark.parametrize("after", [0, 1, 40, 100])
def test_a_run_hears_in_the_middle_of_a_step_that_it_was_stopped(after):
    """A single step has over a hundred operations, forward and backward."""
    recipe, asked = DREAM.replace(layer="efficientnet_lite0/block6", octaves=1, steps=1), count()
    previews = stream(recipe, device="cpu", stopped=lambda: next(asked) >= after, image=PHOTO)
    assert list(previews) == []
    assert next(asked) == after + 1
    assert scheduler(CPU)._serving is None
    assert run(recipe, device="cpu", image=PHOTO)


def test_a_new_run_gets_the_device_in_the_middle_of_the_step_of_another():
    log, started = [], []

    def other() -> None:
        log.append(next(stream(DREAM, device="cpu", every=0, image=PHOTO)).step)

    def hear() -> bool:
        """Called between the operations of the long run. In its second step, start the new run once, and let it queue."""
        if log == ["first step"] and not started and scheduler(CPU)._serving:
            started.append(threading.Thread(target=other))
            started[0].start()
            deadline = time.monotonic() + 60
            while not scheduler(CPU)._waiting:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        return False

    long = stream(DREAM, device="cpu", every=0, stopped=hear, image=PHOTO)
    next(long)
    log.append("first step")
    next(long)
    log.append("second step")
    started[0].join(timeout=60)
    assert log == ["first step", 1, "second step"]
