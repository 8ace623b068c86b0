"""Memory is reserved before a run begins, and released however it ends. No run starts that cannot fit."""

import json
import random
import re
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from standins import PICTURE, Count

from featviz.errors import LimitError
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.presets import FOLDER
from featviz.recipes.recipe import Recipe, param
from featviz.runtime import memory
from featviz.runtime.inspection import gram_picture, inspect_layer, strongest_channels
from featviz.runtime.memory import Ledger, free_memory, peak
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import stream

CPU = torch.device("cpu")
CAT = FOLDER / "cat.jpg"
SIZE = (451, 300)
TOTAL = 10_000


class RefusedError(Exception):
    """What a ledger says in these tests."""


def refused(left: float, later: bool) -> RefusedError:
    return RefusedError(left, later)


@pytest.fixture
def free(monkeypatch):
    """Sets the bytes that are free on the CPU, and returns its ledger."""

    def set_to(amount: float) -> Ledger:
        ledger = Ledger(lambda: amount)
        monkeypatch.setattr(memory, "_ledgers", {CPU: ledger})
        return ledger

    return set_to


# The ledger


@given(st.lists(st.tuples(st.sampled_from(["ask", "allocate", "end"]), st.integers(0, TOTAL * 5 // 4)), max_size=40))
def test_whatever_runs_ask_for_allocate_and_release_what_fits_is_granted_and_nothing_more(events):
    runs: list[tuple[ExitStack, int]] = []
    allocated: list[int] = []
    ledger = Ledger(lambda: TOTAL - sum(allocated))
    for what, number in events:
        if what == "ask":
            before = TOTAL - sum(needed for _, needed in runs)
            run = ExitStack()
            if number <= before:
                run.enter_context(ledger.reserved(number, refused))
                runs.append((run, number))
                allocated.append(0)
            else:
                with pytest.raises(RefusedError) as caught:
                    run.enter_context(ledger.reserved(number, refused))
                assert caught.value.args == (before, number <= TOTAL)
        elif runs and what == "allocate":
            place = number % len(runs)
            allocated[place] = min(number, runs[place][1])
        elif runs:
            place = number % len(runs)
            allocated.pop(place)
            runs.pop(place)[0].close()
        assert ledger.left() == TOTAL - sum(needed for _, needed in runs)
    allocated.clear()
    for run, _ in runs:
        run.close()
    with ledger.reserved(TOTAL, refused):
        assert ledger.left() == 0


def test_threads_never_hold_more_than_there_is_and_leave_nothing_behind():
    ledger, held, most, lock = Ledger(lambda: TOTAL), [], [], threading.Lock()
    counts = {"granted": 0, "refused": 0}

    def runs(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            needed = chance.randint(1, TOTAL // 2)
            try:
                with ledger.reserved(needed, refused):
                    with lock:
                        held.append(needed)
                        most.append(sum(held))
                        counts["granted"] += 1
                    threading.Event().wait(1e-5)
                    with lock:
                        held.remove(needed)
            except RefusedError:
                with lock:
                    counts["refused"] += 1

    threads = [threading.Thread(target=runs, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= TOTAL
    assert min(counts.values()) > 0  # Both happened.
    assert sum(counts.values()) == 8 * 200
    assert ledger.left() == TOTAL


def test_free_memory_is_read_anew_with_and_without_runs():
    free = 100
    ledger = Ledger(lambda: free)
    with ledger.reserved(60, refused):
        assert ledger.left() == 40
        free = 30  # The run has allocated its 60, and another program 10.
        assert ledger.left() == 30
        free = 170  # Programs have ended.
        assert ledger.left() == 110
    free = 10
    assert ledger.left() == 10


def test_a_run_that_the_garbage_collector_ends_inside_the_ledger_releases_its_memory():
    abandoned = []

    def free() -> int:
        if abandoned:
            abandoned.pop().close()  # As the collector may, in any thread and at any allocation.
        return TOTAL

    ledger = Ledger(free)
    run = ExitStack()
    run.enter_context(ledger.reserved(TOTAL, refused))
    abandoned.append(run)
    assert ledger.left() == TOTAL


# What is free

LIMITED = f"""
import io, json, resource, sys
from contextlib import redirect_stderr
from pathlib import Path
import torch
from featviz import loading
from featviz.cli import main
from featviz.recipes.deepdream import DeepDream
from featviz.errors import LimitError
from featviz.runtime.memory import free_memory, peak
from featviz.runtime.stream import run

CPU, said = torch.device("cpu"), {{}}
size = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 1_500_000_000,) * 2)
said["free"] = free_memory(CPU)
recipe = DeepDream(size=4096, octaves_above=3, octave_scale=2)
try:
    run(recipe, device="cpu", image="{CAT}")
except LimitError as error:
    said["sentence"], said["after"] = str(error), free_memory(CPU)
with redirect_stderr(io.StringIO()) as stderr:
    said["code"] = main(
        ["deepdream", "{CAT}", sys.argv[1], "--size", "4096", "--octaves-above", "3", "--octave-scale", "2", "--device", "cpu"]
    )
said["stderr"] = stderr.getvalue().strip().splitlines()[-1]
said["loaded"] = len(loading._loaded)
said["fitting"] = [peak(recipe.model_copy(update={{"size": size}}), {SIZE}, CPU) for size in range(64, 4097, 16)]
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are those of Linux")
def test_in_a_process_with_a_limit_a_run_that_cannot_fit_is_refused_before_any_work(tmp_path):
    out = tmp_path / "dream.png"
    command = [sys.executable, "-c", LIMITED, str(out)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert 0.5e9 < said["free"] <= 1.5e9
    expected = r"This run takes \d\d\.\d GB of memory, and [01]\.\d GB are free; the largest size that fits is (\d+)\."
    fitting = int(re.fullmatch(expected, said["sentence"])[1])
    assert said["fitting"][(fitting - 64) // 16] <= said["free"]
    assert said["fitting"][(fitting - 64) // 16 + 1] > said["after"]
    assert (said["code"], out.exists(), said["loaded"]) == (1, False, 0)
    assert said["stderr"].startswith("This run takes ")


def test_of_a_card_what_pytorch_keeps_for_itself_is_free_as_well(monkeypatch):
    for name, value in {"mem_get_info": (3e9, 16e9), "memory_reserved": 5e9, "memory_allocated": 1e9}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory(torch.device("cuda", 0)) == 7e9


# Runs


class Grow(Count):
    """Takes as much as it says; the versions to try take more."""

    sweep_fields: ClassVar[tuple[str, ...]] = ("bytes",)
    size: int = param(100, "Size.", ge=10, le=1000, step=10)
    bytes: int = param(0, "Bytes for each of its size.", ge=0)

    def demand(self, network, size):
        return super().demand(network, size).__class__(flops=1e6, bytes=self.size * self.bytes)

    def variants(self) -> list[Recipe]:
        return [self.model_copy(update={"bytes": self.bytes * factor}) for factor in (2, 5, 3)]


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(sys.modules["featviz.stream"], "load", lambda name, device: None)
    Count.log.clear()
    return Count.log


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1000, "This run takes 10.0 GB of memory, and 6.0 GB are free; the largest size that fits is 600."),
        (800, "This run takes 8.0 GB of memory, and 6.0 GB are free; the largest size that fits is 600."),
    ],
)
def test_a_run_that_is_alone_is_refused_if_it_cannot_fit(free, counted, size, said):
    free(6e9)
    with pytest.raises(LimitError) as caught:
        next(stream(Grow(size=size, bytes=10**7), device="cpu", image=PICTURE))
    assert str(caught.value) == said
    assert counted == []
    next(stream(Grow(size=600, bytes=10**7), device="cpu", image=PICTURE))


def test_a_run_beside_others_is_refused_with_what_fits_now_and_may_come_again(free, counted):
    ledger = free(6e9)
    other = stream(Grow(size=400, bytes=10**7), device="cpu", image=PICTURE)
    next(other)
    with pytest.raises(LimitError) as caught:
        next(stream(Grow(size=300, bytes=10**7), device="cpu", image=PICTURE))
    assert str(caught.value) == (
        "This run takes 3.0 GB of memory, and other runs leave 2.0 GB; the largest size that fits is 200, or try again when they "
        "have ended."
    )
    with pytest.raises(LimitError, match=r"0 GB are free; the largest size that fits is 200\.$"):
        next(stream(Grow(size=900, bytes=10**7), device="cpu", image=PICTURE))
    other.close()
    assert ledger.left() == 6e9
    next(stream(Grow(size=300, bytes=10**7), device="cpu", image=PICTURE))


def test_where_no_size_fits_that_is_said(free, counted):
    free(1e6)
    with pytest.raises(LimitError, match=r"0\.1 GB are free; no size fits\.$"):
        next(stream(Grow(bytes=10**7), device="cpu", image=PICTURE))
    with pytest.raises(LimitError, match=r"no size fits\.$"):  # It has no size.
        next(stream(Large(), device="cpu", image=PICTURE))


class Large(Count):
    def demand(self, network, size):
        return super().demand(network, size).__class__(flops=1e6, bytes=5e9)


@pytest.mark.parametrize("end", ["whole", "closed", "failed"])
def test_a_run_releases_its_memory_when_it_ends_is_closed_or_fails(free, counted, end):
    ledger = free(1e9)
    previews = stream(Grow(bytes=10**6, breaks=3 * (end == "failed")), device="cpu", every=0, image=PICTURE)
    next(previews)
    assert ledger.left() == 0.9e9
    if end == "closed":
        previews.close()
    elif end == "failed":
        with pytest.raises(Exception, match="out of range"):
            list(previews)
    else:
        assert list(previews)
    assert ledger.left() == 1e9


def test_trying_out_reserves_the_largest_version_from_the_first_on(free, counted):
    ledger = free(1e9)
    tried = try_out(Grow(bytes=10**6), device="cpu", image=PICTURE)
    next(tried)
    assert ledger.left() == 0.5e9
    next(tried)
    assert ledger.left() == 0.5e9
    assert len(list(tried)) == 1
    assert ledger.left() == 1e9
    counted.clear()
    with pytest.raises(LimitError, match=r"takes 2\.5 GB .* the largest size that fits is 200\.$"):
        next(try_out(Grow(size=500, bytes=10**6), device="cpu", image=PICTURE))
    assert counted == []


# Inspections

SHALLOW, DEEP = "efficientnet_lite0/stem", "efficientnet_lite0/block14"
INSPECTIONS = {
    "look": inspect_layer,
    "gram_picture": gram_picture,
    "excited": lambda recipe, **given: strongest_channels(recipe, {recipe.layer: [1.0] * 32}, **given),
}


@pytest.mark.parametrize("inspect", INSPECTIONS.values(), ids=INSPECTIONS)
def test_an_inspection_reserves_memory_and_is_refused_if_it_cannot_fit(free, inspect):
    recipe = ActivationMaps(layer=SHALLOW, size=256, count=2)
    needed = peak(recipe, SIZE, CPU)
    ledger = free(needed - 1)
    with pytest.raises(LimitError, match=r"^This run takes .* the largest size that fits is 240\.$"):
        inspect(recipe, device="cpu", image=CAT)
    assert ledger.left() == needed - 1
    ledger = free(needed)
    inspect(recipe, device="cpu", image=CAT)
    assert ledger.left() == needed


def test_what_excites_a_network_is_counted_to_its_deepest_layer(free):
    shallow, deep = (ActivationMaps(layer=layer, size=256) for layer in (SHALLOW, DEEP))
    free(peak(shallow, SIZE, CPU))
    with pytest.raises(LimitError):
        strongest_channels(shallow, {SHALLOW: [1.0] * 32, DEEP: [1.0] * 320}, device="cpu", image=CAT)
    assert peak(deep, SIZE, CPU) > peak(shallow, SIZE, CPU)


# How much


def test_a_larger_picture_needs_more_and_sixteen_of_the_default_size_need_little():
    small, large = (peak(DeepDream(size=size), SIZE, CPU) for size in (400, 4096))
    assert 16 * small < 8e9
    assert large > 1e9
