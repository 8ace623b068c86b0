"""A look at what a layer answers to a picture: pictures in, pictures and numbers out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from featviz.media.images import Picture, on_white, open_picture, to_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import split
from featviz.optimise.scaling import fit, resize
from featviz.optimise.tiles import enough_memory
from featviz.recipes.activation_maps import ActivationMaps, correlations
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device, resolve, slot
from featviz.runtime.memory import Parts, alone, reserved

LEGIBLE = 320
"""Pixels of the longest side of an activation map that is shown by itself."""

PATCH = 192
"""Pixels of the side of a patch, at most."""


@dataclass(frozen=True)
class ChannelResponse:
    """A channel and what it answers to a picture."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    channel: int
    strength: float
    picture: Image.Image | None = None
    """Its activation map: heat over the faint picture."""
    patches: tuple[Image.Image, ...] = ()
    """The pieces of the picture that it answers to most."""


@dataclass(frozen=True)
class LayerInspection:
    """What a layer answers to a picture."""

    layer: str
    cells: tuple[ChannelResponse, ...]
    """The channels that answer most, the strongest first; the strength is the mean over positions, positive part."""
    mean: float
    """The same, mean over all channels."""
    shape: tuple[int, int, int]
    """(channels, height, width) of the layer for this picture."""
    field: tuple[float, float]
    """(height, width) in pixels of what each unit sees; `inf` where it is the whole picture."""


def inspect_layer(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> LayerInspection:
    """The activation maps that `recipe` draws on one sheet, each by itself. Raises what `stream` raises."""
    with _ready(recipe, device, image) as (network, tensor):
        found = recipe.inspect_layer(network, tensor)
        drawn = zip(found.pictures(LEGIBLE), found.patches(), strict=True)
        numbers = zip(found.channels.tolist(), found.strengths.tolist(), drawn, strict=True)
        cells = tuple(
            ChannelResponse(
                recipe.layer, channel, strength, to_picture(map_), tuple(to_picture(_shrunk(patch)) for patch in patches)
            )
            for channel, strength, (map_, patches) in numbers
        )
        return LayerInspection(recipe.layer, cells, found.mean.item(), found.shape, found.field)


def strongest_channels(
    recipe: ActivationMaps, peaks: Mapping[str, Sequence[float]], *, device: Device = "auto", image: Picture
) -> tuple[ChannelResponse, ...]:
    """The channels of the whole network that a picture excites most, at most three of a layer.

    `peaks` says for some layers, by address, what each channel answers where it is answered for most: the atlas knows. The
    strength is a share of that: 1 is as much as by the picture that was made for it. Raises what `stream` raises.
    """
    addresses = [address for address in peaks if split(address)[0] == recipe.network_name]
    own = {split(address)[1]: torch.tensor(peaks[address]) for address in addresses}
    parts = partial(_at, addresses)  # It goes to all of these layers, and the deepest takes most.
    with _ready(recipe, device, image, parts) as (network, tensor), torch.no_grad():
        answers = network.activations(fit(tensor, recipe.size, network.spec.smallest), own)
        cells = []
        for layer, most in own.items():
            shares = answers[layer][0].amax((1, 2)).cpu() / most.clamp_min(1e-6)
            best = shares.where(most > 0, 0).topk(min(3, len(most)))
            numbers = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            cells += [ChannelResponse(f"{recipe.network_name}/{layer}", channel, share) for channel, share in numbers]
    return tuple(sorted(cells, key=lambda cell: -cell.strength)[: recipe.count])


def gram_picture(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> Image.Image:
    """The Gram matrix of a layer as a picture, a pixel for each pair of channels: hot where two answer at the same places.

    Entries are divided by the lengths of both maps, so they are cosines: 1 on the diagonal. Raises what `stream` raises.
    """
    with _ready(recipe, device, image) as (network, tensor), torch.no_grad():
        layer = split(recipe.layer)[1]
        return to_picture(correlations(network.activations(fit(tensor, recipe.size, network.spec.smallest), [layer])[layer]))


def _shrunk(patch: Tensor) -> Tensor:
    """A patch (1, 3, s, s), no larger than it is shown."""
    side = min(PATCH, patch.shape[-1])
    return resize(patch, (side, side))


def _at(layers: Sequence[str], recipe: ActivationMaps) -> list[Recipe]:
    """The same recipe at each of these layers, given by address."""
    return [recipe.replace(layer=layer) for layer in layers]


@contextmanager
def _ready(recipe: ActivationMaps, device: Device, image: Picture, parts: Parts = alone) -> Iterator[tuple[Network, Tensor]]:
    """The network and the picture (1, 3, H, W) on a device, in memory that is reserved, when it is their turn. `parts`: as for
    `featviz.memory.reserved`."""
    where = resolve(device)
    with enough_memory():
        opened = on_white(open_picture(image, "image", recipe.needed("image")))
        with reserved(recipe, opened.size, where, parts):
            network, tensor = load(recipe.network_name, where), to_tensor(opened, where)
            with slot(where):
                yield network, tensor
