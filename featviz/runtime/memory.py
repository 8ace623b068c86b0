"""The memory of each device that the active runs have reserved."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import dropwhile
from typing import Any

import torch
from PIL import Image

from featviz.errors import LimitError
from featviz.media.images import Picture, open_picture
from featviz.networks.network import zero_gpu
from featviz.optimise.tiles import Budget, release_free_memory
from featviz.recipes.recipe import Recipe
from featviz.recipes.sizes import largest_size
from featviz.runtime.capacity import free_memory
from featviz.runtime.devices import Device, resolve
from featviz.runtime.estimate import Sizes, demand, gigabytes
from featviz.runtime.tile_budget import tile_budget, tile_budgets


class Ledger:
    """The reservations of active runs on a device. Their sum never exceeds the memory that is free without these runs.

    Args:
        free: returns the bytes that are free at the moment.
    """

    def __init__(self, free: Callable[[], float]):
        self._free = free
        # Reentrant: the garbage collector may close a run's generator, which releases its bytes, while this thread holds the lock.
        self._lock = threading.RLock()
        self._reserved: dict[object, int] = {}
        """Run → bytes. Integers, so that sums are exact and nothing remains when all runs have ended."""
        self._capacity: float = 0
        """Free memory without the active runs."""

    def available(self) -> float:
        """Return the bytes that another run can reserve now."""
        with self._lock:
            free = self._free()
            # Active runs only lower free memory. If it is higher than before they started, another program has freed some.
            self._capacity = max(self._capacity, free) if self._reserved else free
            # Runs may still allocate all that they have reserved; and what is allocated already is not free.
            return min(free, self._capacity - sum(tuple(self._reserved.values())))

    @contextmanager
    def reserve(self, needed: int, refusal: Callable[[float, bool], Exception], recurring: bool = False) -> Iterator[None]:
        """Reserve bytes for the duration of the context. `recurring`: keep freed memory in the allocator's cache.

        Raises:
            The exception that `refusal(available, fits_later)` returns, if fewer bytes are available. `fits_later`: whether the
            needed bytes are available once the active runs have ended.
        """
        run = object()
        with self._lock:
            available = self.available()
            granted, fits_later = needed <= available, needed <= self._capacity
            if granted:
                self._reserved[run] = needed
        if not granted:
            raise refusal(available, fits_later)
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[run]
                if not (self._reserved or recurring):
                    release_free_memory()


_ledgers: dict[torch.device, Ledger] = {}


def ledger(device: torch.device) -> Ledger:
    """Return the ledger of a device. All devices but CUDA cards share the memory of the machine."""
    device = device if device.type == "cuda" else torch.device("cpu")
    return _ledgers.setdefault(device, Ledger(lambda: free_memory(device)))


def available_memory(device: Device = "auto") -> float:
    """Return the bytes that another run can reserve now; `inf` where this is unknown, as on ZeroGPU."""
    return math.inf if zero_gpu() else ledger(resolve(device)).available()


LARGE_DECODING = 64e6
"""Bytes of decoding a picture from which on they are reserved. Smaller pictures are decoded at once, and take less in all."""

_decoding = threading.Lock()
"""Held while a large picture is decoded: one at a time, so that pictures sent together take no more memory than the largest."""


def open_reserved(picture: Picture | None, role: str = "picture", longest: int | None = None) -> Image.Image:
    """Return `open_picture(picture, role, longest)`, with the memory of decoding reserved while it lasts.

    Raises:
        ImageError: as for `open_picture`.
        LimitError: too little memory is free.
    """
    return open_picture(picture, role, longest, reserve=partial(reserve_decoding, role))


@contextmanager
def reserve_decoding(role: str, needed: int) -> Iterator[None]:
    """Reserve the memory of decoding a picture for the duration of the context, if it is large. Raises as `open_reserved`."""
    if needed < LARGE_DECODING or zero_gpu():  # A fork for a ZeroGPU would inherit the lock as it is at that moment.
        yield
        return

    def refusal(available: float, fits_later: bool) -> LimitError:
        return _refusal(f"Opening the {role}", needed, available, "choose a smaller one", fits_later=fits_later)

    with _decoding, ledger(torch.device("cpu")).reserve(needed, refusal):
        try:
            yield
        finally:
            release_free_memory()


FRAMES_DECODED = 12
"""Frames that a decoder holds at most: those that others refer to, and one for each of its threads."""


def reserve_video(frame_bytes: int) -> AbstractContextManager[None]:
    """Return a context that reserves the memory of decoding a video, of so many bytes a frame.

    Raises:
        LimitError: too little memory is free.
    """

    def refusal(available: float, fits_later: bool) -> LimitError:
        advice = "choose one with smaller frames"
        return _refusal("Decoding the video", FRAMES_DECODED * frame_bytes, available, advice, fits_later=fits_later)

    return nullcontext() if zero_gpu() else ledger(torch.device("cpu")).reserve(FRAMES_DECODED * frame_bytes, refusal)


def _refusal(work: str, needed: float, available: float, advice: str, *, fits_later: bool) -> LimitError:
    """Return the error for work that takes more memory than is available. `fits_later` as in `Ledger.reserve`."""
    free = f"other runs leave {gigabytes(available)}" if fits_later else f"{gigabytes(available)} are free"
    retry = ", or try again when they have ended" if fits_later else ""
    return LimitError(f"{work} takes {gigabytes(needed)} of memory, and {free}; {advice}{retry}.")


Parts = Callable[[Any], Sequence[Recipe]]
"""Maps a recipe to the runs that it is executed as, one after the other."""


def single_run(recipe: Recipe) -> Sequence[Recipe]:
    """The parts of a recipe that is executed as it is."""
    return (recipe,)


def peak_memory(
    recipe: Recipe, device: torch.device, sizes: Sizes, parts: Parts = single_run, budget: Budget | None = None
) -> int:
    """Return the peak memory of a run in bytes, beyond networks and program, for pictures of these sizes.

    With the budget of tiles that is usual on the device, or with another one.
    """
    return math.ceil(max((demand(part, device, sizes, budget).bytes for part in parts(recipe)), default=0))


@contextmanager
def reserve(
    recipe: Recipe, device: torch.device, sizes: Sizes, parts: Parts = single_run, *, recurring: bool = False
) -> Iterator[Budget]:
    """Reserve the peak memory of a run for the duration of the context, and yield its budget of tiles.

    It is the usual one of the device, or the largest with which the run fits into what is free. `recurring` as for
    `Ledger.reserve`.

    Raises:
        LimitError: it does not fit, alone or beside the active runs. The message has the largest size that fits.
    """
    if zero_gpu():  # The GPU serves one run at a time, and the page's process must not touch CUDA.
        yield tile_budget(device)
        return
    budgets, account = tile_budgets(device), ledger(device)
    least, free = budgets[-1], account.available()
    budget = next(dropwhile(lambda it: peak_memory(recipe, device, sizes, parts, it) > free, budgets), least)
    needed = peak_memory(recipe, device, sizes, parts, budget)

    def refusal(available: float, fits_later: bool) -> LimitError:
        largest = largest_size(recipe, lambda smaller: peak_memory(smaller, device, sizes, parts, least) <= available)
        fitting = f"the largest size that fits is {largest}" if largest else "no size fits"
        usual = peak_memory(recipe, device, sizes, parts)  # As the estimate says.
        return _refusal("This run", usual, available, fitting, fits_later=fits_later)

    with account.reserve(needed, refusal, recurring):
        yield budget
