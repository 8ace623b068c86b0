"""A network, and the activations that it answers with."""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from featviz.networks import INPUT, LOGITS, NetworkSpec
from featviz.receptive import Sight, sight

LENT = "SPACES_ZERO_GPU" in os.environ
"""Whether the GPU is lent to a fork of this process for a run at a time (ZeroGPU), and may not be touched in between."""


class Network:
    """A frozen convolutional network that answers an image with activations.

    Images are (B, 3, H, W) float32 RGB in [0, 1]; mean and standard deviation stay in here.
    """

    def __init__(self, spec: NetworkSpec, trunk: nn.Sequential):
        self.spec = spec
        self.trunk = folded(trunk.eval()).requires_grad_(False)
        self._layer_of = {child: layer for layer, child in spec.layers.items()}
        if spec.classifier in dict(trunk.named_children()):
            self._layer_of[spec.classifier] = LOGITS
        self._costs: dict[frozenset[str], Cost] = {}
        self._channels: dict[str, int] = {}
        self._sights: dict[str, Sight] = {}
        self._mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std).view(1, 3, 1, 1)

    def to(self, device: torch.device | str) -> "Network":
        """Move to a device, and to the precision and the memory format that are quickest there."""
        dtype = precision(self.spec, device)
        self.trunk.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # Not in torch's stubs.
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

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
        return next(self.trunk.parameters()).dtype

    def activations(self, image: Tensor, layers: Iterable[str], *, continued: bool = False) -> dict[str, Tensor]:
        """What the asked layers answer, as {layer: (B, C, h, w)}, without running anything deeper than the deepest.

        Of the image's own type, whatever the network computes in.

        `continued`: the first module sees the image's border go on beyond it, instead of zeros, which are grey. Those are an
        edge all around the image, and one that is optimised glows against it (Crowson, 2021).

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
        if LOGITS in wanted and self.spec.classifier and LOGITS not in self._layer_of.values():
            raise FieldError(f"The weights of {self.spec.title} came without its classifier; choose a layer instead of a class.")
        for layer in wanted - {INPUT}:
            if layer not in self._layer_of.values():
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
        features = ((image - self._mean) / self._std).to(self.precision, memory_format=torch.channels_last)
        for child, module in self.trunk.named_children():
            if len(found) == len(wanted):
                break
            features = _continued(module, features) if continued else module(features)
            continued = False
            if (name := self._layer_of.get(child)) in wanted:
                found[name] = features.to(image.dtype)
        return found

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

    def sight(self, layer: str) -> Sight:
        """What the units of a layer see of an image, and how far they are apart. A matter of shapes alone.

        Raises:
            FieldError: the network has no such layer.
        """
        if layer not in self._sights:
            image = torch.empty(1, 3, self.spec.smallest, self.spec.smallest, device=self.device)
            self._sights[layer] = sight(lambda image: self.activations(image, [layer])[layer], image)
        return self._sights[layer]

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
"""Pixels by which an image is continued: all that the first module of any network sees beyond the border."""


def _continued(module: nn.Module, features: Tensor) -> Tensor:
    """A module's answer as if its input went on beyond the border as it is there."""
    larger = functional.pad(features, (RIM,) * 4, mode="replicate")
    answer = module(larger)
    cut = RIM // round(larger.shape[-1] / answer.shape[-1])
    return answer[..., cut:-cut, cut:-cut]


def folded(trunk: nn.Sequential) -> nn.Sequential:
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
    native = torch.device(device).type == "cpu" and not LENT and (able.get("avx512_bf16") or able.get("amx_bf16"))
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
