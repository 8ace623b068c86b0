"""Statistics of feature maps that describe a style, and the distances between them.

All are functions of moments: the sums of feature maps and of their pairwise products over positions. Sums do not depend on the
arrangement, add up over the tiles of a large image, can be restricted to a region, and can be blended. They are written as one
matrix (C + 1, C + 1), as if the first feature map were 1 everywhere:

    Σ w [1 a][1 a]ᵀ  =  [ Σ w     Σ w aᵀ  ]
                        [ Σ w a   Σ w aaᵀ ]

Distances are relative to the target: about 1 for activations of zero, whatever the network, the layer and the size. This differs
from Gatys et al. (2016), whose weights have to be tuned for each network and size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from featviz.optimise.objectives import relative_distance
from featviz.optimise.precision import TINY, exact, wide, widest

MIN_VARIANCE = 1e-2
"""Principal components with a smaller variance, relative to the mean variance, are compared as a whole."""

EIGENVALUES = {"cpu"}
"""Types of devices that compute eigenvalues faster than the iteration. On a GPU, eigenvalues take the time of many products, and the
host waits for them."""

BLOCK = 2**18
"""Values of a block of features on a CPU, 1 MB in float32: about the cache of a core."""

ITERATIONS = 20
"""Of Newton–Schulz. A root is found if it is at least 1.5⁻²⁰ = 3e-4 of the norm's root, which is what float32 resolves."""

BLACK = 2 / 255
"""Darkest usable style. Distances are relative to the energy of the target, which is 0 for black."""

Distance = Callable[[Tensor], Tensor]
"""Moments (C + 1, C + 1) → distance from a target, ()."""


