"""What is asked of a card, in which order, at which sizes. No torch in here."""

from collections.abc import Mapping
from dataclasses import dataclass

QUESTIONS: Mapping[str, float] = {
    "correctness": 40,
    "waiting": 15,
    "results": 70,
    "precision": 40,
    "rate": 30,
    "overhead": 20,
    "sharing": 40,
    "determinism": 25,
    "graphs": 15,
    "previews": 15,
    "memory": 20,
    "compilation": 60,
}
"""Files of this folder, the most important first, and the seconds that each may take.

Each has a docstring that begins with the question and a generator `rows(bench)`.
"""

TOTAL = 405.0
"""Seconds after which the whole run ends, whatever is left."""


@dataclass(frozen=True)
class Plan:
    """Sizes of what is measured, all in pixels a side where nothing else is said."""

    networks: tuple[str, ...]
    """Those that need no download."""
    recipes: tuple[str, ...]
    """Names of those whose results are compared; empty for all."""
    check: int
    """Where results are compared with each other."""
    steps: int
    """Of each octave and scale there."""
    precision: int
    """Where precisions, memory formats and compilers are compared."""
    matrix: int
    """Side of the matrices whose product is the measure of a card."""
    rates: tuple[int, ...]
    """Where steps are compared with that measure."""
    results: tuple[int, ...]
    """Of whole runs with the default settings."""
    small: tuple[int, ...]
    """Of steps that are mostly overhead."""
    shared: int
    """Of runs that share the device, show previews or run out of memory."""
    left: tuple[float, ...]
    """Bytes that a run may take where memory is short."""
    settings: Mapping[str, object]
    """Fields of whole runs that are not at their defaults."""
    visitors: int
    """Runs at once."""
    repeats: int
    """Measurements of each figure."""
    pace: float
    """By what to multiply the seconds that are granted."""
    deepest: bool
    """Whether networks are compiled as deep as a dream looks, by inductor; else their first modules are only traced."""


FULL = Plan(
    networks=("vgg19", "efficientnet_lite0"),
    recipes=(),
    check=192,
    steps=4,
    precision=1024,
    matrix=8192,
    rates=(256, 512, 1024, 2048),
    results=(512, 1024, 2048, 4096),
    small=(64, 128, 192, 256),
    shared=1024,
    left=(4e9, 1e9, 0.4e9, 0.1e9),
    settings={},
    visitors=16,
    repeats=5,
    pace=1,
    deepest=True,
)

TINY = Plan(
    networks=("efficientnet_lite0",),
    recipes=("deepdream", "style_transfer", "classification"),
    check=64,
    steps=2,
    precision=64,
    matrix=64,
    rates=(64,),
    results=(64,),
    small=(64, 96),
    shared=64,
    left=(1e9, 5e6),
    settings={"steps": 2},
    visitors=2,
    repeats=1,
    pace=10,
    deepest=False,
)
"""For a test on a CPU: it shows that every question runs, and says nothing about speed."""

PLANS = {"full": FULL, "tiny": TINY}
