"""Predict the time and the memory of a run on this machine."""

from collections.abc import Mapping
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

ZERO_GPU_SPEED = 5e12
"""Floating point operations a second that a ZeroGPU is assumed to reach; it is faster."""

ZERO_GPU_EIGEN_SPEED = 1e9
"""C³ a second that it is assumed to reach for eigenvalues; one core of a CPU reaches more."""

NOMINAL_SPEED, NOMINAL_EIGEN_SPEED = 2e11, 1e10
"""Of a device whose speed has not been measured. They only order the runs that share it."""

ZERO_GPU_SECONDS = (20, 120)
"""The least and the most seconds to request a ZeroGPU for."""

ZERO_GPU_STARTUP = 15
"""Seconds to request beyond the estimate, for what happens before the first step."""

_speeds: dict[tuple[str, str], float] = {}
"""(Kind of device, network) → floating point operations a second of a small dream, measured once."""

_eigen_speeds: dict[str, float] = {}
"""Kind of device → C³ a second for the eigenvalues of matrices (C, C) and their gradient, measured once."""

_corrections = Corrections()
"""(Kind of device, network, recipe) → the seconds of its runs, compared with the prediction from these speeds."""

DEFAULT_CORRECTIONS = {
    "style_transfer": 1.25,
    "deepdream_zoom": 1.2,
    "feature_visualization": 1.3,
    "reconstruct_content": 1.45,
    "reconstruct_style": 3.0,
}
"""Recipe → its correction before its first run; 1 for all others. Measured on one core of one machine."""

Sizes = Mapping[str, tuple[int, int]]
"""Role of a picture → its (width, height)."""


@dataclass(frozen=True)
class Estimate:
    """Predicted time and memory of a run on this machine."""

    seconds: float
    bytes: float
    """Peak memory, beyond what is in use already."""
    download: bool = False
    """Whether the network's weights have to be downloaded first. `seconds` does not include it."""

    def __str__(self) -> str:
        first = ", once the network has been downloaded" if self.download else ""
        return f"About {duration(self.seconds)} and {gigabytes(self.bytes)} on this machine{first}."


