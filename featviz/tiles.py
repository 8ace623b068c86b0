"""Large images a piece at a time, so that memory follows the tile and not the image."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from featviz import limits

ALIGNED = 32
"""Tiles begin at multiples of this, the stride of the deepest layers, so that a tile is sampled where the whole image is."""

WORKING = 1.6
"""What a step takes at its peak, for each byte that it keeps for the way back: gradients and the library's own buffers."""

LEAST = 64
"""Pixels of a tile's side: with a margin on one side of it, enough for the network that needs most to see anything."""

MARGIN = 32
"""Pixels around a tile that are looked at and whose gradient is dropped: near its own border a network sees padding."""


SMALLEST = 128
"""Pixels of a side that no tile goes below."""

WHOLE = 1 << 30
"""The side of a tile that any picture fits into."""

T = TypeVar("T")


@dataclass(frozen=True)
class Tile:
    """A piece of an image, as slices of (rows, columns)."""

    seen: tuple[slice, slice]
    """What the network looks at: the tile and the margin around it, as far as the image reaches."""
    kept: tuple[slice, slice]
    """The tile itself, in the image."""
    inside: tuple[slice, slice]
    """The tile itself, in what is seen."""
    share: float
    """The tile's share of the pixels that are seen."""

    def within(self, stride: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The tile itself among activations of a layer: of the whole image, and of what is seen. Their pixels are `stride` apart."""
        rows, columns = (slice(kept.start // stride, -(-kept.stop // stride)) for kept in self.kept)
        top, left = (seen.start // stride for seen in self.seen)
        return (rows, columns), (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))


def allowed() -> float:
    """Bytes that one step may hold in activations. Raises InputError as `Limit.value` does."""
    return limits.TILE_MEGABYTES.value * 1e6


def largest(bytes_per_pixel: float, memory: float | None = None) -> int:
    """The side of the largest square tile whose activations fit into `memory` bytes, by default those that are allowed."""
    memory = allowed() if memory is None else memory
    return max(SMALLEST, math.isqrt(int(memory / (WORKING * max(bytes_per_pixel, 1)))))


def held(pixels: int, bytes_per_pixel: float, memory: float | None = None, *, tiled: bool = True) -> float:
    """The bytes that a step takes at its peak in activations, for a picture of so many pixels."""
    seen = min(pixels, largest(bytes_per_pixel, memory) ** 2) if tiled else pixels
    return seen * bytes_per_pixel * WORKING


def fits(size: tuple[int, int], side: int) -> bool:
    """Whether an image of (height, width) is one tile: whatever its shape, it has no more pixels than the largest tile."""
    return math.prod(size) <= side**2


class Allowance:
    """How much memory the steps of a run may take: what is allowed, or as much less as the device turns out to have."""

    def __init__(self, memory: float | None = None, *, tiled: bool = True):
        self.memory = allowed() if memory is None else memory
        self.tiled = tiled
        """Whether a step may take a picture by tiles; without, it gets `WHOLE` for their side."""
        self.word = "" if tiled else ", in one piece, since its layers see the whole picture"
        """What is to be said of it, once there is something."""

    def fit(self, step: Callable[[int], T], bytes_per_pixel: float) -> T:
        """`step(side)` with the largest tiles that fit; where memory runs out all the same, with smaller ones from then on.

        Raises:
            torch.OutOfMemoryError: the smallest do not fit either.
        """
        while True:
            side = largest(bytes_per_pixel, self.memory) if self.tiled else WHOLE
            try:
                return step(side)
            except torch.OutOfMemoryError:
                if side in (SMALLEST, WHOLE):
                    raise
            # Not in the handler: as long as that lasts, the error holds on to what the step had.
            self.memory, self.word = self.memory / 2, ", in smaller tiles, since memory is short"


def grid(size: tuple[int, int], side: int, margin: float = MARGIN) -> Iterator[Tile]:
    """Tiles of about equal size that cover (height, width) without overlap, each seen with its margin.

    With the margin, which is rounded up to multiples of 32, a tile is about `side` pixels a side: up to 63 more, so that it ends
    where networks that pad by halves sample it as they do the whole image, and so that no tile is too small for them.
    """
    margin = math.ceil(margin / ALIGNED) * ALIGNED
    height, width = size
    if fits(size, side):
        side = max(size)
    for rows in _cuts(height, side, margin):
        for columns in _cuts(width, side, margin):
            kept, seen, inside = zip(
                *(_around(*cut, length, margin) for cut, length in ((rows, height), (columns, width))), strict=True
            )
            yield Tile(seen, kept, inside, _area(kept) / _area(seen))


def _around(start: int, stop: int, length: int, margin: int) -> tuple[slice, slice, slice]:
    beyond = max(0, length - stop - margin) // ALIGNED * ALIGNED
    first, last = max(0, start - margin), length - beyond
    return slice(start, stop), slice(first, last), slice(start - first, stop - first)


def _area(slices: tuple[slice, slice]) -> int:
    return math.prod(part.stop - part.start for part in slices)


def _cuts(length: int, side: int, margin: int) -> list[tuple[int, int]]:
    if length <= side:
        return [(0, length)]
    most = max(LEAST, (side - 2 * margin) // ALIGNED * ALIGNED)
    step = math.ceil(math.ceil(length / math.ceil(length / most)) / ALIGNED) * ALIGNED
    return list(pairwise([*range(0, length - LEAST + 1, step), length]))
