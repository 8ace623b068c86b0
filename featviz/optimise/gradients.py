"""Shape the gradient of an image before a step, (1, 3, H, W) → (1, 3, H, W), and soften masks.

Every shaper returns a mean absolute value of 1, so that a step has the same size with each of them.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import InputError
from featviz.optimise.precision import TINY
from featviz.optimise.transfers import constant

Shaper = Callable[[Tensor, float], Tensor]
"""Gradient (1, 3, H, W), progress through an octave in [0, 1] → shaped gradient."""

RANGE = 3.0
"""`gradient_image` shows a value of this many root mean squares as white. Larger ones are clipped."""


def mean_absolute(gradient: Tensor, progress: float = 0.0) -> Tensor:
    """Return the gradient divided by its mean absolute value (Mordvintsev et al., 2015)."""
    # Not abs().mean(), which allocates another image.
    mean = torch.linalg.vector_norm(gradient, 1) / gradient.numel()
    return gradient / mean.clamp_min(TINY)


def laplacian(gradient: Tensor, progress: float = 0.0, *, levels: int = 4) -> Tensor:
    """Return the gradient with every band of its Laplacian pyramid at the same strength: detail at all scales.

    After the TensorFlow DeepDream notebook (2015): each of `levels` bands, and the residual, is divided by its root mean
    square.
    """
    bands = []
    for _ in range(levels):
        if min(gradient.shape[-2:]) < 4:
            break
        low = functional.conv2d(_padded(gradient), _binomial(gradient), stride=2, groups=3)
        bands.append(gradient - _expand(low, gradient))
        gradient = low
    shaped = _unit(gradient)
    for band in reversed(bands):
        shaped = _expand(shaped, band) + _unit(band)
    return mean_absolute(shaped)


def gaussian(gradient: Tensor, progress: float) -> Tensor:
    """Return the mean of three Gaussian blurs of the gradient, which grow through an octave: smooth and painterly.

    After Gordić (pytorch-deepdream, 2020): σ = 0.5 + 2 · progress, times ½, 1 and 2. The mean over the image is subtracted, so
    that the brightness does not drift.
    """
    sigma = 0.5 + 2.0 * progress
    fine, middle, coarse = (blur(gradient, sigma * factor) for factor in (0.5, 1.0, 2.0))
    blurred = (fine + middle + coarse) / 3
    return mean_absolute(blurred - blurred.mean())


def soft_colours(gradient: Tensor, progress: float = 0.0) -> Tensor:
    """Return the gradient with its hue at half strength and smooth over several pixels, so that a dream has no coloured grain.

    As in photographs, whose brightness varies more, and more finely, than their hue. Brightness, the mean of the channels, is
    smoothed only a little.
    """
    brightness = gradient.mean(1, keepdim=True)
    return mean_absolute(blur(brightness, 0.7) + 0.5 * blur(gradient - brightness, 3.0))


def gradient_image(gradient: Tensor) -> Tensor:
    """Return a gradient (1, 3, H, W) as an image in [0, 1]: grey where it is 0, brighter where a pixel is to become brighter.

    The contrast is relative: `RANGE` times the root mean square is black or white.
    """
    scale = RANGE * gradient.square().mean().sqrt().clamp_min(TINY)
    return (0.5 + 0.5 * gradient / scale).clamp(0, 1)


def luminance(gradient: Tensor) -> Tensor:
    """Return the luminance in all three channels, so that colours do not change (weights of Rec. 601)."""
    weights = constant((0.299, 0.587, 0.114), gradient.device, gradient.dtype).view(1, 3, 1, 1)
    return (gradient * weights).sum(1, keepdim=True).expand_as(gradient)


SHAPERS: dict[str, Shaper] = {"plain": mean_absolute, "laplacian": laplacian, "gaussian": gaussian, "soft_colours": soft_colours}

AUTO = "auto"
"""The value that stands for the shape that the row of the network names."""

if TYPE_CHECKING:
    Shape = str
else:
    Shape = Literal[(AUTO, *SHAPERS)]


def _unit(band: Tensor) -> Tensor:
    return band / band.square().mean().sqrt().clamp_min(1e-10)


def _padded(image: Tensor) -> Tensor:
    return functional.pad(image, (2, 2, 2, 2))


def _binomial(like: Tensor) -> Tensor:
    """Return [1, 4, 6, 4, 1] ⊗ [1, 4, 6, 4, 1] / 256 for each of three channels, (3, 1, 5, 5)."""
    row = constant((1.0, 4.0, 6.0, 4.0, 1.0), like.device, like.dtype)
    return (torch.outer(row, row) / 256).expand(3, 1, 5, 5).contiguous()


def _expand(low: Tensor, like: Tensor) -> Tensor:
    """Return an image enlarged to the size of `like`, by the transpose of the halving."""
    height, width = like.shape[-2:]
    enlarged = functional.conv_transpose2d(low, 4 * _binomial(low), stride=2, groups=3)
    return enlarged[..., 2 : 2 + height, 2 : 2 + width]


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return (B, C, H, W) blurred by a separable Gaussian, cut at 3σ, with reflected borders. `sigma` is in pixels."""
    radius = min(max(1, math.ceil(3 * sigma)), min(image.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    planes = functional.pad(image.flatten(0, 1).unsqueeze(1), (radius,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(planes, kernel), kernel.mT).view_as(image)


def soften(mask: Tensor, feather: int) -> Tensor:
    """Return a mask image (1, 3, H, W) as (1, 1, H, W) in [0, 1], with its edge softened over about `feather` pixels.

    Raises:
        InputError: the mask is black all over.
    """
    mask = mask.mean(1, keepdim=True).clamp(0, 1)
    if mask.max() < 1 / 255:
        raise InputError("The mask is empty: paint white where it shall apply.")
    return blur(mask, feather / 3) if feather else mask
