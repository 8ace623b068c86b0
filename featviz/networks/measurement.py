"""Measurements of a user's module: the image sizes it accepts, the layouts of its outputs, its receptive fields."""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featviz.errors import InputError, reason
from featviz.limits import TILE_ALIGNMENT
from featviz.networks.network import Network
from featviz.networks.receptive_field import ReceptiveField, receptive_fields
from featviz.networks.table import ChannelsLast, Tokens

Size = tuple[int, int]
"""(height, width)."""

Shapes = Mapping[str, tuple[int, ...]]
"""Qualified module name → shape of its first output, in order of execution."""

BASE_SIZES: tuple[tuple[Size, int], ...] = (((192, 256), 64), ((168, 224), 56))
"""Oblong sizes that a module of any size accepts, and the number of pixels by which each side is then enlarged."""

MULTIPLES = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64)
"""Numbers of which the sides of an image may have to be multiples."""

FIXED_SIZES = (224, 256, 384, 299, 288, 320, 336, 448, 512, 518, 192, 160, 128, 112, 96, 64, 48, 32, 28)
"""Sides of the only square that a module may accept, the usual ones first."""

MIN_SIDE, MIN_SIDE_RESIZED = 8, 32
"""The least side of an image, in pixels: that is tried, and for a module of a fixed size, to which images are resized."""

STRIP = 1024
"""Length in pixels of the image that receptive fields are measured on. A unit that sees half of it counts as seeing everything."""

PHASES = range(TILE_ALIGNMENT + 1)
"""Offsets from the middle of the strip at which columns are measured: all positions relative to poolings and attention windows."""

MAX_EXTRA_TOKENS = 16
"""The most tokens without a position: class tokens, distillation tokens, registers."""


@dataclass(frozen=True)
class AcceptedSizes:
    """The image sizes that a module accepts."""

    fixed: int | None
    """The side of the only square; None if any size is accepted."""
    multiple: int
    """The sides must be multiples of this."""
    base: Size
    """A size that is accepted."""
    growth: int
    """Pixels that may be added to each side of `base`."""


