"""The value and the gradient of an objective for a whole image, by tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featviz.optimise import tiles
from featviz.optimise.objectives import Objective
from featviz.optimise.scaling import size_of
from featviz.optimise.tile_reports import report

if TYPE_CHECKING:
    from featviz.networks.network import Network


def ascent(
    network: Network, objective: Objective, image: Tensor, side: int, shift: tiles.Shift | None = None
) -> tuple[Tensor, Tensor]:
    """Return the value () of an objective that is a sum over positions, and its gradient for an image (1, 3, H, W).

    Each tile of at most `side` pixels is computed by itself. The gradient is that of the whole image if receptive fields do not
    exceed the margin of a tile. The value is approximate: that of each tile with its margin, times the tile's share of it.
    `shift`: as in `tiles.grid`.
    """
    value, gradient = image.new_zeros(()), torch.empty_like(image)
    pieces = [*tiles.grid(size_of(image), side, shift=shift)]
    for number, tile in enumerate(pieces, start=1):
        seen = image[(..., *tile.seen)].detach().requires_grad_()
        part = objective(network.activations(seen, objective.layers))
        report(number, len(pieces), tile.core)
        (change,) = torch.autograd.grad(part, seen)
        gradient[(..., *tile.core)] = change[(..., *tile.core_in_seen)]
        value = value + tile.share * part.detach()
        report(number, len(pieces), tile.core, gradient)
    return value, gradient


def exact_ascent(network: Network, objective: Objective, image: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the value () of any objective, and its gradient for an image (1, 3, H, W), both exact.

    By tiles of at most `side` pixels. First, the activations of the whole image are gathered without a gradient, and the
    objective is differentiated with respect to them. Then each tile is run again, and carries its part of that gradient back.
    """
    if tiles.fits(size_of(image), side):  # Also for logits, whose receptive field has no bound.
        return ascent(network, objective, image, tiles.WHOLE)
    layers = sorted(objective.layers)
    pieces = [*tiles.tiling(network, image, layers, side)]
    with torch.no_grad():
        activations = tiles.activations_of(network, image, layers, side, continued=False)
    leaves = {layer: values.requires_grad_() for layer, values in activations.items()}
    value = objective(leaves)
    output_gradients = dict(zip(layers, torch.autograd.grad(value, [leaves[layer] for layer in layers]), strict=True))
    gradient = torch.zeros_like(image)
    for number, tile in enumerate(pieces, start=1):
        seen = image[(..., *tile.seen)].detach().requires_grad_()
        activations_of_tile = tiles.tile_activations(network, tile, seen, layers, continued=False)
        report(number, len(pieces), tile.core)
        outputs = [values for _, values in activations_of_tile.values()]
        gradients = [output_gradients[layer][(..., *area)] for layer, (area, _) in activations_of_tile.items()]
        gradient[(..., *tile.seen)] += torch.autograd.grad(outputs, seen, gradients)[0]
        report(number, len(pieces), tile.seen, gradient)
    return value.detach(), gradient
