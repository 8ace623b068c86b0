"""The page as a program: its options, building and serving it. Does not import Gradio."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featviz import ui
from featviz.errors import InputError
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.table import TABS
from featviz.runtime.devices import find_devices
from featviz.runtime.estimate import count_runs, warm_up

if TYPE_CHECKING:
    import gradio as gr


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options, from `sys.argv` by default."""
    parser = argparse.ArgumentParser(description="featviz in the browser, with an API and an MCP server.")
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 lets others in (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860, or the next one that is free)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio's servers")
    parser.add_argument("--device", default="auto", help="where to compute: auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        find_devices(args.device)
    except InputError as error:
        parser.error(str(error))
    return args


def build(args: argparse.Namespace, **lent: Any) -> gr.Blocks:
    """Build the app. Uploads and results go into a folder that is deleted at exit. `lent` goes to `ui.build`."""
    if "GRADIO_TEMP_DIR" not in os.environ:
        files = tempfile.TemporaryDirectory(prefix="featviz_")
        atexit.register(files.cleanup)
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = files.name
    return ui.build(ui.Engine.on(args.device), **lent)


def serve(demo: gr.Blocks, args: argparse.Namespace, *, zero_gpu: bool = False) -> None:
    """Serve the app until it is interrupted. The modules that the first click needs are imported before; the bundled networks are loaded
    in a background thread.

    On ZeroGPU each run is a fork of this process, so the networks are loaded first and no thread may run.
    """
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("featviz").setLevel(logging.INFO)
    with contextlib.suppress(OSError, AttributeError):  # Not glibc.
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX: glibc keeps a heap per thread, each as large as its largest run.
    count_runs([DeepDream()], args.device)

    def load() -> None:
        warm_up(args.device)
        count_runs([recipe() for recipe in TABS.values()], args.device)

    loading = threading.Thread(target=load, daemon=True)
    if zero_gpu:
        load()
    ui.launch(demo, None if zero_gpu else loading.start, server_name=args.host, server_port=args.port, share=args.share)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page on this machine.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    args = parse(argv)
    serve(build(args), args)
