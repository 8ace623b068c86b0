"""### How far are estimates from the time that runs take?

Each pair of runs in a process of its own, which has measured this machine as a server does when it starts. The figures are actual
over estimated seconds: of the first run, and of a second one of a picture of another shape, whose estimate is corrected by the
first. The shape differs as between visitors: kernels are prepared anew for each size. Aim: within a factor of 1.5 in nine of ten.
Wall time: run it on a quiet machine.

`python -m benchmarks.estimates` prints the constants of `featviz/runtime/estimate.py` that fit the first runs best, by processor
time on one thread, so that other programs matter little.
"""

import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.measure import Row, apart, timed

WITHIN = 1.5

PHOTOS = ((640, 480), (640, 400))
"""Sizes of the pictures of the first and of the second run."""

VGG, LITE = "vgg19", "efficientnet_lite0"

GRID: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(("deepdream", {"layer": layer, "size": size}) for layer in (f"{VGG}/relu4_4", f"{LITE}/block9") for size in (96, 192, 400)),
    ("deepdream", {"layer": f"{VGG}/relu4_4", "size": 768, "steps": 3}),
    ("deepdream", {"layer": f"{LITE}/block9", "size": 768, "steps": 5}),
    ("deepdream", {}),
    *(("style_transfer", {"network": network, "size": size}) for network in (VGG, LITE) for size in (128, 256)),
    ("style_transfer", {}),
    ("style_transfer", {"statistic": "wasserstein", "size": 384}),
    ("style_transfer", {"network": LITE, "size": 640, "steps": 8}),
    *(("deepdream_zoom", {"layer": f"{LITE}/block9", "size": size, "seconds": 0.5}) for size in (128, 320)),
    *(("feature_visualization", {"layer": layer, "size": 160, "steps": 24}) for layer in (f"{VGG}/relu3_1", f"{LITE}/block9")),
    *(("reconstruct_content", {"layer": f"{VGG}/relu3_1", "size": size}) for size in (96, 192)),
    ("reconstruct_style", {"network": VGG, "size": 128}),
    ("reconstruct_style", {"network": LITE, "size": 192}),
    *(("activation_maps", {"layer": f"{VGG}/relu3_1", "size": size}) for size in (320, 1024)),
    ("classification", {"size": 512}),
)  # fmt: skip
"""Recipe and fields."""


def measured(
    name: str, fields: Mapping[str, Any], runs: int = len(PHOTOS), seconds_of: Callable[[Callable[[], Any]], float] = timed
) -> list[tuple[float, float]]:
    """Actual and estimated seconds of each of so many runs, in this process."""
    from PIL import Image

    from featviz.media.images import read_header
    from featviz.recipes.table import RECIPES
    from featviz.runtime.estimate import estimate, warm_up
    from featviz.runtime.stream import run

    recipe = RECIPES[name](**fields)
    warm_up("cpu")
    results = []
    for photo in PHOTOS[:runs]:
        pictures = {role: Image.effect_noise(photo, 60).convert("RGB") for role in recipe.images}
        estimated = estimate(recipe, {role: read_header(picture) for role, picture in pictures.items()}, device="cpu").seconds
        results.append((seconds_of(lambda pictures=pictures: run(recipe, device="cpu", **pictures)), estimated))
    return results


def share_within(ratios: list[float], factor: float = WITHIN) -> float:
    """The share of ratios that are at most a factor above or below 1."""
    return sum(1 / factor <= ratio <= factor for ratio in ratios) / len(ratios)


def label(name: str, fields: Mapping[str, Any]) -> str:
    return f"{name}: {', '.join(f'{field} {value}' for field, value in fields.items()) or 'as it is'}"


def rows() -> Iterator[Row]:
    ratios: dict[str, list[float]] = {"first run": [], "second run": []}
    for name, fields in GRID:
        for number, (actual, estimated) in zip(ratios, apart(measured, name, fields), strict=True):
            ratios[number].append(actual / estimated)
            note = f"{actual:.1f} of {estimated:.1f} s"
            yield Row(f"{label(name, fields)}; {number}", "actual/estimate", [actual / estimated], note)
    for number, values in ratios.items():
        yield Row(f"all: {number}, within a factor of {WITHIN}", "share", [share_within(values)], "aim: at least 0.9")


def processor_seconds(work: Callable[[], Any]) -> float:
    """Seconds of processor time of this thread, which does all the work."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def on_one_thread(name: str, fields: Mapping[str, Any]) -> tuple[float, float, str]:
    """Processor seconds of a first run, what its estimate would be without a correction, and the network."""
    import torch

    from featviz.recipes.table import RECIPES
    from featviz.runtime.estimate import START, default_correction

    torch.set_num_threads(1)
    ((actual, estimated),) = measured(name, fields, runs=1, seconds_of=processor_seconds)
    network = RECIPES[name](**fields).network_name
    return actual, (estimated - START) / default_correction(name, network), network


Kind = tuple[str, str]
"""Recipe and network."""

Runs = Mapping[Kind, list[tuple[float, float]]]
"""Actual and uncorrected seconds of each run."""


def fitted(runs: Runs, start: float) -> dict[Kind, float]:
    """Return the corrections whose greatest factor of error is least."""
    ratios = {kind: [max(actual - start, 1e-3) / predicted for actual, predicted in values] for kind, values in runs.items()}
    return {kind: math.sqrt(min(values) * max(values)) for kind, values in ratios.items()}


def mean_error(runs: Runs, start: float) -> float:
    """Return the mean of |log(actual / estimated)| over kinds, with the corrections that are fitted."""
    corrections = fitted(runs, start)
    errors = [
        statistics.mean(abs(math.log(actual / (start + corrections[kind] * predicted))) for actual, predicted in values)
        for kind, values in runs.items()
    ]
    return statistics.mean(errors)


def main() -> None:
    """Print the start and the corrections that fit best."""
    runs: dict[Kind, list[tuple[float, float]]] = defaultdict(list)
    for name, fields in GRID:
        actual, predicted, network = apart(on_one_thread, name, fields)
        runs[name, network].append((actual, predicted))
        print(f"{label(name, fields)}: {actual:.2f} s, predicted {predicted:.2f} s", file=sys.stderr)
    start = min((twentieth / 20 for twentieth in range(13)), key=lambda start: mean_error(runs, start))
    print(f"START = {start}")
    print("DEFAULT_CORRECTIONS = {")
    for (name, network), correction in fitted(runs, start).items():
        print(f'    ("{name}", "{network}"): {correction:.2f},')
    print("}")


if __name__ == "__main__":
    main()
