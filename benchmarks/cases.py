"""The cases of the benchmarks: recipes at one size, on the bundled networks."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import EXAMPLES
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load_module
from featviz.networks.network import Network
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Frames, Recipe
from featviz.recipes.style_transfer import StyleTransfer

DREAMT = {"vgg19": "relu4_4", "efficientnet_lite0": "block9"}
"""The layer that dreams on each network."""

PICTURES: Mapping[type[Recipe], Mapping[str, Path]] = {
    DeepDream: {"image": EXAMPLES / "mountain.jpg"},
    StyleTransfer: {"content": EXAMPLES / "cat.jpg", "style": EXAMPLES / "great_wave.jpg"},
}


@cache
def exact(name: str) -> Network:
    """Return a bundled network in float32 on every machine, the reference for results."""
    return Network(NETWORKS[name], load_module(name))


def at_one_size(kind: type[Recipe], network: str, size: int, steps: int) -> Recipe:
    """A recipe whose steps all cost the same: one octave, one scale."""
    if kind is DeepDream:
        return DeepDream(layer=f"{network}/{DREAMT[network]}", size=size, octaves=1, steps=steps)
    return StyleTransfer(network=network, size=size, scales=1, steps=steps)


def square(kind: type[Recipe], size: int) -> dict[str, torch.Tensor]:
    """Its pictures as tensors (1, 3, size, size), so that sizes can be compared."""
    opened = {role: open_picture(path).resize((size, size)) for role, path in PICTURES[kind].items()}
    return {role: to_tensor(picture) for role, picture in opened.items()}


def every() -> Iterator[tuple[type[Recipe], str]]:
    """Each recipe on each network."""
    return ((kind, network) for network in BUNDLED for kind in PICTURES)


def flops(frames: Frames) -> int:
    """Floating point operations of the next step, counted while it runs; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        next(frames)
    return counter.get_total_flops()
