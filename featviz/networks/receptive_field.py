"""Receptive fields: the part of an image that a unit depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

Window = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]
"""Kernel size, stride, padding and dilation, each with one number for both axes or one for each."""

WINDOW_OPERATIONS: Mapping[Callable, Callable[..., Window]] = {
    aten.convolution.default: lambda image, weight, bias, stride, padding, dilation, *_: (
        weight.shape[2:], stride, padding, dilation,
    ),
    aten.max_pool2d_with_indices.default: lambda image, kernel, stride=(), padding=(0,), dilation=(1,), *_: (
        kernel, stride or kernel, padding, dilation,
    ),
    aten.avg_pool2d.default: lambda image, kernel, stride=(), padding=(0,), *_: (kernel, stride or kernel, padding, (1,)),
    aten.constant_pad_nd.default: lambda image, sides, *_: ((1,), (1,), (sides[2], sides[0]), (1,)),  # Left, right, top, bottom.
}  # fmt: skip
"""Operation on a window of positions → its arguments as a `Window`."""

GLOBAL_OPERATIONS = {aten._adaptive_avg_pool2d.default, aten.mean.dim}
"""Operations whose every output depends on all positions."""


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of a layer's units, in pixels of the image; pairs are (rows, columns)."""

    first: tuple[float, float] = (0, 0)
    """The first row and column that the first unit sees; negative in the padding, −inf if it sees everything."""
    last: tuple[float, float] = (0, 0)
    """The last row and column that the first unit sees; inf if it sees everything."""
    strides: tuple[int, int] = (1, 1)
    """The shift from one unit's field to the next unit's."""

    @property
    def field(self) -> tuple[float, float]:
        """The size (height, width); `inf` if a unit sees the whole image."""
        height, width = (last - first + 1 for first, last in zip(self.first, self.last, strict=True))
        return height, width

    @property
    def stride(self) -> int:
        """The larger of the two strides."""
        return max(self.strides)

    @property
    def margin(self) -> float:
        """The most pixels that the i-th unit sees on either side of i · stride.

        One stride more at the beginning: some networks pad more there if the side is not a multiple of the stride.
        """
        return max(
            *(last + 1 for last in self.last), *(stride - first for first, stride in zip(self.first, self.strides, strict=True))
        )

    def through(self, *window: Sequence[int]) -> ReceptiveField:
        """Return the receptive field of a window of such units (Araujo et al., Distill, 2019, eqs. 2 to 4)."""
        sides = zip(self.first, self.last, self.strides, *map(_both, window), strict=True)
        firsts, lasts, strides = zip(
            *((first - p * j, last + ((k - 1) * d - p) * j, s * j) for first, last, j, k, s, p, d in sides), strict=True
        )
        return ReceptiveField(firsts, lasts, strides)


def receptive_fields(function: Callable[[Tensor], Mapping[str, Tensor]], image: Tensor) -> dict[str, ReceptiveField]:
    """Return layer → receptive field, where `function` maps an image (B, 3, H, W) to {layer: (B, C, h, w)}.

    Computed from the operations on the image, whatever modules they belong to. Where paths join, as in a residual block, the
    widest field is taken. An operation that is not in the tables above counts as one on each position alone.
    """
    with torch.no_grad(), _Tracker(image) as tracker:
        activations = function(image)
    return {layer: tracker.receptive_fields[id(tensor)][0] for layer, tensor in activations.items()}


class _Tracker(TorchDispatchMode):
    """Records the receptive field of every tensor computed from an image."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.receptive_fields: dict[int, tuple[ReceptiveField, Tensor]] = {id(image): (ReceptiveField(), image)}
        """Tensor id → its receptive field, and the tensor itself, so that no later one gets its id."""

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        inputs = [self.receptive_fields[id(tensor)][0] for tensor in _tensors(args) if id(tensor) in self.receptive_fields]
        if inputs:
            widest = ReceptiveField(
                tuple(map(min, zip(*(field.first for field in inputs), strict=True))),
                tuple(map(max, zip(*(field.last for field in inputs), strict=True))),
                tuple(map(max, zip(*(field.strides for field in inputs), strict=True))),
            )
            if func in WINDOW_OPERATIONS:
                widest = widest.through(*WINDOW_OPERATIONS[func](*args))
            if func in GLOBAL_OPERATIONS:
                widest = ReceptiveField((-math.inf,) * 2, (math.inf,) * 2, widest.strides)
            self.receptive_fields |= {id(result): (widest, result) for result in _tensors([results])}
        return results


def _tensors(nested: Sequence[Any]) -> Iterator[Tensor]:
    for item in nested:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors(item)


def _both(sides: Sequence[int]) -> tuple[int, int]:
    """Return the values for rows and columns, which may be given as one."""
    return sides[0], sides[-1]
