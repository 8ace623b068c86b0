"""The budget of tiles follows from the memory of the whole device, and gets smaller only beside other runs."""

from itertools import pairwise

import pytest
import torch
from standins import PICTURE

from featviz.errors import InputError
from featviz.networks.cache import load
from featviz.optimise.tiles import count, granted, largest
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime import memory, tile_budget
from featviz.runtime.capacity import total_memory
from featviz.runtime.memory import Ledger, peak_memory, reserve
from featviz.runtime.stream import stream
from featviz.runtime.tile_budget import tile_budgets

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
LARGE = DeepDream(layer="efficientnet_lite0/block2", size=1024, octaves=1, steps=1)
SIZE = {"image": (1024, 800)}


@pytest.fixture
def total(monkeypatch):
    """Set the memory of the CPU and what is free of it."""

    def set_to(amount: float, free: float | None = None) -> None:
        monkeypatch.setattr(tile_budget, "total_memory", lambda device: amount)
        monkeypatch.setattr(memory, "_ledgers", {CPU: Ledger(lambda: amount if free is None else free)})

    return set_to


@pytest.mark.parametrize(
    ("device", "gigabytes", "megabytes"),
    [(CPU, 0.2, 64), (CPU, 4, 537), (CPU, 16, 1480), (CPU, 80, 1480), (CARD, 16, 2147), (CARD, 80, 8590), (CARD, 141, 17180)],
    ids=str,
)
def test_the_budget_is_a_sixth_of_the_memory_rounded_down_to_a_power_of_two(device, gigabytes, megabytes, total):
    total(gigabytes * 1e9)
    usual, *smaller = tile_budgets(device)
    assert (round(usual.bytes / 1e6 + 0.5), usual.short) == (pytest.approx(megabytes, abs=4), False)
    assert all(budget.short for budget in smaller)
    assert [usual, *smaller][-1].bytes == 2**26
    assert all(after.bytes == before.bytes / 2 for before, after in pairwise(smaller))
    assert not smaller or usual.bytes / 2 <= smaller[0].bytes < usual.bytes


def test_on_a_cpu_a_large_dream_is_several_tiles_and_a_style_transfer_at_1024_pixels_is_one(total):
    total(24e9)
    with granted(tile_budgets(CPU)[0]):
        dream, style = load("vgg19").cost({"relu4_4"}).bytes, StyleTransfer().comparison(load("vgg19")).step_bytes
        assert count((1055, 1568), largest(dream)) == 2
        assert count((1024, 1024), largest(style), margin=86) == 1


def test_it_does_not_depend_on_what_is_free(total):
    for free in (16e9, 12e9, 8e9):
        total(16e9, free)
        with reserve(LARGE, CPU, SIZE) as budget:
            assert (budget.bytes, budget.short) == (tile_budget.MOST_ON_CPU, False)


def test_where_a_run_does_not_fit_its_tiles_get_smaller_and_it_says_so(total, monkeypatch):
    needed = peak_memory(LARGE.replace(size=512), CPU, SIZE)
    total(16e9, free=0.6 * needed)
    with reserve(LARGE.replace(size=512), CPU, SIZE) as budget:
        assert budget.short
        assert peak_memory(LARGE.replace(size=512), CPU, SIZE, budget=budget) <= 0.6 * needed
    (preview,) = stream(LARGE.replace(size=512), device="cpu", image=PICTURE.resize((512, 400)))
    assert preview.stage == "octave 1 of 1, in smaller tiles, since memory is short"
    total(16e9)
    (preview,) = stream(LARGE.replace(size=512), device="cpu", image=PICTURE.resize((512, 400)))
    assert preview.stage == "octave 1 of 1"


def test_a_fixed_budget_is_the_only_one(total, monkeypatch):
    total(16e9)
    monkeypatch.setenv("FEATVIZ_TILE_MEMORY_MB", "300")
    assert [(budget.bytes, budget.short) for budget in tile_budgets(CPU)] == [(3e8, False)]
    monkeypatch.setenv("FEATVIZ_TILE_MEMORY_MB", "0")
    with pytest.raises(InputError, match="expected a whole number of at least 1"):
        tile_budgets(CPU)


def test_the_memory_of_a_card_is_its_own_and_a_lent_one_is_not_asked(monkeypatch):
    class Properties:
        total_memory = 85e9

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert total_memory(CARD) == 85e9
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setattr(torch.cuda, "get_device_properties", None)
    assert total_memory(CARD) == 70e9
