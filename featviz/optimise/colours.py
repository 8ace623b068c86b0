"""Match the colours of one image to those of another."""

import torch
from torch import Tensor

from featviz.optimise.precision import exact


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
