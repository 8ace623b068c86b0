"""### How soon does something move on the page, and what does streaming cost?

A browser clicks the first example of each recipe; the page's own clock says when the first preview and the result are there. The
same run is drained in a plain loop, in turns with the clicks: the library alone, `stream` without looking at it, and the page as a
visitor has it, with its pictures encoded, sent and drawn, on the same cores as the browser.
"""

import os
import shutil
import time
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from benchmarks.cases import PICTURES
from benchmarks.measure import Row, ratios, timed
from benchmarks.serving import served
from featviz import stream
from featviz.media.images import open_picture, to_tensor
from featviz.networks.cache import load
from featviz.recipes import presets
from featviz.recipes.recipe import Recipe

RUNS = 3

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)

LONG = 600_000

WATCH = """result => {
    window.shown = {clicked: 0, previews: [], done: 0};
    const seen = new Set();
    document.addEventListener("click", () => { window.shown.clicked ||= performance.now(); }, {capture: true, once: true});
    new MutationObserver(() => {
        if (!window.shown.clicked || window.shown.done) return;
        result.querySelectorAll("img[alt='The picture so far.']").forEach(image => {
            if (!seen.has(image.src)) { seen.add(image.src); window.shown.previews.push(performance.now()); }
        });
        if (/Done in/.test(result.querySelector(".status").textContent)) window.shown.done = performance.now();
    }).observe(result, {subtree: true, childList: true, attributes: true, characterData: true});
}"""


def clicked(browser: Browser, address: str, kind: type[Recipe], title: str) -> dict:
    """A new visitor's click on an example: the times of the click, of every preview, of the end, in milliseconds.

    A visitor who comes again would see the result of the run before.
    """
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(LONG)
    page.goto(address)
    page.get_by_role("tab", name=kind.tab_group, exact=True).first.click()
    button = page.locator(".examples .card", has_text=title).locator("visible=true").first
    button.wait_for()
    page.locator("#result").evaluate(WATCH)
    button.click()
    page.wait_for_function("window.shown.done", timeout=LONG)
    shown = page.evaluate("window.shown")
    page.context.close()
    return shown


def cold_visit(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds until the first example can be clicked, and until the page has taken over from the first screen.

    Without a cache and with a processor four times slower.
    """
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator(".examples .card").locator("visible=true").first.click(trial=True)
    clickable = time.perf_counter() - start
    page.locator("#first-screen").wait_for(state="detached")
    complete = time.perf_counter() - start
    page.context.close()
    return clickable, complete


def rows() -> Iterator[Row]:
    with served() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        clickable, complete = zip(*(cold_visit(browser, server.address) for _ in range(RUNS)), strict=True)
        yield Row("a cold visit, a quarter of the processor: first example clickable", "s", clickable, "aim: 2.5")
        yield Row("until the page is complete and passes the click on", "s", complete)
        for kind in PICTURES:
            example = next(one for one in presets.read_examples() if type(one.recipe) is kind)
            opened = {role: to_tensor(open_picture(path)) for role, path in example.pictures.items()}
            network = load(example.recipe.network_name)
            ways = {
                "the library alone": lambda e=example, n=network, o=opened: list(e.recipe.run(n, **o)),
                "streamed": lambda e=example: list(stream(e.recipe, **e.pictures)),
            }
            for way in ways.values():
                way()
            clicked(browser, server.address, kind, example.title)
            first, rate, whole, seconds = [], [], [], {name: [] for name in ways}
            for _ in range(RUNS):
                for name, way in ways.items():
                    seconds[name].append(timed(way))
                shown = clicked(browser, server.address, kind, example.title)
                at = [time - shown["clicked"] for time in (*shown["previews"], shown["done"])]
                first.append(at[0] / 1000)
                whole.append(at[-1] / 1000)
                rate.append(len(shown["previews"]) / whole[-1])
            yield Row(f"{kind.title}, “{example.title}”: click to first preview", "s", first, "aim: 1 for DeepDream")
            yield Row("previews on the page", "a second", rate)
            plain = seconds["the library alone"]
            yield Row("the whole run: the library alone", "s", plain)
            yield Row("streamed", "times the library alone", ratios(seconds["streamed"], plain), "aim: 1.05")
            yield Row("click to result on the page", "times the library alone", ratios(whole, plain))
            yield Row("click to result, from the first preview on", "s", [w - f for w, f in zip(whole, first, strict=True)])
        browser.close()
