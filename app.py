"""The Space, and the same app on your own machine: `python app.py --help`."""

import os
import tempfile

if "GRADIO_TEMP_DIR" not in os.environ:
    files = tempfile.TemporaryDirectory(prefix="featviz_")  # The visitors' pictures; deleted when this ends.
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = files.name  # Gradio and torch make folders when they are imported.

import spaces  # isort: skip  # Before what imports torch: it has to see that.

from featviz.networks.network import zero_gpu
from featviz.runtime.lease import requested
from featviz.ui import server

args = server.parse(None if __name__ == "__main__" else [])
demo = server.build(args, lend=spaces.GPU(duration=requested), zero_gpu=zero_gpu())

if __name__ == "__main__":
    server.serve(demo, args, zero_gpu=zero_gpu())
