"""A bilateral grid of affine maps of colours: how the colours of a picture change, by place and by brightness.

A cell of the grid has an affine map, 9 factors and 3 summands. The map of a pixel is interpolated between the cells around its
place and its brightness, so that it changes at edges and nowhere else, and edges stay (Chen et al., Real-time Edge-Aware Image
Processing with the Bilateral Grid, 2007; Gharbi et al., Deep Bilateral Learning for Real-Time Image Enhancement, 2017). Here the
cells are optimised instead of predicted. The grid does not depend on the size of the picture.
"""

import torch
from torch import Tensor
from torch.nn import functional

from featviz.optimise.gradients import luminance
from featviz.optimise.scaling import fitted_size, size_of

CELLS, DEPTH = 8, 8
"""Cells along the longest side of the picture, and along brightness."""

GAIN = 4.0
"""Range of the entries of maps: from -2 to 2 about those of the identity."""

BAND = 2**18
"""Pixels that are computed at a time: the maps of each take 48 bytes."""


def neutral(size: tuple[int, int]) -> Tensor:
    """Return the grid (1, 12 · DEPTH, h, w) that changes nothing, for a picture of (height, width).

    Entries are in [0, 1], as the pixels that optimisers change: minus those of the identity, divided by `GAIN`, plus 0.5.
    """
    rows, columns = (max(2, length) for length in fitted_size(size, CELLS))
    return torch.full((1, 12 * DEPTH, rows, columns), 0.5)


def sliced(image: Tensor, grid: Tensor) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] with the maps of a grid applied. The result may leave [0, 1]."""
    height, width = size_of(image)
    down, right = (torch.linspace(-1, 1, length, device=image.device, dtype=image.dtype) for length in (height, width))
    cells = GAIN * (grid.unflatten(1, (12, DEPTH)) - 0.5)
    bands = []
    for rows in torch.arange(height).split(max(1, BAND // width)):
        band = image[..., rows, :]
        x, y = torch.broadcast_tensors(right, down[rows].unsqueeze(1))
        places = torch.stack([x, y, 2 * luminance(band)[0, 0] - 1], -1)[None, None]
        maps = functional.grid_sample(cells, places, padding_mode="border", align_corners=True)[:, :, 0]
        factors, summands = maps[:, :9].unflatten(1, (3, 3)), maps[:, 9:]
        bands.append(band + (factors * (band - 0.5).unsqueeze(1)).sum(2) + summands)
    return torch.cat(bands, -2)


def roughness(grid: Tensor) -> Tensor:
    """Return the mean squared difference between maps of neighbouring places, plus four times that from a line along brightness, ().

    The second term keeps the curves nearly straight. Others would turn black into a lighter colour than dark grey.
    """
    cells = GAIN * grid.unflatten(1, (12, DEPTH))
    in_place = cells.diff(dim=-1).square().mean() + cells.diff(dim=-2).square().mean()
    return in_place + 4 * cells.diff(n=2, dim=2).square().mean()
