"""Make the contact sheets of docs/ anew: what the code makes of a picture, side by side and labelled."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from featviz import DeepDream, examples, run
from featviz.gradients import SHAPERS
from featviz.images import contact_sheet
from featviz.networks import NETWORKS
from featviz.stream import layer_sheet

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = [examples.FOLDER / name for name in ("mountain.jpg", "cat.jpg")]


def sheet(cells: Iterable[tuple[str, Image.Image]], columns: int, width: int) -> Image.Image:
    """Labelled pictures in rows, each scaled to `width` pixels."""
    labels, pictures = zip(*cells, strict=True)
    return contact_sheet(labels, pictures, columns, width)


def main() -> None:
    gradients = [
        (f"gradient: {name}", run(DeepDream(layer="efficientnet_lite0/block9", gradient=name, steps=10), image=PICTURES[0]))
        for name in SHAPERS
    ]
    sheet(gradients, 3, 400).save(DOCS / "gradients.jpg", quality=85)
    for name, spec in NETWORKS.items():
        recipe = DeepDream(layer=f"{name}/{next(iter(spec.layers))}", steps=8)
        cells = [(preview.stage.partition("/")[2], preview.picture) for preview in layer_sheet(recipe, image=PICTURES[0])]
        sheet(cells, 6, 200).save(DOCS / f"layers_{name}.jpg", quality=85)
    looks = [(look.title, run(look.recipe, image=picture)) for picture in PICTURES for look in examples.looks()]
    sheet(looks, 4, 300).save(DOCS / "looks.jpg", quality=85)


if __name__ == "__main__":
    main()
