"""How much of a picture a unit can see: its receptive field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from featviz.networks import Network

aten = torch.ops.aten

WINDOWS: Mapping[Callable, Callable[..., Sequence[Sequence[int]]]] = {
    aten.convolution.default: lambda image, weight, bias, stride, padding, dilation, *_: (weight.shape[2:], stride, dilation),
    aten.max_pool2d_with_indices.default: lambda image, kernel, stride=(), padding=(0,), dilation=(1,), *_: (
        kernel, stride or kernel, dilation,
    ),
    aten.avg_pool2d.default: lambda image, kernel, stride=(), *_: (kernel, stride or kernel, (1,)),
}  # fmt: skip
"""The operations that look at a window of positions → its sides, the steps it is moved by, and the gaps in it."""

EVERYWHERE = {aten._adaptive_avg_pool2d.default, aten.mean.dim}
"""Those that look at all positions at once."""


@dataclass(frozen=True)
class Sight:
    """What a unit sees of the picture, in pixels, as (height, width)."""

    field: tuple[float, float] = (1, 1)
    """How far its sight reaches, all in all."""
    apart: tuple[int, int] = (1, 1)
    """How far its neighbour's sight is shifted."""

    def through(self, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Sight:
        """What a window of such units sees: f + (k - 1) · d · j, and steps of s · j (Araujo et al., Distill, 2019, eq. 2)."""
        sides = zip(self.field, self.apart, *(_both(of) for of in (window, stride, dilation)), strict=True)
        fields, steps = zip(*((f + (k - 1) * d * j, s * j) for f, j, k, s, d in sides), strict=True)
        return Sight(fields, steps)


def receptive_field(network: Network, layer: str) -> tuple[float, float]:
    """(height, width) in pixels of what a unit of the layer can see, `inf` where it is the whole picture.

    Reckoned from the operations that the network makes of a small image, whatever its modules are; where paths meet, as in
    a residual block, the farthest sight counts.

    Raises:
        FieldError: the network has no such layer.
    """
    side = network.spec.smallest
    image = torch.zeros(1, 3, side, side, device=network.device)
    with torch.no_grad(), _Follow(image) as follow:
        answer = network.activations(image, [layer])[layer]
    return follow.sights[id(answer)][0].field


class _Follow(TorchDispatchMode):
    """Notes for every tensor that comes of an image what a position of it sees of that image."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.sights: dict[int, tuple[Sight, Tensor]] = {id(image): (Sight(), image)}  # With the tensor, which keeps its id.

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        met = [self.sights[id(tensor)][0] for tensor in _tensors(args) if id(tensor) in self.sights]
        if met:
            widest = Sight(
                *(tuple(map(max, zip(*sides, strict=True))) for sides in zip(*((s.field, s.apart) for s in met), strict=True))
            )
            if func in WINDOWS:
                widest = widest.through(*WINDOWS[func](*args))
            if func in EVERYWHERE:
                widest = Sight((math.inf, math.inf), widest.apart)
            self.sights |= {id(result): (widest, result) for result in _tensors([results])}
        return results


def _tensors(nested: Sequence[Any]) -> Iterator[Tensor]:
    for item in nested:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors(item)


def _both(sides: Sequence[int]) -> tuple[int, int]:
    """One number may stand for height and width."""
    return tuple(sides) if len(sides) == 2 else (sides[0], sides[0])
