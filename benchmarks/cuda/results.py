"""### How long does a picture take, and how much memory?

Whole runs at the default settings, from a picture to a picture, and until the first preview is there. The note compares the bytes of
tensors at the peak with what was reserved for the run.
"""

import time
from collections.abc import Iterator

from benchmarks.cuda.bench import Bench, attempt, label, pictures, usual
from benchmarks.measure import Row
from featviz import stream
from featviz.networks.cache import load, load_untrained
from featviz.recipes.recipe import Recipe

LONGEST = 40.0
"""Seconds after which a run is given up; the row then says how far it came."""


def rows(bench: Bench) -> Iterator[Row]:
    for size in bench.plan.results:
        for recipe in usual(bench, size):
            case = f"{label(recipe)}, {size} px"
            yield from attempt(case, whole, bench, case, recipe, size)


def whole(bench: Bench, case: str, recipe: Recipe, size: int) -> Iterator[Row]:
    given = pictures(recipe, size)
    load(recipe.network_name, bench.device)
    bench.free()
    start, arrivals = time.perf_counter(), []
    for preview in stream(recipe, device=str(bench.device), seconds=LONGEST, **given):
        arrivals.append(time.perf_counter() - start)
    reserved = recipe.demand(load_untrained(recipe.network_name, bench.device), (size, size)).bytes
    note = f"first preview after {arrivals[0]:.2f} s; {bench.peak()}, {reserved / 1e9:.2f} GB reserved"
    yield Row(case, "s", arrivals[-1:], f"{note}; {preview.stage}")
