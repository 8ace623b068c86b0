"""The time and the memory that a run will take on this machine."""

from dataclasses import dataclass

import torch
from PIL import Image

from featviz.networks.cache import is_local, load, load_untrained, make_fork_safe
from featviz.networks.network import zero_gpu
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.optimise.style_statistics import wasserstein_distance
from featviz.optimise.tiles import out_of_memory
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Demand, Recipe
from featviz.runtime.devices import Device, clock, find_devices, resolve, slot
from featviz.runtime.throughput import Corrections

LENT_SPEED = 5e12
"""Floating point operations a second that a lent GPU is trusted with; it is faster."""

LENT_EIGEN_SPEED = 1e9
"""C³ a second that it is trusted with for eigenvalues; a CPU's core reaches more."""

LEASE, TO_BEGIN = (20, 120), 15
"""The least and the most seconds that such a GPU is asked for, and those before the first step."""

_speeds: dict[tuple[str, str], float] = {}
"""(Kind of device, network) → floating point operations a second of a small dream, measured once."""

_eigen_speeds: dict[str, float] = {}
"""Kind of device → C³ a second for the eigenvalues of matrices (C, C) and their gradient, measured once."""

_corrections = Corrections()
"""(Kind of device, network, recipe) → what its runs took, compared with what these speeds say."""

TYPICAL = {
    "style_transfer": 1.25,
    "deepdream_zoom": 1.2,
    "feature_visualization": 1.3,
    "reconstruct_content": 1.45,
    "reconstruct_style": 3.0,
}
"""Recipe → its correction on a server that has run none, 1 for all others: from one core of one machine."""


@dataclass(frozen=True)
class Estimate:
    """What a run is going to take on this machine."""

    seconds: float
    bytes: float
    """Of memory, beside what is in use already."""
    download: bool = False
    """Whether the network's weights have to be downloaded first; seconds do not count it."""

    def __str__(self) -> str:
        first = ", once the network has been downloaded" if self.download else ""
        return f"About {duration(self.seconds)} and {gigabytes(self.bytes)} on this machine{first}."


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.0f} h"


def gigabytes(number: float) -> str:
    """Of as many bytes."""
    return f"{max(number / 1e9, 0.1):.1f} GB"


def estimate(recipe: Recipe, size: tuple[int, int] | None = None, *, device: Device = "auto") -> Estimate:
    """What a run on a first picture of (width, height) takes while no other runs: counted work at the speed of this machine,
    corrected by what runs of the same recipe and network have taken here.

    Raises:
        FieldError: the network has no such channel.
    """
    name, where = recipe.network_name, resolve(device)
    network = load_untrained(name, where)
    recipe.check_network(network)
    demand = recipe.demand(network, size and size[::-1])
    correction = _corrections.of((where.type, name, recipe.name), TYPICAL.get(recipe.name, 1.0))
    return Estimate(correction * _predicted(demand, where, name), demand.bytes, not is_local(name))


def lease(recipe: Recipe, *_: object, **pictures: Image.Image) -> int:
    """The seconds for which a run or a look asks for a GPU that is lent: the fewer, the sooner its turn."""
    first = next((pictures[role] for role in recipe.images if role in pictures), None)
    least, most = LEASE
    return round(min(max(least, TO_BEGIN + estimate(recipe, first.size if first else None).seconds), most))


def warm_up(device: Device = "auto") -> None:
    """Load every bundled network ahead of the first run and measure its speed, so that nobody waits for it."""
    if zero_gpu():
        make_fork_safe()
    at = [torch.device("cpu")] if zero_gpu() else find_devices(device)
    for name in BUNDLED:  # All of them first: what cannot be measured is at least loaded.
        for where in at:
            load(name, where)
    for name in () if zero_gpu() else BUNDLED:
        try:
            _measure(name, at[0])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return  # The first run tells the speed.


def record_throughput(where: torch.device, recipe: Recipe, demand: Demand, share: float, seconds: float) -> None:
    """Note that a run has done a share of its work in so many seconds of `clock`: the next estimate relies on it."""
    name = recipe.network_name
    _corrections.record((where.type, name, recipe.name), share * _predicted(demand, where, name), seconds)


def _predicted(demand: Demand, where: torch.device, name: str) -> float:
    """Seconds at the speeds that were measured, before any correction."""
    eigen = demand.eigen / _eigen_speed(where) if demand.eigen else 0.0
    return demand.flops / _speed(where, name) + eigen


def _speed(where: torch.device, name: str) -> float:
    """Of a network on a device, in floating point operations a second."""
    if (where.type, name) not in _speeds:
        if zero_gpu() and where.type == "cuda":
            return LENT_SPEED
        if name not in BUNDLED:  # Not downloaded for the sake of an estimate; the corrections of its runs make up for it.
            return _speed(where, BUNDLED[0])
        _measure(name, where)
    return _speeds[where.type, name]


def _measure(name: str, where: torch.device) -> None:
    """The speed of a network on a small image. The first pass prepares the kernels and is not counted."""
    spec = NETWORKS[name]
    recipe = DeepDream(layer=f"{name}/{list(spec.layers)[-1]}", octaves=1, steps=3, size=192)
    network, image = load(name, where), torch.rand(1, 3, 192, 192, device=where)
    with slot(where):
        frames = recipe.run(network, image=image)
        next(frames).loss.item()
        start = clock(where)
        next(frames)
        next(frames).loss.item()
        seconds = clock(where) - start
    _speeds[where.type, name] = recipe.demand(network, (192, 192)).flops * 2 / 3 / seconds


def _eigen_speed(where: torch.device) -> float:
    """In C³ a second."""
    if zero_gpu() and where.type == "cuda":
        return LENT_EIGEN_SPEED
    if where.type not in _eigen_speeds:
        # As wide as the deep layers of VGG-19, which take most of the time.
        sums = torch.rand(513, 2000, device=where).requires_grad_()
        with slot(where):
            distance = wasserstein_distance((sums @ sums.T).detach())
            for _ in range(2):  # The first prepares the kernels.
                start = clock(where)
                torch.autograd.grad(distance(sums @ sums.T), sums)[0].sum().item()
                seconds = clock(where) - start
        _eigen_speeds[where.type] = 512**3 / seconds
    return _eigen_speeds[where.type]
