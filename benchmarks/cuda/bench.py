"""What the questions share: the device and the plan, networks in any precision, timing, pictures, a row for what failed."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.cases import DREAMT, PICTURES
from benchmarks.cuda.plan import Plan
from benchmarks.measure import EXAMPLES, Row, timed
from featviz.networks.cache import load_module
from featviz.networks.network import Network, fold_batch_norms
from featviz.networks.table import NETWORKS
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Recipe
from featviz.recipes.style_transfer import StyleTransfer


@dataclass(frozen=True)
class Bench:
    """A device, and the sizes at which it is measured."""

    device: torch.device
    plan: Plan

    @property
    def is_card(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.is_card:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], Any], repeats: int | None = None) -> list[float]:
        """Of some repetitions, each from an idle device to an idle device, after one that is not counted."""

        def done() -> None:
            work()
            self.wait()

        done()
        return [timed(done) for _ in range(repeats or self.plan.repeats)]

    def free(self) -> None:
        """Return the memory that PyTorch keeps of freed tensors, so that each peak is measured from the same start."""
        if self.is_card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> str:
        """The bytes of tensors at the peak since `free`; a CPU does not count them."""
        return f"{torch.cuda.max_memory_allocated(self.device) / 1e9:.2f} GB at the peak" if self.is_card else "peak not counted"


@cache
def weights(name: str) -> nn.Module:
    """The trained modules of a bundled network in float32, on the CPU."""
    return fold_batch_norms(load_module(name))


@cache
def network(name: str, device: torch.device, dtype: torch.dtype = torch.float32, *, channels_last: bool = True) -> Network:
    """A bundled network in any precision and memory format."""
    spec = replace(NETWORKS[name], unmodified=not channels_last)  # A network that is run as it is stays in the plain format.
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return Network(spec, copy.deepcopy(weights(name)).to(device, dtype, memory_format=memory_format))


def noise(size: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A random image (1, 3, size, size), the same on every device."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)


def gradient(answer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Of the norm of an answer with respect to the image.

    Its direction is that of a dream, the gradient of ½‖a‖². Its length does not depend on that of the answer, so that it fits into
    the narrow range of float16.
    """
    image = image.detach().requires_grad_()
    return torch.autograd.grad(torch.linalg.vector_norm(answer(image).to(image.dtype)), image)[0]


def dreamt(net: Network, name: str) -> Callable[[Tensor], Tensor]:
    """An image → the activations of the layer that dreams."""
    return lambda image: net.activations(image, [DREAMT[name]])[DREAMT[name]]


def cosine(one: Tensor, other: Tensor) -> float:
    """Of the angle between two tensors, computed in float64 on the CPU."""
    return torch.nn.functional.cosine_similarity(*(it.detach().double().cpu().flatten() for it in (one, other)), dim=0).item()


def picture(role: str, size: int) -> Image.Image:
    """An example for a role of a recipe, size × size."""
    known = {name: path for roles in PICTURES.values() for name, path in roles.items()}
    with Image.open(known.get(role, EXAMPLES / "mountain.jpg")) as opened:
        return opened.convert("RGB").resize((size, size))


def pictures(recipe: Recipe | type[Recipe], size: int) -> dict[str, Image.Image]:
    """What a recipe needs, size × size."""
    return {role: picture(role, size) for role in recipe.images}


def usual(bench: Bench, size: int) -> Iterator[Recipe]:
    """The recipes that people run most, at the plan's settings, on each network of the plan."""
    for name in bench.plan.networks:
        yield DeepDream(layer=f"{name}/{DREAMT[name]}", size=size, **bench.plan.settings)
        yield StyleTransfer(network=name, size=size, **bench.plan.settings)


def label(recipe: Recipe) -> str:
    return f"{recipe.title}, {NETWORKS[recipe.network_name].title}"


def failed(case: str, error: BaseException) -> Row:
    """A row without a figure, for what could not be measured."""
    reason = (str(error).strip() or "no message").splitlines()[0]
    return Row(case, "", [math.nan], f"{type(error).__name__}: {reason[:160]}".replace("|", "/"))


def attempt(case: str, rows: Callable[..., Iterable[Row]], *arguments: Any) -> Iterator[Row]:
    """The rows of a case, and one that says why if there cannot be more, so that the next case gets its turn."""
    try:
        yield from rows(*arguments)
    except Exception as error:  # A failure is an answer, too: the row has its message.
        yield failed(case, error)


@contextmanager
def single_precision(*, tf32: bool) -> Iterator[None]:
    """A context in which products of float32 are exact to float32, or rounded to TF32 where the card has it."""
    switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = tf32
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def product_rate(bench: Bench, dtype: torch.dtype) -> float:
    """Operations a second of a matrix product, the best of those measured."""
    side = bench.plan.matrix
    a, b = (torch.rand(side, side, device=bench.device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(bench.seconds(lambda: a @ b))


def machine(bench: Bench) -> str:
    """What this was measured on, and with what."""
    versions = f"torch {torch.__version__}, {time.strftime('%d %B %Y').lstrip('0')}"
    if not bench.is_card:
        return f"CPU, {torch.get_num_threads()} threads, {versions}"
    card = torch.cuda.get_device_properties(bench.device)
    return (
        f"{card.name}, {card.total_memory / 1e9:.0f} GB, compute capability {card.major}.{card.minor}, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {versions}"
    )
