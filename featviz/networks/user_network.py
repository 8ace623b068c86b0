"""A network of the user's: its row, found out by running it, and how it gets into the table and out of it again."""

import copy
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from featviz.errors import FieldError, InputError, nearest, short
from featviz.networks.cache import forget
from featviz.networks.network import Network
from featviz.networks.receptive_field import ReceptiveField, receptive_fields
from featviz.networks.table import IMAGENET, INPUT, NETWORKS, ChannelsLast, NetworkSpec, Tokens
from featviz.networks.weights import Bundled, File, Given, Hub, sha256_of, shape_there

Size = tuple[int, int]
"""(height, width)."""

TRIED: tuple[tuple[Size, int], ...] = (((192, 256), 64), ((168, 224), 56))
"""What shows that a module takes images of any size: an oblong image, and by how much each side then grows."""

MULTIPLES = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64)
"""What the sides of an image may have to divide by."""

FIXED_SIZES = (224, 256, 384, 299, 288, 320, 336, 448, 512, 518, 192, 160, 128, 112, 96, 64, 48, 32, 28)
"""Sides of the only square that a module may take, the usual ones first."""

LEAST, LEAST_OF_FIXED = 8, 32
"""Pixels a side of the smallest image that a network is tried with, and that one of a fixed size is given."""

STRIP = 1024
"""Length in pixels of the image by which receptive fields are measured. A unit that sees half of it counts as seeing all."""

ALIGNED = 32
"""Tiles begin at multiples of this (`tiles.ALIGNED`), so that layers look alike in a tile only where strides divide it."""

PHASES = range(ALIGNED + 1)
"""Columns that are measured, from the middle of the strip on: every place in what poolings and windows of attention take together."""

MOST_EXTRA = 16
"""Tokens that belong to no place: a class token, a distillation token, registers."""

SCALES = 5
"""Layers of a style, one at each resolution."""


def add_network(
    name: str,
    network: nn.Module | str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layers: Iterable[str] | Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
) -> NetworkSpec:
    """Add a network to the table, so that every recipe and surface has it under `name`; return its row.

    `network` is a module, as `describe_network` takes it, or the name of a network of the table, whose architecture is used with
    the `weights` of a safetensors file: named as torchvision and timm name them. `mean` and `std` then are those of the row.

    Raises:
        FieldError: the name is taken or cannot be one; or as `describe_network` raises it.
        InputError: the module cannot be used.
        WeightsError: the file cannot be used.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise FieldError(f"A network cannot be called '{short(name)}'; expected letters, digits, '_', '-' and '.'.")
    if name in NETWORKS:
        raise FieldError(f"There is a network '{name}' already; choose another name, or remove it with remove_network.")
    if isinstance(network, nn.Module) and weights is None:
        row = describe_network(network, title=name, mean=mean, std=std, layers=layers, classes=classes)
    elif isinstance(network, str) and weights is not None and layers is None:
        row = _retrained(network, Path(weights), title=name, mean=mean, std=std, classes=classes)
    else:
        raise InputError("add_network takes a module, or the name of an architecture with the weights for it and no layers.")
    NETWORKS[name] = row
    return row


def remove_network(name: str) -> None:
    """Take a network that was added out of the table and out of memory.

    Raises:
        FieldError: there is none of that name, or it came with featviz.
    """
    if name not in NETWORKS:
        raise FieldError(NETWORKS.missing(name))
    del NETWORKS[name]
    forget(name)


def describe_network(
    module: nn.Module,
    *,
    title: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layers: Iterable[str] | Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
) -> NetworkSpec:
    """The row of a module: what featviz has to know of it, found by running a copy on small images.

    `module` takes (B, 3, H, W), normalised by `mean` and `std` of RGB in [0, 1], ImageNet's where none are given. `layers` are
    qualified names of its modules, as in `module.named_modules()`, or {name: qualified name}; without, they are all modules
    whose output is a map, in order of execution. `classes` are the names of what its output (B, classes) tells apart. What
    the module is now is what is kept: a later change of its weights is not seen.

    Raises:
        FieldError: mean or std are not three numbers, or a layer is unknown or has no map.
        InputError: the module does not run on images, or has no layer with a map.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"A network has to be a torch.nn.Module; this is {type(module).__name__}.")
    mean = _three("mean", IMAGENET["mean"] if mean is None else mean)
    std = _three("std", IMAGENET["std"] if std is None else std, positive=True)
    try:
        kept = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:  # A module may hold anything.
        raise InputError(f"The module cannot be copied: {_reason(error)}.") from None
    trial = _Trial(kept, classes is None)
    shapes, fixed_size, multiple, base, growth = trial.size()
    layouts = {layer: layout for layer, shape in shapes.items() if (layout := _layout(shape, base))}
    chosen = _chosen(layers, kept, layouts, shapes)
    if classes is not None:
        _check_classes(classes, trial.run(base)[""])
    row = NetworkSpec(
        title=title or type(module).__name__,
        build=partial(_shared, kept),
        weights=Given(kept),
        licence="your own",
        mean=mean,
        std=std,
        layers=chosen,
        content_layer="",
        style_layers=(),
        smallest=LEAST_OF_FIXED if fixed_size else trial.smallest(multiple, set(chosen.values())),
        good_for="Your own network.",
        classifier=None if classes is None else "",
        classes=None if classes is None else tuple(classes),
        as_is=True,
        layouts={layer: layout for layer, path in chosen.items() if not isinstance(layout := layouts[path], _Map)},
        fixed_size=fixed_size,
        multiple=multiple,
    )
    network = Network(row, row.build())
    sizes = _map_sizes(network, base)
    content, styles = _own_layers(sizes)
    coarsest = max(round(whole / part) for size in sizes.values() for whole, part in zip(base, size, strict=True))
    return replace(
        row,
        content_layer=content,
        style_layers=styles,
        smallest=max(row.smallest, min(coarsest, *base)),  # So that a unit does not see more padding than image.
        receptive_fields=_measured(network, sizes, base, growth),
    )


