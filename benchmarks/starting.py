"""### How soon is it there?

Each in a fresh process, with the files in the disk's cache. What importing `featviz` adds to importing torch; how long loading a
network takes, the first one with what it imports; from the command that starts the app to its first answer, and how much of that
is spent on importing Gradio.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.cases import BUNDLED
from benchmarks.measure import Row
from benchmarks.serving import served

RUNS = 3

IMPORT = "import time; import {before}; start = time.perf_counter(); import {after}; print(time.perf_counter() - start)"

LOAD = """
import time
from featviz.networks.cache import load
start = time.perf_counter()
load("{name}")
print(time.perf_counter() - start)
"""


def asked(program: str) -> float:
    """The number that a program prints."""
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def app() -> float:
    """Seconds from the command to the first answer."""
    start = time.perf_counter()
    with served():
        return time.perf_counter() - start


def rows() -> Iterator[Row]:
    yield Row("import torch", "s", [asked(IMPORT.format(before="sys", after="torch")) for _ in range(RUNS)])
    beyond = [asked(IMPORT.format(before="torch", after="featviz")) for _ in range(RUNS)]
    yield Row("import featviz, beyond torch", "s", beyond, "aim: 0.3")
    for name in BUNDLED:
        yield Row(f"load {name}", "s", [asked(LOAD.format(name=name)) for _ in range(RUNS)])
    yield Row("import gradio, beyond torch", "s", [asked(IMPORT.format(before="torch", after="gradio")) for _ in range(RUNS)])
    yield Row("start of the app", "s", [app() for _ in range(RUNS)])
