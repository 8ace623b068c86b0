"""Activation maps: where in a picture the channels of a layer are active."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from featviz.media.images import to_picture, to_tensor
from featviz.media.sheets import contact_sheet
from featviz.networks.network import Network
from featviz.networks.table import Address, split
from featviz.optimise import tiles
from featviz.optimise.objectives import gram
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import fit, fitted_size, resize, size_of
from featviz.recipes.recipe import IMAGE_BYTES, Demand, Frame, Frames, Recipe, opening_bytes, param

CELL = 240
"""Width of a map on the sheet, in pixels."""

SHEET_BYTES = 3 * 6
"""Peak bytes per pixel of the sheet: two copies of its cells and the sheet, in 8 bits, and the sheet's tensor."""

PATCHES, MIN_PATCH_SIDE = 4, 24
"""The number of patches of the picture that are shown for a channel, and their least side in pixels."""

HEAT = torch.tensor([[0.05, 0.0, 0.25], [0.55, 0.05, 0.45], [0.9, 0.25, 0.25], [1.0, 0.65, 0.1], [1.0, 1.0, 0.75]])
"""RGB colours of an activation map in [0, 1], from no activation to the greatest."""


@dataclass(frozen=True)
class LayerActivations:
    """The activations of a layer for a picture."""

    channels: Tensor
    """Indices of the most active channels, (N,), the strongest first."""
    strengths: Tensor
    """Their activations, (N,): positive part, mean over positions."""
    peaks: Tensor
    """Their greatest activations at any position, (N,)."""
    maps: Sequence[Tensor]
    """Their activation maps: N tensors (h, w), positive part."""
    image: Tensor
    """The image as the network received it, (1, 3, H, W) in [0, 1]."""
    mean: Tensor
    """The layer's activation, (): positive part, mean over channels and positions."""
    shape: tuple[int, int, int]
    """(channels, height, width) of the layer for this picture."""
    field: tuple[float, float]
    """The receptive field of a unit, (height, width) in pixels; `inf` if it is the whole picture."""

    def pictures(self, longest: int) -> Iterator[Tensor]:
        """Return an iterator over the maps as images (1, 3, H, W) in [0, 1]: heat maps over the darkened, grey image.

        Images are made one at a time to save memory. Their longest side is `longest` pixels, at most that of `image`.
        """
        size = fitted_size(size_of(self.image), min(longest, max(size_of(self.image))))
        image = resize(self.image, size).clamp(0, 1)
        return (heat(map_.unsqueeze(0), image) for map_ in self.maps)

    def patches(self) -> Iterator[list[Tensor]]:
        """Return an iterator over the maps that yields the patches of the image with the greatest activations, (1, 3, s, s) each.

        The side s is that of the receptive field, at most half of the image's shorter side and at least `MIN_PATCH_SIDE`.
        """
        side = int(max(MIN_PATCH_SIDE, min(*self.field, min(size_of(self.image)) / 2)))
        return (patches(self.image, map_, side, PATCHES) for map_ in self.maps)


@torch.no_grad()
def layer_activations(network: Network, image: Tensor, layer: str, count: int, channels: Sequence[int] = ()) -> LayerActivations:
    """Return the activations of the `count` most active channels of a layer for an image (1, 3, H, W) in [0, 1], or of `channels`.

    Returns fewer if the layer has fewer channels.

    Raises:
        FieldError: the network has no such layer or channel.
        InputError: the image is smaller than the network accepts.
    """
    network.check_channels(layer, channels)
    activations = network.activations(image, [layer])[layer][0].relu_()
    strengths = activations.mean((1, 2))
    chosen = torch.tensor(channels, device=image.device) if channels else strengths.topk(min(count, len(activations))).indices
    maps = [activations[channel] for channel in chosen.tolist()]
    return LayerActivations(
        channels=chosen,
        strengths=strengths[chosen],
        peaks=torch.stack([map_.max() for map_ in maps]),
        maps=maps,
        image=image,
        mean=activations.mean(),
        shape=(len(activations), *size_of(activations)),
        field=network.receptive_field(layer).field,
    )


