"""### What share of the card's matrix rate does a step reach?

Operations are counted while a step runs and divided by its time. The measure is PyTorch's own product of two matrices in the precision
that the network computes in; float32 is compared with TF32, which the card would also do.
"""

from collections.abc import Iterator
from itertools import product

from benchmarks.cases import PICTURES, at_one_size, flops, square
from benchmarks.cuda.bench import Bench, attempt, label, product_rate, single_precision
from benchmarks.cuda.precision import MODES
from benchmarks.measure import Row
from featviz.networks.cache import load
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    rates = {}
    for mode, (dtype, tf32) in MODES.items():
        with single_precision(tf32=tf32):
            rates[mode] = product_rate(bench, dtype)
        yield Row(f"matrix product, {mode}", "TFLOP/s", [rates[mode] / 1e12])
    for size in bench.plan.rates:
        for kind, name in product(PICTURES, bench.plan.networks):
            case = f"{kind.title}, {name}, {size} px"
            yield from attempt(case, steps, bench, kind, name, size, rates)


def steps(bench: Bench, kind: type[Recipe], name: str, size: int, rates: dict[str, float]) -> Iterator[Row]:
    net = load(name, bench.device)
    recipe = at_one_size(kind, name, size, bench.plan.repeats + 3)
    given = {role: image.to(bench.device) for role, image in square(kind, size).items()}
    frames = recipe.run(net, **given)
    next(frames)
    work = flops(frames)
    seconds = bench.seconds(lambda: next(frames))
    frames.close()
    mode = str(net.dtype).removeprefix("torch.")
    shares = ", ".join(
        f"{work / min(seconds) / rates[one]:.3f} of the product's in {one}"
        for one in ({mode, "TF32"} if mode == "float32" else {mode})
    )
    yield Row(f"{label(recipe)}, {size} px", "s a step", seconds, f"{work / 1e9:.0f} GFLOP; {shares}")
