"""Large images a piece at a time, so that memory follows the tile and not the image."""

import math
import os
from collections.abc import Iterator
from itertools import pairwise

MEMORY = float(os.environ.get("FEATVIZ_TILE_MEMORY_MB", 700)) * 1e6
"""Bytes that one step may hold in activations."""

ALIGNED = 32
"""Tiles begin at multiples of this, the stride of the deepest layers, so that a tile is sampled where the whole image is."""

WORKING = 1.6
"""What a step takes at its peak, for each byte that it keeps for the way back: gradients and the library's own buffers."""

Tile = tuple[slice, slice]


def largest(bytes_per_pixel: float, memory: float = MEMORY) -> int:
    """The side of the largest square tile whose activations fit into `memory` bytes."""
    return max(128, math.isqrt(int(memory / (WORKING * max(bytes_per_pixel, 1)))))


def grid(size: tuple[int, int], side: int) -> Iterator[Tile]:
    """Tiles of about equal size, at most `side` + 31 pixels a side, that cover (height, width) without overlap.

    A rest of less than 32 pixels goes to its neighbour, since networks could not see it.
    """
    rows, columns = (_cuts(length, side) for length in size)
    for top, bottom in rows:
        for left, right in columns:
            yield slice(top, bottom), slice(left, right)


def _cuts(length: int, side: int) -> list[tuple[int, int]]:
    step = math.ceil(math.ceil(length / math.ceil(length / side)) / ALIGNED) * ALIGNED
    return list(pairwise([*range(0, max(1, length - ALIGNED + 1), step), length]))
