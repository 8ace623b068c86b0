"""Memory is reserved before a run begins, and released however it ends. No run starts that cannot fit."""

import json
import math
import random
import re
import subprocess
import sys
import threading
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import ClassVar

import limited
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from standins import PICTURE, Count, together

from featviz.errors import LimitError
from featviz.media.images import read_header
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.presets import FOLDER
from featviz.recipes.recipe import Recipe, param
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime import capacity, memory
from featviz.runtime.capacity import free_memory
from featviz.runtime.estimate import estimate
from featviz.runtime.inspection import gram_picture, inspect_layer, strongest_channels
from featviz.runtime.memory import Ledger, peak_memory, reserve
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import open_pictures, sizes_of, stream

CPU = torch.device("cpu")
CAT = FOLDER / "cat.jpg"
SIZE = {"image": (451, 300)}
SHALLOW, DEEP = "efficientnet_lite0/stem", "efficientnet_lite0/block14"
TOTAL = 10_000


class RefusedError(Exception):
    """The refusal of a ledger in these tests."""


def refused(available: float, fits_later: bool) -> RefusedError:
    return RefusedError(available, fits_later)


@pytest.fixture
def free(monkeypatch):
    """Set the bytes that are free on the CPU; return its ledger."""

    def set_to(amount: float) -> Ledger:
        ledger = Ledger(lambda: amount)
        monkeypatch.setattr(memory, "_ledgers", {CPU: ledger})
        return ledger

    return set_to


# The ledger


