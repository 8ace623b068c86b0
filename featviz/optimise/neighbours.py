"""Nearest neighbours: copy a style cell by cell, beside its statistics (Kolkin et al., Neural Neighbor Style Transfer, 2022).

A picture is divided into square cells. What all style layers see in a cell is its hypercolumn. Each cell of an image is matched
with the cell of the style whose hypercolumn has the most similar direction, and its activations are drawn to those of that cell.
Matches are found once for each scale, on the picture as it is then. Differs from Kolkin et al.: activations are compared by their
relative squared distance, as those of a content are, so that L-BFGS converges within a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from featviz.limits import TILE_ALIGNMENT
from featviz.optimise import tiles
from featviz.optimise.precision import TINY
from featviz.optimise.scaling import size_of

if TYPE_CHECKING:
    from featviz.networks.network import Network

TURNS = {"neighbours": 1, "rotated neighbours": 4}
"""Statistic → copies of the style that are matched, each turned by 90° more. Other statistics have no neighbours."""

SMALLEST_CELL, MOST_CELLS = 4, 9216
"""Least side of a cell in pixels, and most cells of a picture: cells are larger in larger pictures, since the work of matching grows
with the product of both pictures' cells."""

CHUNK = 2048
"""Cells of an image and of a style that are compared at a time: 17 MB of products."""


def cell_side(size: tuple[int, int]) -> int:
    """Return the side of a cell for a picture of (height, width): a power of two, so that the borders of tiles are those of cells."""
    side = SMALLEST_CELL
    while math.prod(grid(size, side)) > MOST_CELLS and side < TILE_ALIGNMENT:
        side *= 2
    return side


