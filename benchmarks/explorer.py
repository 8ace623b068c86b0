"""### How quickly does the explorer answer?

A browser opens an example picture in the explorer, moves the pointer over it, and switches a channel off, by the page's own clock. From
the click on the picture to the first channels; from a pointer event to the drawn frame; from the click on a channel to the new names.
"""

from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from benchmarks.measure import Row
from benchmarks.page import CHROMIUM, LONG
from benchmarks.serving import served

RUNS = 5

MOVES = """stage => {
    const box = stage.getBoundingClientRect(), seconds = [];
    for (let i = 0; i < 40; i++) {
        const clientX = box.left + box.width * ((i * 0.37) % 1), clientY = box.top + box.height * ((i * 0.61) % 1);
        const start = performance.now();
        stage.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY, bubbles: true}));
        stage.getBoundingClientRect();  // The layout, too.
        seconds.push((performance.now() - start) / 1000);
    }
    return seconds;
}"""

CLICKED = """([button, watched]) => new Promise(resolve => {
    const start = performance.now();
    new MutationObserver((_, observer) => { observer.disconnect(); resolve((performance.now() - start) / 1000); })
        .observe(document.querySelector(watched), {subtree: true, childList: true, attributes: true, characterData: true});
    document.querySelector(button).click();
})"""


def opened(page: Page, address: str) -> float:
    """Seconds from the click on a picture to the channels under the pointer, in a visit of its own."""
    page.goto(address)
    page.get_by_role("tab", name="Look Inside", exact=True).click()
    page.locator("#tab_explore .card").first.wait_for()
    page.locator(".explorer").wait_for(state="attached")
    return page.evaluate(CLICKED, ["#tab_explore .card", ".explorer .here .channels"])


def switched(page: Page) -> float:
    """Seconds from the click on a channel to the new names."""
    seconds = page.evaluate(CLICKED, [".explorer .here .channel", ".explorer .names"])
    page.evaluate(CLICKED, [".explorer .here .channel", ".explorer .names"])  # On again.
    return seconds


def rows() -> Iterator[Row]:
    with served() as server, sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        page.set_default_timeout(LONG)
        opened(page, server.address)  # Loads the network.
        yield Row("from the picture to the first channels", "s", [opened(page, server.address) for _ in range(RUNS)], "aim: 1")
        yield Row("following the pointer", "s", page.locator(".explorer .stage").evaluate(MOVES), "aim: 0.05")
        yield Row("a channel switched off: new names", "s", [switched(page) for _ in range(RUNS)], "aim: 0.1")