class Probe:
    """Runs a module on random images to find the sizes that it accepts and the shapes of its modules' outputs."""

    def __init__(self, module: nn.Module, may_fail_late: bool):
        self.module = module
        self.required: set[str] | None = None
        self.may_fail_late = may_fail_late
        """Whether a run succeeds once the `required` parts have run, e.g. if only a classifier accepts one size only."""
        self.failure = ""
        """The reason for which the first run failed."""

    def run(self, size: Size) -> Shapes:
        """Return the shapes of the parts' outputs for an image of `size`, {} if the run fails."""
        shapes: dict[str, tuple[int, ...]] = {}

        def record(name: str, output: object) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, tuple(output.shape))

        image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with self._recording(record), torch.no_grad():
            try:
                self.module(image)
            except Exception as error:  # A module may raise anything for a size that it does not accept.
                self.failure = self.failure or reason(error)
                return shapes if self.may_fail_late and self.required and self.required <= shapes.keys() else {}
        return shapes

    def sizes(self) -> tuple[Shapes, AcceptedSizes]:
        """Return the shapes of the parts' outputs for the size `base`, and the sizes.

        Raises:
            InputError: the module runs on none of the sizes tried.
        """
        square = next(((shapes, side) for side in FIXED_SIZES if (shapes := self.run((side, side)))), None)
        if square is not None:
            shapes, side = square
            self.required = {name for name, shape in shapes.items() if isinstance(layout_of(shape, (side, side)), Maps)} or None
        for base, growth in BASE_SIZES:
            if shapes := self.run(base):
                accepted = (multiple for multiple in MULTIPLES if self.run((base[0] + multiple, base[1] + multiple)))
                return shapes, AcceptedSizes(None, next(accepted, growth), base, growth)
        if square is None:
            raise InputError(f"The module does not run on an image (1, 3, 224, 224), nor on other sizes: {self.failure}.")
        shapes, side = square
        return shapes, AcceptedSizes(side, 1, (side, side), 0)

    def differentiable(self, size: Size) -> set[str]:
        """Return the parts whose output, for an image of `size`, has a gradient of the image: real floats, computed by autograd.

        Raises:
            InputError: a backward pass fails, e.g. since an operation in place has overwritten what it needs.
        """
        outputs: dict[str, Tensor] = {}

        def record(name: str, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.requires_grad:
                outputs.setdefault(name, output.sum())

        image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with self._recording(record), torch.enable_grad():
            with suppress(Exception):  # As in `run`, a classifier may fail after the parts of interest.
                self.module(image * 1)  # Not a leaf, which no module could change in place.
            try:
                if outputs:
                    torch.autograd.grad(list(outputs.values()), image, allow_unused=True)
            except RuntimeError as error:
                raise InputError(f"The module has no gradient: {reason(error)}.") from None
        return set(outputs)

    @contextmanager
    def _recording(self, record: Callable[[str, object], None]) -> Iterator[None]:
        """A context in which `record` gets the name and the output of every part that has run."""
        with ExitStack() as hooks:
            for name, part in self.module.named_modules():
                hook = part.register_forward_hook(lambda _, __, output, name=name: record(name, output))
                hooks.callback(hook.remove)
            yield

    def min_side(self, multiple: int, parts: set[str]) -> int:
        """Return the least side, a multiple of 4 and of `multiple`, of an image for which these parts have an output."""
        self.required, self.may_fail_late = parts, True
        step = math.lcm(4, multiple)
        sides = range(step * math.ceil(MIN_SIDE / step), BASE_SIZES[0][0][0] + 1, step)

        def works(side: int) -> bool:
            shapes = self.run((side, side))
            return bool(shapes) and all(min(shapes[part]) > 0 for part in parts)

        return sides[min(bisect_left(sides, True, key=works), len(sides) - 1)]


@dataclass(frozen=True)
class Maps:
    """The layout (B, C, h, w), which needs no conversion."""


Layout = Maps | ChannelsLast | Tokens


def layout_of(shape: Sequence[int], size: Size) -> Layout | None:
    """Return the layout of an output for an image of (height, width); None if it is no map, or one of a single position."""
    height, width = size
    if len(shape) == 4 and shape[0] == 1:
        for layout, (rows, columns) in ((Maps(), shape[2:]), (ChannelsLast(), shape[1:3])):
            # The aspect ratio may differ by one row of rounding, and in a large map without padding by more.
            difference, tolerance = abs(rows / height - columns / width), max(1 / min(size), 0.02 * rows / height)
            if 1 < rows * columns and rows <= height and columns <= width and difference <= tolerance:
                return layout
    if len(shape) == 3 and shape[0] == 1:
        for extra in range(min(MAX_EXTRA_TOKENS, shape[1] - 1) + 1):
            patches = shape[1] - extra
            rows = round((patches * height / width) ** 0.5)
            if 1 < patches and rows and patches % rows == height % rows == 0 and rows * width == patches // rows * height:
                return Tokens(extra)
    return None


def map_sizes(network: Network, size: Size) -> dict[str, Size]:
    """Return layer → (height, width) of its map for an image of `size`, in order of execution."""
    with torch.no_grad():
        maps = network.activations(torch.rand(1, 3, *size), network.spec.layers)
    return {layer: (maps[layer].shape[-2], maps[layer].shape[-1]) for layer in network.spec.layers}


Interval = tuple[int, int]
"""The first and the last position of a map, along one axis, that see a column of the strip."""

Seeing = tuple[list[Interval], int]
"""For each column measured, the positions that see it; and the number of positions along the axis."""


def measure_receptive_fields(network: Network, map_size: Mapping[str, Size], sizes: AcceptedSizes) -> dict[str, ReceptiveField]:
    """Return the receptive fields of the layers for which the operations do not imply them.

    A column of NaN in a long image makes exactly those units NaN that see it. Where the operations do not explain these units,
    as with attention or transposed convolutions, the measurement is used, which is too wide by less than a stride. Where
    it depends on the position, so that a tile would differ from the whole image, a unit counts as seeing everything.
    """
    spec, base, growth = network.spec, sizes.base, sizes.growth
    if sizes.fixed:
        return {layer: _everything(size, base) for layer, size in map_size.items()}
    enlarged = map_sizes(network, (base[0] + growth, base[1] + growth))
    strides = {
        layer: [growth / max(1, after - before) for before, after in zip(size, enlarged[layer], strict=True)]
        for layer, size in map_size.items()
    }
    measured = {
        layer: _everything(size, base)
        for layer, size in map_size.items()
        if any(TILE_ALIGNMENT % stride for stride in strides[layer])
    }
    side = math.ceil(spec.smallest / spec.multiple) * spec.multiple
    implied = receptive_fields(lambda image: network.activations(image, spec.layers), torch.rand(1, 3, side, side))
    seeing = [_units_that_see(network, side, axis, PHASES[:1]) for axis in (0, 1)]
    unexplained = [
        layer
        for layer in map_size
        if layer not in measured and not _explains(implied[layer], strides[layer], [by_layer[layer] for by_layer in seeing])
    ]
    if unexplained:
        seeing = [_units_that_see(network, side, axis, PHASES) for axis in (0, 1)]
    for layer in unexplained:
        field = _field_of(strides[layer], [by_layer[layer] for by_layer in seeing])
        measured[layer] = field or _everything(map_size[layer], base)
    return measured


def _everything(size: Size, base: Size) -> ReceptiveField:
    """Return the receptive field of units that see the whole image, in a map of `size` for an image of `base`."""
    height, width = (max(1, round(pixels / positions)) for pixels, positions in zip(base, size, strict=True))
    return ReceptiveField((-math.inf,) * 2, (math.inf,) * 2, (height, width))


def _units_that_see(network: Network, side: int, axis: int, phases: Sequence[int]) -> dict[str, Seeing]:
    """Return layer → the units that see each of some columns of a strip along an axis, at `phases` from its middle."""
    length = math.ceil(STRIP / network.spec.multiple) * network.spec.multiple
    shape = (len(phases), 3, length, side) if axis == 0 else (len(phases), 3, side, length)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for strip, phase in zip(image, phases, strict=True):
        strip.select(axis + 1, STRIP // 2 + phase).fill_(math.nan)
    try:
        with torch.no_grad():
            maps = network.activations(image, network.spec.layers)
    except Exception:  # A module may reject NaN. Then all of its units count as seeing everything.
        return {layer: ([(0, 0)] * len(phases), 1) for layer in network.spec.layers}
    seeing = {}
    for layer, activations in maps.items():
        count = activations.shape[axis + 2]
        positions = [row.nonzero().flatten().tolist() or [0, count - 1] for row in activations.isnan().any(1).any(2 - axis)]
        seeing[layer] = ([(row[0], row[-1]) for row in positions], count)
    return seeing


def _explains(field: ReceptiveField, strides: Sequence[float], seeing: Sequence[Seeing]) -> bool:
    """Return whether units with this receptive field include all that see the middle of a strip."""
    if math.isinf(field.field[0]):
        return True
    middle = STRIP // 2
    return list(field.strides) == list(strides) and all(
        math.ceil((middle - last) / stride) <= low and high <= math.floor((middle - first) / stride)
        for first, last, stride, (((low, high), *_), _) in zip(field.first, field.last, strides, seeing, strict=True)
    )


def _field_of(strides: Sequence[float], seeing: Sequence[Seeing]) -> ReceptiveField | None:
    """Return the receptive field of units by which of them see each column; None if it is large or depends on the position."""
    firsts, lasts = [], []
    for stride, (intervals, count) in zip(strides, seeing, strict=True):
        (low, high), *_, shifted = intervals
        at_an_end = any(0 in interval or count - 1 in interval for interval in intervals)
        if at_an_end or shifted != (low + PHASES[-1] // stride, high + PHASES[-1] // stride):
            return None
        columns = [STRIP // 2 + phase for phase in PHASES]
        firsts.append(min(column + 1 - (high + 1) * stride for column, (_, high) in zip(columns, intervals, strict=True)))
        lasts.append(max(column - 1 - (low - 1) * stride for column, (low, _) in zip(columns, intervals, strict=True)))
    return ReceptiveField((firsts[0], firsts[1]), (lasts[0], lasts[1]), (int(strides[0]), int(strides[1])))