class _Trial:
    """Runs a module on random images, to see whether it can, and what comes out of which part."""

    def __init__(self, module: nn.Module, may_fail_late: bool):
        self.module = module
        self.parts: set[str] | None = None
        """With these, a run that fails later, such as in a classifier that takes one size only, is as good as whole."""
        self.may_fail_late = may_fail_late
        self.failure = ""

    def run(self, size: Size) -> dict[str, tuple[int, ...]]:
        """Name of each part → the shape of its first output that is a tensor, in order of execution; {} if it fails."""
        shapes: dict[str, tuple[int, ...]] = {}

        def note(name: str, output: object) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, tuple(output.shape))

        image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with ExitStack() as hooks, torch.no_grad():
            for name, part in self.module.named_modules():
                hook = part.register_forward_hook(lambda _, __, output, name=name: note(name, output))
                hooks.callback(hook.remove)
            try:
                self.module(image)
            except Exception as error:  # Whatever a module raises for an image that it does not take.
                self.failure = self.failure or _reason(error)
                return shapes if self.may_fail_late and self.parts and self.parts <= shapes.keys() else {}
        return shapes

    def size(self) -> tuple[dict[str, tuple[int, ...]], int | None, int, Size, int]:
        """Shapes of the parts; the only side or None; what sides divide by; the size tried, and what it may grow by.

        Raises:
            InputError: the module runs on none of the sizes.
        """
        fixed = next(((shapes, side) for side in FIXED_SIZES if (shapes := self.run((side, side)))), None)
        if fixed is not None:
            shapes, side = fixed
            self.parts = {name for name, shape in shapes.items() if isinstance(_layout(shape, (side, side)), _Map)} or None
        for base, growth in TRIED:
            if shapes := self.run(base):
                fits = (m for m in MULTIPLES if self.run((base[0] + m, base[1] + m)))
                return shapes, None, next(fits, growth), base, growth
        if fixed is None:
            raise InputError(f"The module does not run on an image (1, 3, 224, 224), nor on other sizes: {self.failure}.")
        shapes, side = fixed
        return shapes, side, 1, (side, side), 0

    def smallest(self, multiple: int, parts: set[str]) -> int:
        """The least side of an image, a multiple of 4 and of `multiple`, from which on these parts have an output."""
        self.parts, self.may_fail_late = parts, True
        step = math.lcm(4, multiple)
        sides = range(step * math.ceil(LEAST / step), TRIED[0][0][0] + 1, step)

        def works(side: int) -> bool:
            shapes = self.run((side, side))
            return bool(shapes) and all(min(shapes[part]) > 0 for part in parts)

        return sides[min(bisect_left(sides, True, key=works), len(sides) - 1)]


