"""A network and the activations of its layers."""

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from operator import add
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featviz.errors import FieldError, InputError, nearest
from featviz.networks.receptive_field import ReceptiveField, receptive_fields
from featviz.networks.table import INPUT, LOGITS, NetworkSpec


def zero_gpu() -> bool:
    """Return whether this is a ZeroGPU Space: each run gets the GPU in a fork, and this process must not use it."""
    return "SPACES_ZERO_GPU" in os.environ


Edit = Callable[[Tensor], Tensor]
"""A change of a layer's activations, (B, C, h, w) → the same shape, or what broadcasts to it."""


class _Complete(BaseException):  # Not an Exception, so that no `except Exception` of a module stops it.
    """Raised by a hook to end a pass whose remaining operations are not needed."""


class Network:
    """A frozen module that maps an image to the activations of named layers.

    Works with any `nn.Module`: forward hooks record the activations, end the pass at the deepest layer, and are removed.
    Images are (B, 3, H, W) float32 RGB in [0, 1]; only this class knows mean and standard deviation. The module is changed:
    batch norms are folded into convolutions (unless `spec.unmodified`), and in-place operations are switched off.
    """

    def __init__(self, spec: NetworkSpec, module: nn.Module):
        self.spec = spec
        self.module = module.eval().requires_grad_(False)
        if not spec.unmodified:
            fold_batch_norms(self.module)
        switch_off_in_place(self.module)
        self._modules = dict(self.module.named_modules())
        self._module_of = dict(spec.layers)
        if spec.classifier is not None and spec.classifier in self._modules:
            self._module_of[LOGITS] = spec.classifier
        self._overwritten: set[str] = set()
        """Modules whose output a later operation changes in place. Filled when this is detected; then their output is copied."""
        self._first: nn.Module | None = None
        self._costs: dict[tuple[frozenset[str], bool], Cost] = {}
        self._channels: dict[str, int] = {}
        self._receptive_fields: dict[str, ReceptiveField] = {}
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> "Network":
        """Move to a device, in the precision and the memory format that are fastest there."""
        dtype = fastest_dtype(self.spec, device)
        self.module.to(device, dtype, memory_format=self._memory_format)  # type: ignore[call-overload]  # Not in torch's stubs.
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.contiguous_format if self.spec.unmodified else torch.channels_last

    @property
    def bytes(self) -> int:
        """The size of the weights."""
        return sum(value.nbytes for value in self.module.state_dict().values() if isinstance(value, Tensor))

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which images have to be."""
        return self._mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, in which activations are computed."""
        return next((parameter.dtype for parameter in self.module.parameters()), self._mean.dtype)

    def activations(
        self,
        image: Tensor,
        layers: Iterable[str],
        *,
        continued: bool = False,
        native: bool = False,
        edits: Mapping[str, Edit] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Return the activations of some layers, {layer: (B, C, h, w)}. Nothing deeper than the deepest layer is computed.

        The type is the image's, or with `native` the one that the network computes in. A module that is called more than once
        gives its first output. The image is resized or padded if the network accepts only some sizes.

        `continued`: the first convolution pads by replicating the image's border instead of by zeros, which are the mean colour.
        Zeros are an edge all around the image, and an optimised image glows along that edge (Crowson, 2021).

        `edits`: layer → change of its activations. All that is computed of them, and the layer itself if asked for, sees the change.

        Raises:
            FieldError: the network has no such layer.
            InputError: the image is smaller than the network accepts.
        """
        layers = set(layers)
        self._check(layers | edits.keys(), image)
        self._check_memory(layers, image, native=native)
        activations = self._forward(layers, image, continued=continued, edits=edits)
        return activations if native else {layer: values.to(image.dtype) for layer, values in activations.items()}

    def _check(self, layers: set[str], image: Tensor) -> None:
        """Raise what `activations` documents."""
        if LOGITS in layers and self.spec.classifier is not None and LOGITS not in self._module_of:
            raise FieldError(f"The weights of {self.spec.title} have no classifier; choose a layer instead of a class.")
        for layer in layers - {INPUT}:
            if layer not in self._module_of:
                raise FieldError(f"{self.spec.title} has no layer '{layer}'; {nearest(layer, list(self.spec.layers))}")
        height, width = image.shape[-2:]
        if min(height, width) < self.spec.smallest:
            raise InputError(
                f"{self.spec.title} needs at least {self.spec.smallest} pixels a side; this image is {width}×{height}."
            )

    def _check_memory(self, layers: set[str], image: Tensor, *, native: bool) -> None:
        """Raise torch's error now if a CPU has too little memory for the pass and its backward pass.

        Inside a convolution, oneDNN would continue with a null pointer and end the process (torch 2.11). The block allocated
        here is not touched, so it costs nothing.
        """
        if image.device.type == "cpu":
            cost, pixels = self.cost(layers, native=native), image.numel() / 3
            needed = pixels * (cost.bytes if torch.is_grad_enabled() and image.requires_grad else cost.forward_bytes)
            torch.empty(int(max(RESERVE * needed, MIN_RESERVE)), dtype=torch.uint8)

    def _forward(
        self, layers: set[str], image: Tensor, *, continued: bool = False, edits: Mapping[str, Edit] = MappingProxyType({})
    ) -> dict[str, Tensor]:
        if INPUT in edits:
            image = edits[INPUT](image)
        activations = {INPUT: image} if INPUT in layers else {}
        if names := {self._module_of[layer] for layer in layers - {INPUT}}:
            features = (self.adapt_size(image) - self._mean) / self._std
            features = features.to(self.dtype, memory_format=self._memory_format)
            size, adapted_size = (image.shape[-2], image.shape[-1]), (features.shape[-2], features.shape[-1])
            changes: dict[str, Edit] = {}
            for layer in edits.keys() - {INPUT}:
                changes[self._module_of[layer]] = partial(self._edited, layer, edits[layer], adapted_size, size)
            for name, output in self._outputs(features, names, continued, changes).items():
                for layer in layers:
                    if self._module_of.get(layer) == name:
                        activations[layer] = self._as_map(layer, output, adapted_size, size)
        return activations

    def adapt_size(self, image: Tensor) -> Tensor:
        """Return an image or a mask (B, C, H, W) in a size that the network accepts: resized, or padded right and below."""
        if side := self.spec.fixed_size:
            image = functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
        right, below = (-side % self.spec.multiple for side in (image.shape[-1], image.shape[-2]))
        return functional.pad(image, (0, right, 0, below), mode="replicate") if right or below else image

    def _edited(self, layer: str, edit: Edit, adapted_size: tuple[int, int], size: tuple[int, int], output: Tensor) -> Tensor:
        """Return a copy of a module's output with the activations of its layer changed. The output itself stays as it is."""
        changed = output.clone()
        self._as_map(layer, changed, adapted_size, size).copy_(edit(self._as_map(layer, output, adapted_size, size)))
        return changed

    def _outputs(
        self,
        features: Tensor,
        names: set[str],
        continued: bool = False,
        changes: Mapping[str, Edit] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Return module name → output, in order of execution. The pass ends with the last of them.

        `changes`: module name → change of its first output.
        """
        outputs: dict[str, Tensor] = {}
        versions: dict[str, int] = {}
        unchanged = {*changes}
        caller = threading.get_ident()  # Other threads may run the same module, with hooks of their own.

        def record(name: str, output: Tensor) -> None:
            if threading.get_ident() == caller and name not in outputs:
                outputs[name] = output.clone() if name in self._overwritten else output
                versions[name] = outputs[name]._version
                if len(outputs) == len(names):
                    raise _Complete

        def change(name: str, output: Tensor) -> Tensor | None:
            if threading.get_ident() != caller or name not in unchanged:
                return None
            unchanged.remove(name)
            return changes[name](output)

        with ExitStack() as hooks:
            if continued:
                hooks.enter_context(_replicating(self._first_convolution(features), caller))
            for name in changes:  # Before those that record.
                hook = self._modules[name].register_forward_hook(lambda _, __, output, name=name: change(name, output))
                hooks.callback(hook.remove)
            for name in names:
                hook = self._modules[name].register_forward_hook(lambda _, __, output, name=name: record(name, output))
                hooks.callback(hook.remove)
            with suppress(_Complete):
                self.module(features)
        if overwritten := {name for name, output in outputs.items() if output._version != versions[name]}:
            self._overwritten |= overwritten
            return self._outputs(features, names, continued, changes)
        if missing := names - outputs.keys():
            raise FieldError(f"{self.spec.title} does not reach its module '{missing.pop()}' with this image.")
        return outputs

    def _first_convolution(self, features: Tensor) -> nn.Module | None:
        """Return the convolution that is called first, None if there is none."""
        if self._first is None:
            caller = threading.get_ident()

            def record(module: nn.Module, _: object) -> None:
                if threading.get_ident() == caller:
                    self._first = module
                    raise _Complete

            with ExitStack() as hooks, torch.no_grad():
                for module in self._modules.values():
                    if isinstance(module, nn.Conv2d):
                        hooks.callback(module.register_forward_pre_hook(record).remove)
                with suppress(_Complete):
                    self.module(features)
        return self._first

    def _as_map(self, layer: str, output: Tensor, adapted_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Return a module's output as (B, C, h, w), without the part that belongs to the padding of `size` to `adapted_size`."""
        if layer == LOGITS:
            return output.flatten(1)[..., None, None]
        if layer in self.spec.layouts:
            output = self.spec.layouts[layer].as_map(output, adapted_size)
        if self.spec.multiple == 1:
            return output
        height, width = (
            math.ceil(positions * side / adapted)
            for positions, side, adapted in zip(output.shape[-2:], size, adapted_size, strict=True)
        )
        return output[..., :height, :width]

    def logits(self, image: Tensor) -> Tensor:
        """Return the logits of the classifier, (B, classes). Raises as `activations` does."""
        return self.activations(image, [LOGITS])[LOGITS].flatten(1)

    def channels(self, layer: str) -> int:
        """Return the number of channels of a layer. Raises as `activations` does."""
        if layer not in self._channels:
            side = self.spec.smallest
            with torch.no_grad():
                activations = self.activations(torch.zeros(1, 3, side, side, device=self.device), [layer])[layer]
            self._channels[layer] = activations.shape[1]
        return self._channels[layer]

    def check_channels(self, layer: str, channels: Iterable[int]) -> None:
        """Raise FieldError for a channel that the layer does not have."""
        count = self.channels(layer)
        for channel in channels:
            if channel >= count:
                raise FieldError(f"{self.spec.title} {layer} has no channel {channel}; it has 0 to {count - 1}.")

    def receptive_field(self, layer: str) -> ReceptiveField:
        """Return the receptive field of a layer's units: as measured where the row has it, else as the operations imply.

        Raises:
            FieldError: the network has no such layer.
        """
        if layer in self.spec.receptive_fields:
            return self.spec.receptive_fields[layer]
        if layer not in self._receptive_fields:
            image = torch.empty(1, 3, self.spec.smallest, self.spec.smallest, device=self.device)
            self._receptive_fields |= receptive_fields(lambda image: self.activations(image, [layer]), image)
        return self._receptive_fields[layer]

    def tiled(self, layers: Iterable[str]) -> bool:
        """Return whether the layers may be computed tile by tile: not if a unit of them sees the whole image.

        The logits of a tile are those of an image of its own, so they need this only of the layers before the classifier.
        """
        maps = {list(self.spec.layers)[-1] if layer == LOGITS else layer for layer in layers} - {INPUT}
        return not any(math.isinf(side) for layer in maps for side in self.receptive_field(layer).field)

    def cost(self, layers: Iterable[str], *, native: bool = False) -> "Cost":
        """Return the cost per pixel of a forward pass to these layers and of the gradient of the image.

        Counted once, on a small image. `native` as in `activations`.

        Raises:
            FieldError: the network has no such layer.
        """
        key = frozenset(layers), native
        if key not in self._costs:
            self._check({*layers}, torch.empty(1, 3, self.spec.smallest, self.spec.smallest, device="meta"))
            self._costs[key] = self._count(*key)
        return self._costs[key]

    def _count(self, layers: frozenset[str], native: bool) -> "Cost":
        from torch.utils.flop_counter import FlopCounterMode  # Imported late: it imports Triton, which is slow.

        side = max(64, 2 * self.spec.smallest)
        image = torch.rand(1, 3, side, side, device=self.device, requires_grad=True)

        def activations() -> list[Tensor]:
            return [values if native else values.to(image.dtype) for values in self._forward({*layers}, image).values()]

        with (
            self._executed() as executed,
            torch.enable_grad(),
            LiveBytes() as with_backward,
            FlopCounterMode(display=False) as counter,
        ):
            torch.autograd.grad(reduce(add, (values.square().sum() for values in activations())), image)
        with torch.no_grad(), LiveBytes() as forward:
            activations()
        weights = [weights for module in executed for weights in module.parameters(recurse=False)]
        return Cost(
            flops=counter.get_total_flops() / side**2,
            bytes=with_backward.peak / side**2,
            forward_bytes=forward.peak / side**2,
            fixed_work=sum(tensor.numel() for tensor in weights) + MODULE_WORK * len(executed),
            fixed_bytes=WEIGHT_COPIES * max((tensor.nbytes for tensor in weights if tensor.ndim == 4), default=0),
        )

    @contextmanager
    def _executed(self) -> Iterator[set[nn.Module]]:
        """Collect the modules with weights that the calling thread runs."""
        caller, executed = threading.get_ident(), set[nn.Module]()

        def record(module: nn.Module, _: object) -> None:
            if threading.get_ident() == caller:
                executed.add(module)

        with ExitStack() as hooks:
            for module in self._modules.values():
                if next(module.parameters(recurse=False), None) is not None:
                    hooks.callback(module.register_forward_pre_hook(record).remove)
            yield executed


RESERVE = 1.25
"""Factor on the bytes that a pass is expected to take, for oneDNN's buffers and the fragmentation of the heap."""

MIN_RESERVE = 64e6
"""Bytes. A block this large is a memory mapping of its own, as oneDNN's code for a new shape is; smaller ones may come from free
blocks of the heap while the system grants no more mappings."""

MODULE_WORK = 100_000
"""Weights whose reading takes as long as it takes to start a module. Measured with both bundled networks, 64 to 384 px a side."""

WEIGHT_COPIES = 3
"""Copies of the largest weights that oneDNN holds at once: in its layouts for the forward and for the backward pass, and those
of the layer before. Measured with VGG-19 in float32 and bfloat16, with AVX2, AVX-512 and AMX."""

MIN_RIM = 4
"""The least number of pixels by which an image is continued: at least what the first convolutions of the table see beyond it."""


@contextmanager
def _replicating(convolution: nn.Module | None, caller: int) -> Iterator[None]:
    """A context in which a convolution pads its input by replicating the border instead of by zeros.

    For the passes of the thread `caller`. The rim is a multiple of the convolution's stride, so that positions stay the same.
    """
    if not isinstance(convolution, nn.Conv2d):
        yield
        return
    multiples = [math.lcm(MIN_RIM, stride) for stride in convolution.stride]
    rims = [
        multiple * math.ceil(kernel * dilation // 2 / multiple)
        for kernel, dilation, multiple in zip(convolution.kernel_size, convolution.dilation, multiples, strict=True)
    ]
    above, left = (rim // stride for rim, stride in zip(rims, convolution.stride, strict=True))

    def enlarge(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if threading.get_ident() != caller:
            return None
        return functional.pad(arguments[0], (rims[1], rims[1], rims[0], rims[0]), mode="replicate"), *arguments[1:]

    def crop(_: nn.Module, __: object, output: Tensor) -> Tensor:
        if threading.get_ident() != caller:
            return output
        # Not by an index, whose derivative would not be in the memory format of the output.
        return functional.pad(output, (-left, -left, -above, -above))

    with ExitStack() as hooks:
        hooks.callback(convolution.register_forward_pre_hook(enlarge).remove)
        hooks.callback(convolution.register_forward_hook(crop).remove)
        yield


def switch_off_in_place(module: nn.Module) -> None:
    """Switch off the operations in place of a module's parts, e.g. of ReLUs. They would overwrite recorded activations."""
    for part in module.modules():
        if getattr(part, "inplace", False) is True:
            part.inplace = False  # type: ignore[assignment]


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution defined before it, and return the module: same outputs, fewer operations."""
    for parent in list(module.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, norm_name, nn.Identity())
    return module


def fastest_dtype(spec: NetworkSpec, device: torch.device | str) -> torch.dtype:
    """Return the type that a network computes in on a device: bfloat16 if the network and the device support it, else float32.

    On such a CPU, bfloat16 takes half the time and memory. On a CUDA card it has not been measured, and should. Products are summed
    in float32 on both. On a ZeroGPU Space the CPU only stores the weights for the GPU, so they stay float32.
    """
    return torch.bfloat16 if spec.supports_bfloat16 and _has_bfloat16(torch.device(device)) else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return zero_gpu() or torch.cuda.get_device_capability(device) >= (8, 0)  # The page's process must not ask a lent card.
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and not zero_gpu() and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@dataclass(frozen=True)
class Cost:
    """The cost of a pass over an image: per pixel, and a fixed part."""

    flops: float
    """Floating point operations of the forward and the backward pass; a multiplication and an addition count as two."""
    bytes: float
    """Peak memory of a forward pass and the backward pass of Σa², without the image and the weights."""
    forward_bytes: float
    """Peak memory of a forward pass alone."""
    fixed_work: float
    """Work of a pass however small the image: weights that are read, and `MODULE_WORK` for each module that has some."""
    fixed_bytes: float
    """Memory of a pass however small the image, beside the weights: copies of the largest weights."""


class LiveBytes(TorchDispatchMode):
    """A context that counts the bytes of the live tensors created in it, and their peak. Works on the meta device too.

    Counts the results of operations; buffers inside an operation are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        own = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and (key := (storage := tensor.untyped_storage())._cdata) not in own:
                self._alive[key] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, key, None)
        self.peak = max(self.peak, sum(self._alive.values()))
        return results
