"""Recolouring: the pixels of a style transfer keep their edges, and a smooth change of colour and light is optimised instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from featviz.optimise import bilateral_grid, tiles
from featviz.optimise.optimisers import OPTIMISERS
from featviz.optimise.regions import Style
from featviz.optimise.scaling import fitted_size, resize, size_of
from featviz.recipes.recipe import Frame, Recipe

if TYPE_CHECKING:
    from featviz.networks.network import Network
    from featviz.recipes.style_transfer import StyleTransfer

RECOLOURED = 256
"""Longest side, in pixels, at which colours alone are fitted: they need no detail, and the result is computed at any size."""

COARSEST_COLOURS = 4
"""Largest stride of the default style layers where only colours change. Deeper layers ask for contrast that posterises faces."""

ROUGHNESS = 3000.0
"""Weight of the roughness of a bilateral grid against the distances of `STYLE`: with less, an even sky gets spots of colour."""

BEYOND = 10.0
"""Weight of the mean squared distance of recoloured pixels from [0, 1]. They are clipped to it, and that loses detail."""


def recolour(
    recipe: StyleTransfer,
    network: Network,
    content: Tensor,
    styles: Sequence[Style],
    where: Tensor | None,
    opacity: Tensor | None,
) -> Generator[Frame, Recipe | None, Callable[[Tensor], Frame]]:
    """As `StyleTransfer.paint`, but what is optimised is a bilateral grid of colours instead of pixels, at `fitting_size`.

    Returns a function that gives another content of that size the same colours.
    """
    settings, size, comparison = recipe, fitting_size(network, size_of(content)), recipe.comparison(network)
    region = where if len(styles) == 1 else None  # The only part of the image that changes.
    base = resize(content, size).clamp(0, 1)
    scaled_where, scaled_opacity = (None if it is None else resize(it, size).clamp(0, 1) for it in (where, opacity))
    cost, allowance = comparison.step_bytes, tiles.Allowance(tiled=network.tiled(comparison.layers))
    shares = recipe.shares(len(styles), 0.5)
    target_of = partial(comparison.target, base, styles, scaled_where, scaled_opacity, shares=shares)
    target = allowance.fit(target_of, cost)
    optimiser = OPTIMISERS[recipe.optimiser](bilateral_grid.neutral(size).to(base))

    def recoloured(picture: Tensor, grid: Tensor) -> Tensor:
        """Return a picture with the maps of a grid applied where `region` is 1, and unchanged where it is 0."""
        result = bilateral_grid.sliced(picture, grid).clamp(0, 1)
        return recipe.coloured(result if region is None else torch.lerp(picture, result, region), picture)

    for step in range(1, recipe.steps + 1):
        with torch.enable_grad():
            grid = optimiser.image.detach().requires_grad_()
            mapped = bilateral_grid.sliced(base, grid)
            painted = mapped.clamp(0, 1)
            if len(styles) == 1 and scaled_where is not None:
                painted = torch.lerp(base, painted, scaled_where)
            beyond = BEYOND * (mapped - mapped.detach().clamp(0, 1)).square().mean()
            regular = beyond + ROUGHNESS * bilateral_grid.roughness(grid)
        steered = settings.replace(smoothness=0.0)
        measures, loss, gradient = allowance.fit(partial(target.compare, painted.detach(), steered), cost)
        (gradient,) = torch.autograd.grad([painted, regular], grid, [gradient, torch.ones_like(regular)])
        optimiser.step(gradient, loss + regular.detach(), step / recipe.steps)
        frame = Frame(
            step=step,
            steps=recipe.steps,
            stage=f"colours{allowance.remark}",
            work=step / recipe.steps,
            loss=loss,
            image=partial(recoloured, content, optimiser.image),
            measures=measures,
        )
        settings = yield from settings.steered(frame, optimiser)
    grid = optimiser.image
    return lambda other: frame.replace(step=1, steps=1, work=1.0, image=partial(recoloured, other, grid))


def fitting_size(network: Network, size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which colours are fitted: about `RECOLOURED`, and enough for the network."""
    longest = max(RECOLOURED, math.ceil(network.spec.smallest * max(size) / min(size)))
    return fitted_size(size, min(longest, max(size)))
