"""What a server grants a visitor: one row a limit, each set by environment by whoever serves the page."""

import os
from dataclasses import dataclass

from featviz.errors import InputError


@dataclass(frozen=True)
class Limit:
    """A number that may not be exceeded. Who exceeds it reads a sentence that says the number."""

    variable: str
    """Of the environment."""
    default: int
    meaning: str

    @property
    def value(self) -> int:
        """As the environment has it now.

        Raises:
            InputError: what it has is not a whole number of at least 1.
        """
        text = os.environ.get(self.variable, str(self.default))
        if not (text.isascii() and text.isdecimal() and int(text) >= 1):
            raise InputError(f"{self.variable} is '{text}'; expected a whole number of at least 1.")
        return int(text)


PIXELS = Limit("FEATVIZ_MAX_PIXELS", 50_000_000, "Pixels of a picture, read from its header before a single one is decoded.")
MEGABYTES = Limit(
    "FEATVIZ_MAX_MEGABYTES",
    40,
    "Megabytes of a picture's file, however it comes: uploaded, inside a request, or from an address.",
)
RUN_SECONDS = Limit("FEATVIZ_RUN_SECONDS", 900, "Seconds of the device that a run may take; its latest picture is kept.")
QUEUE = Limit("FEATVIZ_QUEUE", 24, "Runs that may wait for their turn, of all visitors together.")
RUNS_PER_MINUTE = Limit("FEATVIZ_RUNS_PER_MINUTE", 60, "Runs that a visitor may start in a minute.")
SESSIONS = Limit(
    "FEATVIZ_SESSIONS", 200, "Visitors who are remembered, with their latest results: those seen last; a megabyte each."
)
HOURS_KEPT = Limit("FEATVIZ_HOURS_KEPT", 2, "Hours until uploads and results are deleted from the server's disk.")
DISK_MEGABYTES = Limit("FEATVIZ_DISK_FREE_MB", 200, "Megabytes of the server's disk that stay free: with less, no run starts.")
TILE_MEGABYTES = Limit(
    "FEATVIZ_TILE_MEMORY_MB",
    400,
    "Megabytes that one step of a dream may hold in activations, and one of a style transfer six times.",
)
NETWORK_MEGABYTES = Limit(
    "FEATVIZ_NETWORKS_MEMORY_MB", 1000, "Megabytes of networks that stay loaded on a device: those unused for longest make room."
)

LIMITS = (
    PIXELS,
    MEGABYTES,
    RUN_SECONDS,
    QUEUE,
    RUNS_PER_MINUTE,
    SESSIONS,
    HOURS_KEPT,
    DISK_MEGABYTES,
    TILE_MEGABYTES,
    NETWORK_MEGABYTES,
)


def check() -> None:
    """Read every limit once, so that a mistyped one is said when a server starts. Raises InputError as `Limit.value` does."""
    for limit in LIMITS:
        limit.value  # noqa: B018
