"""### What share of this machine's matrix multiplications does a step reach?

Operations are counted while a step runs and divided by its time; the measure is torch's own product of two 2048×2048 matrices,
measured before each step and in the same precision as the network computes in. Where that is bfloat16, the second figure compares
with float32: above 1 is faster than any float32 program could be here.
"""

from collections.abc import Iterator

import torch

from benchmarks.cases import DREAMT, at_one_size, every, flops, square
from benchmarks.measure import Row, ratios, timed
from featviz.networks.cache import load
from featviz.recipes.style_transfer import StyleTransfer

SIZES = {256: 5, 512: 4, 1024: 2}
"""Pixels → steps that are timed."""


def product_rate(precision: torch.dtype, side: int = 2048) -> float:
    """Operations a second of a matrix product, the best of three."""
    a, b = (torch.rand(side, side).to(precision) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: a @ b) for _ in range(3))


def rows() -> Iterator[Row]:
    for precision in (torch.float32, torch.bfloat16):
        name = str(precision).removeprefix("torch.")
        yield Row(f"matrix product, {name}", "GFLOP/s", [product_rate(precision) / 1e9 for _ in range(3)])
    for kind, name in every():
        network = load(name)
        for size, steps in SIZES.items():
            pictures = square(kind, size)
            frames = at_one_size(kind, name, size, steps + 2).run(network, **pictures)
            next(frames)
            work = flops(frames)
            seconds, own, single = [], [], []
            for _ in range(steps):
                own.append(product_rate(network.dtype))
                single.append(product_rate(torch.float32))
                seconds.append(timed(lambda frames=frames: next(frames)))
            rates = [work / one for one in seconds]
            where = "" if kind is StyleTransfer else f" {DREAMT[name]}"
            case = f"{kind.title}, {network.spec.title}{where}, {size} px"
            precision = str(network.dtype).removeprefix("torch.")
            yield Row(case, "s a step", seconds, f"{work / 1e9:.0f} GFLOP, {precision}")
            yield Row("its rate", "of the product's", ratios(rates, own), "aim: 0.64 for style" if kind is StyleTransfer else "")
            if network.dtype != torch.float32:
                yield Row("its rate", "of the product's in float32", ratios(rates, single))
