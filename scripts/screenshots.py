"""Write docs/page.jpg, ten screenshots of the page, and with a folder as argument every state, in light and dark, wide and narrow."""

import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.page import CHROMIUM, LONG
from featviz.recipes.table import RECIPES
from scripts.visitor import ROOT, serving

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

VISITS = {f"{name}_{theme}": (size, theme) for name, size in (("wide", WIDE), ("narrow", NARROW)) for theme in ("light", "dark")}
"""Name → size of the window and theme."""

SHEET = [
    ["wide_light_1_first", "wide_light_2_running", "narrow_light_1_first", "narrow_dark_2_running"],
    ["wide_dark_3_done", "wide_light_4_style", "narrow_light_3_done"],
    ["wide_dark_5_maps", "wide_light_6_layers", "narrow_dark_5_maps"],
]
"""Rows of screenshots."""

HEIGHT = 420
"""Of a row of the sheet, in pixels."""


def states(page: Page) -> Iterator[str]:
    """Use the page as a visitor does. Yields the name of each state when it is reached."""
    result, stop = page.locator("#result"), page.locator("#stop")

    def done() -> None:
        result.get_by_text("Done in").or_(result.get_by_text("each unit sees")).wait_for()
        page.locator("#start").wait_for()

    def example(recipe: str) -> None:
        kind = RECIPES[recipe]
        page.get_by_role("tab", name=kind.tab_group, exact=True).click()
        if kind.title != kind.tab_group:
            page.get_by_role("tab", name=kind.title, exact=True).click()
        page.locator("#start", has_text=kind.action).wait_for()
        page.locator(".examples .card").locator("visible=true").first.click()
        stop.wait_for()

    result.locator(".status p").first.wait_for()
    yield "1_first"
    example("deepdream")
    result.get_by_alt_text("The picture so far.").wait_for()
    yield "2_running"
    done()
    page.locator("#share").click()
    page.locator("#copy_link").wait_for()
    yield "3_done"
    example("style_transfer")
    done()
    yield "4_style"
    example("activation_maps")
    done()
    result.locator(".grid-wrap button:visible").nth(1).click()
    page.locator("#channel h3").wait_for()
    page.wait_for_timeout(1500)  # It scrolls into view.
    yield "5_maps"
    page.get_by_role("tab", name="DeepDream", exact=True).click()
    page.get_by_role("button", name="Compare the layers").click()
    stop.wait_for()
    result.locator(".grid-wrap:visible button").nth(4).wait_for()
    yield "6_layers"
    stop.click()
    page.locator("#start").wait_for()


def photograph(browser: Browser, address: str, folder: Path, visit: str) -> None:
    """Write a screenshot of every state of a visit."""
    size, theme = VISITS[visit]
    page = browser.new_page(viewport=size)
    page.set_default_timeout(LONG)
    page.goto(f"{address}?__theme={theme}")
    for state in states(page):
        page.wait_for_timeout(700)  # Pictures are drawn, and toasts slide in.
        page.screenshot(path=folder / f"{visit}_{state}.png")
    page.close()


def sheet(folder: Path) -> Image.Image:
    """Return the rows of `SHEET` on one picture."""
    rows = []
    for names in SHEET:
        pictures = [Image.open(folder / f"{name}.png").convert("RGB") for name in names]
        pictures = [one.resize((one.width * HEIGHT // one.height, HEIGHT), Image.Resampling.LANCZOS) for one in pictures]
        row = Image.new("RGB", (sum(one.width for one in pictures) + 12 * (len(pictures) - 1), HEIGHT), "white")
        left = 0
        for one in pictures:
            row.paste(one, (left, 0))
            left += one.width + 12
        rows.append(row)
    whole = Image.new("RGB", (max(row.width for row in rows), len(rows) * (HEIGHT + 12) - 12), "white")
    for i, row in enumerate(rows):
        whole.paste(row, (0, i * (HEIGHT + 12)))
    return whole


def main(folder: Path, visits: list[str]) -> None:
    """Write the screenshots of some visits into a folder, and the sheet if all are there."""
    folder.mkdir(parents=True, exist_ok=True)
    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for visit in visits or VISITS:
            photograph(browser, server.address, folder, visit)
    if all((folder / f"{name}.png").exists() for row in SHEET for name in row):
        sheet(folder).save(ROOT / "docs" / "page.jpg", quality=82)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