def grid(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the rows and columns of cells of a picture of (height, width). Cells at the right and below may be cut."""
    rows, columns = (-(-length // side) for length in size)
    return rows, columns


def pool(maps: Tensor, factor: int) -> Tensor:
    """Return (1, C, h, w), means over squares of `factor` positions; those at the border may be smaller."""
    return maps if factor == 1 else functional.avg_pool2d(maps, factor, ceil_mode=True, count_include_pad=False)


def factors(network: Network, layers: Collection[str], side: int) -> dict[str, int]:
    """Return {layer: positions along the side of a cell}, 1 for layers whose positions are larger than a cell."""
    return {layer: max(1, side // network.receptive_field(layer).stride) for layer in layers}


def nearest(queries: Tensor, candidates: Tensor, chunk: int = CHUNK) -> Tensor:
    """Return for each of (N, D) the index of the candidate of (M, D) with the greatest dot product, (N,); the first of equals."""
    best = queries.new_full((len(queries),), -torch.inf)
    index = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    for first in range(0, len(queries), chunk):
        rows = slice(first, first + chunk)
        for start in range(0, len(candidates), chunk):
            values, indices = (queries[rows] @ candidates[start : start + chunk].T).max(1)
            better = values > best[rows]
            best[rows] = torch.where(better, values, best[rows])
            index[rows] = torch.where(better, indices + start, index[rows])
    return index


def directions(columns: Mapping[str, Tensor], weights: Tensor | None = None) -> Tensor:
    """Return hypercolumns {layer: (C, cells)} as unit vectors (cells, ΣC). `weights` (cells,), if given, weigh the cells in means.

    Each layer is relative to its mean over the picture, and has the same share in the length of vectors on average, whatever its
    number of channels. A cell that does not differ from the mean has a vector of zero.
    """
    cells = len(next(iter(columns.values())).T)
    share = torch.full((cells,), 1 / cells) if weights is None else weights / weights.sum().clamp_min(TINY)
    centred = [values - (values @ share.to(values)).unsqueeze(1) for values in columns.values()]
    scaled = [values / (values.square().sum(0) @ share.to(values)).sqrt().clamp_min(TINY) for values in centred]
    return functional.normalize(torch.cat(scaled).T, dim=1, eps=TINY)


@dataclass(frozen=True)
class Neighbours:
    """The activations that the cells of an image are drawn to."""

    targets: Mapping[str, Tensor]
    """Layer → (1, C, h, w), a position for each cell, or for each position of the layer if those are larger."""
    factors: Mapping[str, int]
    """Layer → positions of the layer along the side of a cell."""

    def squares(self, layer: str, place: tiles.Area, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the sum of squared differences, (), of activations (1, C, h, w) at a place of the layer's map from their targets.

        `weights` (1, 1, h, w), if given, weigh the positions. Sums add up over tiles, whose borders are those of cells.
        """
        factor = self.factors[layer]
        rows, columns = (slice(along.start // factor, -(-along.stop // factor)) for along in place)
        target = self.targets[layer][..., rows, columns]
        squares = (pool(values, factor).to(target) - target).square()
        return squares.sum() if weights is None else (squares * pool(weights, factor)).sum()

    def energy(self, layer: str, weights: Tensor | None = None) -> Tensor:
        """Return the sum of squares of a layer's targets, (), by which the sum of `squares` over the whole image becomes relative."""
        squares = self.targets[layer].square()
        if weights is not None:
            height, width = size_of(squares)
            squares = squares * pool(weights, self.factors[layer])[..., :height, :width]
        return squares.sum().clamp_min(TINY)

    @staticmethod
    def mixed(neighbours: Sequence[Neighbours], shares: Sequence[float]) -> Neighbours:
        """Return neighbours in a mixture of styles, of which each has a share in [0, 1]. Shares add up to 1."""
        first, *others = neighbours
        targets = {layer: shares[0] * target for layer, target in first.targets.items()}
        for other, share in zip(others, shares[1:], strict=True):
            for layer, target in other.targets.items():
                targets[layer] += share * target
        return Neighbours(targets, first.factors)


@dataclass(frozen=True)
class StyleCells:
    """The cells of a style for pictures of one size. They do not depend on what the picture shows."""

    side: int
    """Of a cell in pixels."""
    columns: Mapping[str, Tensor]
    """Layer → (C, cells)."""
    directions: Tensor
    """(cells, ΣC), unit vectors."""


def cells_of(
    network: Network,
    size: tuple[int, int],
    style: Tensor,
    layers: Collection[str],
    side: int,
    *,
    turns: int = 1,
    opacity: Tensor | None = None,
) -> StyleCells:
    """Return the cells of a style (1, 3, H, W) for pictures of (height, width), by tiles of at most `side` pixels.

    `turns` copies of the style are used, each turned by 90° more. Cells whose opacity (1, 1, H, W), if given, is less than half are
    left out; if all have less, as in an area narrower than a cell, the most opaque ones are used.
    """
    cell = cell_side(size)
    pooled = factors(network, layers, cell)
    copies = [torch.rot90(style, turn, (2, 3)) for turn in range(turns)]
    parts = [_spread(_maps(network, copy, side, pooled), grid(size_of(copy), cell)) for copy in copies]
    columns = {layer: torch.cat([part[layer] for part in parts], 1) for layer in layers}
    if opacity is not None:
        shares = torch.cat([pool(torch.rot90(opacity, turn, (2, 3)), cell).flatten() for turn in range(turns)])
        seen = shares >= shares.max().clamp_max(0.5)
        columns = {layer: values[:, seen] for layer, values in columns.items()}
    return StyleCells(cell, columns, directions(columns))


def neighbours_of(network: Network, image: Tensor, cells: StyleCells, side: int, *, visible: Tensor | None = None) -> Neighbours:
    """Return the neighbours of the cells of an image (1, 3, H, W) among those of a style, by tiles of at most `side` pixels.

    `visible` (1, 1, H, W), if given, is the opacity of the image.
    """
    pooled = factors(network, cells.columns, cells.side)
    maps, ours = _maps(network, image, side, pooled), grid(size_of(image), cells.side)
    weights = None if visible is None else pool(visible, cells.side).flatten()
    index = nearest(directions(_spread(maps, ours), weights), cells.directions)
    copied = {layer: values[:, index].view(1, -1, *ours) for layer, values in cells.columns.items()}
    # Back to positions larger than a cell, and to the size of layers that are rounded down.
    targets = {layer: functional.adaptive_avg_pool2d(values, size_of(maps[layer])) for layer, values in copied.items()}
    return Neighbours(targets, pooled)


def matching_cost(sizes: Sequence[tuple[int, int]], size: tuple[int, int], channels: int, turns: int) -> tuple[float, float]:
    """Return the operations and the bytes of matching an image of (height, width) with styles of `sizes`, without the network's."""
    cell = cell_side(size)
    ours = math.prod(grid(size, cell))
    theirs = [turns * math.prod(grid(style, cell)) for style in sizes]
    # Of each style: its columns and unit vectors; of one of them its columns a second time. Of the image: its maps, columns and unit
    # vectors for one style at a time, targets for each, and those of a mixture.
    targets = len(theirs) + (len(theirs) > 1)
    held = 4.0 * channels * (2 * sum(theirs) + max(theirs) + (3 + targets) * ours)
    return 2.0 * channels * ours * sum(theirs), held + 8 * CHUNK**2


def _maps(network: Network, image: Tensor, side: int, pooled: Mapping[str, int]) -> dict[str, Tensor]:
    """Return {layer: activations (1, C, h, w), pooled to cells}, by tiles. `pooled` are the `factors` of the layers."""
    return tiles.activations_of(
        network, image, pooled, side, continued=True, reduce=lambda layer, values: pool(values, pooled[layer])
    )


def _spread(maps: Mapping[str, Tensor], cells: tuple[int, int]) -> dict[str, Tensor]:
    """Return {layer: (C, cells)}, of a grid of (rows, columns): positions larger than a cell are repeated."""
    return {layer: functional.interpolate(values, cells, mode="nearest")[0].flatten(1) for layer, values in maps.items()}
