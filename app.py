"""The Space, and the same app on your own machine: `python app.py --help`."""

import os
import tempfile

if "GRADIO_TEMP_DIR" not in os.environ:
    files = tempfile.TemporaryDirectory(prefix="featviz_")  # The visitors' pictures; deleted when this ends.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = files.name  # Gradio and torch make folders when they are imported.

import spaces  # isort: skip  # Before what imports torch: it has to see that.

import argparse
import contextlib
import ctypes
import threading

from featviz import ui
from featviz.errors import InputError
from featviz.networks.network import zero_gpu
from featviz.runtime.devices import places
from featviz.runtime.estimate import lease, warm_up

parser = argparse.ArgumentParser(description="featviz in the browser, with an API and an MCP server.")
parser.add_argument("--host", help="address to listen on; 0.0.0.0 lets others in (default: 127.0.0.1)")
parser.add_argument("--port", type=int, help="port to listen on (default: 7860, or the next one that is free)")
parser.add_argument("--share", action="store_true", help="make a public link through Gradio's servers")
parser.add_argument("--device", default="auto", help="where to compute: auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
args = parser.parse_args(None if __name__ == "__main__" else [])
try:
    places(args.device)
except InputError as error:
    parser.error(str(error))

demo = ui.build(ui.Engine.on(args.device), lend=spaces.GPU(duration=lease), apart=zero_gpu())

if __name__ == "__main__":
    with contextlib.suppress(OSError, AttributeError):  # Another C library than glibc, which keeps a heap for each thread:
        ctypes.CDLL("libc.so.6").mallopt(-8, 2)  # M_ARENA_MAX. Runs come from many threads, and each heap keeps its largest.
    warming = threading.Thread(target=warm_up, args=(args.device,), daemon=True)  # The first click need not load a network.
    if zero_gpu():
        warm_up(args.device)  # There a run is a fork of this process, which had better be idle then, and have the networks.
    ui.launch(demo, None if zero_gpu() else warming.start, server_name=args.host, server_port=args.port, share=args.share)
