"""Redirected ReLU gradients (Olah et al., 2017): an inactive unit still gets a gradient."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

UPPER_BOUNDS: Mapping[Callable, float] = {
    functional.relu: float("inf"),
    torch.relu: float("inf"),
    functional.relu6: 6.0,
    functional.hardtanh: 6.0,  # What the module ReLU6 calls.
}
"""Replaced function → its upper bound."""


class RedirectedReLU(TorchFunctionMode):
    """A context in which a ReLU that stops all of an image's gradient passes on what moves its units out of saturation.

    Without it, a channel that is zero for noise has no gradient, and its visualisation stays grey. Other ReLUs keep their
    gradient: redirected as well, they would lead away from the channel, in the head of EfficientNet-Lite0 so far that none of 16
    channels tried became active. The forward pass is unchanged. The gradient has to be that of a loss to minimise. Applies to the
    current thread only.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in UPPER_BOUNDS:
            return _Clamp.apply(args[0], UPPER_BOUNDS[func])
        return func(*args, **(kwargs or {}))


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, upper_bound: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.upper_bound = upper_bound
        return values.clamp(0, upper_bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        positive, unbounded = values > 0, values < ctx.upper_bound
        plain = torch.where(positive & unbounded, gradient, 0)
        redirected = torch.where((positive | (gradient < 0)) & (unbounded | (gradient > 0)), gradient, 0)
        passes = plain.flatten(1).any(1).view(-1, *[1] * (plain.ndim - 1))
        return torch.where(passes, plain, redirected), None