@given(st.lists(st.tuples(st.sampled_from(["ask", "allocate", "end"]), st.integers(0, TOTAL * 5 // 4)), max_size=40))
def test_any_sequence_of_reservations_is_granted_exactly_as_far_as_it_fits(events):
    runs: list[tuple[ExitStack, int]] = []
    allocated: list[int] = []
    ledger = Ledger(lambda: TOTAL - sum(allocated))
    for what, number in events:
        if what == "ask":
            before = TOTAL - sum(needed for _, needed in runs)
            run = ExitStack()
            if number <= before:
                run.enter_context(ledger.reserve(number, refused))
                runs.append((run, number))
                allocated.append(0)
            else:
                with pytest.raises(RefusedError) as caught:
                    run.enter_context(ledger.reserve(number, refused))
                assert caught.value.args == (before, number <= TOTAL)
        elif runs and what == "allocate":
            place = number % len(runs)
            allocated[place] = min(number, runs[place][1])
        elif runs:
            place = number % len(runs)
            allocated.pop(place)
            runs.pop(place)[0].close()
        assert ledger.available() == TOTAL - sum(needed for _, needed in runs)
    allocated.clear()
    for run, _ in runs:
        run.close()
    with ledger.reserve(TOTAL, refused):
        assert ledger.available() == 0


def test_threads_never_reserve_more_than_the_total_and_release_everything():
    ledger, held, most, lock = Ledger(lambda: TOTAL), [], [], threading.Lock()
    counts = {"granted": 0, "refused": 0}

    def reserve_often(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            needed = chance.randint(1, TOTAL // 2)
            try:
                with ledger.reserve(needed, refused):
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

    together(*(partial(reserve_often, seed) for seed in range(8)))
    assert max(most) <= TOTAL
    assert min(counts.values()) > 0  # Both happened.
    assert sum(counts.values()) == 8 * 200
    assert ledger.available() == TOTAL


def test_free_memory_is_read_on_every_request_and_goes_back_to_the_system_unless_it_is_soon_needed_again(monkeypatch):
    released = []
    monkeypatch.setattr(memory, "release_free_memory", lambda: released.append(1))
    free = 100
    ledger = Ledger(lambda: free)
    with ledger.reserve(60, refused):
        assert ledger.available() == 40
        free = 30  # The run has allocated its 60, and another program 10.
        assert ledger.available() == 30
        free = 170  # Programs have ended.
        assert ledger.available() == 110
    free = 10
    assert ledger.available() == 10
    assert len(released) == 1
    with ledger.reserve(1, refused, True):
        assert ledger.available() == 9
    assert len(released) == 1


def test_a_run_that_the_garbage_collector_ends_inside_the_ledger_releases_its_memory():
    abandoned = []

    def free() -> int:
        if abandoned:
            abandoned.pop().close()  # As the collector may, in any thread and at any allocation.
        return TOTAL

    ledger = Ledger(free)
    run = ExitStack()
    run.enter_context(ledger.reserve(TOTAL, refused))
    abandoned.append(run)
    assert ledger.available() == TOTAL


# What is free

LIMITED = f"""
import io, json, resource, sys
from contextlib import redirect_stderr
from pathlib import Path
import torch
from featviz.networks import cache
from featviz.cli import main
from featviz.recipes.deepdream import DeepDream
from featviz.errors import LimitError
from featviz.runtime.capacity import free_memory, total_memory
from featviz.runtime.memory import peak_memory
from featviz.runtime.stream import run
from featviz.runtime.tile_budget import tile_budget, tile_budgets

CPU, results = torch.device("cpu"), {{}}
size = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 1_500_000_000,) * 2)
results["free"], results["total"], results["tiles"] = free_memory(CPU), total_memory(CPU), tile_budget(CPU).bytes
results["limit"] = size + 1_500_000_000
recipe = DeepDream(size=4096, octaves_above=3, octave_scale=2)
try:
    run(recipe, device="cpu", image="{CAT}")
except LimitError as error:
    results["sentence"], results["after"] = str(error), free_memory(CPU)
with redirect_stderr(io.StringIO()) as stderr:
    results["code"] = main(
        ["deepdream", "{CAT}", sys.argv[1], "--size", "4096", "--octaves-above", "3", "--octave-scale", "2", "--device", "cpu"]
    )
results["stderr"] = stderr.getvalue().strip().splitlines()[-1]
results["loaded"] = len(cache._loaded)
least = tile_budgets(CPU)[-1]
results["fitting"] = [peak_memory(recipe.replace(size=size), CPU, {SIZE}, budget=least) for size in range(64, 4097, 16)]
print(json.dumps(results))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are those of Linux")
def test_under_a_memory_limit_a_run_that_cannot_fit_is_refused_before_any_work(tmp_path):
    out = tmp_path / "dream.png"
    command = [sys.executable, "-c", LIMITED, str(out)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert 0.5e9 < results["free"] <= 1.5e9
    assert results["total"] == results["limit"]
    assert results["limit"] / 12 < results["tiles"] <= results["limit"] / 6
    expected = r"This run takes \d+\.\d GB of memory, and [01]\.\d GB are free; the largest size that fits is (\d+)\."
    fitting = int(re.fullmatch(expected, results["sentence"])[1])
    assert results["fitting"][(fitting - 64) // 16] <= results["free"]
    assert results["fitting"][(fitting - 64) // 16 + 1] > results["after"]
    assert (results["code"], out.exists(), results["loaded"]) == (1, False, 0)
    assert results["stderr"].startswith("This run takes ")


def test_blocks_in_the_cache_of_pytorch_count_as_free(monkeypatch):
    for name, value in {"mem_get_info": (3e9, 16e9), "memory_reserved": 5e9, "memory_allocated": 1e9}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory(torch.device("cuda", 0)) == 7e9


def write_group(folder: Path, version: int, limit: str, usage: int, cache: int) -> None:
    """Write the files of a control group."""
    limits, usages, cached = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in ((limits, limit), (usages, usage), ("memory.stat", f"anon 5\n{cached} {cache}")):
        (folder / file).write_text(f"{content}\n")


@pytest.mark.parametrize(
    ("version", "own", "free"),
    [
        (2, "0::/a/b/c", 70),  # `a/b` leaves the least: 100 - 40 + 10.
        (2, "0::/a", 600),
        (2, "0::/host/docker", 900),  # Only the root is mounted.
        (1, "5:cpu,cpuacct:/\n4:hugetlb,memory:/a/b\n0::/", 70),
        (1, "0::/", float("inf")),
    ],
)
def test_the_tightest_control_group_above_a_process_counts(version, own, free, tmp_path, monkeypatch):
    root = tmp_path / "memory" if version == 1 else tmp_path
    write_group(root, version, "1000", 200, 100)
    write_group(root / "a", version, "900", 300, 0)
    write_group(root / "a" / "b", version, "100", 40, 10)
    write_group(root / "a" / "b" / "c", version, "max" if version == 2 else str(2**63), 40, 10)
    (tmp_path / "own").write_text(f"{own}\n")
    monkeypatch.setattr(capacity, "CGROUPS", tmp_path)
    monkeypatch.setattr(capacity, "OWN_CGROUPS", tmp_path / "own")
    assert capacity._free_in_cgroup() == free
    assert capacity._total_in_cgroup() == {70: 100, 600: 900, 900: 1000}.get(free, float("inf"))


# Runs


class Grow(Count):
    """A recipe with a demand of `size` times `bytes`; its variants demand more."""

    sweep_fields: ClassVar[tuple[str, ...]] = ("bytes",)
    size: int = param(100, "Size.", ge=10, le=1000, step=10)
    bytes: int = param(0, "Bytes for each of its size.", ge=0)

    def demand(self, network, size):
        return super().demand(network, size).__class__(flops=1e6, bytes=self.size * self.bytes)

    def variants(self) -> list[Recipe]:
        return [self.model_copy(update={"bytes": self.bytes * factor}) for factor in (2, 5, 3)]


@pytest.fixture
def counted(monkeypatch):
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "load", lambda name, device: None)
    Count.log.clear()
    return Count.log


def test_a_run_that_cannot_fit_is_refused_with_the_size_that_fits_now(free, counted):
    ledger = free(6e9)
    with pytest.raises(LimitError) as caught:
        next(stream(Grow(size=800, bytes=10**7), device="cpu", image=PICTURE))
    assert str(caught.value) == "This run takes 8.0 GB of memory, and 6.0 GB are free; the largest size that fits is 600."
    assert counted == []
    list(stream(Grow(size=600, bytes=10**7), device="cpu", image=PICTURE))
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
    assert ledger.available() == 6e9
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
    assert ledger.available() == 0.9e9
    if end == "closed":
        previews.close()
    elif end == "failed":
        with pytest.raises(Exception, match="out of range"):
            list(previews)
    else:
        assert list(previews)
    assert ledger.available() == 1e9


def test_trying_out_reserves_the_largest_variant_throughout(free, counted):
    ledger = free(1e9)
    tried = try_out(Grow(bytes=10**6), device="cpu", image=PICTURE)
    next(tried)
    assert ledger.available() == 0.5e9
    next(tried)
    assert ledger.available() == 0.5e9
    assert len(list(tried)) == 1
    assert ledger.available() == 1e9
    counted.clear()
    with pytest.raises(LimitError, match=r"takes 2\.5 GB .* the largest size that fits is 200\.$"):
        next(try_out(Grow(size=500, bytes=10**6), device="cpu", image=PICTURE))
    assert counted == []


# Pictures

PICTURES = {"content": (900, 700), "style": (3000, 2000), "style2": (1500, 2500), "style3": (2000, 900), "regions": (700, 700)}


@pytest.mark.parametrize(
    ("recipe", "roles"),
    [
        (StyleTransfer(network="efficientnet_lite0", size=256, style_scale=2), ["content", "style"]),
        (StyleTransfer(network="efficientnet_lite0", size=256), [*PICTURES]),
        (DeepDream(layer=SHALLOW, size=128), ["image", "guide"]),
    ],
    ids=["style", "three styles", "guide"],
)
def test_a_run_is_granted_the_memory_of_its_estimate_and_no_less(free, tmp_path, monkeypatch, recipe, roles):
    """The estimate reads headers, the run opens the pictures: both have to count all of them, at the same sizes."""
    monkeypatch.setenv("FEATVIZ_TILE_MEMORY_MB", "2000")  # Otherwise the run would make do with less, in smaller tiles.
    pictures = {}
    for role in roles:
        pictures[role] = tmp_path / f"{role}.{'jpg' if role == 'style' else 'png'}"
        gradient = Image.linear_gradient("L").resize(PICTURES.get(role, (1200, 1600)))
        gradient.convert("RGB").save(pictures[role], compress_level=1)
    needed = math.ceil(estimate(recipe, {role: read_header(file) for role, file in pictures.items()}, device="cpu").bytes)
    for available, granted in ((needed, True), (needed - 1, False)):
        free(available)
        with (
            nullcontext() if granted else pytest.raises(LimitError),
            reserve(recipe, CPU, sizes_of(open_pictures(recipe, pictures))),
        ):
            assert granted


def test_a_picture_that_is_too_large_to_open_beside_the_runs_is_refused_in_a_sentence(free, tmp_path):
    Image.new("RGB", (4000, 2500)).save(tmp_path / "a.png")
    ledger = free(140e6)
    with ledger.reserve(20_000_000, refused), pytest.raises(LimitError) as caught:
        open_pictures(DeepDream(size=128), {"image": tmp_path / "a.png"})
    assert str(caught.value) == (
        "Opening the image takes 0.1 GB of memory, and other runs leave 0.1 GB; choose a smaller one, or try again when they have "
        "ended."
    )
    assert open_pictures(DeepDream(size=128), {"image": tmp_path / "a.png"})["image"].size == (1000, 625)
    assert ledger.available() == 140e6


SIX = """
import json, threading
from pathlib import Path
from PIL import Image
from featviz.media.images import read_header
from featviz.runtime.memory import open_reserved

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

file = Path({folder!r}) / "a.png"
Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(file, compress_level=1)
Path("/proc/self/clear_refs").write_text("5")
before, opened = peak(), []
threads = [threading.Thread(target=lambda: opened.append(open_reserved(file, longest=128).size)) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([peak() - before, read_header(file).decoding_bytes(128), opened]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can reset the peak of its memory.")
def test_large_pictures_that_come_together_take_the_memory_of_one(tmp_path):
    grown, one, opened = limited.printed(SIX.format(folder=str(tmp_path)))
    assert opened == [[1000, 750]] * 6
    assert 0.4 * one < grown < 1.2 * one


# Inspections

INSPECTIONS = {
    "inspect_layer": inspect_layer,
    "gram_picture": gram_picture,
    "strongest_channels": lambda recipe, **given: strongest_channels(recipe, {recipe.layer: [1.0] * 32}, **given),
}


@pytest.mark.parametrize("inspect", INSPECTIONS.values(), ids=INSPECTIONS)
def test_an_inspection_reserves_memory_and_is_refused_if_it_cannot_fit(free, inspect):
    recipe = ActivationMaps(layer=SHALLOW, size=256, count=2)
    needed = peak_memory(recipe, CPU, SIZE)
    ledger = free(needed - 1)
    with pytest.raises(LimitError, match=r"^This run takes .* the largest size that fits is 240\.$"):
        inspect(recipe, device="cpu", image=CAT)
    assert ledger.available() == needed - 1
    ledger = free(needed)
    inspect(recipe, device="cpu", image=CAT)
    assert ledger.available() == needed


def test_the_memory_of_strongest_channels_is_that_of_the_deepest_layer(free):
    shallow, deep = (ActivationMaps(layer=layer, size=256) for layer in (SHALLOW, DEEP))
    free(peak_memory(shallow, CPU, SIZE))
    with pytest.raises(LimitError):
        strongest_channels(shallow, {SHALLOW: [1.0] * 32, DEEP: [1.0] * 320}, device="cpu", image=CAT)
    assert peak_memory(deep, CPU, SIZE) > peak_memory(shallow, CPU, SIZE)


# How much
