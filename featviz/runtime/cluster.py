"""Compute the pictures of a batch: in this process, or as tasks of Ray on all cores or GPUs of this machine or of a cluster.

The driver reads pictures and writes results. A task gets the content of files and returns the content of the result, so nodes need no
common disk, and a node that is killed leaves no partial file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from featviz import extras
from featviz.errors import FeatvizError, InputError
from featviz.media.images import Picture
from featviz.media.saving import save
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device
from featviz.runtime.stream import run

LOCAL = "local"
"""The address of a cluster that is this machine alone and ends with the batch."""

GPU_SHARE = 0.5
"""The share of a GPU that a picture gets: while one is decoded or written, the other one computes."""

ATTEMPTS = 4
"""How often a picture is begun whose worker or node is lost."""

AHEAD = 2
"""Tasks that are submitted for each one that can run at the same time, so that no worker waits for the driver."""

Result = bytes | FeatvizError
"""The content of a PNG, or why there is none."""

Compute = Callable[[Mapping[str, Picture]], Result]

Job = tuple[Any, Mapping[str, Picture]]
"""A key, and pictures by their roles."""

Pool = Callable[[Compute, Iterator[Job]], Iterator[tuple[Any, Result]]]
"""Computes the results of jobs, and yields them by their keys as they are complete."""


def compute(recipe: Recipe, device: Device, pictures: Mapping[str, Picture]) -> Result:
    """Run a recipe to its end. Every FeatvizError is returned."""
    try:
        picture = run(recipe, device=device, **pictures)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "result.png")
            save(picture, path)
            return path.read_bytes()
    except FeatvizError as error:
        return error.with_traceback(None)


def _one_after_another(work: Compute, jobs: Iterator[Job]) -> Iterator[tuple[Any, Result]]:
    """Compute the results of jobs in this process, each when the one before has been taken."""
    return ((job, work(pictures)) for job, pictures in jobs)


ONE_AFTER_ANOTHER: Pool = _one_after_another
"""The pool of this process alone."""


def ray_pool(address: str = LOCAL, *, gpu: bool = True) -> Pool:
    """Return a pool of the tasks of a Ray cluster, or of a new one on this machine.

    A task gets as many cores as this process has threads, so that its result is the same to the bit, or a share of a GPU where the
    cluster has GPUs and `gpu` is set.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    return partial(_run_on_ray, extras.load("ray"), address, gpu)


def _run_on_ray(ray: Any, address: str, gpu: bool, work: Compute, jobs: Iterator[Job]) -> Iterator[tuple[Any, Result]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Read by Ray when it starts a cluster: it would report to its authors.
    try:
        ray.init(
            address, log_to_driver=False, logging_level="error", **({"include_dashboard": False} if address == LOCAL else {})
        )
    except (ConnectionError, ValueError) as error:
        raise InputError(f"There is no Ray cluster at '{address}': {str(error).splitlines()[0]}") from None
    pending: dict[Any, Any] = {}
    try:
        task, room = _task(ray, gpu)
        work = ray.put(work)
        more = True
        while pending or more:
            while more and len(pending) < room:
                if more := (following := next(jobs, None)) is not None:
                    job, pictures = following
                    pending[task.remote(work, torch.get_num_threads(), _portable(pictures))] = job
            for done in ray.wait([*pending])[0] if pending else ():
                yield pending.pop(done), _result(ray, done)
    finally:
        with suppress(Exception):  # Ray has lost the connection.
            for task_left in pending:
                ray.cancel(task_left, force=True)
        ray.shutdown()


def _task(ray: Any, gpu: bool) -> tuple[Any, int]:
    """Return the remote function for a picture, and how many pictures to submit at most."""
    resources = ray.cluster_resources()
    cores_of_nodes = [int(node["Resources"]["CPU"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    cores = max(1, min([torch.get_num_threads(), *cores_of_nodes]))  # Any node can take it.
    shares = {"num_gpus": GPU_SHARE, "num_cpus": 0} if gpu and resources.get("GPU") else {"num_cpus": cores}
    slots = resources["GPU"] / GPU_SHARE if "num_gpus" in shares else resources.get("CPU", 1) / cores
    return ray.remote(_work).options(max_retries=ATTEMPTS - 1, **shares), max(1, int(slots)) * AHEAD


def _work(work: Compute, threads: int, pictures: Mapping[str, Picture]) -> Result:
    """A task, in a worker."""
    torch.set_num_threads(threads)
    return work(pictures)


def _result(ray: Any, done: Any) -> Result:
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    try:
        return ray.get(done)
    except (*lost, ray.exceptions.ObjectLostError):
        return FeatvizError(f"The worker that computed it was lost {ATTEMPTS} times; the logs of Ray say why.")


def _portable(pictures: Mapping[str, Picture]) -> dict[str, Picture]:
    """Return pictures as another machine can read them: files as their content."""
    return {role: _content(picture) if isinstance(picture, (str, os.PathLike)) else picture for role, picture in pictures.items()}


def _content(path: str | os.PathLike) -> Picture:
    try:
        return Path(path).read_bytes()
    except OSError:
        return path  # The task's error says what is wrong with it.
