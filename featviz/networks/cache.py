"""The networks that are loaded: once for each device, and no more than fit into their memory."""

from __future__ import annotations

import copy
import math
import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Generator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from featviz import limits
from featviz.errors import FieldError, WeightsError
from featviz.networks.network import Network, precision, zero_gpu
from featviz.networks.table import BUNDLED, NETWORKS, NetworkSpec

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress

T = TypeVar("T")

_loaded: OrderedDict[tuple[str, str], Network] = OrderedDict()
"""(name, device) → the network, the one used last at the end."""

_shelf = threading.Lock()
"""Held to look something up, never for longer."""

_reading: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
"""One for each network and device, so that nobody waits for a network that is not his."""


@cache
def survive_forks() -> None:
    """Let forks of this process use its networks, as ZeroGPU makes one for each run. Calls after the first do nothing."""
    os.register_at_fork(before=_shelf.acquire, after_in_parent=_shelf.release, after_in_child=_shelf.release)
    # OpenMP's threads do not survive a fork, and the first parallel loop of the child would wait for them forever.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def load(name: str, device: torch.device | str = "cpu") -> Network:
    """The network of that name with its weights, loaded once for each device. Raises what `loading` raises."""
    return result_of(load_with_progress(name, device))


def load_with_progress(name: str, device: torch.device | str = "cpu") -> Generator[DownloadProgress, None, Network]:
    """Yield how far the download of the weights is, if there has to be one; return the network.

    Whoever else asks for the same network meanwhile waits for the same download.

    Raises:
        FieldError: there is no such network.
        WeightsError: its weights cannot be had.
    """
    if name not in NETWORKS:
        raise FieldError(NETWORKS.missing(name))
    key = (name, str(device))
    if (network := _ready(key)) is not None:
        return network
    try:
        path = yield from NETWORKS[name].weights.fetch()
        with _reading[key]:
            if (network := _ready(key)) is None:
                network = _keep(key, _read(name, path, device))
    except WeightsError as error:
        raise WeightsError(f"{error} {_alternatives(name)}".strip()) from None
    return network


def result_of(steps: Generator[Any, None, T]) -> T:
    """Run a generator to its end, for what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def trained(name: str) -> nn.Module:
    """The architecture of that name with its weights, as it was trained, on the CPU. Raises what `loading` raises."""
    return _trained(NETWORKS[name], result_of(NETWORKS[name].weights.fetch()))


def _trained(spec: NetworkSpec, path: Path) -> nn.Module:
    trunk = _architecture(spec)
    state = spec.weights.load(path, trunk.state_dict())
    if spec.classifier and not any(entry.startswith(f"{spec.classifier}.") for entry in state):  # A part, not "", the whole.
        delattr(trunk, spec.classifier)  # It may be missing from a file; what is left still dreams.
    trunk.load_state_dict(state, assign=True)
    return trunk.eval()


def _read(name: str, path: Path, device: torch.device | str) -> Network:
    spec, at_home = NETWORKS[name], _ready((name, "cpu"))
    if zero_gpu() and at_home is not None:  # Read once, before the GPU was lent.
        return Network(spec, copy.deepcopy(at_home.trunk)).to(device)
    return Network(spec, _trained(spec, path)).to(device)


def _ready(key: tuple[str, str]) -> Network | None:
    with _shelf:
        if key in _loaded:
            _loaded.move_to_end(key)
        return _loaded.get(key)


def _keep(key: tuple[str, str], network: Network) -> Network:
    """Put a network on the shelf. While those of its device take more than the limit, the one unused for longest is dropped. The
    latest stays, however large it is, and a run keeps the network that it uses."""
    most = limits.NETWORK_MEGABYTES.value * 1e6
    with _shelf:
        _loaded[key] = network
        others = [one for one in _loaded if one[1] == key[1] and one != key]
        used = sum(_loaded[one].bytes for one in (key, *others))
        for one in others:
            if used > most:
                used -= _loaded.pop(one).bytes
    return network


def _alternatives(name: str) -> str:
    """What works if a download does not."""
    if not NETWORKS[name].weights.needs_download:
        return ""
    return f"{' and '.join(NETWORKS[one].title for one in BUNDLED)} need no download."


def is_here(name: str) -> bool:
    """Whether a network can be had without a download, as far as one can tell without reading it."""
    return NETWORKS[name].weights.is_here()


@cache
def load_untrained(name: str, device: torch.device | str = "cpu") -> Network:
    """The network of that name for what it costs on a device: without weights and without numbers, told by shapes alone.

    A module of the user's keeps the weights that it came with, since its forward pass may depend on numbers.
    """
    network = Network(NETWORKS[name], _architecture(NETWORKS[name]))
    network.trunk.to(precision(network.spec, device))
    return network


def _architecture(spec: NetworkSpec) -> nn.Module:
    with torch.device("meta"):  # No time spent on random weights that are replaced at once.
        return spec.build()


def forget(name: str) -> None:
    """Unload the network of that name from every device, and forget what was counted of it."""
    with _shelf:
        for key in [key for key in _loaded if key[0] == name]:
            del _loaded[key]
    load_untrained.cache_clear()
    scales.cache_clear()


@cache
def scales(name: str) -> tuple[str, ...]:
    """The first layer at each resolution of a network, shallow to deep: for VGG-19 relu1_1, relu2_1, … relu5_1."""
    spec, side = NETWORKS[name], 256
    with torch.no_grad():
        found = load_untrained(name).activations(torch.zeros(1, 3, side, side, device=load_untrained(name).device), spec.layers)
    halvings = {layer: round(math.log2(side / found[layer].shape[-2])) for layer in spec.layers}  # Whatever it pads.
    return tuple(next(layer for layer in halvings if halvings[layer] == count) for count in dict.fromkeys(halvings.values()))
