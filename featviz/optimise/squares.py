"""Weighted sums of squared differences between feature maps, without copies of whole maps in float32."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from featviz.optimise.precision import wide

BLOCK = 2**20
"""Values of a block of rows: 4 MB in float32."""


def squared_distance(values: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return Σ w (a − t)², (), in float32 at least, of maps (1, C, h, w) with the gradient with respect to `values`.

    `weights` (1, 1, h, w), if given, weigh the positions. The derivative is of the first order only.
    """
    return _Squares.apply(values, target, weights)


def energy(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return Σ w a², (): the squared distance from 0."""
    return squared_distance(values, torch.zeros_like(values[..., :1, :1]).expand_as(values), weights)


class _Squares(torch.autograd.Function):
    """By blocks of rows. Autograd would keep the difference in float32, twice the memory of activations in bfloat16."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, target, weights)
        total = values.new_zeros((), dtype=wide(values))
        for rows in _blocks(values):
            squares = _difference(values, target, rows).square()
            total += squares.sum() if weights is None else (squares * weights[rows]).sum()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        values, target, weights = ctx.saved_tensors
        result = torch.empty_like(values)
        for rows in _blocks(values):
            change = 2 * gradient * _difference(values, target, rows)
            result[rows] = change if weights is None else change * weights[rows]
        return result, None, None


def _difference(values: Tensor, target: Tensor, rows: tuple[Any, ...]) -> Tensor:
    return values[rows].to(wide(values)) - target[rows]


def _blocks(values: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield the indices of blocks of rows of maps (1, C, h, w)."""
    step = max(1, BLOCK // (values.shape[1] * values.shape[3]))
    return ((..., slice(start, start + step), slice(None)) for start in range(0, values.shape[2], step))
