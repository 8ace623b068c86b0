"""A network, and the activations of its layers."""

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
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
    """Whether the GPU is lent to a fork of this process for one run at a time (ZeroGPU), and must not be touched outside of it."""
    return "SPACES_ZERO_GPU" in os.environ


class _Complete(BaseException):  # Not an Exception, so that no `except Exception` of a module stops it.
    """Raised in a hook: every layer that was asked for has been recorded, so the rest of the pass is not needed."""


class Network:
    """A frozen network that answers an image with the activations of its layers.

    Any `nn.Module` with a name for each layer: activations are recorded by forward hooks, which are removed after each pass.
    Images are (B, 3, H, W) float32 RGB in [0, 1]; mean and standard deviation stay in here.
    """

    def __init__(self, spec: NetworkSpec, module: nn.Module):
        self.spec = spec
        self.trunk = module.eval().requires_grad_(False)
        if not spec.as_is:
            folded(self.trunk)
        for part in self.trunk.modules():
            if getattr(part, "inplace", False) is True:
                part.inplace = False  # type: ignore[assignment]  # In place, it would overwrite what was recorded.
        self._modules = dict(self.trunk.named_modules())
        self._module_of = dict(spec.layers)
        if spec.classifier is not None and spec.classifier in self._modules:
            self._module_of[LOGITS] = spec.classifier
        self._overwritten: set[str] = set()
        """Modules whose output is changed in place by a later operation: found when that is seen, and copied from then on."""
        self._first: nn.Module | None = None
        self._costs: dict[frozenset[str], Cost] = {}
        self._channels: dict[str, int] = {}
        self._receptive_fields: dict[str, ReceptiveField] = {}
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> "Network":
        """Move to a device, and to the precision and the memory format that are quickest there."""
        dtype = precision(self.spec, device)
        self.trunk.to(device, dtype, memory_format=self._memory_format)  # type: ignore[call-overload]  # Not in torch's stubs.
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.contiguous_format if self.spec.as_is else torch.channels_last

    @property
    def bytes(self) -> int:
        """Of its weights."""
        return sum(tensor.nbytes for tensor in self.trunk.state_dict().values())

    @property
    def device(self) -> torch.device:
        """Where it computes, and where images have to be."""
        return self._mean.device

    @property
    def precision(self) -> torch.dtype:
        """What it computes in."""
        return next((parameter.dtype for parameter in self.trunk.parameters()), self._mean.dtype)

    def activations(self, image: Tensor, layers: Iterable[str], *, continued: bool = False) -> dict[str, Tensor]:
        """The activations of some layers, {layer: (B, C, h, w)}, without running anything deeper than the deepest.

        Of the image's own type, whatever the network computes in. A module that is called more than once gives its first
        output. An image is padded or resized where the network takes only some sizes.

        `continued`: the first convolution sees the image's border continued beyond it, instead of zeros, which are grey. Those
        are an edge all around the image, and one that is optimised glows against it (Crowson, 2021).

        Raises:
            FieldError: the network has no such layer.
            InputError: the image is smaller than the network can see.
        """
        wanted = set(layers)
        self._check(wanted, image)
        self._reserve(wanted, image)
        return self._forward(wanted, image, continued=continued)

    def _check(self, wanted: set[str], image: Tensor) -> None:
        """What `activations` raises."""
        if LOGITS in wanted and self.spec.classifier is not None and LOGITS not in self._module_of:
            raise FieldError(f"The weights of {self.spec.title} came without its classifier; choose a layer instead of a class.")
        for layer in wanted - {INPUT}:
            if layer not in self._module_of:
                raise FieldError(f"{self.spec.title} has no layer '{layer}'; {nearest(layer, list(self.spec.layers))}")
        height, width = image.shape[-2:]
        if min(height, width) < self.spec.smallest:
            raise InputError(
                f"{self.spec.title} needs at least {self.spec.smallest} pixels a side; this image is {width}×{height}."
            )

    def _reserve(self, wanted: set[str], image: Tensor) -> None:
        """Raise now if a CPU has too little memory for the pass and its way back. The memory is not touched, so this is free.

        In the middle of a convolution oneDNN would go on with a null pointer, and the process would end (torch 2.11).
        """
        if image.device.type == "cpu":
            cost, pixels = self.cost(wanted), image.numel() / 3
            needed = pixels * (cost.bytes if torch.is_grad_enabled() and image.requires_grad else cost.forward_bytes)
            torch.empty(int(max(RESERVE * needed, LEAST_RESERVE)), dtype=torch.uint8)

    def _forward(self, wanted: set[str], image: Tensor, *, continued: bool = False) -> dict[str, Tensor]:
        found = {INPUT: image} if INPUT in wanted else {}
        if names := {self._module_of[layer] for layer in wanted - {INPUT}}:
            features = (self.fitted(image) - self._mean) / self._std
            features = features.to(self.precision, memory_format=self._memory_format)
            outputs = self._outputs(features, names, continued)
            size, entered = (image.shape[-2], image.shape[-1]), (features.shape[-2], features.shape[-1])
            for name in outputs:
                for layer in wanted:
                    if self._module_of.get(layer) == name:
                        found[layer] = self._as_map(layer, outputs[name], entered, size).to(image.dtype)
        return found

    def fitted(self, image: Tensor) -> Tensor:
        """An image or a mask (B, C, H, W) in a size that the network takes: resized, or padded right and below."""
        if side := self.spec.fixed_size:
            image = functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
        right, below = (-side % self.spec.multiple for side in (image.shape[-1], image.shape[-2]))
        return functional.pad(image, (0, right, 0, below), mode="replicate") if right or below else image

    def _outputs(self, features: Tensor, names: set[str], continued: bool = False) -> dict[str, Tensor]:
        """Module name → its output, in the order in which they are computed. Ends the pass with the last of them."""
        outputs: dict[str, Tensor] = {}
        versions: dict[str, int] = {}
        caller = threading.get_ident()  # Another thread may be in the same module with hooks of its own.

        def record(name: str, output: Tensor) -> None:
            if threading.get_ident() == caller and name not in outputs:
                outputs[name] = output.clone() if name in self._overwritten else output
                versions[name] = outputs[name]._version
                if len(outputs) == len(names):
                    raise _Complete

        with ExitStack() as hooks:
            if continued:
                hooks.enter_context(_continuing(self._first_convolution(features), caller))
            for name in names:
                hook = self._modules[name].register_forward_hook(lambda _, __, output, name=name: record(name, output))
                hooks.callback(hook.remove)
            with suppress(_Complete):
                self.trunk(features)
        if changed := {name for name, output in outputs.items() if output._version != versions[name]}:
            self._overwritten |= changed
            return self._outputs(features, names, continued)
        if missing := names - outputs.keys():
            raise FieldError(f"{self.spec.title} does not reach its module '{missing.pop()}' with this image.")
        return outputs

    def _first_convolution(self, features: Tensor) -> nn.Module | None:
        """The convolution that is called first; None where there is none."""
        if self._first is None:
            caller = threading.get_ident()

            def note(module: nn.Module, _: object) -> None:
                if threading.get_ident() == caller:
                    self._first = module
                    raise _Complete

            with ExitStack() as hooks, torch.no_grad():
                for module in self._modules.values():
                    if isinstance(module, nn.Conv2d):
                        hooks.callback(module.register_forward_pre_hook(note).remove)
                with suppress(_Complete):
                    self.trunk(features)
        return self._first

    def _as_map(self, layer: str, output: Tensor, entered: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """A module's output as (B, C, h, w), without what belongs to the padding of an image of `size` to `entered`."""
        if layer == LOGITS:
            return output.flatten(1)[..., None, None]
        if layer in self.spec.layouts:
            output = self.spec.layouts[layer].as_map(output, entered)
        if self.spec.multiple == 1:
            return output
        height, width = (-(-part * own // whole) for part, own, whole in zip(output.shape[-2:], size, entered, strict=True))
        return output[..., :height, :width]

    def logits(self, image: Tensor) -> Tensor:
        """The classifier's answer, (B, classes), for networks that end in one."""
        return self.activations(image, [LOGITS])[LOGITS].flatten(1)

    def channels(self, layer: str) -> int:
        """How many feature maps a layer has."""
        if layer not in self._channels:
            side = self.spec.smallest
            with torch.no_grad():
                answer = self.activations(torch.zeros(1, 3, side, side, device=self.device), [layer])[layer]
            self._channels[layer] = answer.shape[1]
        return self._channels[layer]

    def check_channels(self, layer: str, channels: Iterable[int]) -> None:
        """Raises FieldError for a channel that the layer does not have."""
        count = self.channels(layer)
        for channel in channels:
            if channel >= count:
                raise FieldError(f"{self.spec.title} {layer} has no channel {channel}; it has 0 to {count - 1}.")

    def receptive_field(self, layer: str) -> ReceptiveField:
        """What the units of a layer see of an image, and how far they are apart. A matter of shapes alone, but for layers
        whose row says what was measured.

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
        """Whether an image may be seen by tiles: not where a unit of these layers sees all of it.

        A class may be asked of each tile, if the maps that the classifier averages may.
        """
        maps = {list(self.spec.layers)[-1] if layer == LOGITS else layer for layer in layers} - {INPUT}
        return not any(math.isinf(side) for layer in maps for side in self.receptive_field(layer).field)

    def cost(self, layers: Iterable[str]) -> "Cost":
        """What a forward pass to these layers and the way back to the image take, per pixel. Counted on a small image."""
        wanted = frozenset(layers)
        if wanted not in self._costs:
            self._check({*wanted}, torch.empty(1, 3, self.spec.smallest, self.spec.smallest, device="meta"))
            self._costs[wanted] = self._count(wanted)
        return self._costs[wanted]

    def _count(self, layers: frozenset[str]) -> "Cost":
        from torch.utils.flop_counter import FlopCounterMode  # Here, since it brings Triton along, which takes its time.

        side = max(64, 2 * self.spec.smallest)
        image = torch.rand(1, 3, side, side, device=self.device, requires_grad=True)
        with torch.enable_grad(), LiveBytes() as there_and_back, FlopCounterMode(display=False) as counter:
            sums = (activations.square().sum() for activations in self._forward({*layers}, image).values())
            torch.autograd.grad(reduce(add, sums), image)
        with torch.no_grad(), LiveBytes() as there:
            self._forward({*layers}, image)
        return Cost(
            flops=counter.get_total_flops() / side**2,
            bytes=there_and_back.peak / side**2,
            forward_bytes=there.peak / side**2,
        )


RESERVE = 1.25
"""Of what a pass is expected to take: the buffers of oneDNN, and free blocks between used ones."""

LEAST_RESERVE = 64e6
"""Bytes. A block this large is a mapping of its own, as oneDNN's code for a new shape is; the C library's heap may have free
blocks where the system grants no more mappings."""

RIM = 4
"""Pixels by which an image is continued at least: all that the first convolution of the networks in the table sees beyond it."""


@contextmanager
def _continuing(convolution: nn.Module | None, caller: int) -> Iterator[None]:
    """A context in which a convolution computes its output as if its input continued beyond the border as it is there.

    For the passes of the thread `caller`. A whole number of steps is added on each side, so that positions stay the same.
    """
    if not isinstance(convolution, nn.Conv2d):
        yield
        return
    rims = [
        math.lcm(RIM, step) * -(-(kernel * dilation // 2) // math.lcm(RIM, step))
        for kernel, dilation, step in zip(convolution.kernel_size, convolution.dilation, convolution.stride, strict=True)
    ]
    above, left = (rim // step for rim, step in zip(rims, convolution.stride, strict=True))

    def enlarge(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if threading.get_ident() != caller:
            return None
        return functional.pad(given[0], (rims[1], rims[1], rims[0], rims[0]), mode="replicate"), *given[1:]

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output[..., above:-above, left:-left] if threading.get_ident() == caller else output

    with ExitStack() as hooks:
        hooks.callback(convolution.register_forward_pre_hook(enlarge).remove)
        hooks.callback(convolution.register_forward_hook(cut).remove)
        yield


def folded(trunk: nn.Module) -> nn.Module:
    """A network in which each batch norm is part of the convolution before it: the same answers, without a pass for each."""
    for module in list(trunk.modules()):
        for (name, convolution), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, norm_name, nn.Identity())
    return trunk


def precision(spec: NetworkSpec, device: torch.device | str) -> torch.dtype:
    """What a network computes in: bfloat16 where it bears that and a CPU has instructions for it, else float32.

    On such a CPU that is twice as fast, and takes half the memory. On a GPU it has not been measured. Where a GPU is lent,
    the CPU only keeps the weights for it, and keeps them as they are.
    """
    able = torch.cpu.get_capabilities()
    native = torch.device(device).type == "cpu" and not zero_gpu() and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if spec.bears_bfloat16 and native else torch.float32


@dataclass(frozen=True)
class Cost:
    """What an image costs, per pixel of it."""

    flops: float
    """Floating point operations, a multiplication and an addition counted as two."""
    bytes: float
    """Memory at the peak of a forward pass and the backward pass of ½‖a‖², beside the image and the weights."""
    forward_bytes: float
    """The same for a forward pass alone."""


class LiveBytes(TorchDispatchMode):
    """A context that counts the bytes of the tensors made in it that are alive, and their peak. Also on the meta device.

    Counts what operations return. Buffers inside an operation are not seen.
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
