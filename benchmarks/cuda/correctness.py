"""### Is it right?

Cosines of gradients are with those of float64 on the CPU, at layers from shallow to deep, as the library computes them on the device
and in float32 on the CPU. Results are compared with those of the CPU in float32: the mean difference of the last picture, of 255.
Gradient ascent magnifies rounding, so the note says how far two memory formats of the same CPU are apart, and the largest
difference of a number that the run shows.
"""

from collections.abc import Iterator
from contextlib import suppress

import torch

from benchmarks.cases import DREAMT
from benchmarks.cuda.bench import Bench, attempt, cosine, gradient, network, noise, pictures
from benchmarks.measure import Row
from featviz.errors import FieldError
from featviz.media.images import to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS
from featviz.recipes.recipe import Frame, Recipe
from featviz.recipes.table import RECIPES

CPU = torch.device("cpu")


def rows(bench: Bench) -> Iterator[Row]:
    for name in bench.plan.networks:
        yield from attempt(f"gradients of {NETWORKS[name].title}", gradients, bench, name)
    for recipe in small_runs(bench):
        yield from attempt(recipe.title, distance, bench, recipe)


def gradients(bench: Bench, name: str) -> Iterator[Row]:
    layers = [*NETWORKS[name].layers]
    chosen = layers[:: max(1, len(layers) // 4)]
    image = noise(bench.plan.check, CPU)

    def of(net: Network, image: torch.Tensor) -> list[torch.Tensor]:
        return [gradient(lambda seen, layer=layer: net.activations(seen, [layer])[layer], image) for layer in chosen]

    reference = of(network(name, CPU, torch.float64), image.double())
    nets = {"on the device": load(name, bench.device), "float32 on the CPU": network(name, CPU)}
    for where, net in nets.items():
        cosines = [cosine(*pair) for pair in zip(of(net, image.to(net.device)), reference, strict=True)]
        worst = chosen[cosines.index(min(cosines))]
        note = f"1 − least: {1 - min(cosines):.1e}, at {worst}; in {net.dtype}"
        yield Row(f"gradients of {NETWORKS[name].title}, {where}", "cosine", cosines, note)


def small_runs(bench: Bench) -> Iterator[Recipe]:
    """The recipes of the plan, small and short, on each of its networks that they can be run on."""
    plan = bench.plan
    small = {"size": plan.check, "steps": plan.steps, "octaves": 2, "scales": 2, "seconds": 0.1, "count": 4, "most": 2}
    for kind in map(RECIPES.__getitem__, plan.recipes or RECIPES):
        for name in plan.networks:
            fields = {**small, "network": name, "layer": f"{name}/{DREAMT[name]}"}
            with suppress(FieldError):  # A recipe that classifies, on a network that does not.
                yield kind(**{field: value for field, value in fields.items() if field in kind.model_fields})


def last_frame(recipe: Recipe, net: Network, size: int) -> Frame:
    given = {role: to_tensor(picture, net.device) for role, picture in pictures(recipe, size).items()}
    frame = None
    for frame in recipe.run(net, **given):
        pass
    assert frame is not None
    return frame


def distance(bench: Bench, recipe: Recipe) -> Iterator[Row]:
    name, size = recipe.network_name, bench.plan.check
    expected = last_frame(recipe, network(name, CPU), size)
    other = last_frame(recipe, network(name, CPU, channels_last=False), size)
    found = last_frame(recipe, load(name, bench.device), size)

    def apart(frame: Frame) -> float:
        return 255 * (frame.image.cpu() - expected.image).abs().mean().item()

    shown = [*expected.measures, "loss"]
    one, two = ([*map(float, frame.measures.values()), float(frame.loss)] for frame in (expected, found))
    relative = {key: abs(a - b) / max(abs(a), 1e-12) for key, a, b in zip(shown, one, two, strict=True)}
    worst = max(relative, key=lambda key: relative[key])
    note = f"CPU from CPU: {apart(other):.2g}; {worst} differs by {relative[worst]:.1e}"
    yield Row(f"{recipe.title}, {NETWORKS[name].title}, {size} px", "of 255", [apart(found)], note)
