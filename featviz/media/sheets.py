"""Pictures with text: contact sheets and captions."""

from collections.abc import Sequence
from itertools import accumulate

from PIL import Image, ImageDraw, ImageFont

MAGNIFIED = 3
"""Magnification of the detail that is drawn beside a picture."""

LABEL, GAP = 26, 6
"""Contact sheet, in pixels: height of a label above a picture, and space between two pictures."""


def contact_sheet(cells: Sequence[tuple[str, Image.Image]], columns: int, width: int) -> Image.Image:
    """Return an RGB picture with the cells (label, picture) in rows of `columns`, each `width` pixels wide below its label."""
    scaled = [(label, picture.resize((width, round(width * picture.height / picture.width)))) for label, picture in cells]
    rows = [scaled[start : start + columns] for start in range(0, len(scaled), columns)]
    tops = list(accumulate((LABEL + max(picture.height for _, picture in row) for row in rows), initial=0))
    result = Image.new("RGB", (len(rows[0]) * (width + GAP) - GAP, tops[-1]), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(15)
    for row, top in zip(rows, tops, strict=False):
        for i, (label, picture) in enumerate(row):
            draw.text((i * (width + GAP) + 2, top + 4), label, fill="black", font=font)
            result.paste(picture, (i * (width + GAP), top + LABEL))
    return result


def captioned(picture: Image.Image, title: str, remark: str) -> Image.Image:
    """Return an RGB picture with two lines of text on black below it: a large title and a smaller remark.

    Text is as large as the width of the picture allows. The height of the lines depends on that width alone.
    """
    size = min(max(picture.width // 16, 14), 40)
    lines = [(title, size, 0), (remark, round(0.6 * size), round(1.3 * size))]
    result = Image.new("RGB", (picture.width, picture.height + round(2.3 * size)))
    result.paste(picture)
    draw = ImageDraw.Draw(result)
    for line, largest, top in lines:
        width = ImageFont.load_default(largest).getlength(line)
        font = ImageFont.load_default(min(largest, largest * (picture.width - size) / width))
        draw.text((size // 2, picture.height + top), line, fill="white", font=font)
    return result


def with_detail(picture: Image.Image) -> Image.Image:
    """Return an RGB picture twice as wide and `GAP` more: the picture, and its middle magnified beside it."""
    width, height = picture.size
    left, top = ((side - side // MAGNIFIED) // 2 for side in picture.size)
    detail = picture.crop((left, top, left + width // MAGNIFIED, top + height // MAGNIFIED))
    result = Image.new("RGB", (2 * width + GAP, height), "white")
    result.paste(picture, (0, 0))
    result.paste(detail.resize(picture.size, Image.Resampling.BICUBIC), (width + GAP, 0))
    return result
