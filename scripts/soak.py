"""Load test with visitors of every kind, and the state of the server afterwards: `make soak`.

    python -m scripts.soak --minutes 10 --visitors 6

Each visitor dreams, transfers styles, disconnects during a run, sends files that are no pictures and values out of range.
Everything stays on this machine and ends after the given minutes.
"""

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from urllib.error import HTTPError

from PIL import Image

from scripts.visitor import LONG, QUICK, Answer, Server, Visitor, file, inline, serving

WARM_UP = 0.2
"""Share of the time after which memory is measured first."""

MEMORY_MAY_GROW = 0.05
"""Accepted growth of memory after the warm-up, as a share."""


@dataclass
class Tally:
    """Counts of results, and the wrong ones."""

    counts: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Results that must not happen."""


def photo(rng: random.Random) -> bytes:
    """A random picture in a random format."""
    content, size = BytesIO(), (rng.randrange(100, 190), rng.randrange(100, 190))
    Image.effect_noise(size, rng.randrange(10, 90)).convert("RGB").save(content, rng.choice(["png", "jpeg", "webp"]))
    return content.getvalue()


def dream(visitor: Visitor, rng: random.Random) -> str:
    fields = QUICK | {"steps": rng.randrange(1, 4), "seed": rng.randrange(1000)}
    return ended(visitor.run(image=visitor.upload("a.png", photo(rng)), **fields), "complete")


def dream_inline(visitor: Visitor, rng: random.Random) -> str:
    return ended(visitor.run(image=inline(photo(rng)), **QUICK), "complete")


def paint(visitor: Visitor, rng: random.Random) -> str:
    pictures = {role: visitor.upload("a.png", photo(rng)) for role in ("content", "style")}
    fields = {"network": "efficientnet_lite0", "size": 64, "steps": 2, "scales": 1}
    return ended(visitor.run("style_transfer", **pictures, **fields), "complete")


def fly(visitor: Visitor, rng: random.Random) -> str:
    fields = QUICK | {"seconds": 0.3, "fps": 10}
    return ended(visitor.run("deepdream_zoom", image=visitor.upload("a.png", photo(rng)), **fields), "complete")


def leave(visitor: Visitor, rng: random.Random) -> str:
    """Disconnect during a run."""
    with closing(visitor.watch(visitor.start(image=visitor.upload("a.png", photo(rng)), **LONG))) as events:
        *_, last = islice(events, rng.randrange(1, 3))  # A run that is refused has one event.
    return "disconnected" if last.event == "generating" else ended(last, "")


def bad_picture(visitor: Visitor, rng: random.Random) -> str:
    content = rng.choice([b"", b"no picture", photo(rng)[: rng.randrange(1, 40)], b"%!PS-Adobe-3.0 EPSF-3.0\n"])
    sent = rng.choice([lambda: inline(content), lambda: visitor.upload("a.png", content)])()
    return ended(visitor.run(image=sent, **QUICK), "error")


def bad_value(visitor: Visitor, rng: random.Random) -> str:
    wrong = rng.choice([{"size": 10**9}, {"layer": "<b>"}, {"steps": None}, {"class_name": "no such thing"}, {"seed": -1}])
    return ended(visitor.run(image=visitor.upload("a.png", photo(rng)), **{**QUICK, **wrong}), "error")


def bad_address(visitor: Visitor, rng: random.Random) -> str:
    path = rng.choice(["/etc/passwd", "http://127.0.0.1:1/a.png", "http://169.254.169.254/"])
    answer = visitor.run(image=file(path=path), **QUICK)
    return "refused in a sentence" if answer.event == "error" else f"!! {path} was read"


def ended(answer: Answer, expected: str) -> str:
    """Classify the end of a run: as expected, refused because the server is busy, or wrong (starts with "!!")."""
    if answer.event == "complete":
        return "answered" if expected == "complete" else "!! wrong input accepted"
    busy = "runs a minute" in answer.sentence or "Queue is full" in answer.sentence
    sentence = answer.sentence.endswith((".", "?", "…")) and "Something went wrong" not in answer.sentence
    if busy or (expected == "error" and sentence):
        return "asked to wait" if busy else "refused in a sentence"
    return f"!! {answer.event}: {answer.sentence or answer.data}"


ACTS: tuple[Callable[[Visitor, random.Random], str], ...] = (
    dream, dream, dream_inline, paint, fly, leave, bad_picture, bad_value, bad_address,
)  # fmt: skip


def visits(server: Server, number: int, tally: Tally, over: threading.Event) -> None:
    """Act as one visitor after another until `over` is set."""
    rng = random.Random(number)
    while not over.is_set():
        act = rng.choice(ACTS)
        try:
            result = act(Visitor(server.address, f"192.0.2.{number}"), rng)
        except HTTPError as refused:
            result = "asked to wait" if refused.code == 503 else f"!! {refused.code}"
            refused.close()
        except (OSError, StopIteration) as error:
            result = f"!! {error!r}"
        tally.counts[result if not result.startswith("!!") else "wrong"] += 1
        if result.startswith("!!"):
            tally.wrong.append(f"{act.__name__}: {result[3:]}")


def soak(server: Server, seconds: float, visitors: int, settle: float = 15.0) -> dict[str, object]:
    """Visit a server for some seconds, and return counts and measurements by name."""
    tally, over = Tally(), threading.Event()
    threads = [threading.Thread(target=visits, args=(server, number, tally, over)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    time.sleep(seconds * WARM_UP)
    before = (server.memory(), server.open_files(), server.threads())
    time.sleep(seconds * (1 - WARM_UP))
    over.set()
    for thread in threads:
        thread.join()
    time.sleep(settle)  # Abandoned runs end, and connections close.
    after = (server.memory(), server.open_files(), server.threads())
    files = server.files()
    return {
        "seconds": round(seconds),
        "visitors": visitors,
        "requests": sum(tally.counts.values()),
        **{name: tally.counts[name] for name in ("answered", "disconnected", "refused in a sentence", "asked to wait", "wrong")},
        "memory after warm-up, MB": round(before[0] / 1e6),
        "memory at the end, MB": round(after[0] / 1e6),
        "open files": f"{before[1]} → {after[1]}",
        "threads": f"{before[2]} → {after[2]}",
        "files on disk": len(files),
        "of which MB": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "tracebacks in the log": server.log.read_text(encoding="utf-8").count("Traceback"),
        "examples of wrong": sorted(set(tally.wrong))[:5],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Load test with visitors of every kind.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--visitors", type=int, default=6)
    arguments = parser.parse_args()
    with serving(FEATVIZ_RUNS_PER_MINUTE="120") as server:
        figures = soak(server, min(arguments.minutes, 60) * 60, min(arguments.visitors, 40))
    for name, figure in figures.items():
        print(f"{name:28} {figure}")
    grown = figures["memory at the end, MB"] / figures["memory after warm-up, MB"] - 1
    print(f"{'memory grew by':28} {grown:.1%}")
    return int(bool(figures["wrong"] or figures["tracebacks in the log"]) or grown > MEMORY_MAY_GROW)


if __name__ == "__main__":
    sys.exit(main())
