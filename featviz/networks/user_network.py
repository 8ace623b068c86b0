"""Add a user's network to the table: a module, or a file of weights for an architecture of the table."""

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from featviz.errors import FieldError, InputError, nearest, reason, short
from featviz.networks.cache import unload
from featviz.networks.measurement import (
    MIN_SIDE_RESIZED,
    AcceptedSizes,
    Layout,
    Maps,
    Probe,
    Size,
    layout_of,
    map_sizes,
    measure_receptive_fields,
)
from featviz.networks.network import Network, switch_off_in_place
from featviz.networks.table import IMAGENET, INPUT, LOGITS, NETWORKS, NetworkSpec, check_name
from featviz.networks.weights import Bundled, Hub, InMemory, LocalFile, sha256_of, stored_shape

MAX_STYLE_LAYERS = 5
"""The most style layers chosen for a module, one at each resolution."""

SEPARATOR = re.compile(r"[,:\s]")
"""What a layer's name cannot contain, since it separates layers and weights in a field."""


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
    """Add a network to the table under `name`, so that every recipe and surface can use it; return its row.

    `network` is a module, as in `describe_network`, or the name of a network of the table whose architecture is used with the
    `weights` of a safetensors file, named as by torchvision and timm. Then `mean` and `std` are those of that network by default.

    Raises:
        FieldError: the name is taken or malformed, the architecture is unknown, or as `describe_network` raises it.
        InputError: the module cannot be used.
        WeightsError: the file cannot be used.
    """
    check_name(name)
    if name in NETWORKS:
        raise FieldError(f"There is a network '{name}' already; choose another name, or remove it with remove_network.")
    if isinstance(network, nn.Module) and weights is None:
        row = describe_network(network, title=name, mean=mean, std=std, layers=layers, classes=classes)
    elif isinstance(network, str) and weights is not None and layers is None:
        row = _with_weights(network, Path(weights), title=name, mean=mean, std=std, classes=classes)
    else:
        raise InputError("add_network takes a module, or the name of an architecture with the weights for it and no layers.")
    NETWORKS[name] = row
    return row


def remove_network(name: str) -> None:
    """Remove a network from the table and from memory.

    Raises:
        FieldError: the network is unknown, or came with featviz.
    """
    if name not in NETWORKS:
        raise FieldError(NETWORKS.missing_message(name))
    del NETWORKS[name]
    unload(name)


