"""### Does the same run give the same bytes twice?

Each recipe runs twice as it is, and a third time while PyTorch reports operations that have no deterministic version. The figure is
the share of pixels that differ between the first two; the note names the operations.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.cuda.bench import Bench, attempt, label
from benchmarks.cuda.correctness import last_frame, small_runs
from benchmarks.measure import Row
from featviz.networks.cache import load
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    for recipe in small_runs(bench):
        yield from attempt(label(recipe), twice, bench, recipe)


def twice(bench: Bench, recipe: Recipe) -> Iterator[Row]:
    net = load(recipe.network_name, bench.device)
    one, other = (last_frame(recipe, net, bench.plan.check).image for _ in range(2))
    with undetermined() as operations:
        last_frame(recipe, net, bench.plan.check)
    share = (one != other).any(1).double().mean().item()
    yield Row(label(recipe), "of the pixels differ", [share], ", ".join(sorted(operations)) or "nothing is reported")


@contextmanager
def undetermined() -> Iterator[set[str]]:
    """A context that collects the operations of which PyTorch says that they have no deterministic version."""
    operations: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield operations
        finally:
            torch.use_deterministic_algorithms(False)
            messages = [str(warning.message) for warning in caught]
            operations |= {operation(message) for message in messages if "determinis" in message}


def operation(message: str) -> str:
    """The name that a warning begins with; the one about cuBLAS has none."""
    return "cuBLAS" if "CuBLAS" in message else message.split()[0]
