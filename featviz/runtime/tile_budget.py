"""How much memory the activations of a step may take on a device.

The number follows from the whole memory of the device, not from what is free at the moment: it decides how large pictures are cut
into tiles, and a dream by other tiles differs in its last bits. It is a power of two or a constant, so that machines of about the
same size agree. Only if a run does not fit beside others are its tiles made smaller, and its progress line says so.
"""

import math

import torch

from featviz import limits
from featviz.optimise.tiles import Budget
from featviz.runtime.capacity import total_memory

SHARE = 1 / 6
"""The most of a device's memory that the activations of a step take."""

MOST_ON_CPU = 1.48e9
"""The largest budget on a CPU, in bytes. Previews within a step are shown tile by tile, so smaller tiles give earlier previews: with one
tile, a dream by VGG-19 at 1536 pixels showed nothing new for 4 s. A style transfer at 1024×1024 pixels is still one tile."""

LEAST = 2**26
"""The least budget, in bytes: below, tiles consist of little but their margins."""


def tile_budgets(device: torch.device) -> list[Budget]:
    """Return the budgets that runs on a device may have: the usual one, then smaller ones for when memory is short.

    `FEATVIZ_TILE_MEMORY_MB` fixes the only one. Raises InputError as `Limit.value` does.
    """
    if fixed := limits.TILE_MEGABYTES.value:
        return [Budget(fixed * 1e6)]
    total = total_memory(device)
    if math.isinf(total):
        return [Budget()]
    usual = max(LEAST, 2 ** math.floor(math.log2(SHARE * total)))
    if device.type == "cpu":
        usual = min(usual, MOST_ON_CPU)
    smaller = range(math.ceil(math.log2(usual)) - 1, round(math.log2(LEAST)) - 1, -1)
    return [Budget(usual), *(Budget(2.0**exponent, short=True) for exponent in smaller)]


def tile_budget(device: torch.device) -> Budget:
    """Return the usual budget of a device."""
    return tile_budgets(device)[0]
