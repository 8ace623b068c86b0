"""### Is the live mirror a mirror?

A browser opens it with a camera that plays a file: a face that sways slowly, thirty frames a second. The browser's own clock says
when the camera took a frame and when the dream on it was on the screen, on the same cores as the server. Then a second visitor's
dream runs meanwhile; then there are three mirrors.
"""

import math
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.clips import fake_camera, write_mjpeg
from benchmarks.measure import EXAMPLES, Row
from benchmarks.page import CHROMIUM, LONG
from benchmarks.serving import served
from featviz.runtime.mirror import DREAM
from scripts.visitor import Visitor, inline

WARM_UP, SECONDS = 3, 15
"""Seconds of a mirror before it is measured, and while it is."""

RUN = {"layer": DREAM.layer, "size": 384, "steps": 20, "octaves": 3}
"""The second visitor's run, some twenty seconds alone."""

MEASURED = "performance.getEntriesByName('mirror').map(entry => [entry.startTime, entry.startTime + entry.duration])"


def camera(path: Path, count: int = 120) -> Path:
    """Write four seconds of a face that sways by an eighth of the picture's width."""
    face = Image.open(EXAMPLES / "astronaut.jpg").convert("RGB").resize((800, 800))
    turns = [2 * math.pi * i / count for i in range(count)]
    places = [(round(80 + 40 * math.cos(turn)), round(40 + 30 * math.sin(turn))) for turn in turns]
    return write_mjpeg(path, (face.crop((x, y, x + 640, y + 480)) for x, y in places))


@contextmanager
def opened(browser: Browser, address: str, count: int) -> Iterator[list[Page]]:
    """Open so many pages whose mirrors have shown their first frames."""
    pages = [browser.new_page(viewport={"width": 1440, "height": 900}, permissions=["camera"]) for _ in range(count)]
    for page in pages:
        page.set_default_timeout(LONG)
        page.goto(address)
        page.locator("#mirror .start").click()
        page.wait_for_function("performance.getEntriesByName('mirror').length > 5")
    yield pages
    for page in pages:
        page.close()


def watched(pages: list[Page]) -> list[list[tuple[float, float]]]:
    """Return the frames that each page shows in `SECONDS`: when the camera took them and when they were shown, in milliseconds."""
    pages[0].wait_for_timeout(1000 * WARM_UP)
    for page in pages:
        page.evaluate("performance.clearMeasures('mirror')")
    pages[0].wait_for_timeout(1000 * SECONDS)
    return [page.evaluate(MEASURED) for page in pages]


def rates(frames: list[list[tuple[float, float]]]) -> list[float]:
    return [len(shown) / SECONDS for shown in frames]


def longest(frames: list[list[tuple[float, float]]]) -> list[float]:
    """Return the longest time between two frames of each page, in seconds."""
    return [max(after - before for (_, before), (_, after) in pairwise(shown)) / 1000 for shown in frames]


def dreamt(address: str) -> float:
    """Run the second visitor's dream; return its seconds."""
    start = time.perf_counter()
    answer = Visitor(address, "second").run(image=inline((EXAMPLES / "cat.jpg").read_bytes(), "jpeg"), **RUN)
    if answer.event != "complete":
        raise RuntimeError(answer.sentence)
    return time.perf_counter() - start


@contextmanager
def meanwhile(address: str) -> Iterator[list[float]]:
    """Run the second visitor's dream in the context; its seconds are in the list after it."""
    seconds: list[float] = []
    thread = threading.Thread(target=lambda: seconds.append(dreamt(address)))
    thread.start()
    yield seconds
    thread.join()


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, served() as server, sync_playwright() as playwright:
        options = ["--no-sandbox", *fake_camera(camera(Path(folder, "face.mjpeg")))]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        alone = dreamt(server.address)
        with opened(browser, server.address, 1) as pages:
            frames = watched(pages)
        yield Row(f"one mirror, {DREAM.size} px: frames on the screen", "a second", rates(frames), "aim: 8")
        delays = sorted(shown - taken for taken, shown in frames[0])
        yield Row("from the camera to the screen, each frame", "ms", delays, "aim: 300")
        yield Row("nine of ten within", "ms", [delays[len(delays) * 9 // 10]])
        with opened(browser, server.address, 1) as pages, meanwhile(server.address) as seconds:
            frames = watched(pages)
        yield Row("beside a second visitor's dream: frames on the screen", "a second", rates(frames))
        yield Row("longest time without a new frame", "s", longest(frames))
        yield Row("the dream meanwhile", "times alone", [seconds[0] / alone], "2 are equal shares")
        with opened(browser, server.address, 3) as pages:
            frames = watched(pages)
        yield Row("three mirrors: frames on the screen of each", "a second", rates(frames))
        yield Row("longest time without a new frame", "s", longest(frames))
        browser.close()
