"""### Which precision, and which memory format?

The gradient of the layer that dreams, forward and back, and the cosine of it with that of float64 on a smaller image. float16 has
float32 sums. The note has the cosine where the objective is ½‖a‖² as in a dream and not ‖a‖, which float16 may have no room for.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.cuda.bench import Bench, attempt, cosine, dreamt, gradient, network, noise, single_precision
from benchmarks.measure import Row
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS

MODES = {
    "float32": (torch.float32, False),
    "TF32": (torch.float32, True),
    "bfloat16": (torch.bfloat16, True),
    "float16": (torch.float16, True),
}
"""Name → the type of weights and activations, and whether float32 may be rounded to TF32 in products."""


def rows(bench: Bench) -> Iterator[Row]:
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    for name in bench.plan.networks:
        reference = noise(bench.plan.check, torch.device("cpu"), torch.float64)
        expected = gradient(dreamt(network(name, reference.device, torch.float64), name), reference)
        for mode, (dtype, tf32) in MODES.items():
            for channels_last in (True, False):
                case = f"{NETWORKS[name].title}, {mode}, {'channels last' if channels_last else 'contiguous'}"
                make = partial(network, name, bench.device, dtype, channels_last=channels_last)
                with single_precision(tf32=tf32):
                    yield from attempt(case, compared, bench, case, name, make, expected)


def compared(bench: Bench, case: str, name: str, make: Callable[[], Network], expected: Tensor) -> Iterator[Row]:
    net = make()
    small, large = (noise(size, bench.device) for size in (bench.plan.check, bench.plan.precision))
    quality = cosine(gradient(dreamt(net, name), small), expected)
    unscaled = cosine(energy_gradient(net, name, small), expected)
    bench.free()
    seconds = bench.seconds(lambda: gradient(dreamt(net, name), large))
    note = f"cosine {quality:.6f}; of ½‖a‖² {unscaled:.6f}; {bench.peak()}"
    yield Row(f"{case}, {bench.plan.precision} px", "s", seconds, note)


def energy_gradient(net: Network, name: str, image: Tensor) -> Tensor:
    image = image.detach().requires_grad_()
    return torch.autograd.grad(dreamt(net, name)(image).square().sum() / 2, image)[0]
