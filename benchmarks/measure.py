"""Shared by the benchmarks: table rows, timing in turns, memory of a fresh process. Does not import torch."""

import ctypes
import gc
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("RESULTS.md")

EXAMPLES = Path(__file__).parent.parent / "examples"

PACKAGES = ("torch", "gradio", "pillow", "numpy")


@dataclass(frozen=True)
class Row:
    """One figure, measured several times."""

    case: str
    unit: str
    values: Sequence[float]
    note: str = ""

    def __str__(self) -> str:
        low, middle = min(self.values), statistics.median(self.values)
        return f"| {self.case} | {figure(low)} | {figure(middle)} | {self.unit} | {len(self.values)} | {self.note} |"


HEAD = "| what | min | median | unit | runs | note |\n| --- | ---: | ---: | --- | ---: | --- |"


def figure(value: float) -> str:
    """Format a value with three digits; NaN, for a result that never came, as a dash."""
    if math.isnan(value):
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def timed(work: Callable[[], Any]) -> float:
    """Seconds of wall time."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def side_by_side(works: Mapping[str, Callable[[], Any]], rounds: int = 3, warm: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each function. They run in turns, so that other load affects all of them alike."""
    for work in list(works.values()) * warm:
        work()
    seconds = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(timed(work))
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratios of two series, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """k of the power law value = c · size^k that fits best, by least squares on logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function, called in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_memory() -> float:
    """The most bytes this process has had in memory. Linux' ru_maxrss would count those of the process it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # Bytes on macOS.


def grown(work: Callable[[], Any]) -> float:
    """The bytes by which this process grows at its peak while it works, beyond what it needs before; Linux only."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(
            0
        )  # Else the work could use memory that was freed before, which would not be counted.
    Path("/proc/self/clear_refs").write_text("5")  # The peak is from now on.
    before = peak_memory()
    work()
    return peak_memory() - before


def memory_of(pid: int) -> float:
    """Bytes that another process has in memory at its peak; Linux only."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) * 1024


def put(results: Path, question: str, answer: str) -> None:
    """Replace the text between the markers of a question in the file of results."""
    text = results.read_text(encoding="utf-8")
    head, mark, rest = text.partition(f"<!-- {question} -->\n")
    _, end, tail = rest.partition("<!-- end -->")
    if not end:
        raise SystemExit(f"There is no place for '{question}' in {results}.")
    results.write_text(f"{head}{mark}{answer.strip()}\n{end}{tail}", encoding="utf-8")


def machine() -> str:
    """Where and with what this was measured."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    busy = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{date.today():%-d %B %Y} · {_processor()}, {os.cpu_count()} cores{busy} · "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.partition(": ")[2] for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    )
    return names[0] if names else platform.processor() or platform.machine()
