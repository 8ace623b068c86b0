"""Colours of images: match the colours of one to another."""

import torch
from torch import Tensor

from featviz.optimise.precision import exact


def match_colours(image: Tensor, like: Tensor, opacity: Tensor | None = None, opacity_of_like: Tensor | None = None) -> Tensor:
    """An image (1, 3, H, W) with the colours of another: their mean and covariance, by the least change of each colour.

    Each pixel counts as much as its opacity (1, 1, H, W), if given. Linear, after Gatys et al. (Preserving Color in Neural
    Artistic Style Transfer, 2016), by the map of optimal transport between Gaussians, which unlike a Cholesky factor treats
    red, green and blue alike. Grey pictures are no exception.
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
        return vectors * values.clamp_min(1e-6) ** exponent @ vectors.T  # A variance of (1/4 of 1/255)² counts as none.

    (old_mean, old), (new_mean, new) = colours(image, opacity), colours(like, opacity_of_like)
    root, inverse = power(old, 0.5), power(old, -0.5)
    change = inverse @ power(root @ new @ root, 0.5) @ inverse
    pixels = change @ (exact(image[0].flatten(1)) - old_mean[:, None]) + new_mean[:, None]
    return pixels.to(image).clamp(0, 1).view_as(image)