def describe_network(
    module: nn.Module,
    *,
    title: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layers: Iterable[str] | Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
) -> NetworkSpec:
    """Return the row of a module, whose facts are measured by running a copy on small images.

    `module` takes (B, 3, H, W): RGB in [0, 1], normalised by `mean` and `std`, by default ImageNet's. `layers` are qualified
    names as in `module.named_modules()`, or {layer name: qualified name}; by default all modules whose output is a map with a
    gradient, in order of execution. Without a layer name of its own, a module gives its layer its qualified name, with "_" for
    commas, colons and spaces, and after "input" and "logits". `classes` names the columns of the module's output (B, classes).
    The row holds a copy of the module, so later changes of its weights have no effect.

    Raises:
        FieldError: `mean` or `std` are not three numbers, a layer is unknown, returns no map or has a name that fields cannot
            hold, or `classes` do not match.
        InputError: the module does not run on images, or has no layer that returns a map with a gradient of the image.
    """
    module = _copied(module)
    mean = _three("mean", IMAGENET["mean"] if mean is None else mean)
    std = _three("std", IMAGENET["std"] if std is None else std, positive=True)
    probe = Probe(module, may_fail_late=classes is None)
    shapes, sizes = probe.sizes()
    differentiable = probe.differentiable(sizes.base)
    layouts = {
        path: layout for path in shapes if path and path in differentiable and (layout := layout_of(shapes[path], sizes.base))
    }
    outputs = {path: f"{shape}{'' if path in differentiable else ' without a gradient'}" for path, shape in shapes.items()}
    chosen = _chosen(layers, module, layouts, outputs)
    if classes is not None:
        _check_classes(classes, probe.run(sizes.base).get(""))
    row = NetworkSpec(
        title=title or type(module).__name__,
        build=partial(_sharing_memory, module),
        weights=InMemory(module),
        licence="your own",
        mean=mean,
        std=std,
        layers=chosen,
        content_layer="",
        style_layers=(),
        smallest=MIN_SIDE_RESIZED if sizes.fixed else probe.min_side(sizes.multiple, set(chosen.values())),
        good_for="Your own network.",
        classifier=None if classes is None else "",
        classes=None if classes is None else tuple(classes),
        unmodified=True,
        layouts={layer: layout for layer, path in chosen.items() if not isinstance(layout := layouts[path], Maps)},
        fixed_size=sizes.fixed,
        multiple=sizes.multiple,
    )
    return _measured(row, sizes)


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU for inference in float32. Raises InputError if there can be none."""
    if not isinstance(module, nn.Module):
        raise InputError(f"A network has to be a torch.nn.Module; this is {type(module).__name__}.")
    try:
        copied = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    except Exception as error:  # A module may hold anything.
        raise InputError(f"The module cannot be copied: {reason(error)}.") from None
    switch_off_in_place(copied)
    return copied


def _measured(row: NetworkSpec, sizes: AcceptedSizes) -> NetworkSpec:
    """Return a row with what follows from the maps of its layers: receptive fields, the smallest size, layers for style transfer."""
    network = Network(row, row.build())
    map_size = map_sizes(network, sizes.base)
    content_layer, style_layers = _style_transfer_layers(map_size)
    coarsest = max(
        round(pixels / positions) for size in map_size.values() for pixels, positions in zip(sizes.base, size, strict=True)
    )
    return replace(
        row,
        content_layer=content_layer,
        style_layers=style_layers,
        smallest=max(row.smallest, min(coarsest, *sizes.base)),  # In a smaller image, a unit would see more padding than image.
        receptive_fields=measure_receptive_fields(network, map_size, sizes),
    )


def _chosen(
    layers: Iterable[str] | Mapping[str, str] | None, module: nn.Module, layouts: Mapping[str, Layout], outputs: Mapping[str, str]
) -> dict[str, str]:
    """Return layer → qualified name of its module, in order of execution. Raises as `describe_network` does."""
    maps = list(layouts)
    if not maps:
        raise InputError(
            f"{type(module).__name__} has no layer whose output is a map with a gradient, (B, C, h, w) or (B, N, C)."
        )
    if layers is None:
        return _named(maps)
    chosen = dict(layers) if isinstance(layers, Mapping) else _named(layers)
    known = [path for path, _ in module.named_modules() if path]
    for path in chosen.values():
        if path not in known:
            raise FieldError(f"{type(module).__name__} has no module '{short(path)}'; {nearest(path, known)}")
        if path not in maps:
            output = outputs.get(path, "no tensor")
            raise FieldError(f"The output of '{path}' is no map (B, C, h, w), but {output}; {nearest(path, maps)}")
    if not chosen:
        raise FieldError(f"layers is empty; leave it out for all {len(maps)} of them.")
    for name in chosen:
        if not isinstance(name, str) or not name or SEPARATOR.search(name):
            raise FieldError(f"A layer cannot be called '{short(name)}'; call it '{_layer_name(str(name))}', for example.")
    return dict(sorted(chosen.items(), key=lambda item: maps.index(item[1])))


def _named(paths: Iterable[str]) -> dict[str, str]:
    """Return layer → qualified name, for layers called as their modules."""
    return {_layer_name(str(path)): path for path in paths}


def _layer_name(path: str) -> str:
    """Return a name as that of a layer: without what separates layers in a field, and other than those with a meaning."""
    name = SEPARATOR.sub("_", path) or "_"
    return f"{name}_" if name in (INPUT, LOGITS) else name


def _sharing_memory(module: nn.Module) -> nn.Module:
    """Return a copy of a module that shares the memory of its weights."""
    tensors = [*module.parameters(), *module.buffers()]
    shared = {
        id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) if isinstance(tensor, nn.Parameter) else tensor.detach()
        for tensor in tensors
    }
    return copy.deepcopy(module, shared)


def _style_transfer_layers(map_size: Mapping[str, Size]) -> tuple[str, tuple[str, ...]]:
    """Return the content layer and the style layers of a module: one style layer at each resolution, and the middle one.

    At each resolution, take the last of the outermost modules, e.g. `layer2` rather than `layer2.1.relu`.
    """
    last: dict[int, str] = {}
    for layer, (height, _) in map_size.items():
        deeper = height < min(last, default=height + 1)
        if deeper or (height == min(last) and layer.count(".") <= last[height].count(".")):
            last[height] = layer
    layers = list(last.values())
    if len(layers) < 3:  # One resolution, as in a transformer: take layers at equal distances.
        names = list(map_size)
        layers = [names[i * (len(names) - 1) // (MAX_STYLE_LAYERS - 1)] for i in range(MAX_STYLE_LAYERS)]
    layers = list(dict.fromkeys(layers[:MAX_STYLE_LAYERS]))
    return layers[len(layers) // 2], (INPUT, *layers)


def _with_weights(
    architecture: str,
    path: Path,
    *,
    title: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    classes: Sequence[str] | None,
) -> NetworkSpec:
    """Return the row of an architecture with the weights of a file, which determine the number of classes."""
    renamed = {name: row.weights.renamed for name, row in NETWORKS.items() if isinstance(row.weights, (Bundled, Hub))}
    if architecture not in renamed:
        raise FieldError(f"There is no architecture '{short(architecture)}'; {nearest(architecture, list(renamed))}")
    row = NETWORKS[architecture]
    weights = LocalFile(path, sha256_of(path), renamed[architecture])
    build, class_names = row.build, row.classes
    if row.classifier is not None and (shape := stored_shape(path, f"{row.classifier}.1.weight", weights.renamed)):
        count = shape[0]
        if classes is not None and len(classes) != count:
            raise FieldError(f"The classifier in '{path.name}' has {count} classes; {len(classes)} are named.")
        build = partial(_with_classes, build, row.classifier, count)
        class_names = tuple(classes) if classes else None if count == 1000 else tuple(f"class {i}" for i in range(count))
    elif classes is not None:
        raise FieldError(f"There is no classifier in '{path.name}' for the classes that are named; leave them out.")
    new_row = replace(
        row,
        title=title,
        build=build,
        weights=weights,
        licence="your own",
        good_for=f"{row.title} with your own weights.",
        mean=row.mean if mean is None else _three("mean", mean),
        std=row.std if std is None else _three("std", std, positive=True),
        classes=class_names,
        supports_bfloat16=False,
    )
    # A shape-only copy is enough to check the file's names and shapes.
    with torch.device("meta"):
        weights.load(path, new_row.build().state_dict())
    return new_row


def _with_classes(build: Callable[[], nn.Module], classifier: str, count: int) -> nn.Module:
    """Build an architecture whose classifier has `count` classes."""
    module = build()
    last = module.get_submodule(f"{classifier}.1")
    assert isinstance(last, nn.Conv2d)  # Of an `architectures.Classifier`.
    module.set_submodule(f"{classifier}.1", nn.Conv2d(last.in_channels, count, 1))
    return module


def _check_classes(classes: Sequence[str], shape: tuple[int, ...] | None) -> None:
    """Raise FieldError unless a module's output for an image has one number for each class. `shape`: None if it is no tensor."""
    if shape is None or len(shape) < 2 or math.prod(shape) != shape[1] or shape[1] != len(classes):
        raise FieldError(f"{len(classes)} classes are named; the module's output for an image is {shape or 'no tensor'}.")


def _three(name: str, numbers: Sequence[float], *, positive: bool = False) -> tuple[float, float, float]:
    """Return `mean` or `std` as three floats. Raises FieldError if they are not three finite (and positive) numbers."""
    try:
        red, green, blue = map(float, numbers)
        if all(map(math.isfinite, (red, green, blue))) and (not positive or min(red, green, blue) > 0):
            return red, green, blue
    except (TypeError, ValueError):
        pass
    kind = "positive numbers" if positive else "numbers"
    raise FieldError(f"{name} is {short(numbers)}; expected three {kind}, of red, green and blue in [0, 1].")
