"""Redirected ReLUs: a unit that is off can still be asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

TOPS: Mapping[Callable, float] = {
    functional.relu: float("inf"),
    torch.relu: float("inf"),
    functional.relu6: 6.0,
    functional.hardtanh: 6.0,  # What the module ReLU6 calls.
}
"""The functions that are replaced, and where each of them ends."""


class RedirectedReLU(TorchFunctionMode):
    """A context in which a ReLU that is off, or at its top, passes on a gradient that would bring it back (Olah et al., 2017).

    A channel that answers nothing at all to noise has no gradient, and its visualisation would stay grey. The forward pass
    is as always. The gradient is that of something to be made smaller. Holds for the running thread alone.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in TOPS:
            return _Clamp.apply(args[0], TOPS[func])
        return func(*args, **(kwargs or {}))


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, top: float) -> Tensor:
        ctx.save_for_backward(values)
        ctx.top = top
        return values.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        passes = ((values > 0) | (gradient < 0)) & ((values < ctx.top) | (gradient > 0))
        return torch.where(passes, gradient, 0), None
