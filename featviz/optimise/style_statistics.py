"""Statistics of feature maps that describe a style, and the distances between them.

All are functions of moments: the sums of feature maps and of their pairwise products over positions. Sums do not depend on the
arrangement, add up over the tiles of a large image, can be restricted to a region, and can be blended. They are written as one
matrix (C + 1, C + 1), as if the first feature map were 1 everywhere:

    Σ w [1 a][1 a]ᵀ  =  [ Σ w     Σ w aᵀ  ]
                        [ Σ w a   Σ w aaᵀ ]

Distances are relative to the target: about 1 for activations of zero, whatever the network, the layer and the size. This differs
from Gatys et al. (2016), whose weights have to be tuned for each network and size.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from featviz.optimise.objectives import relative_distance
from featviz.optimise.precision import TINY, exact, widest

MIN_VARIANCE = 1e-2
"""Principal components with a smaller variance, relative to the mean variance, are compared as a whole."""

EIGENVALUES = {"cpu"}
"""Types of devices that compute eigenvalues faster than the iteration. On a GPU, eigenvalues take the time of many products, and the
host waits for them."""

ITERATIONS = 20
"""Of Newton–Schulz. A root is found if it is at least 1.5⁻²⁰ = 3e-4 of the norm's root, which is what float32 resolves."""

Distance = Callable[[Tensor], Tensor]
"""Moments (C + 1, C + 1) → distance from a target, ()."""


def moments(activations: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the moments (C + 1, C + 1) of (1, C, h, w). `where` (1, 1, h, w), if given, weighs the positions."""
    features = functional.pad(activations[0].flatten(1), (0, 0, 1, 0), value=1.0)
    return (features if where is None else features * where.flatten()) @ features.mT


def blend(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the moments of a mixture in which `second` has a share in [0, 1]."""
    return torch.lerp(first / first[0, 0], second / second[0, 0], share)


def mean(sums: Tensor) -> Tensor:
    """Return μ (C,); zero if there are no positions."""
    return sums[0, 1:] / sums[0, 0].clamp_min(TINY)


def second_moment(sums: Tensor) -> Tensor:
    """Return M (C, C), the mean products of feature maps: `objectives.gram`, of sums that may be weighted."""
    return sums[1:, 1:] / sums[0, 0].clamp_min(TINY)


def covariance(sums: Tensor) -> Tensor:
    """Return Σ = M − μμᵀ (C, C)."""
    return second_moment(sums) - torch.outer(mean(sums), mean(sums))


def gram_distance(target: Tensor) -> Distance:
    """Return the distance ‖M − M*‖² / ‖M*‖² (Gatys et al., 2016, eqs. 4 and 5)."""
    correlations = second_moment(target)
    return lambda sums: relative_distance(second_moment(sums), correlations)


def covariance_distance(target: Tensor) -> Distance:
    """Return the distance 4 ‖μ − μ*‖² / tr M* + ‖Σ − Σ*‖² / ‖M*‖².

    Unlike in Gram matrices, large means do not hide differences between positions. The factor 4 makes a small difference of
    means weigh as much as in Gram matrices, where it is squared: (1 + x)² ≈ 1 + 2x.
    """
    target_covariance, target_mean, energy = covariance(target), mean(target), second_moment(target)

    def distance(sums: Tensor) -> Tensor:
        means = 4 * _square(mean(sums) - target_mean) / energy.trace().clamp_min(TINY)
        return means + _square(covariance(sums) - target_covariance) / _square(energy).clamp_min(TINY)

    return distance


def wasserstein_distance(target: Tensor) -> Distance:
    """Return the distance 4 W₂² / tr M* between Gaussians N(μ, Σ), by optimal transport (Olkin & Pukelsheim, 1982).

    W₂² = ‖μ − μ*‖² + tr(Σ + Σ* − 2 (Σ*^½ Σ Σ*^½)^½). With the principal components R of the target, RRᵀ = Σ*, the matrix under
    the root has the eigenvalues of RᵀΣR, and the trace of the root is the sum of their roots. RᵀΣR is small for a small image,
    since there are no more components than positions. The derivative needs no Lyapunov equation; differs from Crowson (2021).
    The variance beyond the components, a thousandth, is compared as a whole. The factor 4 is that of `covariance_distance`.
    """
    device, dtype = target.device, widest(target.device)  # Roots magnify rounding errors.
    target = exact(target)
    target_mean, energy = mean(target), second_moment(target).trace().clamp_min(TINY)
    values, vectors = torch.linalg.eigh(covariance(target))
    least = MIN_VARIANCE * values.mean().clamp_min(TINY)
    rest = values[values <= least].clamp_min(0).sum()
    values, vectors = values[values > least], vectors[:, values > least]
    little = (0.001 * least).square()
    target_mean, energy, values, vectors, rest, little = (
        part.to(device, dtype) for part in (target_mean, energy, values, vectors, rest, little)
    )
    deviations = values.sqrt()

    def distance(sums: Tensor) -> Tensor:
        precise = sums.to(dtype)
        variances = covariance(precise)
        projected = vectors.mT @ variances @ vectors
        overlap = trace_of_root(deviations * projected * deviations.unsqueeze(1), little)
        overlap = overlap + _root(rest * (variances.trace() - projected.trace()), little)
        squared = _square(mean(precise) - target_mean) + variances.trace() + values.sum() + rest - 2 * overlap
        return (4 * squared / energy).to(sums)

    return distance


def trace_of_root(matrix: Tensor, little: Tensor) -> Tensor:
    """Return the sum of the roots of the eigenvalues of a symmetric matrix (N, N), (). Negative ones count as 0.

    `little`, (), is added to them before the root and its root subtracted after it, so that the derivative at 0 is finite.
    """
    if matrix.device.type in EIGENVALUES:
        return _root(torch.linalg.eigvalsh(matrix), little).sum()
    return _IteratedRoot.apply(matrix + little * torch.eye(len(matrix), device=matrix.device)) - len(matrix) * little.sqrt()


class _IteratedRoot(torch.autograd.Function):
    """The trace of the root of a positive matrix (N, N), by the coupled Newton–Schulz iteration (Higham, 2008, equation 6.35).

    In float32, whose products are fast on a GPU. The iteration gives the inverse root as well, and half of it is the derivative.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        norm = torch.linalg.matrix_norm(matrix).clamp_min(torch.finfo(matrix.dtype).tiny)
        root = (matrix / norm).float()
        identity = torch.eye(len(root), device=root.device)
        inverse = identity
        for _ in range(ITERATIONS):
            factor = 1.5 * identity - 0.5 * inverse @ root
            root, inverse = root @ factor, factor @ inverse
        ctx.save_for_backward(inverse, norm)
        return root.trace() * norm.sqrt()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        inverse, norm = ctx.saved_tensors
        return gradient * inverse / (2 * norm.sqrt())


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


def _root(squares: Tensor, little: Tensor) -> Tensor:
    """Return √(x + little) − √little of the positive part of x."""
    return (squares.clamp_min(0) + little).sqrt() - little.sqrt()
