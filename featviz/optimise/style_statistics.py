"""What tells a style: statistics of feature maps, and how far two of them are apart.

All are functions of moments, the means of the feature maps and of the products of any two. Moments are sums over positions,
which is what makes them useful: they forget arrangement, add up over the tiles of a large picture, can be taken over a region,
and those of several styles blend. They are written as one matrix (C + 1, C + 1), as if there were one more feature map, the
first, that is 1 everywhere:

    Σ w [1 a][1 a]ᵀ  =  [ Σ w     Σ w aᵀ  ]
                        [ Σ w a   Σ w aaᵀ ]

Distances are relative to the target: about 1 for activations of zero, whatever the network, the layer and the size. That is
where they differ from Gatys et al. (2016), whose weights have to be found anew for each network and size.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional

from featviz.optimise.objectives import relative_distance
from featviz.optimise.precision import TINY, exact

LEAST = 1e-2
"""Of the mean variance: principal components of a style with less are not told apart."""

Distance = Callable[[Tensor], Tensor]
"""Moments (C + 1, C + 1) → how far they are from a target, ()."""


def moments(activations: Tensor, where: Tensor | None = None) -> Tensor:
    """The sums over the positions of (1, C, h, w), each counted as much as `where` (1, 1, h, w) says, if given."""
    features = functional.pad(activations[0].flatten(1), (0, 0, 1, 0), value=1.0)
    return (features if where is None else features * where.flatten()) @ features.mT


def blend(one: Tensor, other: Tensor, share: float) -> Tensor:
    """The moments of a mixture: `other` with its share in [0, 1]. Of a style with itself it is the style."""
    return torch.lerp(one / one[0, 0], other / other[0, 0], share)


def mean(sums: Tensor) -> Tensor:
    """μ (C,); zero where there are no positions at all."""
    return sums[0, 1:] / sums[0, 0].clamp_min(TINY)


def second_moment(sums: Tensor) -> Tensor:
    """Return M (C, C), the mean products of feature maps: `objectives.gram`, of sums that may be weighted."""
    return sums[1:, 1:] / sums[0, 0].clamp_min(TINY)


def covariance(sums: Tensor) -> Tensor:
    """Σ = M − μμᵀ (C, C)."""
    return second_moment(sums) - torch.outer(mean(sums), mean(sums))


def gram_distance(target: Tensor) -> Distance:
    """‖M − M*‖² / ‖M*‖² (Gatys et al., 2016, eqs. 4 and 5)."""
    correlations = second_moment(target)
    return lambda sums: relative_distance(second_moment(sums), correlations)


def covariance_distance(target: Tensor) -> Distance:
    """4 ‖μ − μ*‖² / tr M* + ‖Σ − Σ*‖² / ‖M*‖²: what all positions share cannot hide what tells them apart.

    The factor makes a small difference of means weigh as much as in Gram matrices, where it is squared: (1 + x)² ≈ 1 + 2x.
    """
    wanted, middle, energy = covariance(target), mean(target), second_moment(target)

    def distance(found: Tensor) -> Tensor:
        means = 4 * _square(mean(found) - middle) / energy.trace().clamp_min(TINY)
        return means + _square(covariance(found) - wanted) / _square(energy).clamp_min(TINY)

    return distance


def wasserstein_distance(target: Tensor) -> Distance:
    """4 W₂² / tr M* between the Gaussians N(μ, Σ): how far positions have to travel at best (Olkin & Pukelsheim, 1982).

    W₂² = ‖μ − μ*‖² + tr(Σ + Σ* − 2 (Σ*^½ Σ Σ*^½)^½). With the principal components R of the target, RRᵀ = Σ*, the last term has
    the eigenvalues of RᵀΣR, and the trace of a root is the sum of their roots. That is a small matrix where a picture is
    small, since there are no more components than positions, and its derivative needs neither Newton–Schulz iterations nor a
    Lyapunov equation, as in Crowson (2021). What the components leave over, a thousandth of the variance, is compared as a whole.
    The factor 4 is that of `covariance_distance`.
    """
    target = exact(target)  # Roots magnify what is lost by rounding.
    middle, energy = mean(target), second_moment(target).trace().clamp_min(TINY)
    values, vectors = torch.linalg.eigh(covariance(target))
    least = LEAST * values.mean().clamp_min(TINY)
    rest = values[values <= least].clamp_min(0).sum()
    values, vectors = values[values > least], vectors[:, values > least]

    def root(squares: Tensor) -> Tensor:
        """√x, with a derivative at 0, where two flat pictures are."""
        little = (0.001 * least).square()
        return (squares.clamp_min(0) + little).sqrt() - little.sqrt()

    def distance(found: Tensor) -> Tensor:
        sums = exact(found)
        here, there = covariance(sums), values.sqrt()
        within = vectors.mT @ here @ vectors
        overlap = root(torch.linalg.eigvalsh(there * within * there.unsqueeze(1))).sum()
        overlap = overlap + root(rest * (here.trace() - within.trace()))
        squared = _square(mean(sums) - middle) + here.trace() + values.sum() + rest - 2 * overlap
        return (4 * squared / energy).to(found)

    return distance


STATISTICS: dict[str, Callable[[Tensor], Distance]] = {
    "gram": gram_distance,
    "covariance": covariance_distance,
    "wasserstein": wasserstein_distance,
}

if TYPE_CHECKING:
    Statistic = str
else:
    Statistic = Literal[tuple(STATISTICS)]


def _square(values: Tensor) -> Tensor:
    return values.square().sum()