@dataclass(frozen=True)
class _Map:
    """(B, C, h, w), which needs no layout of its own."""


def _layout(shape: Sequence[int], size: Size) -> "_Map | ChannelsLast | Tokens | None":
    """How an output for one image of (height, width) holds a map; None where it holds none, or only a single position."""
    height, width = size
    if len(shape) == 4 and shape[0] == 1:
        for layout, (rows, columns) in ((_Map(), shape[2:]), (ChannelsLast(), shape[1:3])):
            uneven = abs(rows / height - columns / width)  # By rounding up to a row; in large maps more where nothing is padded.
            if 1 < rows * columns and rows <= height and columns <= width and uneven <= max(1 / min(size), 0.02 * rows / height):
                return layout
    if len(shape) == 3 and shape[0] == 1:
        for extra in range(min(MOST_EXTRA, shape[1] - 1) + 1):
            places = shape[1] - extra
            rows = round((places * height / width) ** 0.5)
            if 1 < places and rows and places % rows == height % rows == 0 and rows * width == places // rows * height:
                return Tokens(extra)
    return None


def _chosen(
    layers: Iterable[str] | Mapping[str, str] | None,
    module: nn.Module,
    layouts: Mapping[str, object],
    shapes: Mapping[str, object],
) -> dict[str, str]:
    """Layer → qualified name of its module, in order of execution."""
    maps = [path for path in shapes if path and path in layouts]
    if not maps:
        raise InputError(f"{type(module).__name__} has no layer whose output is a map, (B, C, h, w) or (B, N, C).")
    if layers is None:
        return {path: path for path in maps}
    asked = dict(layers) if isinstance(layers, Mapping) else {path: path for path in layers}
    known = [path for path, _ in module.named_modules() if path]
    for path in asked.values():
        if path not in known:
            raise FieldError(f"{type(module).__name__} has no module '{short(path)}'; {nearest(path, known)}")
        if path not in maps:
            output = shapes.get(path)
            raise FieldError(f"The output of '{path}' is no map (B, C, h, w), but {output or 'no tensor'}; {nearest(path, maps)}")
    if not asked:
        raise FieldError(f"layers is empty; leave it out for all {len(maps)} of them.")
    return dict(sorted(asked.items(), key=lambda item: maps.index(item[1])))


def _shared(module: nn.Module) -> nn.Module:
    """A copy of a module that shares the memory of its weights, and may be changed otherwise."""
    tensors = [*module.parameters(), *module.buffers()]
    own = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor.detach()
        for tensor in tensors
    }
    return copy.deepcopy(module, own)


def _map_sizes(network: Network, size: Size) -> dict[str, Size]:
    """Layer → (height, width) of its map for an image of `size`, in order of execution."""
    with torch.no_grad():
        maps = network.activations(torch.rand(1, 3, *size), network.spec.layers)
    return {layer: (maps[layer].shape[-2], maps[layer].shape[-1]) for layer in network.spec.layers}


