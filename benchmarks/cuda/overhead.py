"""### What does a step cost however small the picture is, and what must a lease add for each?

Seconds of a step at small sizes. A straight line through them meets 0 pixels at the overhead of a step: that many seconds a lease must
add per step, beside operations divided by speed. The note has the operations and kernels that one step launches, by the profiler.
"""

import statistics
from collections.abc import Iterator
from itertools import product

from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import PICTURES, at_one_size, square
from benchmarks.cuda.bench import Bench, attempt, label
from benchmarks.measure import Row
from featviz.networks.cache import load
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    for kind, name in product(PICTURES, bench.plan.networks):
        yield from attempt(f"{kind.title}, {name}", steps, bench, kind, name)


def steps(bench: Bench, kind: type[Recipe], name: str) -> Iterator[Row]:
    net, medians = load(name, bench.device), {}
    for size in bench.plan.small:
        recipe = at_one_size(kind, name, size, 2 * bench.plan.repeats + 4)
        given = {role: image.to(bench.device) for role, image in square(kind, size).items()}
        frames = recipe.run(net, **given)
        next(frames)
        seconds = bench.seconds(lambda frames=frames: next(frames), 2 * bench.plan.repeats)
        with profiled(bench) as counts:
            next(frames)
        frames.close()
        medians[size**2] = statistics.median(seconds)
        note = ", ".join(f"{count} {what}" for what, count in counts.items())
        yield Row(f"{label(recipe)}, {size} px", "s a step", seconds, note)
    intercept = statistics.linear_regression([*medians], [*medians.values()]).intercept
    yield Row(f"{label(recipe)}: a lease adds", "s a step", [max(0.0, intercept)])


class profiled:  # noqa: N801  # A context.
    """A context that counts what is done in it: operations, kernels launched, waits."""

    def __init__(self, bench: Bench):
        self.bench = bench
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.is_card else [])]
        self.profile = profile(activities=activities, acc_events=True)

    def __enter__(self) -> dict[str, int]:
        self.counts: dict[str, int] = {}
        self.bench.wait()
        self.profile.__enter__()
        return self.counts

    def __exit__(self, *error: object) -> None:
        self.bench.wait()
        self.profile.__exit__(*error)
        names = [event.name for event in self.profile.events()]
        self.counts["operations"] = sum(name.startswith("aten::") for name in names)
        if self.bench.is_card:
            self.counts["kernels"] = sum("LaunchKernel" in name for name in names)
            self.counts["waits"] = (
                sum(name.startswith("cuda") and "Synchronize" in name for name in names) - 1
            )  # Without our own.
