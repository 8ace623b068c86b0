"""### Where does a step wait for the device?

Each wait lets the device run dry. Counted in the second step: reads of a number (`.item()`, `if tensor:`) by the operations
that PyTorch dispatches, and on a card every operation that its sync debug mode reports. The note has the lines of featviz that wait.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import featviz
from benchmarks.cuda.bench import Bench, attempt, label, pictures
from benchmarks.cuda.correctness import small_runs
from benchmarks.measure import Row
from featviz.media.images import to_tensor
from featviz.networks.cache import load
from featviz.recipes.recipe import Recipe

ROOT = Path(featviz.__file__).parent

READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
"""Operations whose result decides what Python does next, or its shape."""


def rows(bench: Bench) -> Iterator[Row]:
    for recipe in small_runs(bench):
        yield from attempt(label(recipe), waits, bench, recipe)


def waits(bench: Bench, recipe: Recipe) -> Iterator[Row]:
    given = {role: to_tensor(picture, bench.device) for role, picture in pictures(recipe, bench.plan.check).items()}
    frames = recipe.run(load(recipe.network_name, bench.device), **given)
    counts = []
    for _ in range(2):  # The second step, where there is one, since the first one also sets up.
        with Reads(bench.device) as reads, reported(bench) as reports:
            frame = next(frames, None)
        if frame is not None:
            counts = [reads.lines, reports]
    frames.close()
    for kind, lines in zip(("numbers read", "waits reported") if bench.is_card else ("numbers read",), counts, strict=False):
        yield Row(f"{label(recipe)}: {kind}", "in a step", [lines.total()], listed(lines))


class Reads(TorchDispatchMode):
    """A context that counts the operations that read a number from a device, by the line of featviz that asks for it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.lines: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in READS and args[0].device == self.device:
            self.lines[line()] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def reported(bench: Bench) -> Iterator[Counter[str]]:
    """A context in which a card reports what waits for it, counted by the line of featviz."""
    lines: Counter[str] = Counter()
    if not bench.is_card:
        yield lines
        return

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "synchroniz" in str(message):
            lines[line()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode("default")


def line() -> str:
    """The innermost line of featviz on the stack. The backward pass of a card runs in a thread that has none."""
    stack = traceback.extract_stack()
    own = [frame for frame in stack if ROOT in Path(frame.filename).parents]
    if not own:
        return "backward pass"
    return f"{Path(own[-1].filename).relative_to(ROOT.parent)}:{own[-1].lineno}"


def listed(lines: Counter[str]) -> str:
    return ", ".join(f"{count} × {line}" for line, count in lines.most_common(8))
