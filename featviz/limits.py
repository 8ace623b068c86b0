"""Limits of a server, one row each, which the operator sets by environment variables; and the alignment of tiles."""

import os
from dataclasses import dataclass

from featviz.errors import InputError


@dataclass(frozen=True)
class Limit:
    """An upper bound, a whole number of at least 1."""

    variable: str
    """The environment variable that sets it."""
    default: int
    """0 if it depends on the machine; `meaning` says how."""
    meaning: str

    @property
    def value(self) -> int:
        """The current value of the environment variable, or the default.

        Raises:
            InputError: the value is not a whole number of at least 1.
        """
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not (text.isascii() and text.isdecimal() and int(text) >= 1):
            raise InputError(f"{self.variable} is '{text}'; expected a whole number of at least 1.")
        return int(text)


PIXELS = Limit("FEATVIZ_MAX_PIXELS", 50_000_000, "Pixels of a picture, read from its header before decoding.")
MEGABYTES = Limit(
    "FEATVIZ_MAX_MEGABYTES",
    40,
    "Megabytes of a picture's or a video's file: uploaded, inside a request, or from an address.",
)
VIDEO_SECONDS = Limit("FEATVIZ_MAX_VIDEO_SECONDS", 60, "Seconds of a video that a server takes in place of a picture.")
RUN_SECONDS = Limit("FEATVIZ_RUN_SECONDS", 900, "Seconds of device time for a run; its latest picture is kept.")
SECONDS_UNATTENDED = Limit(
    "FEATVIZ_SECONDS_UNATTENDED", 60, "Seconds for which a run goes on while nobody watches it; its latest picture is kept."
)
MIRROR_SECONDS = Limit("FEATVIZ_MIRROR_SECONDS", 120, "Seconds for which a live mirror runs until it has to be started again.")
QUEUE = Limit("FEATVIZ_QUEUE", 8, "Runs in the queue, of all visitors together, beside those that have begun.")
RUNS_PER_MINUTE = Limit("FEATVIZ_RUNS_PER_MINUTE", 60, "Runs that a visitor may start in a minute.")
SESSIONS = Limit(
    "FEATVIZ_SESSIONS", 200, "Visitors whose latest results are kept, about a megabyte each; the least recent are dropped."
)
HOURS_KEPT = Limit("FEATVIZ_HOURS_KEPT", 2, "Hours until uploads and results are deleted from the server's disk.")
DISK_MEGABYTES = Limit("FEATVIZ_DISK_FREE_MB", 200, "Megabytes of free disk space below which no run starts.")
TILE_MEGABYTES = Limit(
    "FEATVIZ_TILE_MEMORY_MB",
    0,
    "Megabytes of activations in one step; larger pictures are computed by tiles. By default a sixth of the device's memory, rounded "
    "down to a power of two, and at most 1480 on a CPU.",
)
NETWORK_MEGABYTES = Limit(
    "FEATVIZ_NETWORKS_MEMORY_MB",
    1000,
    "Megabytes of networks that stay loaded on a device; the least recently used are unloaded.",
)

LIMITS = (
    PIXELS,
    MEGABYTES,
    VIDEO_SECONDS,
    RUN_SECONDS,
    SECONDS_UNATTENDED,
    MIRROR_SECONDS,
    QUEUE,
    RUNS_PER_MINUTE,
    SESSIONS,
    HOURS_KEPT,
    DISK_MEGABYTES,
    TILE_MEGABYTES,
    NETWORK_MEGABYTES,
)


TILE_ALIGNMENT = 32
"""Tiles begin at multiples of this, the stride of the deepest layers, so that units are at the same positions as without tiles.
A layer can be processed by tiles only if its stride divides it."""


def check() -> None:
    """Read every limit, so that an invalid one is reported when the server starts. Raises InputError as `Limit.value` does."""
    for limit in LIMITS:
        limit.value  # noqa: B018
