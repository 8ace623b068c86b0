"""Shutdown and cleanup: end the runs with a message, and delete the files of visitors in time."""

import asyncio
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from featviz import limits
from featviz.runtime.jobs import Jobs

RESTARTING = "The server is restarting. Please start again in a minute."

SWEPT_EVERY = 600
"""Seconds between two sweeps of old files."""

SECONDS_FOR_STEPS, SECONDS_FOR_MESSAGES, SECONDS_TO_EXIT = 3.0, 0.5, 9.0
"""Longest time for the current steps to end, for the messages to be sent, and for the whole shutdown."""


class Shutdown:
    """What SIGTERM does: end all jobs with a message, then exit as Ctrl-C does."""

    def __init__(self, jobs: Jobs):
        self.begun = False
        self._jobs = jobs

    def handle_signals(self) -> None:
        """Handle SIGTERM, where this is the main thread; no other may."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.begin)

    def begin(self, *_: object) -> None:
        """Handle SIGTERM."""
        self.begun = True
        timer = threading.Timer(SECONDS_TO_EXIT, delete_files_and_exit)  # Open connections would delay the exit.
        timer.daemon = True
        timer.start()
        self._jobs.shut_down(RESTARTING)
        end = time.monotonic() + SECONDS_FOR_STEPS
        while self._jobs.working and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(SECONDS_FOR_MESSAGES)
        raise KeyboardInterrupt

    def exit(self) -> None:
        """End the process after SIGTERM, without waiting for threads in the middle of a step."""
        if self.begun:
            delete_files_and_exit()


def delete_files_and_exit() -> None:
    """Delete the folder of uploads and results if it belongs to the app, and end the process at once."""
    if "GRADIO_TEMP_DIR" in os.environ:
        shutil.rmtree(Path(get_upload_folder()).resolve(), ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)


def sweep(folder: Path, seconds: float, keep: set[str]) -> int:
    """Delete files older than `seconds` and empty folders; return the number of files.

    Gradio deletes the files that it has served. This deletes the others: pictures sent inside a request, results that
    nobody fetched, files of an earlier process that was killed.
    """
    oldest, count = time.time() - seconds, 0
    for path in sorted(folder.rglob("*"), reverse=True):  # The content of a folder comes before the folder.
        with suppress(OSError):  # Deleted or filled by another thread meanwhile.
            if path.is_dir() and not path.is_symlink():
                if path.stat().st_mtime < oldest:
                    path.rmdir()
            elif str(path) not in keep and path.lstat().st_mtime < oldest:
                path.unlink()
                count += 1
    return count


def sweeping(demo: gr.Blocks) -> dict[str, Any]:
    """Return the web server's options that sweep the app's folder regularly; none if the folder does not belong to the app.

    Gradio's default folder may hold the files of other programs.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:
        return {}
    folder, seconds = Path(get_upload_folder()), limits.HOURS_KEPT.value * 3600

    async def sweep_forever() -> None:
        while True:
            keep = {file for block in demo.blocks.values() for file in block.keep_in_cache}
            await asyncio.to_thread(sweep, folder, seconds, keep)
            await asyncio.sleep(SWEPT_EVERY)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        task = asyncio.create_task(sweep_forever())
        try:
            yield
        finally:
            task.cancel()

    return {"lifespan": lifespan}