def heat(maps: Tensor, image: Tensor) -> Tensor:
    """Return heat maps (N, 3, H, W) of activation maps (N, h, w), over the darkened, grey image (1, 3, H, W) in [0, 1].

    Each map is divided by its greatest value.
    """
    shares = maps / maps.amax((1, 2), keepdim=True).clamp_min(TINY)
    shares = resize(shares.unsqueeze(1), size_of(image)).clamp(0, 1)
    faint = 0.1 + 0.5 * image.mean(1, keepdim=True)
    cover = 0.25 + 0.75 * shares.sqrt()
    return faint * (1 - cover) + coloured(shares) * cover


def patches(image: Tensor, map_: Tensor, side: int, count: int) -> list[Tensor]:
    """Return the patches (1, 3, side, side) of an image (1, 3, H, W) around the greatest values of a map (h, w), greatest first.

    Their centres in the map are more than half a side apart. `side` is in pixels, at most that of the image. There are at most
    `count` patches, fewer if no positive value is left.
    """
    side = min(side, *size_of(image))
    result: list[Tensor] = []
    left = map_.clone()
    scale = [whole / part for whole, part in zip(size_of(image), map_.shape, strict=True)]
    while len(result) < count and left.max() > 0:
        place = divmod(int(left.argmax()), left.shape[1])
        top, start = corner(place, size_of(left), size_of(image), side)
        result.append(image[..., top : top + side, start : start + side])
        near = [
            slice(max(0, at - math.ceil(side / 2 / by)), at + math.ceil(side / 2 / by) + 1)
            for at, by in zip(place, scale, strict=True)
        ]
        left[near[0], near[1]] = 0
    return result


