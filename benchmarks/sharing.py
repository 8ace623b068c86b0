"""### Are visitors sooner done when they are served one after the other?

The scheduler of the library beside the one before it (`FairQueue`: equal shares, step by step). Threads in one process run recipes
and encode each preview, as the page does. First, so many equal dreams at once; then a painting, and a new dream every few seconds.
Then, a dream beside a painting whose step takes most of a minute, and how soon that painting hears a stop. Last, what it costs to
look after every operation whether another run goes first, where all steps are short.
"""

import io
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from PIL import Image

from benchmarks.fair_queue import FairQueue
from benchmarks.measure import EXAMPLES, Row, ratios, side_by_side
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime import devices
from featviz.runtime import stream as stream_module
from featviz.runtime.estimate import warm_up
from featviz.runtime.scheduler import Scheduler
from featviz.runtime.stream import run, stream

POLICIES: dict[str, type[Scheduler]] = {"equal shares": FairQueue, "shortest first": Scheduler}

USERS = 16

DREAMS, EVERY = 6, 8.0
"""Dreams beside the painting, and seconds between their starts."""

PHOTO, PAINTING = EXAMPLES / "mountain.jpg", EXAMPLES / "great_wave.jpg"


@dataclass
class Visit:
    """A run, and the seconds from its start to its first preview and to its result."""

    recipe: Recipe
    pictures: dict[str, Image.Image]
    after: float = 0.0
    """Seconds after the first visit."""
    first: float = 0.0
    done: float = 0.0


def dream(after: float = 0.0) -> Visit:
    return Visit(RECIPES["deepdream"](), {"image": Image.open(PHOTO).convert("RGB")}, after)


def painting(**fields: int) -> Visit:
    pictures = {"content": Image.open(PHOTO).convert("RGB"), "style": Image.open(PAINTING).convert("RGB")}
    return Visit(RECIPES["style_transfer"](**fields), pictures)


def pay(visit: Visit, begin: threading.Barrier) -> None:
    begin.wait()
    time.sleep(visit.after)
    start = time.perf_counter()
    for preview in stream(visit.recipe, device="cpu", **visit.pictures):
        preview.picture.save(io.BytesIO(), "jpeg" if not preview.done else "png")
        visit.first = visit.first or time.perf_counter() - start
    visit.done = time.perf_counter() - start


def served(policy: type[Scheduler], visits: list[Visit]) -> list[Visit]:
    """Run all visits under a policy."""
    devices._schedulers = {torch.device("cpu"): policy()}
    begin = threading.Barrier(len(visits))
    threads = [threading.Thread(target=pay, args=(visit, begin)) for visit in visits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return visits


def rows() -> Iterator[Row]:
    warm_up("cpu")
    served(Scheduler, [dream()])
    means, lasts, painted = {}, {}, {}
    for name, policy in POLICIES.items():
        visits = served(policy, [dream() for _ in range(USERS)])
        firsts, results = [one.first for one in visits], [one.done for one in visits]
        means[name], lasts[name] = sum(results) / USERS, max(results)
        aim = "aim: 4 s at most" if policy is Scheduler else ""
        yield Row(f"{USERS} dreams, {name}: first preview", "s", firsts, f"last: {max(firsts):.1f} s; {aim}".rstrip("; "))
        yield Row("result", "s", results, f"mean: {means[name]:.1f} s, last: {lasts[name]:.1f} s")
    before, now = POLICIES
    yield Row("mean time to result, of that before", "", [means[now] / means[before]], "aim: 0.55 at most")
    yield Row("last result, of that before", "", [lasts[now] / lasts[before]], "aim: 1 at most")
    for name, policy in POLICIES.items():
        long, *short = served(policy, [painting(size=256), *(dream(1 + EVERY * number) for number in range(DREAMS))])
        painted[name] = long.done
        yield Row(f"a painting among dreams, {name}: painting", "s", [long.done])
        yield Row("dreams", "s", [one.done for one in short], f"mean: {sum(one.done for one in short) / DREAMS:.1f} s")
    yield Row("painting, of its time under equal shares", "", [painted[now] / painted[before]], "aim: 1.3 at most")
    first, stopped = beside_a_long_step()
    yield Row("a dream beside a painting of 2048 px: first preview", "s", [first], "aim: 2 s at most")
    yield Row("until that painting has stopped", "s", [stopped], "aim: 2 s at most")
    pauses = side_by_side({"without": lambda: short_steps(math.inf), "with": lambda: short_steps(-1.0)}, rounds=5)
    yield Row("EfficientNet-Lite0 with pauses in every step, of without", "", ratios(pauses["with"], pauses["without"]))


def beside_a_long_step() -> tuple[float, float]:
    """Return the seconds until a dream has its first preview in the middle of a long step, and until this step hears a stop."""
    long, short, stop = painting(size=2048, scales=1), dream(), threading.Event()
    thread = threading.Thread(target=lambda: list(stream(long.recipe, device="cpu", stopped=stop.is_set, **long.pictures)))
    thread.start()
    time.sleep(6)
    pay(short, threading.Barrier(1))
    stop.set()
    start = time.perf_counter()
    thread.join()
    return short.first, time.perf_counter() - start


def short_steps(long_step: float) -> None:
    """Run a dream of short steps, which pause if they take longer than `long_step` seconds."""
    stream_module.LONG_STEP = long_step
    run(RECIPES["deepdream"](layer="efficientnet_lite0/block9"), device="cpu", image=Image.open(PHOTO).convert("RGB"))