def duration(seconds: float) -> str:
    """Return a duration as text: seconds below 90 s, minutes below 90 min, hours above."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.0f} h"


def gigabytes(number: float) -> str:
    """Return a number of bytes as text, in GB with one decimal, at least 0.1 GB."""
    return f"{max(number / 1e9, 0.1):.1f} GB"


def demand(recipe: Recipe, device: torch.device, sizes: Sizes) -> Demand:
    """Count the operations and the memory of a run on a device, for pictures of these sizes. Needs no weights."""
    heights_first = {role: (height, width) for role, (width, height) in sizes.items()}
    first = next((heights_first.pop(role) for role in recipe.images), None)
    return recipe.demand(load_untrained(recipe.network_name, device), first, **heights_first)


def estimate(recipe: Recipe, size: tuple[int, int] | None = None, *, device: Device = "auto") -> Estimate:
    """Predict a run on a first picture of (width, height), None for a recipe without pictures, while no other run is active.

    Seconds are counted operations at the measured speed of this machine, corrected by the latest runs of the same recipe and
    network.

    Raises:
        FieldError: the network has no such channel.
        InputError: there is no such device, or it cannot be used.
    """
    name, torch_device = recipe.network_name, resolve(device)
    recipe.check_network(load_untrained(name, torch_device))
    needs = demand(recipe, torch_device, {role: size for role in list(recipe.images)[:1] if size})
    seconds = _correction(torch_device, recipe) * _predicted(needs, torch_device, name)
    return Estimate(seconds, needs.bytes, not is_local(name))


def expected_seconds(needs: Demand, device: torch.device, recipe: Recipe) -> float:
    """Return the seconds that a run of these needs is expected to take. Unlike `estimate`, it never measures first."""
    speed = _speeds.get((device.type, recipe.network_name), NOMINAL_SPEED)
    eigen_speed = _eigen_speeds.get(device.type, NOMINAL_EIGEN_SPEED)
    return _correction(device, recipe) * (needs.flops / speed + needs.eigen / eigen_speed)


def zero_gpu_seconds(recipe: Recipe, *_: object, **pictures: Image.Image) -> int:
    """Return the seconds to request a ZeroGPU for. Shorter requests are scheduled earlier."""
    first = next((pictures[role] for role in recipe.images if role in pictures), None)
    least, most = ZERO_GPU_SECONDS
    return round(min(max(least, ZERO_GPU_STARTUP + estimate(recipe, first.size if first else None).seconds), most))


def warm_up(device: Device = "auto") -> None:
    """Load every bundled network and measure its speed, so that the first run need not."""
    if zero_gpu():
        make_fork_safe()
    devices = [torch.device("cpu")] if zero_gpu() else find_devices(device)
    for name in BUNDLED:  # All before the first measurement, which may run out of memory.
        for torch_device in devices:
            load(name, torch_device)
    for name in () if zero_gpu() else BUNDLED:
        try:
            _measure(name, devices[0])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return  # The first estimate measures it.


def record_throughput(device: torch.device, recipe: Recipe, needs: Demand, share: float, seconds: float) -> None:
    """Record that a run has done a share of its work in so many seconds of `clock`. Later estimates are corrected by it."""
    name = recipe.network_name
    _corrections.record((device.type, name, recipe.name), share * _predicted(needs, device, name), seconds)


def _correction(device: torch.device, recipe: Recipe) -> float:
    """Return the seconds that runs of a recipe take, relative to `_predicted`."""
    return _corrections.factor((device.type, recipe.network_name, recipe.name), DEFAULT_CORRECTIONS.get(recipe.name, 1.0))


def _predicted(needs: Demand, device: torch.device, name: str) -> float:
    """Return seconds at the measured speeds, without correction."""
    eigen = needs.eigen / _eigen_speed(device) if needs.eigen else 0.0
    return needs.flops / _speed(device, name) + eigen


def _speed(device: torch.device, name: str) -> float:
    """Return the speed of a network on a device, in floating point operations a second."""
    if (device.type, name) not in _speeds:
        if zero_gpu() and device.type == "cuda":
            return ZERO_GPU_SPEED
        if name not in BUNDLED:  # An estimate must not download it. The corrections of its runs make up for the difference.
            return _speed(device, BUNDLED[0])
        _measure(name, device)
    return _speeds[device.type, name]


def _measure(name: str, device: torch.device) -> None:
    """Measure the speed of a network on a small image. The first step, which prepares the kernels, is not counted."""
    spec = NETWORKS[name]
    recipe = DeepDream(layer=f"{name}/{list(spec.layers)[-1]}", octaves=1, steps=3, size=192)
    network, image = load(name, device), torch.rand(1, 3, 192, 192, device=device)
    with slot(device):
        frames = recipe.run(network, image=image)
        next(frames).loss.item()
        start = clock(device)
        next(frames)
        next(frames).loss.item()
        seconds = clock(device) - start
    _speeds[device.type, name] = recipe.demand(network, (192, 192)).flops * 2 / 3 / seconds


def _eigen_speed(device: torch.device) -> float:
    """Return the speed of eigenvalues on a device, in C³ a second."""
    if zero_gpu() and device.type == "cuda":
        return ZERO_GPU_EIGEN_SPEED
    if device.type not in _eigen_speeds:
        # C = 512, as in the deep layers of VGG-19, which take most of the time.
        sums = torch.rand(513, 2000, device=device).requires_grad_()
        with slot(device):
            distance = wasserstein_distance((sums @ sums.T).detach())
            for _ in range(2):  # The first pass prepares the kernels.
                start = clock(device)
                torch.autograd.grad(distance(sums @ sums.T), sums)[0].sum().item()
                seconds = clock(device) - start
        _eigen_speeds[device.type] = 512**3 / seconds
    return _eigen_speeds[device.type]
