"""Match the colours of one image to those of another."""

import torch
from torch import Tensor

from featviz.optimise.precision import TINY, exact
from featviz.optimise.transfers import constant

COLOUR_AXES = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
"""Orthonormal directions of colour: brightness, red against blue, green against both."""

MOST_GAIN = 2.0
"""The most by which `hold_colours` amplifies, so that noise of an even image is not made visible."""


ColourStatistics = tuple[Tensor, Tensor]
"""The means and the standard deviations along `COLOUR_AXES`, each (1, 3, 1, 1)."""


def colour_statistics(image: Tensor, opacity: Tensor | None = None) -> ColourStatistics:
    """Return the colour statistics of an image (1, 3, H, W), weighted by an opacity (1, 1, H, W) in [0, 1] if given."""
    opacity = torch.ones_like(image[:, :1]) if opacity is None else opacity
    weights = opacity / opacity.sum().clamp_min(TINY)
    values = torch.einsum("ac,bchw->bahw", constant(COLOUR_AXES, image.device, image.dtype), image)
    mean = (values * weights).sum((-2, -1), keepdim=True)
    return mean, ((values - mean).square() * weights).sum((-2, -1), keepdim=True).sqrt()


def hold_colours(image: Tensor, target: ColourStatistics, opacity: Tensor | None = None) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] with the brightness, contrast, tint and saturation of other colour statistics.

    An opacity (1, 1, H, W) in [0, 1] tells where; the rest neither counts nor changes. Unlike `match_colours`, it needs no
    eigenvalues, for which a GPU would have to be waited for.
    """
    axes = constant(COLOUR_AXES, image.device, image.dtype)
    (mean, deviation), (target_mean, target_deviation) = colour_statistics(image, opacity), target
    gain = (target_deviation / deviation.clamp_min(TINY)).clamp(1 / MOST_GAIN, MOST_GAIN)
    values = torch.einsum("ac,bchw->bahw", axes, image)
    held = torch.einsum("ac,bahw->bchw", axes, (values - mean) * gain + target_mean).clamp(0, 1)
    return held if opacity is None else torch.lerp(image, held, opacity)


def match_colours(image: Tensor, like: Tensor, opacity: Tensor | None = None, opacity_of_like: Tensor | None = None) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] mapped to the colour mean and covariance of `like` (1, 3, H, W) in [0, 1].

    Opacities (1, 1, H, W) in [0, 1], if given, weight the pixels of either image. Results outside [0, 1] are clipped.

    The map is linear, as in Gatys et al. (Preserving Color in Neural Artistic Style Transfer, 2016). It is the optimal transport
    between Gaussians, which has the least mean squared change. Unlike a Cholesky factor, it treats red, green and blue
    alike. Grey images, whose covariance is singular, are accepted.
    """

    def colours(picture: Tensor, opacity: Tensor | None) -> tuple[Tensor, Tensor]:
        pixels = exact(picture[0].flatten(1))
        weights = pixels.new_ones(pixels.shape[1]) if opacity is None else opacity.flatten().to(pixels)
        weights = weights / weights.sum()
        mean = pixels @ weights
        centred = pixels - mean[:, None]
        return mean, (centred * weights) @ centred.T

    def power(matrix: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp_min(1e-6) ** exponent @ vectors.T  # About (1/4 of 1/255)². Less is rounding error.

    (old_mean, old), (new_mean, new) = colours(image, opacity), colours(like, opacity_of_like)
    root, inverse = power(old, 0.5), power(old, -0.5)
    change = inverse @ power(root @ new @ root, 0.5) @ inverse
    pixels = change @ (exact(image[0].flatten(1)) - old_mean[:, None]) + new_mean[:, None]
    return pixels.to(image).clamp(0, 1).view_as(image)
