"""Process large images by tiles, so that memory depends on the size of a tile, and handle memory that runs out."""

from __future__ import annotations

import ctypes
import errno
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby, pairwise, product
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from featviz.errors import InputError
from featviz.limits import TILE_ALIGNMENT
from featviz.optimise.tile_reports import report

if TYPE_CHECKING:
    from featviz.networks.network import Network

HEAP = 96e6
"""Most bytes of free blocks that the heap of the C library keeps; blocks of 32 MB and more go back to the system."""

FIXED = 32e6
"""Bytes of any step, whatever the image: code compiled for its shapes, scratch space of threads, small blocks."""

HEAP_SHARE, HEAP_SHARE_FORWARD = 0.5, 1.5
"""Free blocks of the heap relative to the live tensors, if these are small: with a backward pass, and of a forward pass alone.
Measured with glibc at eight layers of the two bundled networks, 256 and 512 pixels a side."""

MIN_CORE = 64
"""Least side of a tile without its margin, in pixels. With a margin, it is enough for every network of the table."""

MARGIN = 32
"""Pixels around a tile that are processed and whose gradient is dropped, since padding affects it near the border."""

SMALLER_REMARK = ", in smaller tiles, since memory is short"
"""The remark on a run whose tiles are smaller than usual."""

MIN_TILE = 128
"""Least side of a tile with its margin, in pixels."""

HALF = (0.5, 0.5)
"""The mean of random shifts of tiles."""

WHOLE = 1 << 30
"""Side of a tile that any image fits into."""

T = TypeVar("T")

Shift = Sequence[float]
"""Two numbers in [0, 1), down and right: the position of the borders between tiles among all that are possible."""

Area = tuple[slice, slice]
"""The rows and the columns of a part of an image, or of a feature map."""

EVERYWHERE: Area = slice(None), slice(None)
"""The area of a whole image or feature map."""

