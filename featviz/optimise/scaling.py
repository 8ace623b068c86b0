"""Measure, resize and pad images."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import ImageError


def size_of(image: Tensor) -> tuple[int, int]:
    """Return the (height, width) in pixels of an image (…, H, W)."""
    height, width = image.shape[-2:]
    return height, width


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, C, H, W) resized to (height, width), bicubic with antialiasing. Values may overshoot the range of the input."""
    if size_of(image) == tuple(size):
        return image
    return functional.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)


def fit(image: Tensor, longest: int, smallest: int) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] scaled up or down so that its longest side is `longest` pixels.

    Raises:
        ImageError: the shorter side would be less than `smallest` pixels, the minimum for the network.
    """
    height, width = fitted_size(size_of(image), longest)
    if min(height, width) < smallest:
        raise ImageError(
            f"At size {longest} this picture would be {width}×{height} pixels; the network needs at least {smallest} "
            f"on each side, so choose a larger size or a less narrow picture."
        )
    return resize(image, (height, width)).clamp(0, 1)


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the larger is `longest`. Both are rounded to whole pixels, and at least 1."""
    factor = longest / max(size)
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def mirrored(image: Tensor, smallest: int) -> Tensor:
    """Return (B, C, H, W) with each side doubled by reflection until it is at least `smallest` pixels."""
    for side in (-2, -1):
        while image.shape[side] < smallest:
            image = torch.cat([image, image.flip(side)], side)
    return image
