"""Match the colours of one image to those of another."""

import torch
from torch import Tensor

from featviz.optimise.gradients import blur
from featviz.optimise.precision import TINY, exact
from featviz.optimise.scaling import size_of
from featviz.optimise.transfers import constant

COLOUR_AXES = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
"""Orthonormal directions of colour: brightness, red against blue, green against both."""

MOST_GAIN = 2.0
"""The most by which `hold_colours` amplifies, so that noise of an even image is not made visible."""


ROUNDS = 3
"""Iterations in which `hold_colours` finds the gain of saturation. The tests accept errors of 1 to 3 %."""

REACH = 16
"""The part of the longest side over which tones are taken from what is around, as the deviation of a Gaussian."""

RIDGE = 1e-6
"""Added to mean squares of colours, so that also those of a grey picture determine an affine map."""

ColourStatistics = tuple[Tensor, Tensor, Tensor]
"""The means and the standard deviations along `COLOUR_AXES`, each (1, 3, 1, 1), and the saturation, (1, 1, 1, 1)."""


def colour_statistics(image: Tensor, opacity: Tensor | None = None) -> ColourStatistics:
    """Return the colour statistics of an image (1, 3, H, W), weighted by an opacity (1, 1, H, W) in [0, 1] if given."""
    return _statistics(_along_axes(image), _weights(image, opacity))


def hold_colours(image: Tensor, target: ColourStatistics, opacity: Tensor | None = None) -> Tensor:
    """Return an image (1, 3, H, W) in [0, 1] with the brightness, contrast, tint and saturation of other colour statistics.

    An opacity (1, 1, H, W) in [0, 1] tells where; the rest neither counts nor changes. Unlike `match_colours`, it needs no
    eigenvalues, for which a GPU would have to be waited for. Saturation is the mean distance from grey: equal deviations would let
    it fall where a dream gathers the colours in a few places.
    """
    weights = _weights(image, opacity)
    mean, deviation, _ = _statistics(values := _along_axes(image), weights)
    target_mean, target_deviation, target_saturation = target
    gain = (target_deviation / deviation.clamp_min(TINY)).clamp(1 / MOST_GAIN, MOST_GAIN)
    centred = (values - mean) * gain
    more = torch.ones_like(target_saturation)
    for _ in range(ROUNDS):
        more = more * target_saturation / _saturation(target_mean + centred * more, weights).clamp_min(TINY)
        more = more.clamp(1 / MOST_GAIN, MOST_GAIN)
    chroma = target_mean[:, 1:] + centred[:, 1:] * more
    values = torch.cat([target_mean[:, :1] + centred[:, :1], chroma], 1)
    axes = constant(COLOUR_AXES, image.device, image.dtype)
    held = torch.einsum("ac,bahw->bchw", axes, values).clamp(0, 1)
    return held if opacity is None else torch.lerp(image, held, opacity)


def _along_axes(image: Tensor) -> Tensor:
    """Return the coordinates of the pixels of (1, 3, H, W) along `COLOUR_AXES`, of the same shape."""
    return torch.einsum("ac,bchw->bahw", constant(COLOUR_AXES, image.device, image.dtype), image)


def _weights(image: Tensor, opacity: Tensor | None) -> Tensor:
    """Return the weights of pixels, (1, 1, H, W), which add up to 1."""
    opacity = torch.ones_like(image[:, :1]) if opacity is None else opacity
    return opacity / opacity.sum().clamp_min(TINY)


def _statistics(values: Tensor, weights: Tensor) -> ColourStatistics:
    mean = (values * weights).sum((-2, -1), keepdim=True)
    deviation = ((values - mean).square() * weights).sum((-2, -1), keepdim=True).sqrt()
    return mean, deviation, _saturation(values, weights)


def _saturation(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean distance from grey, (1, 1, 1, 1)."""
    return (values[:, 1:].square().sum(1, keepdim=True).sqrt() * weights).sum((-2, -1), keepdim=True)


LEAST_VARIANCE = 1e-6
"""Of colours: (1/4 of 1/255)². Less is rounding error."""


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

    def power(matrix: Tensor, exponent: float, least: float = LEAST_VARIANCE) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp_min(least) ** exponent @ vectors.T

    (old_mean, old), (new_mean, new) = colours(image, opacity), colours(like, opacity_of_like)
    root, inverse = power(old, 0.5), power(old, -0.5)
    change = inverse @ power(root @ new @ root, 0.5, LEAST_VARIANCE**2) @ inverse
    pixels = change @ (exact(image[0].flatten(1)) - old_mean[:, None]) + new_mean[:, None]
    return pixels.to(image).clamp(0, 1).view_as(image)


def toned(picture: Tensor, result: Tensor, visible: Tensor) -> Tensor:
    """Return a picture (1, 3, H, W) in the colours of a result, so that no place stands out.

    The result (1, 3, H, W) is known where `visible` (1, 1, H, W) is 1. An affine map from the picture's colours to the result's is
    fitted by least squares where the result is known, and applied everywhere. Then the mean error around each place is corrected.
    """
    ones = torch.ones_like(picture[:, :1])
    known, colours = (exact(torch.cat(images, 1)[0].flatten(1)) for images in ([picture, ones], [result]))
    weighed = known * visible.flatten().to(known)
    ridge = RIDGE * known.shape[1] * torch.eye(4).to(known)
    affine = torch.linalg.solve(weighed @ known.T + ridge, weighed @ colours.T)
    predicted = (affine.T @ known).to(picture).view_as(picture)
    sigma = max(size_of(picture)) / REACH
    change = blur(visible * (result - predicted), sigma) / blur(visible, sigma).clamp_min(1e-3)
    return (predicted + change).clamp(0, 1)
