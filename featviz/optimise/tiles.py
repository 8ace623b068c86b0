"""Large images a piece at a time, so that memory follows the tile and not the image."""

from __future__ import annotations

import ctypes
import errno
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby, pairwise, product
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from featviz import limits
from featviz.errors import InputError

if TYPE_CHECKING:
    from featviz.networks.network import Network

ALIGNED = 32
"""Tiles begin at multiples of this, the stride of the deepest layers, so that a tile is sampled where the whole image is."""

HEAP = 96e6
"""Bytes of free blocks between used ones that the C library keeps at most; blocks of 32 MB and more go back to the system."""

FIXED = 16e6
"""Bytes that any step takes, whatever the image: weights in the order of the library that multiplies, small blocks."""

HEAP_SHARE, HEAP_SHARE_FORWARD = 0.5, 1.5
"""The same as a share of the live tensors, where these are small: of a step with a backward pass, and of a forward pass alone.
Measured with glibc at eight layers of the two bundled networks, 256 and 512 pixels a side."""

LEAST = 64
"""Pixels of a tile's side: with a margin on one side of it, enough for the network that needs most to see anything."""

MARGIN = 32
"""Pixels around a tile that are looked at and whose gradient is dropped: near its own border a network sees padding."""


SMALLEST = 128
"""Pixels of a side that no tile goes below."""

WHOLE = 1 << 30
"""The side of a tile that any picture fits into."""

T = TypeVar("T")

Slices = tuple[slice, slice]
"""Rows and columns."""

OUT_OF_MEMORY = (
    "can't allocate memory",  # torch's CPU allocator
    "annot allocate memory",  # the system, as torch passes it on
    "out of memory",  # CUDA and MPS
    "bad_alloc",  # C++
    "could not create a memory object",  # oneDNN, as the next two
    "could not create a primitive",
    "could not execute a primitive",
)
"""Parts of the messages of the `RuntimeError`s that mean that memory has run out."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device has run out of memory. Only CUDA has a class of its own for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in OUT_OF_MEMORY)


def give_back() -> None:
    """Return to the system what the C library keeps of memory that is free, where it is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def enough_memory() -> Iterator[None]:
    """A context in which memory that runs out raises a sentence.

    Raises:
        InputError: the device has too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not out_of_memory(error):
            raise
        error.__traceback__ = None  # It would keep the tensors of the step alive as long as the new error.
        raise InputError("The device has too little memory for that; choose a smaller size.") from None


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


def largest(bytes_per_pixel: float, memory: float | None = None, *, tiled: bool = True) -> int:
    """The side of the largest square tile whose activations fit into `memory` bytes, by default those that are allowed.

    `WHOLE` for a network that cannot be run by tiles.
    """
    if not tiled:
        return WHOLE
    memory = allowed() if memory is None else memory
    return max(SMALLEST, math.isqrt(int(memory / max(bytes_per_pixel, 1))))


def resident(live: float, share: float = HEAP_SHARE) -> float:
    """Bytes that a process takes while tensors of `live` bytes are alive at the peak: these, and free blocks between them."""
    return live + min(share * live, HEAP) + FIXED


def peak(size: tuple[int, int], bytes_per_pixel: float, side: int, margin: float = MARGIN, *, share: float = HEAP_SHARE) -> float:
    """Bytes that a step takes for an image of (height, width), by tiles of at most `side` pixels."""
    largest_tile = math.prod(max(seen.stop - seen.start for _, seen, _ in along) for along in _axes(size, side, margin))
    return resident(largest_tile * bytes_per_pixel, share)


def seen_pixels(size: tuple[int, int], side: int, margin: float = MARGIN) -> int:
    """Return the pixels that all tiles of an image of (height, width) see together. Margins count once for each tile."""
    return math.prod(sum(seen.stop - seen.start for _, seen, _ in along) for along in _axes(size, side, margin))


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
            The error for which `out_of_memory` holds, where the smallest do not fit either.
        """
        while True:
            side = largest(bytes_per_pixel, self.memory, tiled=self.tiled)
            try:
                return step(side)
            except (RuntimeError, MemoryError) as error:
                if side in (SMALLEST, WHOLE) or not out_of_memory(error):
                    raise
            # Not in the handler: as long as that lasts, the error holds on to what the step had.
            give_back()
            self.memory, self.word = self.memory / 2, ", in smaller tiles, since memory is short"


def grid(size: tuple[int, int], side: int, margin: float = MARGIN) -> Iterator[Tile]:
    """Tiles of about equal size that cover (height, width) without overlap, each seen with its margin.

    With the margin, which is rounded up to multiples of 32, a tile is about `side` pixels a side: up to 63 more, so that it ends
    where networks that pad by halves sample it as they do the whole image, and so that no tile is too small for them.
    """
    for rows, columns in product(*_axes(size, side, margin)):
        kept, seen, inside = zip(rows, columns, strict=True)
        yield Tile(seen, kept, inside, _area(kept) / _area(seen))


def _axes(size: tuple[int, int], side: int, margin: float) -> list[list[tuple[slice, slice, slice]]]:
    """Return what tiles keep, what they see and where it lies in there, along the height and along the width."""
    margin = math.ceil(margin / ALIGNED) * ALIGNED
    side = max(size) if fits(size, side) else side
    return [[_around(*cut, length, margin) for cut in _cuts(length, side, margin)] for length in size]


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


def tiling(network: Network, image: Tensor, layers: Iterable[str], side: int) -> Iterator[Tile]:
    """The tiles by which these layers see an image (1, 3, H, W), each with all that they look at around it."""
    return grid((image.shape[-2], image.shape[-1]), side, margin=reach(network, layers))


def reach(network: Network, layers: Iterable[str]) -> float:
    """Pixels around a tile that the units of these layers in it look at."""
    layers = [*layers]
    return max((network.receptive_field(layer).reach for layer in layers), default=0) if network.tiled(layers) else 0


def inside(
    network: Network, tile: Tile, part: Tensor, layers: Iterable[str], *, continued: bool
) -> dict[str, tuple[Slices, Tensor]]:
    """Layer → where the tile itself is among the activations of the whole image, and its activations (1, C, h, w)."""
    found = {}
    for layer, values in network.activations(part, layers, continued=continued).items():
        place, here = tile.within(network.receptive_field(layer).stride)
        found[layer] = (place, values[(..., *here)])
    return found


def activations_of(network: Network, image: Tensor, layers: Collection[str], side: int, *, continued: bool) -> dict[str, Tensor]:
    """Layer → its activations (1, C, h, w) for the whole image, by tiles. `continued` as in `Network.activations`."""
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for _, side_by_side in groupby(tiling(network, image, layers, side), key=lambda tile: tile.kept[0].start):
        row = [inside(network, tile, image[(..., *tile.seen)], layers, continued=continued) for tile in side_by_side]
        for layer, parts in rows.items():
            parts.append(_joined([answer[layer][1] for answer in row], -1))
    return {layer: _joined(rows.pop(layer), -2) for layer in list(rows)}


def _joined(parts: list[Tensor], side: int) -> Tensor:
    """Parts side by side; of one alone, itself and no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, side)