def _own_layers(sizes: Mapping[str, Size]) -> tuple[str, tuple[str, ...]]:
    """Where a style transfer takes content and style: a layer at each resolution on the way down, and the middle one of them.

    At each resolution the last of the outermost modules, such as `layer2` rather than `layer2.1.relu`.
    """
    last: dict[int, str] = {}
    for layer, (height, _) in sizes.items():
        deeper = height < min(last, default=height + 1)
        if deeper or (height == min(last) and layer.count(".") <= last[height].count(".")):
            last[height] = layer
    layers = list(last.values())
    if len(layers) < 3:  # As in a transformer: all at one resolution.
        every = list(sizes)
        layers = [every[i * (len(every) - 1) // (SCALES - 1)] for i in range(SCALES)]
    layers = list(dict.fromkeys(layers[:SCALES]))
    return layers[len(layers) // 2], (INPUT, *layers)


Units = dict[str, tuple[list[tuple[int, int]], int]]
"""Layer → for each of some columns the first and the last position that see it, and how many positions there are."""


def _measured(network: Network, sizes: Mapping[str, Size], base: Size, growth: int) -> dict[str, ReceptiveField]:
    """The receptive fields of those layers for which the operations alone do not tell them.

    A column of NaN in a long image makes exactly those units NaN that see it. Where the operations do not explain all of these,
    such as with attention or transposed convolutions, what was measured is taken instead, too wide by less than a stride. Where
    it differs by place, so that a tile would not be what the image is there, a unit counts as seeing everything.
    """
    spec = network.spec
    if spec.fixed_size:
        return {layer: _everywhere(size, base) for layer, size in sizes.items()}
    grown = _map_sizes(network, (base[0] + growth, base[1] + growth))
    steps = {layer: [growth / max(1, b - a) for a, b in zip(sizes[layer], grown[layer], strict=True)] for layer in sizes}
    found = {layer: _everywhere(sizes[layer], base) for layer in sizes if any(ALIGNED % step for step in steps[layer])}
    side = math.ceil(spec.smallest / spec.multiple) * spec.multiple
    expected = receptive_fields(lambda image: network.activations(image, spec.layers), torch.rand(1, 3, side, side))
    units = [_units_that_see(network, side, axis, PHASES[:1]) for axis in (0, 1)]
    unexplained = [
        layer for layer in sizes if layer not in found
        and not _explains(expected[layer], steps[layer], [seeing[layer] for seeing in units])
    ]  # fmt: skip
    if unexplained:
        units = [_units_that_see(network, side, axis, PHASES) for axis in (0, 1)]
    for layer in unexplained:
        found[layer] = _seen(steps[layer], [seeing[layer] for seeing in units]) or _everywhere(sizes[layer], base)
    return found


def _everywhere(size: Size, base: Size) -> ReceptiveField:
    """The receptive field of units that see the whole image, of which there are `size` for an image of `base`."""
    height, width = (max(1, round(whole / part)) for whole, part in zip(base, size, strict=True))
    return ReceptiveField((-math.inf,) * 2, (math.inf,) * 2, (height, width))


def _units_that_see(network: Network, side: int, axis: int, phases: Sequence[int]) -> Units:
    """The units that see columns of a strip, which are at some places around its middle."""
    length = math.ceil(STRIP / network.spec.multiple) * network.spec.multiple
    shape = (len(phases), 3, length, side) if axis == 0 else (len(phases), 3, side, length)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for strip, phase in zip(image, phases, strict=True):
        strip.select(axis + 1, STRIP // 2 + phase).fill_(math.nan)
    units: Units = {}
    try:
        with torch.no_grad():
            maps = network.activations(image, network.spec.layers)
    except Exception:  # A module that refuses NaN: all of its units count as seeing everything.
        return {layer: ([(0, 0)] * len(phases), 1) for layer in network.spec.layers}
    for layer, activations in maps.items():
        seeing = activations.isnan().any(1).any(2 - axis)
        places = [row.nonzero().flatten().tolist() or [0, activations.shape[axis + 2] - 1] for row in seeing]
        units[layer] = ([(place[0], place[-1]) for place in places], activations.shape[axis + 2])
    return units


def _explains(
    receptive_field: ReceptiveField, steps: Sequence[float], seeing: Sequence[tuple[list[tuple[int, int]], int]]
) -> bool:
    """Whether units with this receptive field are all that see the middle of a strip."""
    if math.isinf(receptive_field.field[0]):
        return True
    middle = STRIP // 2
    return list(receptive_field.spacing) == list(steps) and all(
        math.ceil((middle - last) / step) <= low and high <= math.floor((middle - first) / step)
        for first, last, step, (((low, high), *_), _) in zip(
            receptive_field.first, receptive_field.last, steps, seeing, strict=True
        )
    )


def _seen(steps: Sequence[float], seeing: Sequence[tuple[list[tuple[int, int]], int]]) -> ReceptiveField | None:
    """The receptive field of units, from which of them see some columns of a strip; None if it is large, or differs by place."""
    firsts, lasts = [], []
    for step, (units, count) in zip(steps, seeing, strict=True):
        (low, high), *_, moved = units
        if moved != (low + PHASES[-1] // step, high + PHASES[-1] // step) or any(
            0 in ends or count - 1 in ends for ends in units
        ):
            return None
        places = [STRIP // 2 + phase for phase in PHASES]
        firsts.append(min(place + 1 - (high + 1) * step for place, (_, high) in zip(places, units, strict=True)))
        lasts.append(max(place - 1 - (low - 1) * step for place, (low, _) in zip(places, units, strict=True)))
    return ReceptiveField((firsts[0], firsts[1]), (lasts[0], lasts[1]), (int(steps[0]), int(steps[1])))


def _retrained(
    architecture: str,
    path: Path,
    *,
    title: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    classes: Sequence[str] | None,
) -> NetworkSpec:
    """The row of an architecture of the table with the weights of a file. Its classifier has as many classes as the file's."""
    known = [name for name, row in NETWORKS.items() if isinstance(row.weights, (Bundled, Hub))]
    if architecture not in known:
        raise FieldError(f"There is no architecture '{short(architecture)}'; {nearest(architecture, known)}")
    row = NETWORKS[architecture]
    renamed = row.weights.renamed if isinstance(row.weights, (Bundled, Hub)) else {}
    weights = File(path, sha256_of(path), renamed)
    build, own = row.build, row.classes
    if row.classifier is not None and (shape := shape_there(path, f"{row.classifier}.1.weight", renamed)):
        count = shape[0]
        if classes is not None and len(classes) != count:
            raise FieldError(f"The classifier in '{path.name}' tells {count} classes apart; {len(classes)} are named.")
        build = partial(_with_classes, build, row.classifier, count)
        own = tuple(classes) if classes else None if count == 1000 else tuple(f"class {index}" for index in range(count))
    elif classes is not None:
        raise FieldError(f"There is no classifier in '{path.name}' for the classes that are named; leave them out.")
    row = replace(
        row,
        title=title,
        build=build,
        weights=weights,
        licence="your own",
        good_for=f"{row.title} with your own weights.",
        mean=row.mean if mean is None else _three("mean", mean),
        std=row.std if std is None else _three("std", std, positive=True),
        classes=own,
        bears_bfloat16=False,
    )
    with torch.device("meta"):
        weights.load(path, row.build().state_dict())  # What is wrong with the file is said now.
    return row


def _with_classes(build: Callable[[], nn.Module], classifier: str, count: int) -> nn.Module:
    """An architecture whose classifier tells so many classes apart."""
    module = build()
    last = module.get_submodule(f"{classifier}.1")
    assert isinstance(last, nn.Conv2d)  # Of a `trunks.Classifier`.
    module.set_submodule(f"{classifier}.1", nn.Conv2d(last.in_channels, count, 1))
    return module


def _check_classes(classes: Sequence[str], shape: tuple[int, ...]) -> None:
    if len(shape) < 2 or math.prod(shape) != shape[1] or shape[1] != len(classes):
        raise FieldError(f"{len(classes)} classes are named; the module's output for an image is {shape}.")


def _three(name: str, numbers: Sequence[float], *, positive: bool = False) -> tuple[float, float, float]:
    """Mean or standard deviation of red, green and blue."""
    try:
        red, green, blue = map(float, numbers)
        if all(map(math.isfinite, (red, green, blue))) and (not positive or min(red, green, blue) > 0):
            return red, green, blue
    except (TypeError, ValueError):
        pass
    kind = "positive numbers" if positive else "numbers"
    raise FieldError(f"{name} is {short(numbers)}; expected three {kind}, of red, green and blue in [0, 1].")


def _reason(error: Exception) -> str:
    return short(" ".join(str(error).split()).rstrip(".") or type(error).__name__, 160)
