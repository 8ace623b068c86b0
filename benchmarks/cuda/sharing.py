"""### What do sixteen runs at once get?

The same dream by many threads at once, as many visitors start it, beside one alone. A ratio of 1 means that nothing is lost by sharing.
"""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from benchmarks.cases import DREAMT
from benchmarks.cuda.bench import Bench, attempt, label, pictures
from benchmarks.measure import Row
from featviz import DeepDream, stream
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    for name in bench.plan.networks:
        recipe = DeepDream(layer=f"{name}/{DREAMT[name]}", size=bench.plan.shared)
        yield from attempt(label(recipe), shared, bench, recipe)


def shared(bench: Bench, recipe: Recipe) -> Iterator[Row]:
    given, count = pictures(recipe, bench.plan.shared), bench.plan.visitors

    def visit(_: int) -> tuple[float, float]:
        start = time.perf_counter()
        arrivals = [time.perf_counter() - start for _ in stream(recipe, device=str(bench.device), **given)]
        return arrivals[0], arrivals[-1]

    visit(0)
    _, alone = visit(0)
    bench.free()
    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        visits = [*pool.map(visit, range(count))]
    total = time.perf_counter() - start
    firsts, lasts = zip(*visits, strict=True)
    case = f"{label(recipe)}, {bench.plan.shared} px"
    yield Row(f"{case}, alone", "s", [alone])
    yield Row(f"{case}, {count} at once: first preview", "s", firsts, f"the latest after {max(firsts):.2f} s")
    yield Row(f"{case}, {count} at once: result", "s", lasts, f"mean {statistics.mean(lasts):.2f} s, last {max(lasts):.2f} s")
    yield Row(f"{case}, {count} at once: beside one after the other", "times", [total / (count * alone)], bench.peak())
