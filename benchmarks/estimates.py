"""### How far are estimates from the time that runs take?

Each run in a process of its own, which has measured this machine as a server does when it starts. The figures are actual over
estimated seconds: of the first run, and of a second one, whose estimate is corrected by the first. Aim: within a factor of 1.5 in
nine of ten. Only a quiet machine tells.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.measure import Row, apart

WITHIN = 1.5

PHOTO = (640, 480)

VGG, LITE = "vgg19", "efficientnet_lite0"

GRID: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(("deepdream", {"layer": layer, "size": size}) for layer in (f"{VGG}/relu4_4", f"{LITE}/block9") for size in (192, 400, 768)),
    *(("style_transfer", {"network": network, "size": size}) for network in (VGG, LITE) for size in (192, 320)),
    ("style_transfer", {"network": LITE, "size": 768}),
    *(("deepdream_zoom", {"layer": f"{LITE}/block9", "size": size, "seconds": 1}) for size in (192, 400)),
    *(("feature_visualization", {"layer": layer, "size": 160}) for layer in (f"{VGG}/relu3_1", f"{LITE}/block9")),
    *(("reconstruct_content", {"layer": f"{VGG}/relu3_1", "size": size}) for size in (128, 256)),
    ("reconstruct_style", {"network": VGG}),
    *(("activation_maps", {"layer": f"{VGG}/relu3_1", "size": size}) for size in (320, 1024)),
)  # fmt: skip
"""Recipe and fields."""


def measured(name: str, fields: Mapping[str, Any], runs: int = 2) -> list[tuple[float, float]]:
    """Actual and estimated seconds of each of so many runs, in this process."""
    from PIL import Image

    from benchmarks.measure import timed
    from featviz.recipes.table import RECIPES
    from featviz.runtime.estimate import estimate, warm_up
    from featviz.runtime.stream import run

    recipe = RECIPES[name](**fields)
    pictures = {role: Image.effect_noise(PHOTO, 60).convert("RGB") for role in recipe.images}
    warm_up("cpu")
    results = []
    for _ in range(runs):
        estimated = estimate(recipe, PHOTO if pictures else None, device="cpu").seconds
        results.append((timed(lambda: run(recipe, device="cpu", **pictures)), estimated))
    return results


def share_within(ratios: list[float], factor: float = WITHIN) -> float:
    """The share of ratios that are at most a factor above or below 1."""
    return sum(1 / factor <= ratio <= factor for ratio in ratios) / len(ratios)


def rows() -> Iterator[Row]:
    ratios: dict[str, list[float]] = {"first run": [], "second run": []}
    for name, fields in GRID:
        case = f"{name}: {', '.join(f'{field} {value}' for field, value in fields.items())}"
        for label, (actual, estimated) in zip(ratios, apart(measured, name, fields), strict=True):
            ratios[label].append(actual / estimated)
            yield Row(f"{case}; {label}", "actual/estimate", [actual / estimated], f"{actual:.1f} of {estimated:.1f} s")
    for label, values in ratios.items():
        yield Row(f"all: {label}, within a factor of {WITHIN}", "share", [share_within(values)], "aim: at least 0.9")
