"""Make the contact sheets of docs/ anew: what the code makes of a picture, side by side and labelled."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from featviz import DeepDream, examples, run
from featviz.gradients import SHAPERS
from featviz.networks import BUNDLED, NETWORKS, split
from featviz.stream import try_out

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = [examples.FOLDER / name for name in ("mountain.jpg", "cat.jpg")]
LABEL = 26
"""Pixels above a cell."""


def sheet(cells: Iterable[tuple[str, Image.Image]], columns: int, width: int) -> Image.Image:
    """Labelled pictures in rows, each scaled to `width` pixels."""
    scaled = [(label, picture.resize((width, round(width * picture.height / picture.width)))) for label, picture in cells]
    height = max(picture.height for _, picture in scaled) + LABEL
    result = Image.new("RGB", (columns * (width + 6) - 6, -(-len(scaled) // columns) * height), "white")
    draw, font = ImageDraw.Draw(result), ImageFont.load_default(15)
    for i, (label, picture) in enumerate(scaled):
        left, top = i % columns * (width + 6), i // columns * height
        draw.text((left + 2, top + 4), label, fill="black", font=font)
        result.paste(picture, (left, top + LABEL))
    return result


def main() -> None:
    gradients = [
        (f"gradient: {name}", run(DeepDream(layer="efficientnet_lite0/block9", gradient=name, steps=10), image=PICTURES[0]))
        for name in SHAPERS
    ]
    sheet(gradients, 3, 400).save(DOCS / "gradients.jpg", quality=85)
    for name in BUNDLED:
        recipe = DeepDream(layer=f"{name}/{next(iter(NETWORKS[name].layers))}", steps=8)
        cells = [(split(variant.layer)[1], preview.picture) for variant, preview in try_out(recipe, image=PICTURES[0])]
        sheet(cells, 6, 200).save(DOCS / f"layers_{name}.jpg", quality=85)
    looks = [(look.title, run(look.recipe, image=picture)) for picture in PICTURES for look in examples.looks()]
    sheet(looks, 4, 300).save(DOCS / "looks.jpg", quality=85)


if __name__ == "__main__":
    main()
