"""The page's main states as they looked when they were last approved: `make screens` takes them anew; look at them before a commit."""

import io
import os
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter

FOLDER = Path(__file__).parent / "screens"

WIDTH = 360
"""Pixels to which a screenshot is reduced, so that letters become grey lines and the fonts of a machine hardly matter."""

BLUR = 4.0
"""Standard deviation of the blur, in these pixels: about the height of a button."""

TOLERANCE = 25.0
"""The largest `difference` at which two screenshots count as equal. Measured on one machine: two screenshots of the same page, at most
1; one with a hidden button, 150; one with pale cards, 52."""

APPROVE = "APPROVE_SCREENS" in os.environ
"""Whether the screenshots of this run become the approved ones."""


def reduced(screenshot: bytes) -> Image.Image:
    with Image.open(io.BytesIO(screenshot)) as picture:
        small = picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.BOX)
    return small.filter(ImageFilter.GaussianBlur(BLUR))


def difference(one: Image.Image, other: Image.Image) -> float:
    """The largest difference of a colour at any place of two reduced screenshots, of 255."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def taken(page) -> Image.Image:
    """A reduced screenshot of the top of a page, as soon as two in a row are the same: pictures may still arrive."""
    page.mouse.move(0, 0)

    def shots():
        for _ in range(60):
            page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
            yield reduced(page.screenshot(animations="disabled", caret="hide"))
            page.wait_for_timeout(300)

    return next(later for earlier, later in pairwise(shots()) if difference(earlier, later) <= 1)


def changed(name: str, page) -> float:
    """How much a page differs from an approved state, which it replaces if `APPROVE` is set."""
    path, now = FOLDER / f"{name}.png", taken(page)
    if APPROVE:
        FOLDER.mkdir(exist_ok=True)
        now.save(path)
    with Image.open(path) as approved:
        return difference(now, approved)
