"""### For how long does a large run show nothing new?

Runs at 1536 pixels on their own, with few steps. What is new is a preview, or in the middle of a step a picture with the tiles that are
done, or at least the number of a tile. Gaps are those after the first preview. The last row is what showing the tiles costs.
"""

import time
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.cases import PICTURES
from benchmarks.measure import Row, ratios, side_by_side
from featviz import stream
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Recipe
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime.stream import Part, Preview

LARGE = (DeepDream(size=1536, octaves=2, steps=2), StyleTransfer(size=1536, steps=4))


def times(recipe: Recipe) -> list[tuple[float, Preview | Part]]:
    """Run a recipe, and return what it shows and when, in seconds."""
    shown: list[tuple[float, Preview | Part]] = []
    keep = lambda new: shown.append((time.perf_counter(), new))  # noqa: E731
    for preview in stream(recipe, on_part=keep, **PICTURES[type(recipe)]):
        keep(preview)
    return shown


def largest_gap(moments: list[float]) -> float:
    """Return the largest difference between two moments that follow one another."""
    return max(after - before for before, after in pairwise(moments))


def rows() -> Iterator[Row]:
    for recipe in LARGE:
        shown: list[list[tuple[float, Preview | Part]]] = []
        ways = {
            "with": lambda recipe=recipe, shown=shown: shown.append(times(recipe)),
            "without": lambda recipe=recipe: list(stream(recipe, **PICTURES[type(recipe)])),
        }
        seconds = side_by_side(ways, rounds=2, warm=0)
        kinds = {
            "between two previews": lambda new: isinstance(new, Preview),
            "between two pictures": lambda new: new.picture is not None,
            "without anything new": lambda new: True,
        }
        for what, counts in kinds.items():
            gaps = [largest_gap([moment for moment, new in one if counts(new)]) for one in shown]
            yield Row(f"{recipe.title}, 1536 px: the longest time {what}", "s", gaps, "aim: 3" if "previews" not in what else "")
        yield Row("the run with its tiles shown", "times without", ratios(seconds["with"], seconds["without"]), "aim: 1.02")
