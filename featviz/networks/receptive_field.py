"""How much of a picture a unit can see: its receptive field."""

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
"""Its sides, the steps it is moved by, how far it starts before the first position, and the steps within it."""

WINDOWS: Mapping[Callable, Callable[..., Window]] = {
    aten.convolution.default: lambda image, weight, bias, stride, padding, dilation, *_: (
        weight.shape[2:], stride, padding, dilation,
    ),
    aten.max_pool2d_with_indices.default: lambda image, kernel, stride=(), padding=(0,), dilation=(1,), *_: (
        kernel, stride or kernel, padding, dilation,
    ),
    aten.avg_pool2d.default: lambda image, kernel, stride=(), padding=(0,), *_: (kernel, stride or kernel, padding, (1,)),
    aten.constant_pad_nd.default: lambda image, sides, *_: ((1,), (1,), (sides[2], sides[0]), (1,)),  # Left, right, top, bottom.
}  # fmt: skip
"""The operations that look at a window of positions, and how."""

EVERYWHERE = {aten._adaptive_avg_pool2d.default, aten.mean.dim}
"""Those that look at all positions at once."""


@dataclass(frozen=True)
class ReceptiveField:
    """What a unit sees of the picture, in pixels, as (height, width)."""

    first: tuple[float, float] = (0, 0)
    """Where the sight of the first unit begins: before the picture, where there is padding."""
    last: tuple[float, float] = (0, 0)
    """Where it ends."""
    spacing: tuple[int, int] = (1, 1)
    """How far its neighbour's sight is shifted."""

    @property
    def field(self) -> tuple[float, float]:
        """How far a unit sees, all in all: its receptive field, `inf` where it is the whole picture."""
        height, width = (last - first + 1 for first, last in zip(self.first, self.last, strict=True))
        return height, width

    @property
    def stride(self) -> int:
        """Pixels from one unit to the next."""
        return max(self.spacing)

    @property
    def reach(self) -> float:
        """Pixels from the i-th multiple of the stride that the i-th unit sees at most.

        With a step to spare at its beginning: sides that do not divide by their stride are padded by more there, in some networks.
        """
        return max(
            *(last + 1 for last in self.last), *(step - first for first, step in zip(self.first, self.spacing, strict=True))
        )

    def through(self, *window: Sequence[int]) -> ReceptiveField:
        """What a window of such units sees (Araujo et al., Distill, 2019, eqs. 2 to 4)."""
        sides = zip(self.first, self.last, self.spacing, *map(_both, window), strict=True)
        firsts, lasts, steps = zip(
            *((first - p * j, last + ((k - 1) * d - p) * j, s * j) for first, last, j, k, s, p, d in sides), strict=True
        )
        return ReceptiveField(firsts, lasts, steps)


def receptive_fields(function: Callable[[Tensor], Mapping[str, Tensor]], image: Tensor) -> dict[str, ReceptiveField]:
    """What a unit of each layer of `function`'s answer {layer: (B, C, h, w)} to an image (B, 3, H, W) sees of it.

    Computed from the operations that are made of the image, whatever modules make them; where paths meet, as in a residual
    block, the farthest sight counts. An operation that is not in the tables above counts as one on each position by itself.
    """
    with torch.no_grad(), _Follow(image) as follow:
        answers = function(image)
    return {layer: follow.receptive_fields[id(answer)][0] for layer, answer in answers.items()}


class _Follow(TorchDispatchMode):
    """Notes for every tensor that comes of an image what a position of it sees of that image."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.receptive_fields: dict[int, tuple[ReceptiveField, Tensor]] = {
            id(image): (ReceptiveField(), image)
        }  # With the tensor, which keeps its id.

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        met = [self.receptive_fields[id(tensor)][0] for tensor in _tensors(args) if id(tensor) in self.receptive_fields]
        if met:
            widest = ReceptiveField(
                tuple(map(min, zip(*(one.first for one in met), strict=True))),
                tuple(map(max, zip(*(one.last for one in met), strict=True))),
                tuple(map(max, zip(*(one.spacing for one in met), strict=True))),
            )
            if func in WINDOWS:
                widest = widest.through(*WINDOWS[func](*args))
            if func in EVERYWHERE:
                widest = ReceptiveField((-math.inf,) * 2, (math.inf,) * 2, widest.spacing)
            self.receptive_fields |= {id(result): (widest, result) for result in _tensors([results])}
        return results


def _tensors(nested: Sequence[Any]) -> Iterator[Tensor]:
    for item in nested:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors(item)


def _both(sides: Sequence[int]) -> tuple[int, int]:
    """One number may stand for height and width."""
    return sides[0], sides[-1]
