"""Large images a piece at a time, so that memory follows the tile and not the image."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MEMORY = float(os.environ.get("FEATVIZ_TILE_MEMORY_MB", 500)) * 1e6
"""Bytes that one step may hold in activations."""

ALIGNED = 32
"""Tiles begin at multiples of this, the stride of the deepest layers, so that a tile is sampled where the whole image is."""

WORKING = 1.6
"""What a step takes at its peak, for each byte that it keeps for the way back: gradients and the library's own buffers."""

LEAST = 64
"""Pixels of a tile's side: with a margin on one side of it, enough for the network that needs most to see anything."""

MARGIN = 32
"""Pixels around a tile that are looked at and whose gradient is dropped: near its own border a network sees padding."""


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
        whole = tuple(slice(kept.start // stride, -(-kept.stop // stride)) for kept in self.kept)
        starts = [seen.start // stride for seen in self.seen]
        return whole, tuple(slice(part.start - start, part.stop - start) for part, start in zip(whole, starts, strict=True))


def largest(bytes_per_pixel: float, memory: float = MEMORY) -> int:
    """The side of the largest square tile whose activations fit into `memory` bytes."""
    return max(128, math.isqrt(int(memory / (WORKING * max(bytes_per_pixel, 1)))))


def grid(size: tuple[int, int], side: int, margin: int = MARGIN) -> Iterator[Tile]:
    """Tiles of about equal size that cover (height, width) without overlap, each seen with its margin.

    With the margin, which is rounded up to multiples of 32, a tile is about `side` pixels a side: up to 63 more, so that it ends
    where networks that pad by halves sample it as they do the whole image, and so that no tile is too small for them.
    """
    margin = math.ceil(margin / ALIGNED) * ALIGNED
    height, width = size
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