def corner(place: tuple[int, int], shape: tuple[int, int], size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the (top, left) of the square around a place of a map, moved into the image.

    Args:
        place: (row, column) in the map.
        shape: (height, width) of the map.
        size: (height, width) of the image in pixels.
        side: of the square in pixels, at most that of the image.
    """
    top, left = (
        min(max(round((at + 0.5) * whole / part - side / 2), 0), whole - side)
        for at, part, whole in zip(place, shape, size, strict=True)
    )
    return top, left


def coloured(shares: Tensor) -> Tensor:
    """Return colours (N, 3, H, W) of values (N, 1, H, W) in [0, 1]: from dark blue through red to pale yellow."""
    colours = HEAT.to(shares.device)
    place = shares[:, 0] * (len(colours) - 1)
    low = place.long().clamp(max=len(colours) - 2)
    mix = (place - low).unsqueeze(-1)
    return (colours[low] * (1 - mix) + colours[low + 1] * mix).permute(0, 3, 1, 2)


def correlations(activations: Tensor) -> Tensor:
    """Return the Gram matrix of activations (1, C, h, w) as an image (1, 3, C, C): cosines between maps, 0 dark and 1 bright.

    Negative cosines are shown as 0.
    """
    return coloured(cosines(activations).clamp(0, 1).unsqueeze(1))


def cosines(activations: Tensor) -> Tensor:
    """Return the Gram matrices (B, C, C) of activations (B, C, h, w), divided by the lengths of the maps: 1 on the diagonal."""
    products = gram(activations)
    lengths = products.diagonal(dim1=1, dim2=2).clamp_min(TINY).sqrt()
    return products / (lengths.unsqueeze(1) * lengths.unsqueeze(2))


class ActivationMaps(Recipe):
    """Show where in a picture the channels of a layer are active: the activation maps of the most active ones."""

    name: ClassVar[str] = "activation_maps"
    title: ClassVar[str] = "Activation Maps"
    tab_group: ClassVar[str] = "Look Inside"
    action: ClassVar[str] = "Show this layer"
    explanation: ClassVar[str] = """\
A layer of the network is a stack of *channels*. Each channel is a small detector that is moved over the whole picture, and
its **activation map** shows where it found its pattern: bright where it is active, dark where it is not.

- **The number** under a map is the channel's activation, averaged over the picture.
- **Deeper layers** have more channels on a coarser grid, and each of their units *sees* a larger part of the picture, its
  receptive field.
- **Click a map** to see what the channel looks for, and to dream it.

*Try it: a picture with eyes, first with an early layer, then with deeper ones. You see edges, then eyes, then faces.*
"""
    images: ClassVar[dict[str, str]] = {"image": "The picture to look at."}
    keeps_alpha: ClassVar[bool] = False

    layer: Address = param("vgg19/relu3_1", "Network and layer whose activation maps are shown.")
    count: int = param(12, "How many channels, the most active first.", ge=1, le=64)
    size: int = param(
        320, "Longest side at which the network looks at the picture, in pixels.", ge=64, le=1024, step=16, group="How"
    )

    @property
    def network_name(self) -> str:
        return split(self.layer)[0]

    def inspect_layer(self, network: Network, image: Tensor, channels: Sequence[int] = ()) -> LayerActivations:
        """Return the activations of the layer for an image (1, 3, H, W) in [0, 1], scaled to `size`.

        Those of `channels`, by default of the `count` most active ones.

        Raises:
            FieldError: the network has no such layer or channel.
            InputError: the scaled image is too small for the network.
        """
        image = fit(image, self.size, network.spec.smallest)
        return layer_activations(network, image, split(self.layer)[1], self.count, channels)

    def run(self, network: Network, *, image: Tensor) -> Frames:
        """Yield one frame: a sheet of maps, each labelled with its channel and its mean activation.

        `image` is (1, 3, H, W) in [0, 1].

        Raises:
            FieldError: the network has no such layer.
            InputError: the picture is too small for the network.
        """
        activations = self.inspect_layer(network, image)
        labels = (
            f"channel {channel} · {strength:.0f}" if strength > 100 else f"channel {channel} · {strength:.3g}"
            for channel, strength in zip(activations.channels.tolist(), activations.strengths.tolist(), strict=True)
        )
        # Maps have the width of a cell, so the longest side of an upright one is larger than `CELL`.
        height, width = size_of(activations.image)
        maps = activations.pictures(math.ceil(CELL * max(1, height / width)))
        sheet = contact_sheet(list(zip(labels, map(to_picture, maps), strict=True)), columns=4, width=CELL)
        yield Frame(
            step=1,
            steps=1,
            stage=split(self.layer)[1],
            work=1.0,
            loss=-activations.mean,
            image=to_tensor(sheet, image.device),
        )

    def demand(self, network: Network, size: tuple[int, int], **others: tuple[int, int]) -> Demand:
        height, width = fitted_size(size, self.size)
        cell = CELL * CELL * height / width
        return forward_demand(network, split(self.layer)[1], size, self.size, sheet=self.count * cell)


def forward_demand(network: Network, layer: str, size: tuple[int, int], longest: int, *, sheet: float = 0) -> Demand:
    """Return the demand of one forward pass for a picture of (height, width) scaled to `longest` pixels.

    `Cost.flops` includes the backward pass; the forward pass is counted as half of it. `sheet` is the number of pixels of the
    contact sheet, if one is drawn.
    """
    cost, pixels = network.cost({layer}), math.prod(fitted_size(size, longest))
    held = IMAGE_BYTES * pixels + SHEET_BYTES * sheet
    peak = tiles.resident(pixels * cost.forward_bytes, tiles.HEAP_SHARE_FORWARD)
    return Demand(
        flops=pixels * cost.flops / 2,
        bytes=max(held + peak + cost.fixed_bytes, opening_bytes(size)),
        fixed_work=cost.fixed_work / 2,
    )