def moments(activations: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the moments (C + 1, C + 1) of (1, C, h, w). `where` (1, 1, h, w), if given, weighs the positions.

    Sums are in float32 at least, whatever the type of the activations. The derivative is of the first order only.
    """
    rows = activations.permute(0, 2, 3, 1).flatten(0, 2)  # No copy if the memory format is channels last.
    return _Moments.apply(rows, None if where is None else where.flatten().unsqueeze(1))


class _Moments(torch.autograd.Function):
    """The moments of features (N, C), with weights (N, 1) or None.

    By blocks of rows: on a CPU, a block of bfloat16 is converted, multiplied and dropped while it is in the cache. The derivative
    is one product per block, since M is symmetric; autograd would take one for each of the two factors.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, where: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, where)
        channels = rows.shape[1]
        first = rows.new_zeros(channels, dtype=wide(rows))
        second = rows.new_zeros(channels, channels, dtype=wide(rows))
        for block in _blocks(rows):
            features = rows[block].to(second.dtype)
            weighted = features if where is None else features * where[block]
            first += weighted.sum(0)
            second.addmm_(weighted.mT, features)
        total = first.new_full((), len(rows)) if where is None else where.sum().to(first)
        return torch.cat([torch.cat([total.view(1, 1), first.unsqueeze(1)]), torch.cat([first.unsqueeze(0), second])], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rows, where = ctx.saved_tensors
        both = gradient + gradient.mT
        first, second = both[0, 1:], both[1:, 1:].contiguous()
        result = torch.empty_like(rows)
        for block in _blocks(rows):
            change = torch.addmm(first, rows[block].to(second.dtype), second)
            result[block] = change if where is None else change * where[block]
        return result, None


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Yield blocks of rows (N, C): of about `BLOCK` values on a CPU, else all rows at once."""
    length = max(1, BLOCK // rows.shape[1]) if rows.device.type == "cpu" else max(1, len(rows))
    return (slice(start, start + length) for start in range(0, len(rows), length))


def blend(moments_of_styles: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Return the moments of a mixture of styles, of which each has a share in [0, 1]. Shares add up to 1."""
    return torch.stack([share * sums / sums[0, 0] for share, sums in zip(shares, moments_of_styles, strict=True)]).sum(0)


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

    W₂² = ‖μ − μ*‖² + tr(Σ + Σ* − 2 (Σ*^½ Σ Σ*^½)^½). With the principal components B of the target, BBᵀ = Σ*, the matrix under
    the root has the eigenvalues of BᵀΣB, and the trace of the root is the sum of their roots. BᵀΣB is small for a small image,
    since there are no more components than positions. The derivative needs no Lyapunov equation; differs from Crowson (2021).
    The variance beyond the components, a thousandth, is compared as a whole. The factor 4 is that of `covariance_distance`.
    """
    device, dtype = target.device, target.dtype
    target = exact(target)
    values, vectors = torch.linalg.eigh(covariance(target))
    least = MIN_VARIANCE * values.mean().clamp_min(TINY)
    rest = values[values <= least].clamp_min(0).sum()
    values, vectors = values[values > least], vectors[:, values > least]
    gaussian = _Gaussian(
        mean(target).to(device, dtype),
        (vectors * values.sqrt()).to(device, dtype),
        values.to(device, dtype),
        *(
            part.to(device, widest(device))
            for part in (values.sum() + rest, rest, (0.001 * least).square(), second_moment(target).trace().clamp_min(TINY))
        ),
    )
    return lambda sums: _Wasserstein.apply(sums, gaussian)


@dataclass(frozen=True)
class _Gaussian:
    """The target of an optimal transport. Scalars are in the widest type of the device, since they are subtracted."""

    mean: Tensor
    components: Tensor
    """Principal components (C, N), each as long as its deviation."""
    variances: Tensor
    """Those of the components, (N,)."""
    variance: Tensor
    """In all directions, ()."""
    rest: Tensor
    """Variance beyond the components, ()."""
    little: Tensor
    """Added before a root is taken, (): the square of a variance."""
    energy: Tensor
    """Mean square of the features, ()."""


class _Wasserstein(torch.autograd.Function):
    """The distance of `wasserstein_distance`, with its derivative written out: autograd would pass over C × C values 30 times.

    Products are in the type of the sums, float32; only eigenvalues are in float64, since roots magnify rounding errors. Eigenvalues
    in float32 would change the gradient of a layer of VGG-19 by up to 6 %.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, target: _Gaussian) -> Tensor:
        count = sums[0, 0].clamp_min(TINY)
        means, moment = sums[0, 1:] / count, sums[1:, 1:] / count
        matrix = target.components.mT @ covariance(sums) @ target.components
        wide = target.little.dtype
        overlap, derivative = trace_of_root(matrix, target.little)
        variance = moment.diagonal().to(wide).sum() - means.to(wide).square().sum()
        outside = (variance - (matrix.diagonal() / target.variances).to(wide).sum()).clamp_min(0)
        overlap = overlap + _root(target.rest * outside, target.little)
        squared = (means - target.mean).to(wide).square().sum() + variance + target.variance - 2 * overlap

        # The derivatives of `squared` with respect to Σ and to μ, then of both with respect to the sums.
        change = (0.5 * target.rest / (target.rest * outside + target.little).sqrt()).to(sums)
        derivative = derivative.to(sums) - torch.diag(change / target.variances)
        spread = target.components @ (-2 * derivative) @ target.components.mT
        spread.diagonal().add_(1 - 2 * change)
        shift = 2 * (means - target.mean - spread @ means)
        gradient = torch.zeros_like(sums)
        gradient[1:, 1:], gradient[0, 1:] = spread, shift
        gradient[0, 0] = -((spread * moment).sum() + shift.dot(means))
        ctx.save_for_backward(gradient * (4 / (target.energy.to(sums) * count)))
        return (4 * squared / target.energy).to(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (derivative,) = ctx.saved_tensors
        return gradient * derivative, None


def trace_of_root(matrix: Tensor, little: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the roots of the eigenvalues of a symmetric matrix (N, N), (), and its derivative (N, N).

    `little`, (), is added to them before the root and its root subtracted after it, so that the derivative at 0 is finite. Negative
    eigenvalues count as 0. The type of the results is that of `little`.
    """
    matrix = matrix.to(little)
    if matrix.device.type not in EIGENVALUES:
        root, inverse = _iterated_root(matrix + little * torch.eye(len(matrix), device=matrix.device, dtype=little.dtype))
        return root.trace() - len(matrix) * little.sqrt(), inverse / 2
    values, vectors = torch.linalg.eigh(matrix)
    slopes = torch.where(values >= 0, 0.5 / (values.clamp_min(0) + little).sqrt(), 0)
    return _root(values, little).sum(), (vectors * slopes) @ vectors.mT


def _iterated_root(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root of a positive matrix (N, N) and its inverse, by the coupled Newton–Schulz iteration (Higham, 2008, eq. 6.35).

    In float32, whose products are fast on a GPU.
    """
    norm = torch.linalg.matrix_norm(matrix).clamp_min(torch.finfo(matrix.dtype).tiny)
    root = (matrix / norm).float()
    identity = torch.eye(len(root), device=root.device)
    inverse = identity
    for _ in range(ITERATIONS):
        factor = 1.5 * identity - 0.5 * inverse @ root
        root, inverse = root @ factor, factor @ inverse
    return root.to(matrix) * norm.sqrt(), inverse.to(matrix) / norm.sqrt()


STATISTICS: dict[str, Callable[[Tensor], Distance]] = {
    "gram": gram_distance,
    "covariance": covariance_distance,
    "wasserstein": wasserstein_distance,
    "neighbours": wasserstein_distance,
    "rotated neighbours": wasserstein_distance,
}
"""Name → the distance of moments. Those of neighbours have a distance of single positions as well, `neighbours.py`."""

if TYPE_CHECKING:
    Statistic = str
else:
    Statistic = Literal[tuple(STATISTICS)]


def _square(values: Tensor) -> Tensor:
    return values.square().sum()


def _root(squares: Tensor, little: Tensor) -> Tensor:
    """Return √(x + little) − √little of the positive part of x."""
    return (squares.clamp_min(0) + little).sqrt() - little.sqrt()
