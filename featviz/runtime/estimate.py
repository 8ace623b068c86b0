"""Predict the time and the memory of a run on this machine."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import geometric_mean

import torch

from featviz.media.images import Header
from featviz.networks.cache import is_local, load, load_untrained, make_fork_safe
from featviz.networks.network import zero_gpu
from featviz.networks.table import BUNDLED, NETWORKS
from featviz.optimise import tiles
from featviz.optimise.style_statistics import wasserstein_distance
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import Demand, Frames, Recipe
from featviz.runtime.devices import Device, clock, find_devices, resolve, slot
from featviz.runtime.throughput import Corrections, Speed
from featviz.runtime.tile_budget import tile_budget, tile_budgets

START = 0.08
"""Seconds of a run beside its steps: pictures are opened, and the last one is read back."""

ZERO_GPU_SPEED = Speed(flops=5e12, fixed_work=1e9)
"""The speed that every network is assumed to reach on a ZeroGPU before its first run; it is faster."""

ZERO_GPU_EIGEN_SPEED = 1e9
"""C³ a second that it is assumed to reach for eigenvalues; one core of a CPU reaches more."""

NOMINAL_SPEED, NOMINAL_EIGEN_SPEED = Speed(flops=2e11, fixed_work=1e9), 1e10
"""The assumed speeds of a device that has not been measured. They only decide the order of the runs that share the device."""

MEASURED_SIDES = (64, 192)
"""Pixels a side of the small and the large image that the speed of a network is measured with."""

LEAST_RECORDED = 0.1
"""The share of its work that a run must have done for its speed to count in later estimates."""

_speeds: dict[tuple[str, str], Speed] = {}
"""(Kind of device, network) → its speed in a small dream, measured once."""

_eigen_speeds: dict[str, float] = {}
"""Kind of device → C³ a second for the eigenvalues of matrices (C, C) and their gradient, measured once."""

_corrections = Corrections()
"""(Kind of device, network, recipe) → the seconds of its runs, compared with the prediction from these speeds."""

DEFAULT_CORRECTIONS = {
    ("deepdream", "vgg19"): 1.4,
    ("deepdream", "efficientnet_lite0"): 1.89,
    ("style_transfer", "vgg19"): 1.6,
    ("style_transfer", "efficientnet_lite0"): 5.2,
    ("deepdream_zoom", "efficientnet_lite0"): 1.7,
    ("feature_visualization", "vgg19"): 1.85,
    ("feature_visualization", "efficientnet_lite0"): 1.46,
    ("reconstruct_content", "vgg19"): 2.5,
    ("reconstruct_style", "vgg19"): 3.2,
    ("reconstruct_style", "efficientnet_lite0"): 3.27,
    ("activation_maps", "vgg19"): 5.08,
    ("classification", "efficientnet_lite0"): 2.6,
}
"""(Recipe, network) → its correction before its first run: what a step does beside the network. `python -m benchmarks.estimates`
prints them."""

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
    least_bytes: float = math.inf
    """Peak memory with the smallest tiles, which a run gets if it does not fit with the usual ones."""

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


def demand(recipe: Recipe, device: torch.device, sizes: Sizes, budget: tiles.Budget | None = None) -> Demand:
    """Count the operations and the memory of a run on a device, for pictures of these sizes. Needs no weights.

    With the budget of tiles that is usual on the device, or with another one.
    """
    network = load_untrained(recipe.network_name, device)
    heights_first = {role: (height, width) for role, (width, height) in sizes.items()}
    first = next((heights_first.pop(role) for role in recipe.images), None)
    with tiles.granted(budget or tile_budget(device)):
        return recipe.demand(network, first, **heights_first)


def video_demand(recipe: Recipe, device: torch.device, sizes: Sizes, count: int, budget: tiles.Budget | None = None) -> Demand:
    """Count as `demand` does, for a video of so many frames in place of the first picture."""
    first = demand(recipe, device, sizes, budget)
    if count == 1:
        return first
    later = demand(recipe.following, device, sizes, budget)
    return Demand(
        flops=first.flops + (count - 1) * later.flops,
        bytes=max(first.bytes, later.bytes),
        fixed_work=first.fixed_work + (count - 1) * later.fixed_work,
        eigen=first.eigen + (count - 1) * later.eigen,
    )


def estimate(recipe: Recipe, pictures: Mapping[str, Header] = {}, *, device: Device = "auto", count: int = 1) -> Estimate:
    """Predict a run while no other run is active.

    Seconds are `START`, and the counted operations, fixed work of passes and eigenvalues at the measured speeds of this machine,
    corrected by the latest runs of the same recipe and network. Bytes include decoding the pictures, unless the run has a
    graphics card with memory of its own.

    Args:
        recipe: the recipe of the run.
        pictures: the headers of all its pictures by role, as `read_header` returns them. A required one that is missing is
            assumed to be as large as the first, an optional one to be absent.
        device: as for `featviz.stream`.
        count: how many frames the video has that the first picture is the first frame of; 1 for a picture.

    Raises:
        FieldError: the network has no such channel.
        InputError: the recipe takes no such picture; or there is no such device, or it cannot be used.
    """
    name, torch_device, pictures = recipe.network_name, resolve(device), recipe.by_role(pictures)
    recipe.check_roles(pictures)
    recipe.check_network(load_untrained(name, torch_device))
    longest = {role: recipe.scaled_side(role) for role in pictures}
    sizes = {role: header.opened_size(longest[role]) for role, header in pictures.items()}
    needs = video_demand(recipe, torch_device, sizes, count)
    least = demand(recipe, torch_device, sizes, tile_budgets(torch_device)[-1]).bytes
    decoded = {} if torch_device.type == "cuda" else pictures
    decoding = max((header.decoding_bytes(longest[role]) for role, header in decoded.items()), default=0)
    seconds = START + _correction(needs, torch_device, recipe) * _predicted(needs, torch_device, name)
    return Estimate(seconds, max(needs.bytes, decoding), not is_local(name), max(least, decoding))


def expected_seconds(needs: Demand, device: torch.device, recipe: Recipe) -> float:
    """Return the seconds that a run of these needs is expected to take. Unlike `estimate`, it never measures first."""
    speed = _speeds.get((device.type, recipe.network_name), NOMINAL_SPEED)
    eigen = needs.eigen / _eigen_speeds.get(device.type, NOMINAL_EIGEN_SPEED)
    return _correction(needs, device, recipe) * (speed.seconds(needs.flops, needs.fixed_work) + eigen)


def expected_run(recipe: Recipe, sizes: Sizes, *, device: Device = "auto", count: int = 1) -> float:
    """Return the seconds that a run on pictures of these sizes is expected to take. Unlike `estimate`, it never measures first.

    `count`: as for `estimate`.
    """
    torch_device = resolve(device)
    return expected_seconds(video_demand(recipe, torch_device, sizes, count), torch_device, recipe)


def default_correction(recipe: str, network: str) -> float:
    """Return the correction before the first run; for other networks than the bundled ones, the mean of these."""
    known = [factor for (each, _), factor in DEFAULT_CORRECTIONS.items() if each == recipe]
    return DEFAULT_CORRECTIONS.get((recipe, network), geometric_mean(known) if known else 1.0)


def count_runs(recipes: Iterable[Recipe], device: Device = "auto") -> None:
    """Count the operations of runs, without weights. The counts are kept for each set of layers, so that the first run starts sooner.

    The first count of a process imports torch's compiler, which takes up to a minute on a busy server.
    """
    for recipe in recipes:
        expected_run(recipe, dict.fromkeys(recipe.images, (640, 480)), device=device)


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
            if not tiles.out_of_memory(error):
                raise
            return  # The first estimate measures it.


def record_throughput(device: torch.device, recipe: Recipe, needs: Demand, share: float, seconds: float) -> None:
    """Record that a run has done a share of its work in so many seconds of `clock`. Later estimates are corrected by it.

    Nothing is recorded until an estimate has measured the speeds: a run that ends must not wait for a measurement.
    """
    name = recipe.network_name
    if _is_measured(needs, device, name):
        kind = (device.type, name, recipe.name)
        _corrections.record(kind, _work_of_pass(needs), share * _predicted(needs, device, name), seconds)


def _is_measured(needs: Demand, device: torch.device, name: str) -> bool:
    """Return whether `_predicted` needs no measurement."""
    if zero_gpu() and device.type == "cuda":
        return True
    measured = (device.type, name if name in BUNDLED else BUNDLED[0]) in _speeds
    return measured and (not needs.eigen or device.type in _eigen_speeds)


def _work_of_pass(needs: Demand) -> float:
    """Return the operations of a pass, in a unit that differs from network to network."""
    return max(needs.flops / max(needs.fixed_work, 1.0), 1e-9)


def _correction(needs: Demand, device: torch.device, recipe: Recipe) -> float:
    """Return the seconds that runs of a recipe take, relative to `_predicted`."""
    name = recipe.network_name
    return _corrections.factor((device.type, name, recipe.name), _work_of_pass(needs), default_correction(recipe.name, name))


def _predicted(needs: Demand, device: torch.device, name: str) -> float:
    """Return seconds at the measured speeds, without correction."""
    eigen = needs.eigen / _eigen_speed(device) if needs.eigen else 0.0
    return _speed(device, name).seconds(needs.flops, needs.fixed_work) + eigen


def _speed(device: torch.device, name: str) -> Speed:
    """Return the speed of a network on a device."""
    if (device.type, name) not in _speeds:
        if zero_gpu() and device.type == "cuda":
            return ZERO_GPU_SPEED
        if name not in BUNDLED:  # An estimate must not download it. The corrections of its runs make up for the difference.
            return _speed(device, BUNDLED[0])
        _measure(name, device)
    return _speeds[device.type, name]


def _measure(name: str, device: torch.device) -> None:
    """Measure the speed of a network on a small and on a large image."""
    network, passes = load(name, device), []
    for side in MEASURED_SIDES:
        recipe = DeepDream(layer=f"{name}/{list(NETWORKS[name].layers)[-1]}", octaves=1, steps=3, size=side)
        needs = recipe.demand(network, (side, side))
        with slot(device, background=True):
            seconds = _least_step(recipe.run(network, image=torch.rand(1, 3, side, side, device=device)), device)
        passes.append((needs.flops / recipe.steps, needs.fixed_work / recipe.steps, seconds))
    _speeds[device.type, name] = Speed.fit(*passes)


def _least_step(frames: Frames, device: torch.device) -> float:
    """Return the seconds of the fastest step of a run but the first, which prepares the kernels."""
    next(frames).loss.item()
    times = [clock(device)]
    for frame in frames:
        frame.loss.item()  # Waits for the device.
        times.append(clock(device))
    return min(after - before for before, after in pairwise(times))


def _eigen_speed(device: torch.device) -> float:
    """Return the speed of eigenvalues on a device, in C³ a second."""
    if zero_gpu() and device.type == "cuda":
        return ZERO_GPU_EIGEN_SPEED
    if device.type not in _eigen_speeds:
        # C = 512, as in the deep layers of VGG-19, which take most of the time.
        sums = torch.rand(513, 2000, device=device).requires_grad_()
        with slot(device, background=True):
            distance = wasserstein_distance((sums @ sums.T).detach())
            times = [clock(device)]
            for _ in range(4):  # The first pass prepares the kernels.
                torch.autograd.grad(distance(sums @ sums.T), sums)[0].sum().item()
                times.append(clock(device))
        _eigen_speeds[device.type] = 512**3 / min(after - before for before, after in pairwise(times))
    return _eigen_speeds[device.type]
