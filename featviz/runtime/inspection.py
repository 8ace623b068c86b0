"""Inspect what a layer responds to in a picture. Pictures go in; pictures and numbers come out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from featviz.media.images import Picture, on_white, to_picture, to_tensor
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import split
from featviz.optimise.scaling import fit, resize
from featviz.optimise.tiles import enough_memory
from featviz.recipes.activation_maps import ActivationMaps, correlations
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device, resolve, slot
from featviz.runtime.memory import Parts, open_reserved, reserve, single_run
from featviz.runtime.preemption import PauseBetweenOperations

MAP_SIDE = 320
"""Pixels of the longest side of a single activation map."""

PATCH_SIDE = 192
"""Pixels of the side of a patch, at most."""

CHANNELS_PER_LAYER = 3
"""The most channels of one layer among the strongest of a network."""


@dataclass(frozen=True)
class ChannelResponse:
    """The response of one channel to a picture."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    channel: int
    strength: float
    """As stated by the function that returns it."""
    picture: Image.Image | None = None
    """Its activation map as a heat map over the dimmed picture, None where it is not drawn."""
    patches: tuple[Image.Image, ...] = ()
    """The patches of the picture with the highest activations, in descending order."""


@dataclass(frozen=True)
class LayerInspection:
    """The response of one layer to a picture."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    cells: tuple[ChannelResponse, ...]
    """The strongest channels in descending order. Strength is the positive part of the activations, averaged over positions."""
    mean: float
    """The mean strength over all channels."""
    shape: tuple[int, int, int]
    """(channels, height, width) of the layer's activations for this picture."""
    field: tuple[float, float]
    """(height, width) of the receptive field in pixels; `inf` where a unit sees the whole picture."""


def inspect_layer(
    recipe: ActivationMaps, channels: Sequence[int] = (), *, device: Device = "auto", image: Picture
) -> LayerInspection:
    """Compute the activation maps that `ActivationMaps` draws on one sheet, and return each as a picture with its numbers.

    Args:
        recipe: the layer, the number of channels and the size at which the network sees the picture.
        channels: those to inspect; by default the strongest.
        device: "auto", "cpu", "cuda", "cuda:1" (a card by its index) or "mps".
        image: the picture: a path, a PIL image, bytes, an open file, a NumPy array (H, W, C) or a tensor (C, H, W), as uint8
            or floats in [0, 1].

    Raises:
        FieldError: the layer has no such channel.
        InputError: the picture is unusable, before any work is done; or the device runs out of memory.
        WeightsError: the network's weights are not available.
        LimitError: it does not fit into the free memory, before any work is done.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        response = recipe.inspect_layer(network, tensor, channels)
        drawn = zip(response.pictures(MAP_SIDE), response.patches(), strict=True)
        numbers = zip(response.channels.tolist(), response.strengths.tolist(), strict=True)
        cells = tuple(
            ChannelResponse(recipe.layer, channel, strength, to_picture(map_), tuple(to_picture(_shrink(p)) for p in patches))
            for (channel, strength), (map_, patches) in zip(numbers, drawn, strict=True)
        )
        return LayerInspection(recipe.layer, cells, response.mean.item(), response.shape, response.field)


def strongest_channels(
    recipe: ActivationMaps, peaks: Mapping[str, Sequence[float]], *, device: Device = "auto", image: Picture
) -> tuple[ChannelResponse, ...]:
    """Return the `recipe.count` strongest channels of a whole network, at most three of each layer. Raises as `inspect_layer` does.

    Args:
        recipe: names the network and the size. Its layer does not matter.
        peaks: address of a layer → the highest activation of each channel on the picture that was optimised for it, as the
            atlas records them. The strength of a channel is its highest activation as a share of this, so 1 means: as strong
            as on the optimised picture. Layers of other networks are ignored.
        device, image: as for `inspect_layer`.
    """
    addresses = [address for address in peaks if split(address)[0] == recipe.network_name]
    layer_peaks = {split(address)[1]: torch.tensor(peaks[address]) for address in addresses}

    def at_each_layer(recipe: ActivationMaps) -> list[Recipe]:
        """One forward pass reaches all layers, so its memory is that of the most demanding one."""
        return [recipe.replace(layer=address) for address in addresses]

    with network_and_image(recipe, device, image, at_each_layer) as (network, tensor), torch.no_grad():
        activations = network.activations(fit(tensor, recipe.size, network.spec.smallest), layer_peaks)
        cells = []
        for layer, peak in layer_peaks.items():
            shares = activations[layer][0].amax((1, 2)).cpu() / peak.clamp_min(1e-6)
            strongest = shares.where(peak > 0, 0).topk(min(CHANNELS_PER_LAYER, len(peak)))
            numbers = zip(strongest.indices.tolist(), strongest.values.tolist(), strict=True)
            cells += [ChannelResponse(f"{recipe.network_name}/{layer}", channel, share) for channel, share in numbers]
    return tuple(sorted(cells, key=lambda cell: -cell.strength)[: recipe.count])


def gram_picture(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> Image.Image:
    """Draw the Gram matrix of a layer: a picture (C, C) with a pixel for each pair of channels, hot where both are active together.

    Entries are cosines between the channels' maps, with 1 on the diagonal. Raises as `inspect_layer` does.
    """
    with network_and_image(recipe, device, image) as (network, tensor), torch.no_grad():
        layer = split(recipe.layer)[1]
        return to_picture(correlations(network.activations(fit(tensor, recipe.size, network.spec.smallest), [layer])[layer]))


def _shrink(patch: Tensor) -> Tensor:
    """Resize a patch (1, 3, s, s) to at most `PATCH_SIDE`."""
    side = min(PATCH_SIDE, patch.shape[-1])
    return resize(patch, (side, side))


@contextmanager
def network_and_image(
    recipe: Recipe, device: Device, image: Picture, parts: Parts = single_run
) -> Iterator[tuple[Network, Tensor]]:
    """Hold a device, with memory reserved, and yield the network and the picture (1, 3, H, W) on it. `parts`: as for `reserve`."""
    torch_device = resolve(device)
    with enough_memory():
        opened = on_white(open_reserved(image, "image", recipe.scaled_side("image")))
        with reserve(recipe, torch_device, {"image": opened.size}, parts):
            network, tensor = load(recipe.network_name, torch_device), to_tensor(opened, torch_device)
            with slot(torch_device) as held, PauseBetweenOperations(held.pause):
                yield network, tensor
