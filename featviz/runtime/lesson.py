"""The steps of the lesson that no recipe computes: one kernel on a picture, and which feature maps are active together."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from featviz.media.images import Picture, to_picture, to_tensor
from featviz.networks.table import split
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit
from featviz.recipes.activation_maps import ActivationMaps, coloured, cosines
from featviz.runtime.devices import Device
from featviz.runtime.inspection import network_and_image


@dataclass(frozen=True)
class KernelResponse:
    """A kernel of a network's first convolution, and its feature map of a picture."""

    image: Image.Image
    """The picture as the network sees it."""
    weights: list[list[list[float]]]
    """Rows × columns × (red, green, blue), for pixels in [0, 1]: the network's own normalisation is included."""
    bias: float
    kernel: Image.Image
    """The weights as a picture, a pixel for each: grey for 0."""
    map: Image.Image
    """The activations, of the size of `image`: dark for 0."""


@dataclass(frozen=True)
class CorrelatedMaps:
    """The strongest feature maps of a layer, and how much the maps of each pair are active together."""

    channels: tuple[int, ...]
    cosines: list[list[float]]
    """For each pair of channels Σ ab / √(Σ a² · Σ b²) over all places, in [0, 1]: their entry of the Gram matrix, normalised."""
    matrix: Image.Image
    """The cosines, a pixel for each."""
    maps: tuple[Image.Image, ...]
    """The activations of each channel."""
    products: Mapping[tuple[int, int], Image.Image]
    """(i, j), i ≥ j, positions in `channels` → the product of their two maps, whose sum over places is the entry."""


@torch.no_grad()
def kernel_response(recipe: ActivationMaps, kernel: int, *, device: Device = "auto", image: Picture) -> KernelResponse:
    """Return the response of one kernel of the first convolution to a picture.

    Args:
        recipe: the size, and the layer, which is the first convolution with its ReLU.
        kernel: number of the channel.
        device, image: as for `inspect_layer`.

    Raises:
        FieldError: the layer has no such channel.
        Also what `inspect_layer` raises.
    """
    with network_and_image(recipe, device, image) as (network, tensor):
        layer = split(recipe.layer)[1]
        network.check_channels(layer, [kernel])
        seen = to_picture(fit(tensor, recipe.size, network.spec.smallest))
        first = next(part for part in network.module.modules() if isinstance(part, nn.Conv2d))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.spec.mean, network.spec.std))
        weights = first.weight[kernel].float().cpu() / std
        bias = -(weights * mean).sum() + (0 if first.bias is None else first.bias[kernel].float().cpu())
        map_ = network.activations(to_tensor(seen, tensor.device), [layer])[layer][:, kernel]
        return KernelResponse(
            image=seen,
            weights=weights.permute(1, 2, 0).tolist(),
            bias=bias.item(),
            kernel=to_picture((0.5 + 0.5 * weights / weights.abs().max().clamp_min(TINY)).unsqueeze(0)),
            map=_drawn(map_.relu()),
        )


@torch.no_grad()
def correlated_maps(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> CorrelatedMaps:
    """Return the correlations between the strongest channels of a layer, `recipe.count` of them. Raises what `inspect_layer` raises."""
    with network_and_image(recipe, device, image) as (network, tensor):
        response = recipe.inspect_layer(network, tensor)
        maps = torch.stack(list(response.maps))
        cells = cosines(maps.unsqueeze(0))
        pairs = [(i, j) for i in range(len(maps)) for j in range(i + 1)]
        return CorrelatedMaps(
            channels=tuple(response.channels.tolist()),
            cosines=cells[0].tolist(),
            matrix=to_picture(coloured(cells.clamp(0, 1).unsqueeze(1))),
            maps=tuple(_drawn(map_) for map_ in maps.split(1)),
            products={(i, j): _drawn((maps[i] * maps[j]).unsqueeze(0)) for i, j in pairs},
        )


def _drawn(map_: Tensor) -> Image.Image:
    """Return a map (1, h, w) of values from 0 on as a picture of its size, relative to its greatest value."""
    return to_picture(coloured((map_ / map_.max().clamp_min(TINY)).unsqueeze(1)))
