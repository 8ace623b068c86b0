"""### What does compiling gain, and how long does it take?

The gradient of the layer that dreams, as it is and by `torch.compile`, for one size and for any; then ahead of time, as ZeroGPU wants
it: the gradient itself is traced, exported with dynamic sizes and compiled by AOTInductor. Compiling is timed with the first call. The
note has the cosine with the gradient as it is, and the seconds of the first call at another size.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.cases import DREAMT
from benchmarks.cuda.bench import Bench, attempt, cosine, gradient, noise
from benchmarks.measure import Row, timed
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS

Gradient = Callable[[Tensor], Tensor]
"""An image → its gradient."""


def rows(bench: Bench) -> Iterator[Row]:
    for name in bench.plan.networks:
        net = load(name, bench.device)
        part = leading(net, name) if bench.plan.deepest else leading(net, name)[:2]
        image = noise(bench.plan.precision, bench.device).to(net.dtype, memory_format=torch.channels_last)
        title = f"{NETWORKS[name].title}, {bench.plan.precision} px"
        yield Row(f"{title}, as it is", "s", bench.seconds(partial(gradient, part, image)))
        for way, make in ways(bench).items():
            case = f"{title}, {way}"
            yield from attempt(case, compiled, bench, case, part, image, make)


def leading(net: Network, name: str) -> nn.Sequential:
    """The modules of a bundled network up to the layer that dreams. Without hooks, which a compiler cannot follow."""
    assert isinstance(net.module, nn.Sequential)
    names = [child for child, _ in net.module.named_children()]
    return net.module[: names.index(NETWORKS[name].layers[DREAMT[name]]) + 1]


def ways(bench: Bench) -> dict[str, Callable[[nn.Module, Tensor], Gradient]]:
    """Name → a function that makes a fast gradient from modules and an image."""

    def just_in_time(**options: object) -> Callable[[nn.Module, Tensor], Gradient]:
        def make(part: nn.Module, image: Tensor) -> Gradient:
            torch.compiler.reset()
            fast = torch.compile(part, **options)
            return lambda image: gradient(fast, image)

        return make

    if not bench.plan.deepest:
        return {
            "traced for any size": just_in_time(backend="aot_eager", dynamic=True),
            "exported": lambda part, image: exported(part, image).module(),
        }
    return {
        "compiled for one size": just_in_time(dynamic=False),
        "compiled ahead of time": ahead_of_time,
        "compiled for any size": just_in_time(dynamic=True),
        "compiled with CUDA graphs": just_in_time(dynamic=False, mode="reduce-overhead"),
    }


def exported(part: nn.Module, image: Tensor) -> torch.export.ExportedProgram:
    """A program that computes a gradient, forward and back, for an image of any size."""
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(lambda image: gradient(part, image), tracing_mode="symbolic", _allow_non_fake_inputs=True)(image)
    side = torch.export.Dim.AUTO
    return torch.export.export(traced, (image,), dynamic_shapes=({2: side, 3: side},), strict=False)


def ahead_of_time(part: nn.Module, image: Tensor) -> Gradient:
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(exported(part, image), package_path=str(Path(folder) / "gradient.pt2"))
        return torch._inductor.aoti_load_package(package)


def compiled(
    bench: Bench, case: str, part: nn.Module, image: Tensor, make: Callable[[nn.Module, Tensor], Gradient]
) -> Iterator[Row]:
    fast: list[Gradient] = []

    def first() -> None:
        fast.append(make(part, image))
        fast[0](image)
        bench.wait()

    yield Row(f"{case}: to compile", "s", [timed(first)])
    likeness = cosine(fast[0](image), gradient(part, image))
    seconds = bench.seconds(lambda: fast[0](image))
    yield Row(case, "s", seconds, f"cosine {likeness:.6f}")
    other = image[..., : image.shape[-1] // 2, :].contiguous(memory_format=torch.channels_last)

    def elsewhere() -> Iterator[Row]:
        seconds = timed(lambda: (fast[0](other), bench.wait()))
        yield Row(f"{case}, first call at another size", "s", [seconds])

    yield from attempt(f"{case}, another size", elsewhere)
