"""Numerical precision: float64 on devices with and without it, and the least divisor."""

import torch
from torch import Tensor

LACK_FLOAT64 = {"mps"}
"""Types of devices without float64. PyTorch has no eigenvalues on them either."""

TINY = 1e-12
"""Lower bound of divisors that may be 0, such as the norm of a gradient."""


def exact(values: Tensor) -> Tensor:
    """Return the values in float64, on the CPU if their own device has no float64. Gradients flow back."""
    if values.device.type in LACK_FLOAT64:
        values = values.cpu()
    return values.to(torch.float64)


def wide(values: Tensor) -> torch.dtype:
    """Return the type in which values are subtracted and summed: float32, or their own if it is wider."""
    return torch.promote_types(values.dtype, torch.float32)


def widest(device: torch.device) -> torch.dtype:
    """Return the floating point type of highest precision on a device: float64, or float32 if the device has no float64."""
    return torch.float32 if device.type in LACK_FLOAT64 else torch.float64
