"""Self-similarity: what a picture has where, whatever its colours and textures (Kolkin et al., STROTSS, 2019, section 2.2).

The cosine distances between the feature vectors of a picture say which of its positions look alike. Another palette changes the
vectors and keeps the distances. Only every k-th row and column of a layer is used, so there are at most `MOST` vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from featviz.optimise.precision import TINY
from featviz.optimise.scaling import size_of
from featviz.optimise.tiles import Area

MOST = 1024
"""Most positions of a layer that are compared with each other: 4 MB of distances."""

PAIR_BYTES = 8 * 4.0 * MOST**2
"""Bytes of the (N, N) matrices of a layer during a step: the target, the weights, and what the derivative needs."""


def spacing(size: tuple[int, int]) -> int:
    """Return k for a map of (height, width): every k-th row and column has at most `MOST` positions."""
    k = max(1, math.isqrt(max(1, math.prod(size) // MOST)))
    while math.prod(-(-length // k) for length in size) > MOST:
        k += 1
    return k


def distances(vectors: Tensor) -> Tensor:
    """Return the cosine distances between feature vectors (N, C), each column divided by its sum, (N, N).

    Vectors are relative to their mean, since those after a ReLU point to nearly the same direction.
    """
    directions = functional.normalize(vectors - vectors.mean(0), dim=1, eps=TINY)
    apart = 1 - directions @ directions.T
    return apart / apart.sum(0).clamp_min(TINY)


@dataclass(frozen=True)
class SelfSimilarity:
    """The self-similarity of a layer of a content, and the distance from it."""

    size: tuple[int, int]
    """(height, width) of the layer's map."""
    spacing: int
    target: Tensor
    """Distances of the content, (N, N)."""
    weights: Tensor
    """The weight of each pair of positions, (N, N)."""

    @classmethod
    def of(cls, maps: Tensor, weights: Tensor | None = None) -> SelfSimilarity:
        """Return the self-similarity of a whole map (1, C, h, w). `weights` (1, 1, h, w), if given, weigh the positions."""
        size, k = size_of(maps), spacing(size_of(maps))
        weighed = maps.new_ones(1, 1, *size) if weights is None else weights
        sampled = weighed[0, 0, ::k, ::k].flatten()
        return cls(size, k, distances(maps[0, :, ::k, ::k].flatten(1).T), torch.outer(sampled, sampled))

    def vectors(self, place: Area, maps: Tensor) -> Tensor:
        """Return the feature vectors (N, C) of the part (1, C, h, w) of a map at a place, 0 for those elsewhere.

        They add up over the parts of a map to those of the whole.
        """
        (top, left), k = (along.start for along in place), self.spacing
        sampled = maps[0, :, -top % k :: k, -left % k :: k]
        rows, columns = (-(-length // k) for length in self.size)
        first, start = -(-top // k), -(-left // k)
        after = (columns - start - sampled.shape[2], rows - first - sampled.shape[1])
        return functional.pad(sampled, (start, after[0], first, after[1])).flatten(1).T

    def distance(self, vectors: Tensor) -> Tensor:
        """Return the distance from the target, (): 0 for the same self-similarity, 1 for a picture that is alike everywhere."""
        even = 1 / len(self.target)
        energy = ((self.target - even).square() * self.weights).sum().clamp_min(TINY)
        return ((distances(vectors) - self.target).square() * self.weights).sum() / energy