OUT_OF_MEMORY = (
    "can't allocate memory",  # torch's CPU allocator
    "annot allocate memory",  # the system, as torch passes it on
    "out of memory",  # CUDA and MPS
    "bad_alloc",  # C++
    "could not create a memory object",  # oneDNN, as the next two
    "could not create a primitive",
    "could not execute a primitive",
)
"""Parts of the messages of a `RuntimeError` for memory that has run out."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device has run out of memory. Only CUDA has an exception class for that."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in OUT_OF_MEMORY)


def release_free_memory() -> None:
    """Return the free memory of the heap to the system, if the C library is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn errors of memory that has run out into InputError.

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
    """A tile of an image: its core, for which results are kept, and a margin around it."""

    seen: Area
    """The core with its margin, cut at the borders of the image: what the network processes."""
    core: Area
    """The tile without its margin. The cores of all tiles cover the image without overlap."""
    core_in_seen: Area
    """The core relative to `seen`."""
    share: float
    """The number of pixels of the core, relative to that of `seen`."""

    def within(self, stride: int) -> tuple[Area, Area]:
        """Return the core in a feature map of this stride: relative to the map of the whole image, and to that of `seen`."""
        rows, columns = (slice(core.start // stride, -(-core.stop // stride)) for core in self.core)
        top, left = (seen.start // stride for seen in self.seen)
        return (rows, columns), (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))


@dataclass(frozen=True)
class Budget:
    """The memory that the activations of a step may take, beyond the image."""

    bytes: float = 400e6
    short: bool = False
    """Whether it is less than usual, since memory is short."""


DEFAULT_BUDGET = Budget()
"""What steps may take where no budget is granted: recipes that are run without the runtime."""

_granted: ContextVar[Budget] = ContextVar("granted", default=DEFAULT_BUDGET)
"""Not an argument, since every recipe passes it on to functions deep below. A thread has its own."""


@contextmanager
def granted(budget: Budget) -> Iterator[None]:
    """A context in which steps have a budget. It must not span a `yield` of a generator that others resume."""
    earlier = _granted.set(budget)
    try:
        yield
    finally:
        _granted.reset(earlier)


def allowed() -> float:
    """Return the bytes of activations that a step may hold."""
    return _granted.get().bytes


def largest(bytes_per_pixel: float, memory: float | None = None, *, tiled: bool = True) -> int:
    """Return the side of the largest square tile whose activations fit into `memory` bytes, by default `allowed()`.

    `WHOLE` if the image cannot be processed by tiles.
    """
    if not tiled:
        return WHOLE
    memory = allowed() if memory is None else memory
    return max(MIN_TILE, math.isqrt(int(memory / max(bytes_per_pixel, 1))))


def resident(live: float, share: float = HEAP_SHARE) -> float:
    """Return the bytes that a process takes for tensors of `live` bytes: these, and free blocks between them."""
    return live + min(share * live, HEAP) + FIXED


def peak(
    size: tuple[int, int],
    bytes_per_pixel: float,
    side: int,
    margin: float = MARGIN,
    shift: Shift | None = None,
    *,
    share: float = HEAP_SHARE,
) -> float:
    """Return the peak bytes of a step for an image of (height, width), by tiles of at most `side` pixels."""
    axes = _axes(size, side, margin, shift)
    largest_tile = math.prod(max(seen.stop - seen.start for _, seen, _ in along) for along in axes)
    return resident(largest_tile * bytes_per_pixel, share)


def seen_pixels(size: tuple[int, int], side: int, margin: float = MARGIN, shift: Shift | None = None) -> int:
    """Return the pixels that all tiles of an image of (height, width) see together. Margins count once for each tile."""
    return math.prod(sum(seen.stop - seen.start for _, seen, _ in along) for along in _axes(size, side, margin, shift))


def count(size: tuple[int, int], side: int, margin: float = MARGIN, shift: Shift | None = None) -> int:
    """Return the number of tiles of an image of (height, width)."""
    return math.prod(map(len, _axes(size, side, margin, shift)))


def fits(size: tuple[int, int], side: int) -> bool:
    """Return whether an image of (height, width) is one tile: it has no more pixels than the largest tile, whatever its shape."""
    return math.prod(size) <= side**2


class Allowance:
    """The memory that a step of a run may take. It is halved each time memory runs out."""

    def __init__(self, *, tiled: bool = True):
        self.memory = allowed()
        self.tiled = tiled
        """Whether images are processed by tiles; if not, the side is `WHOLE`."""
        self.remark = "" if tiled else ", in one piece, since its layers see the whole picture"
        """A remark on tiles for the progress line; "" for none."""
        if tiled and _granted.get().short:
            self.remark = SMALLER_REMARK

    def fit(self, step: Callable[[int], T], bytes_per_pixel: float) -> T:
        """Return `step(side)` with the largest tiles that fit. If memory runs out, use smaller tiles from then on.

        Raises:
            The error for which `out_of_memory` holds, if the smallest tiles do not fit either.
        """
        while True:
            side = largest(bytes_per_pixel, self.memory, tiled=self.tiled)
            try:
                return step(side)
            except (RuntimeError, MemoryError) as error:
                if side in (MIN_TILE, WHOLE) or not out_of_memory(error):
                    raise
            # Not in the handler, where the error keeps the tensors of the step alive.
            release_free_memory()
            self.memory, self.remark = self.memory / 2, SMALLER_REMARK


def grid(size: tuple[int, int], side: int, margin: float = MARGIN, shift: Shift | None = None) -> Iterator[Tile]:
    """Yield tiles of about equal size that cover (height, width) without overlap.

    With its margin, which is rounded up to multiples of 32, a tile has at most `side`² pixels, or is as small as possible. Of all
    such tiles, these overlap least: strips of a picture that is not much larger than a tile. A tile ends where the units of
    networks with asymmetric padding are at the same positions as for the whole image.

    `shift`: where, among all possible positions, the borders between tiles are. No tile gets larger by it.
    """
    for rows, columns in product(*_axes(size, side, margin, shift)):
        core, seen, core_in_seen = zip(rows, columns, strict=True)
        yield Tile(seen, core, core_in_seen, _pixels(core) / _pixels(seen))


def _axes(size: tuple[int, int], side: int, margin: float, shift: Shift | None = None) -> list[list[tuple[slice, slice, slice]]]:
    """Return (core, seen, core_in_seen) of each tile along the height, and along the width."""
    margin = math.ceil(margin / TILE_ALIGNMENT) * TILE_ALIGNMENT
    return [
        [_around(*cut, length, margin) for cut in _cuts(length, step, along)]
        for length, step, along in zip(size, _steps(size, side, margin, shift is not None), shift or (None, None), strict=True)
    ]


@lru_cache(maxsize=1024)
def _steps(size: tuple[int, int], side: int, margin: int, shifted: bool) -> tuple[int, int]:
    """Return the height and the width of the tiles of an image of (height, width), without their margins.

    Of all tiles of at most `side`² pixels with their margins, those that together see the fewest pixels; where none are so small,
    the smallest. `shifted`: whether they may be shifted, so that each may have a margin on both sides.
    """

    def ways(length: int) -> list[tuple[int, int, int]]:
        """Return the ways to cut a side of the image: (sum of the lengths of all tiles, length of the longest tile, step).

        Lengths include margins. Of the ways with the same sum, only the one with the shortest longest tile is returned.
        """
        best: dict[int, tuple[int, int, int]] = {}
        for step in range(MIN_CORE, max(MIN_CORE, length) + TILE_ALIGNMENT, TILE_ALIGNMENT):
            seen = [beside.stop - beside.start for _, beside, _ in (_around(*cut, length, margin) for cut in _cuts(length, step))]
            longest = min(length, step + 2 * margin + TILE_ALIGNMENT) if shifted else max(seen)
            way = sum(seen), longest, step
            best[way[0]] = min(way, best.get(way[0], way), key=lambda way: (way[1], -way[2]))
        return [*best.values()]

    def order(way: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
        seen, longest, _ = (math.prod(lengths) for lengths in zip(*way, strict=True))
        return max(longest, side**2), seen, longest

    (*_, height), (*_, width) = min(product(*map(ways, size)), key=order)
    return height, width


def _around(start: int, stop: int, length: int, margin: int) -> tuple[slice, slice, slice]:
    beyond = max(0, length - stop - margin) // TILE_ALIGNMENT * TILE_ALIGNMENT
    first, last = max(0, start - margin), length - beyond
    return slice(start, stop), slice(first, last), slice(start - first, stop - first)


def _pixels(area: Area) -> int:
    return math.prod(along.stop - along.start for along in area)


def _cuts(length: int, step: int, shift: float | None = None) -> list[tuple[int, int]]:
    """Return where tiles of `step` pixels start and stop. The last is shorter, or longer by less than `MIN_CORE`."""
    if length <= step:
        return [(0, length)]
    first = step
    if shift is not None:
        # The first tile takes part of the last one, or is so long that there is one tile less. No tile gets longer.
        last = length - range(0, length - MIN_CORE + 1, step)[-1]
        lengths = range(MIN_CORE, step + 1, TILE_ALIGNMENT)
        possible = [start for start in lengths if start <= last - MIN_CORE or start >= last or start == step]
        first = possible[int(shift * len(possible))]
    return list(pairwise([0, *range(first, length - MIN_CORE + 1, step), length]))


def tiling(network: Network, image: Tensor, layers: Iterable[str], side: int) -> Iterator[Tile]:
    """Yield tiles of an image (1, 3, H, W) whose margins are the receptive fields of some layers, so that activations are exact."""
    return grid((image.shape[-2], image.shape[-1]), side, margin=reach(network, layers))


def reach(network: Network, layers: Iterable[str]) -> float:
    """Return how many pixels beyond a tile the units of some layers see; 0 if they cannot be processed by tiles."""
    layers = [*layers]
    return max((network.receptive_field(layer).margin for layer in layers), default=0) if network.tiled(layers) else 0


def values_per_pixel(network: Network, layer: str) -> float:
    """Return how many activations a layer has for each pixel of an image."""
    return network.channels(layer) / network.receptive_field(layer).stride ** 2


def tile_activations(
    network: Network, tile: Tile, part: Tensor, layers: Iterable[str], *, continued: bool, native: bool = False
) -> dict[str, tuple[Area, Tensor]]:
    """Return {layer: (area of the core in the map of the whole image, activations (1, C, h, w) of the core)} of a tile.

    `part` is the image in `tile.seen`. `continued` and `native` as in `Network.activations`.
    """
    placed = {}
    for layer, values in network.activations(part, layers, continued=continued, native=native).items():
        area, area_in_seen = tile.within(network.receptive_field(layer).stride)
        placed[layer] = (area, _cut(values, area_in_seen))
    return placed


def _cut(values: Tensor, area: Area) -> Tensor:
    """Return an area of feature maps (1, C, h, w). The derivative is in their memory format, as that of an index is not."""
    beyond = [(within.start, max(0, length - within.stop)) for within, length in zip(area, values.shape[-2:], strict=True)]
    if not any(chain(*beyond)):
        return values
    (above, below), (left, right) = beyond
    return functional.pad(values, (-left, -right, -above, -below))


def activations_of(
    network: Network,
    image: Tensor,
    layers: Collection[str],
    side: int,
    *,
    continued: bool,
    native: bool = False,
    reduce: Callable[[str, Tensor], Tensor] = lambda layer, values: values,
) -> dict[str, Tensor]:
    """Return {layer: activations (1, C, h, w)} for the whole image, by tiles. `continued` and `native` as in `Network.activations`.

    `reduce` is applied to the activations of each layer in each tile before they are joined.
    """
    rows: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    pieces = [*tiling(network, image, layers, side)]
    for _, side_by_side in groupby(enumerate(pieces, start=1), key=lambda numbered: numbered[1].core[0].start):
        row = []
        for number, tile in side_by_side:
            row.append(tile_activations(network, tile, image[(..., *tile.seen)], layers, continued=continued, native=native))
            report(number, len(pieces), tile.core)
        for layer, parts in rows.items():
            parts.append(_joined([reduce(layer, placed[layer][1]) for placed in row], -1))
    return {layer: _joined(rows.pop(layer), -2) for layer in list(rows)}


def _joined(parts: list[Tensor], side: int) -> Tensor:
    """Return parts joined along a dimension; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, side)
