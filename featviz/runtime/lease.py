"""Leases of a ZeroGPU: a process of its own has the GPU for the seconds that were requested, and is ended after them."""

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import wraps
from typing import Any

from featviz import limits
from featviz.errors import LimitError
from featviz.media.images import Header, Picture
from featviz.networks.network import zero_gpu
from featviz.recipes.recipe import Recipe
from featviz.recipes.sizes import largest_size
from featviz.runtime.clip import read_headers
from featviz.runtime.devices import resolve
from featviz.runtime.estimate import LEAST_RECORDED, duration, estimate, record_throughput, video_demand
from featviz.runtime.memory import Parts, single_run
from featviz.runtime.stream import Preview

LEAST, MOST = 20, 120
"""The fewest and the most seconds of a lease. Short ones are scheduled earlier, and cost less of a visitor's daily quota."""

STARTUP = 15
"""Seconds of a lease before the first step: the process starts, and the weights are copied to the GPU."""

SAFETY = 1.5
"""Factor on the estimate of a run: nine of ten runs take no longer."""

ENDING = 3
"""Seconds before the end of a lease in which a run ends by itself and its latest picture is passed on."""

Runner = Callable[..., Generator[Any, None, None]]
"""`featviz.stream`, `try_out` or `film_clip`, or a function with the same arguments."""


def longest_run() -> float:
    """Return the seconds by estimate that a run may take here: by the limit of the server, and by the longest lease."""
    limit = limits.RUN_SECONDS.value
    return min(limit, (MOST - STARTUP) / SAFETY) if zero_gpu() else limit


def request(recipe: Recipe, pictures: Mapping[str, Header], parts: Parts = single_run, count: int = 1) -> int:
    """Return the seconds to request the GPU for.

    `parts`: the runs that the recipe is executed as, one after the other. `count`: as for `estimate`.

    Raises:
        LimitError: no lease is long enough. The message has the largest size that fits.
    """

    def needed(recipe: Recipe) -> float:
        return STARTUP + SAFETY * sum(estimate(part, pictures, count=count).seconds for part in parts(recipe))

    seconds = needed(recipe)
    if seconds > MOST:
        largest = largest_size(recipe, lambda smaller: needed(smaller) <= MOST)
        fitting = f"the largest size that fits is {largest}" if largest else "choose fewer steps"
        raise LimitError(f"This run takes up to {duration(seconds)} of the GPU, which is lent for at most {MOST} s; {fitting}.")
    return max(LEAST, math.ceil(seconds))


def requested(*_: object, lease: int = LEAST, **__: object) -> int:
    """Return the seconds of a lease, from the arguments of a run. `spaces.GPU(duration=…)` calls it with these."""
    return lease


def borrow(run: Runner, parts: Parts = single_run) -> Runner:
    """Wrap a run whose steps another process computes, in the process that asks for the GPU.

    The run gets an argument `lease`, its seconds. The speed that its previews report corrects later estimates.

    Raises:
        LimitError: from `request`, before the GPU is asked for; or the process was ended with its lease.
    """

    @wraps(run)
    def wrapped(recipe: Recipe, *arguments: Any, **pictures: Picture) -> Generator[Any, None, None]:
        headers, count = read_headers(recipe, pictures)
        lease = request(recipe, headers, parts, count)
        latest: tuple[Recipe, Preview] | None = None
        started = math.inf
        try:
            with closing(run(recipe, *arguments, lease=lease, **pictures)) as values:
                for value in values:
                    started = min(started, time.monotonic())
                    latest = value if isinstance(value, tuple) else (recipe, value)
                    yield value
        except Exception as error:
            if latest is None or time.monotonic() - started < lease - STARTUP - ENDING:
                raise
            raise ended(lease, latest[1]) from error
        finally:
            if latest is not None:
                _learn(*latest, headers, count)

    return wrapped


def within_lease(run: Runner) -> Runner:
    """Wrap a run in the process that has the GPU: it ends before the lease does.

    Raises:
        LimitError: the lease is over, before the run.
    """

    @wraps(run)
    def wrapped(recipe: Recipe, *arguments: Any, lease: int, **pictures: Picture) -> Generator[Any, None, None]:
        end = time.monotonic() + lease - ENDING
        with closing(run(recipe, *arguments, **pictures)) as values:
            for value in values:
                yield value
                preview = value[1] if isinstance(value, tuple) else value
                if time.monotonic() > end and not preview.done:
                    raise ended(lease, preview)

    return wrapped


def ended(lease: int, preview: Preview) -> LimitError:
    """Return the error of a run that is cut off at the end of its lease."""
    return LimitError(
        f"The GPU was lent for {lease} s, which were over at step {preview.step} of {preview.steps}; the latest picture is kept. "
        f"Try a smaller size or fewer steps."
    )


def _learn(recipe: Recipe, preview: Preview, headers: Mapping[str, Header], count: int) -> None:
    """Correct later estimates by the speed that the other process has measured."""
    if preview.steps > 1 and preview.work >= LEAST_RECORDED:
        device = resolve("auto")
        sizes = {role: header.opened_size(recipe.scaled_side(role)) for role, header in headers.items()}
        record_throughput(device, recipe, video_demand(recipe, device, sizes, count), preview.work, preview.seconds_used)
