"""Loaded networks: one for each name and device, within the memory limit."""

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
from featviz.networks.network import Network, fastest_dtype, zero_gpu
from featviz.networks.table import BUNDLED, NETWORKS, NetworkSpec

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress

T = TypeVar("T")

_loaded: OrderedDict[tuple[str, str], Network] = OrderedDict()
"""(name, device) → network, the least recently used first."""

_lock = threading.Lock()
"""Guards `_loaded`. Held for look-ups only, never while a network is loaded."""

_load_locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
"""(name, device) → lock, so that loading one network never blocks runs on another."""


@cache
def make_fork_safe() -> None:
    """Let forks of this process use its networks: ZeroGPU forks for each run. Later calls do nothing."""
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
    # OpenMP's threads do not survive a fork, and the first parallel loop of the child would wait for them forever.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def load(name: str, device: torch.device | str = "cpu") -> Network:
    """Return a network with its weights, loaded once for each device. Raises as `load_with_progress` does."""
    return return_value(load_with_progress(name, device))


def load_with_progress(name: str, device: torch.device | str = "cpu") -> Generator[DownloadProgress, None, Network]:
    """Yield the progress of the download, if one is needed; return the network.

    Concurrent calls for the same network share one download.

    Raises:
        FieldError: the network is unknown.
        WeightsError: the weights cannot be downloaded or read.
    """
    spec = NETWORKS.get(name)
    if spec is None:
        raise FieldError(NETWORKS.missing_message(name))
    key = (name, str(device))
    if (network := _look_up(key, spec)) is not None:
        return network
    try:
        path = yield from spec.weights.fetch()
        with _load_locks[key]:
            if (network := _look_up(key, spec)) is None:
                network = _store(key, _build(name, spec, path, device))
    except WeightsError as error:
        raise WeightsError(f"{error} {_alternatives(spec)}".strip()) from None
    return network


def return_value(generator: Generator[Any, None, T]) -> T:
    """Run a generator to its end and return its return value."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def load_module(name: str) -> nn.Module:
    """Return the module of a network on the CPU, as trained, before `Network` changes it. Raises as `load_with_progress` does."""
    return _module(NETWORKS[name], return_value(NETWORKS[name].weights.fetch()))


def _module(spec: NetworkSpec, path: Path) -> nn.Module:
    module = _architecture(spec)
    state = spec.weights.load(path, module.state_dict())
    if spec.classifier and not any(entry.startswith(f"{spec.classifier}.") for entry in state):
        delattr(module, spec.classifier)  # A file may lack the classifier; the other layers still work.
    module.load_state_dict(state, assign=True)
    return module.eval()


def _build(name: str, spec: NetworkSpec, path: Path, device: torch.device | str) -> Network:
    on_cpu = _look_up((name, "cpu"), spec)
    if zero_gpu() and on_cpu is not None:  # The file was read before the fork, so only a copy is needed.
        return Network(spec, copy.deepcopy(on_cpu.module)).to(device)
    return Network(spec, _module(spec, path)).to(device)


def _look_up(key: tuple[str, str], spec: NetworkSpec) -> Network | None:
    """Return the network that was loaded for a row; None if there is none, or another row had that name then."""
    with _lock:
        network = _loaded.get(key)
        if network is None or network.spec is not spec:
            return None
        _loaded.move_to_end(key)
        return network


def _store(key: tuple[str, str], network: Network) -> Network:
    """Add a network, and drop the least recently used ones of its device while these exceed the memory limit.

    The new one stays, however large it is. A run holds a reference to its own network, so dropping one never breaks a run.
    """
    allowed = limits.NETWORK_MEGABYTES.value * 1e6
    with _lock:
        _loaded[key] = network
        others = [other for other in _loaded if other[1] == key[1] and other != key]
        used = sum(_loaded[each].bytes for each in (key, *others))
        for other in others:
            if used > allowed:
                used -= _loaded.pop(other).bytes
    return network


def _alternatives(spec: NetworkSpec) -> str:
    """Return a sentence on the networks that work without a download, "" if this one does."""
    if not spec.weights.needs_download:
        return ""
    return f"{' and '.join(NETWORKS[bundled].title for bundled in BUNDLED)} need no download."


def is_local(name: str) -> bool:
    """Return whether the weights of a network are on this machine. The file is not read."""
    return NETWORKS[name].weights.is_local()


def load_untrained(name: str, device: torch.device | str = "cpu") -> Network:
    """Return a network on the meta device, in the precision of `device`: for shapes and costs, which need no weights.

    A module added by a user keeps its weights and stays on the CPU, since its forward pass may depend on values.
    """
    return _untrained(NETWORKS[name], fastest_dtype(NETWORKS[name], device))


@cache
def _untrained(spec: NetworkSpec, dtype: torch.dtype) -> Network:
    network = Network(spec, _architecture(spec))
    network.module.to(dtype)
    return network


def _architecture(spec: NetworkSpec) -> nn.Module:
    with torch.device("meta"):  # Random initialisation takes time, and the weights are replaced anyway.
        return spec.build()


def unload(name: str) -> None:
    """Remove a network from every device, and discard all cached costs and scales."""
    with _lock:
        for key in [key for key in _loaded if key[0] == name]:
            del _loaded[key]
    _untrained.cache_clear()
    _scales.cache_clear()


def scales(name: str) -> tuple[str, ...]:
    """Return the first layer at each resolution of a network, shallow to deep: for VGG-19 relu1_1, relu2_1, … relu5_1."""
    return _scales(load_untrained(name))


@cache
def _scales(network: Network) -> tuple[str, ...]:
    side = 256
    with torch.no_grad():
        activations = network.activations(torch.zeros(1, 3, side, side, device=network.device), network.spec.layers)
    first: dict[int, str] = {}
    for layer in network.spec.layers:
        first.setdefault(round(math.log2(side / activations[layer].shape[-2])), layer)  # Rounded, since padding differs.
    return tuple(first.values())
