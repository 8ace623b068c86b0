"""Small stand-ins that several test files share: a network without training, and a recipe that counts."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import torch
from PIL import Image
from torch import nn

from featviz.networks.network import Network
from featviz.networks.table import NetworkSpec
from featviz.networks.weights import Bundled
from featviz.recipes.recipe import Demand, Frame, Recipe, param


class Count(Recipe):
    """Fades the picture out, one step at a time."""

    name: ClassVar[str] = "count"
    title: ClassVar[str] = "Count"
    tab_group: ClassVar[str] = "Count"
    images: ClassVar[dict[str, str]] = {"image": "What fades."}
    running: ClassVar[set] = set()
    log: ClassVar[list] = []

    steps: int = param(5, "Steps.", ge=1)
    seconds: float = param(0.0, "Seconds a step takes.", ge=0)
    breaks: int = param(0, "The step whose numbers run out of range.", ge=0)
    network_name: ClassVar[str] = "vgg19"

    def demand(self, network, size):
        return Demand(flops=self.steps * 1e6, bytes=size[0] * size[1])

    def run(self, network, *, image):
        try:
            for step in range(1, self.steps + 1):
                assert not Count.running, "two steps at the same time"
                assert torch.is_grad_enabled()
                Count.running.add(self)
                time.sleep(self.seconds)
                Count.running.clear()
                Count.log.append(step)
                yield Frame(
                    step,
                    self.steps,
                    "counting",
                    step / self.steps,
                    torch.tensor(math.nan if step == self.breaks else float(step)),
                    image * (1 - step / self.steps),
                )
        finally:
            Count.log.append("closed")


def outputs(call: AsyncGenerator) -> list:
    """Return a list of everything that an endpoint yields."""

    async def collect() -> list:
        return [output async for output in call]

    return asyncio.run(collect())


def together(*work: Callable[[], object], patience: float = 60) -> list:
    """Call functions at the same time, each in a thread of its own; return their results."""
    with ThreadPoolExecutor(len(work)) as threads:
        return [call.result(timeout=patience) for call in [threads.submit(function) for function in work]]


PICTURE = Image.new("RGB", (20, 16), (200, 100, 50))


def small_fields(recipe: type[Recipe], **more: object) -> dict[str, object]:
    """The fields of a run of a few quick steps."""
    fields = {"size": 64, "steps": 2, "octaves": 2, "scales": 2, "seconds": 0.2, "fps": 10, "most": 2, "channel": 3}
    fields |= {"layer": "efficientnet_lite0/block1", "network": "efficientnet_lite0", "style_layers": ""}
    fields |= {"steps": 1, "octaves": 1} if recipe.name == "layer_time_lapse" else {}  # It dreams of each of its layers.
    return {name: value for name, value in (fields | more).items() if name in recipe.model_fields}


def small(recipe: type[Recipe], **more: object) -> Recipe:
    """A run of a few quick steps."""
    return recipe(**small_fields(recipe, **more))


def tiny(**changes) -> Network:
    """A seeded network of three convolutions, to stand in where no trained one is needed."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2), nn.ReLU(), nn.Conv2d(5, 6, 3))
    spec = NetworkSpec(
        title="Tiny",
        build=lambda: trunk,
        weights=Bundled("none", "none", ""),
        licence="",
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        layers={"relu1": "1", "relu2": "3", "conv3": "4"},
        content_layer="relu2",
        style_layers=("relu1", "relu2"),
        smallest=8,
        good_for="",
    )
    return Network(spec, trunk)
