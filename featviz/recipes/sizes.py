"""Which values of the field `size` suit a run: the largest that is possible, and the least for a good result."""

import math
from bisect import bisect_right
from collections.abc import Callable

from featviz.recipes.recipe import Recipe, bounds, increment

SHORT_SIDE = 128
"""Pixels of the shorter side below which a layer has too few positions for a good result."""


def largest_size(recipe: Recipe, possible: Callable[[Recipe], bool]) -> int | None:
    """Return the largest value of the field `size` at which a recipe is possible, found by bisection.

    Returns None if no size is possible, or if the recipe has no field `size` with a range. The field `full_size` is switched off.

    `possible` has to be monotonic: what is possible at one size is possible at every smaller one.
    """
    fields = type(recipe).model_fields
    low, high = bounds(fields["size"]) if "size" in fields else (None, None)
    if low is None or high is None:
        return None
    sizes = range(int(low), int(high) + 1, int(increment(fields["size"])))
    change = {"full_size": False} if "full_size" in fields else {}
    count = bisect_right(sizes, False, key=lambda size: not possible(recipe.replace(**change, size=size)))
    return sizes[count - 1] if count else None


def size_for_short_side(recipe: Recipe, size: tuple[int, int] | None) -> int | None:
    """Return the size at which the shorter side of the result has `SHORT_SIDE` pixels, None if it has as many already.

    `size`: (width, height) of the first picture. No more than the picture and the field allow.
    """
    values, fields = dict(recipe), type(recipe).model_fields
    if size is None or "size" not in fields or values.get("full_size"):
        return None
    step, longest, shortest = int(increment(fields["size"])), max(size), min(size)
    needed = step * math.ceil(min(SHORT_SIDE, shortest) * longest / shortest / step)
    larger = int(min(needed, bounds(fields["size"])[1] or needed))
    return larger if larger > values["size"] and values["size"] * shortest < SHORT_SIDE * longest else None
