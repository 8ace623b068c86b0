"""### Does a run that meets the end of the memory recover?

A dream with less and less memory: a card's allocator refuses what is over a share of its memory, a CPU's process gets a limit of its
address space. The run must end with the same picture, with smaller tiles, or with a sentence; afterwards, with all memory again, it
must give the same picture as before. The figure is the mean difference from the picture without a limit, of 255.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.cuda.bench import Bench, failed, label, pictures, usual
from benchmarks.measure import Row
from featviz import FeatvizError, stream
from featviz.recipes.recipe import Recipe


def rows(bench: Bench) -> Iterator[Row]:
    for recipe in usual(bench, bench.plan.shared):
        whole, _ = end_of(bench, recipe)
        for left in bench.plan.left:
            case = f"{label(recipe)}, {bench.plan.shared} px, {left / 1e6:.0f} MB"
            try:
                with limited(bench, left):
                    picture, stage = end_of(bench, recipe)
                yield Row(case, "of 255", [difference(picture, whole)], stage)
            except FeatvizError as error:
                yield failed(case, error)
        again, stage = end_of(bench, recipe)
        yield Row(f"{label(recipe)}, {bench.plan.shared} px, afterwards", "of 255", [difference(again, whole)], stage)


def end_of(bench: Bench, recipe: Recipe) -> tuple[Image.Image, str]:
    for last in stream(recipe, device=str(bench.device), every=1e9, **pictures(recipe, bench.plan.shared)):
        pass
    return last.picture, last.stage


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@contextmanager
def limited(bench: Bench, left: float) -> Iterator[None]:
    """Limit, within a context, the bytes that this process can still allocate on the device."""
    if bench.is_card:
        bench.free()
        total = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, (torch.cuda.memory_reserved(bench.device) + left) / total), bench.device
        )
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + int(left), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
