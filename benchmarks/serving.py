"""The app in a process of its own, for the questions that ask it as visitors do."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "FEATVIZ_RUNS_PER_MINUTE": "1000", "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}


@dataclass(frozen=True)
class Server:
    """Where it answers, and its process."""

    address: str
    pid: int


@contextmanager
def served() -> Iterator[Server]:
    """The app as `make run` starts it, from its first answer on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port)],
            cwd=Path(__file__).parent.parent, env=os.environ | QUIET | {"GRADIO_TEMP_DIR": folder},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}/"
            while True:
                if process.poll() is not None:
                    raise SystemExit(f"The app ended with {process.returncode}.")
                with suppress(OSError), urllib.request.urlopen(address, timeout=5):
                    break
                time.sleep(0.02)
            yield Server(address, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)
