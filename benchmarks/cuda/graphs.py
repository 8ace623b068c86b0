"""### What do CUDA graphs save in steps of a fixed size?

The same step of a dream, its gradient and what follows it, launched operation by operation, and recorded once and replayed. The note
has the largest difference of a pixel between the two, of 255.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.cuda.bench import Bench, attempt, dreamt, gradient, noise
from benchmarks.measure import Row
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS
from featviz.optimise.gradients import mean_absolute


def rows(bench: Bench) -> Iterator[Row]:
    for name in bench.plan.networks:
        net = load(name, bench.device)
        for size in (*bench.plan.small, bench.plan.shared):
            case = f"{NETWORKS[name].title}, {size} px"
            yield from attempt(case, replayed, bench, case, name, net, size)


def replayed(bench: Bench, case: str, name: str, net: Network, size: int) -> Iterator[Row]:
    image = noise(size, bench.device)

    def step() -> Tensor:
        return torch.add(image, mean_absolute(gradient(dreamt(net, name), image)), alpha=1.5 / 255).clamp_(0, 1)

    yield Row(f"{case}, by operations", "s a step", bench.seconds(step))
    if not bench.is_card:
        return  # A CPU has no graphs.
    replay, result = recorded(step)
    seconds = bench.seconds(replay)
    difference = 255 * (result - step()).abs().max().item()
    yield Row(f"{case}, replayed", "s a step", seconds, f"differs by {difference:.2g}")


def recorded(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A function that runs the kernels of a step again, and the tensor that it writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # What is set up at the first calls must not be recorded.
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result
