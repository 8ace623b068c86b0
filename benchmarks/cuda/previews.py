"""### What do previews cost?

The same dream without previews and with one at every step, taking turns, and the seconds that reading one back adds.
"""

import math
from collections.abc import Iterator

from benchmarks.cuda.bench import Bench, attempt, label, pictures, usual
from benchmarks.measure import Row, side_by_side
from featviz import stream
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    for recipe in usual(bench, bench.plan.shared):
        yield from attempt(label(recipe), compared, bench, recipe)


def compared(bench: Bench, recipe: Recipe) -> Iterator[Row]:
    given, case = pictures(recipe, bench.plan.shared), f"{label(recipe)}, {bench.plan.shared} px"

    def run(every: float) -> int:
        return sum(1 for _ in stream(recipe, device=str(bench.device), every=every, **given))

    more = max(1, run(0) - run(math.inf))  # A tiny run has one step.
    seconds = side_by_side({"without": lambda: run(math.inf), "all": lambda: run(0)}, min(3, bench.plan.repeats), warm=0)
    yield Row(f"{case}, without previews", "s", seconds["without"])
    yield Row(f"{case}, one a step", "s", seconds["all"])
    each = [(all_ - without) / more for all_, without in zip(seconds["all"], seconds["without"], strict=True)]
    yield Row(f"{case}: a preview", "s", each, f"{more} more than the last")
