"""float64, for what loses too much by rounding, on devices with and without it."""

import torch
from torch import Tensor

LACK_FLOAT64 = {"mps"}
"""Kinds of devices without float64. PyTorch has no eigenvalues on them either."""


def exact(values: Tensor) -> Tensor:
    """The values in float64: on their own device, or on the CPU where that device has no float64. Gradients flow back."""
    if values.device.type in LACK_FLOAT64:
        values = values.cpu()
    return values.to(torch.float64)
