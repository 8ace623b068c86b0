"""Sizes of images: measure, resize, fit."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import ImageError


def size_of(image: Tensor) -> tuple[int, int]:
    """(height, width) of (…, H, W)."""
    height, width = image.shape[-2:]
    return height, width


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) to (height, width), bicubic with antialiasing; may overshoot the range of its input by a little."""
    if size_of(image) == tuple(size):
        return image
    return functional.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)


def fit(image: Tensor, longest: int, smallest: int) -> Tensor:
    """Scale an image (1, 3, H, W) so that its longest side is `longest` pixels, whatever its size was.

    Raises:
        ImageError: the other side would fall under `smallest`, the least that the network can see.
    """
    height, width = fitted_size(size_of(image), longest)
    if min(height, width) < smallest:
        raise ImageError(
            f"At size {longest} this picture would be {width}×{height} pixels; the network needs at least {smallest} "
            f"on each side, so choose a larger size or a less narrow picture."
        )
    return resize(image, (height, width)).clamp(0, 1)


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) scaled so that the larger is `longest`, rounded, aspect kept."""
    factor = longest / max(size)
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
    return height, width


def mirrored(image: Tensor, smallest: int) -> Tensor:
    """(B, C, H, W), continued by its mirror images until no side is under `smallest`; of an image that is large enough, itself."""
    for side in (-2, -1):
        while image.shape[side] < smallest:
            image = torch.cat([image, image.flip(side)], side)
    return image
