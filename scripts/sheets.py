"""Make the contact sheets of docs/ anew: what the code makes of a picture, side by side and labelled."""

from pathlib import Path

from featviz import DeepDream, ReconstructContent, ReconstructStyle, examples, run
from featviz.gradients import SHAPERS
from featviz.images import contact_sheet
from featviz.networks import BUNDLED, NETWORKS, split
from featviz.recipe import differing
from featviz.stream import try_out

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = [examples.FOLDER / name for name in ("mountain.jpg", "cat.jpg")]


def main() -> None:
    gradients = [
        (f"gradient: {name}", run(DeepDream(layer="efficientnet_lite0/block9", gradient=name, steps=10), image=PICTURES[0]))
        for name in SHAPERS
    ]
    contact_sheet(gradients, 3, 400).save(DOCS / "gradients.jpg", quality=85)
    for name in BUNDLED:
        recipe = DeepDream(layer=f"{name}/{next(iter(NETWORKS[name].layers))}", steps=8)
        cells = [(split(variant.layer)[1], preview.picture) for variant, preview in try_out(recipe, image=PICTURES[0])]
        contact_sheet(cells, 6, 200).save(DOCS / f"layers_{name}.jpg", quality=85)
    for recipe, name in ((ReconstructContent(), "content"), (ReconstructStyle(), "style")):
        source = {"image": PICTURES[1]} if name == "content" else {"style": examples.FOLDER / "great_wave.jpg"}
        cells = [
            (
                f"{differing(variant)} · {next(iter(preview.measures.values())):.1f}{' dB' if name == 'content' else 'x nearer'}",
                preview.picture,
            )
            for variant, preview in try_out(recipe, **source)
        ]
        contact_sheet(cells, 5, 240).save(DOCS / f"{name}.jpg", quality=85)
    looks = [(look.title, run(look.recipe, image=picture)) for picture in PICTURES for look in examples.looks()]
    contact_sheet(looks, 4, 300).save(DOCS / "looks.jpg", quality=85)


if __name__ == "__main__":
    main()
