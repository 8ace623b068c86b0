"""The end of a server: whoever has a run is told, and nothing of anybody stays on its disk longer than it is said to."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from featviz import limits
from featviz.tiles import give_back

RESTARTING = "The server is being restarted; please start again in a minute."

SWEPT_EVERY = 600
"""Seconds between two rounds in which what is old leaves the disk."""

SECONDS_TO_TELL, SECONDS_TO_DELIVER, SECONDS_TO_LEAVE = 3.0, 0.5, 9.0
"""How long running steps may take to end, sentences to arrive, and all of it."""


class Runs:
    """The runs under way. They end at their next step once the server leaves."""

    def __init__(self) -> None:
        self.count = 0
        self.leaving = False
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[Callable[[], None]]:
        """Attend a run: what is yielded raises the sentence when it is time to go."""
        with self._lock:
            self.count += 1
        try:
            yield self._go_on
        finally:
            with self._lock:
                self.count -= 1
                if self.count == 0:
                    give_back()

    def _go_on(self) -> None:
        if self.leaving:
            raise gr.Error(RESTARTING, print_exception=False)

    def leave(self, *_: object) -> None:
        """For SIGTERM: tell everybody, then leave as Ctrl-C does."""
        self.leaving = True
        last = threading.Timer(SECONDS_TO_LEAVE, os._exit, [0])  # Visitors who keep their connections open would keep it.
        last.daemon = True
        last.start()
        end = time.monotonic() + SECONDS_TO_TELL
        while self.count and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(SECONDS_TO_DELIVER)
        raise KeyboardInterrupt


RUNS = Runs()


def gone() -> None:
    """End the process, if it is leaving. What Python would wait for now are threads in the middle of a step."""
    if RUNS.leaving:
        if "GRADIO_TEMP_DIR" in os.environ:
            sweep(Path(get_upload_folder()), 0, set())
        sys.stdout.flush()
        os._exit(0)


def attend_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, RUNS.leave)


def sweep(folder: Path, seconds: float, keep: set[str]) -> int:
    """Delete what has been in a folder for longer than that, and folders left empty; return how many files.

    Gradio deletes what it has handed out itself. This finds the rest: what was sent inside a request, results that nobody
    has waited for, files of a predecessor that was killed.
    """
    oldest, count = time.time() - seconds, 0
    for path in sorted(folder.rglob("*"), reverse=True):  # A folder comes after what is in it.
        with suppress(OSError):  # Somebody else has deleted it, or is just filling it.
            if path.is_dir() and not path.is_symlink():
                if path.stat().st_mtime < oldest:
                    path.rmdir()
            elif str(path) not in keep and path.lstat().st_mtime < oldest:
                path.unlink()
                count += 1
    return count


def tidied(demo: gr.Blocks) -> dict[str, Any]:
    """What `launch` has to pass to the web server, so that the app's folder is swept as long as it runs.

    Only a folder of the app's own: other programs may keep their files where Gradio puts its own by default.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:
        return {}
    folder, seconds = Path(get_upload_folder()), limits.HOURS_KEPT.value * 3600

    async def for_ever() -> None:
        while True:
            keep = {file for block in demo.blocks.values() for file in block.keep_in_cache}
            await asyncio.to_thread(sweep, folder, seconds, keep)
            await asyncio.sleep(SWEPT_EVERY)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        task = asyncio.create_task(for_ever())
        try:
            yield
        finally:
            task.cancel()

    return {"lifespan": lifespan}
