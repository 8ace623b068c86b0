"""Compute the contact sheets of docs/: results of the recipes, side by side and labelled."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from featviz import DeepDream, ReconstructContent, ReconstructStyle, StyleTransfer, run
from featviz.media.sheets import contact_sheet
from featviz.networks.table import BUNDLED, NETWORKS, split
from featviz.optimise.gradients import SHAPERS
from featviz.recipes import presets
from featviz.recipes.recipe import differing
from featviz.runtime.sheet import try_out

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = [presets.FOLDER / name for name in ("mountain.jpg", "cat.jpg")]


def row(pictures: Sequence[Image.Image], width: int, gap: int = 6) -> Image.Image:
    """Pictures side by side, equally wide and as high as the first."""
    each = (width - gap * (len(pictures) - 1)) // len(pictures)
    height = round(each * pictures[0].height / pictures[0].width)
    result = Image.new("RGB", (width, height), "white")
    for i, picture in enumerate(pictures):
        result.paste(ImageOps.fit(picture.convert("RGB"), (each, height), Image.Resampling.LANCZOS), (i * (each + gap), 0))
    return result


def front() -> Image.Image:
    """Return the picture at the top of the README: both effects with their default settings."""
    castle, cat, wave = (Image.open(presets.FOLDER / name) for name in ("mountain.jpg", "cat.jpg", "great_wave.jpg"))
    rows = [row([castle, run(DeepDream(), image=castle)], 1200)]
    rows += [row([cat, wave, run(StyleTransfer(), content=cat, style=wave)], 1200)]
    result = Image.new("RGB", (1200, sum(picture.height for picture in rows) + 6), "white")
    result.paste(rows[0], (0, 0))
    result.paste(rows[1], (0, rows[0].height + 6))
    return result


def main() -> None:
    front().save(DOCS / "readme.jpg", quality=88)
    gradients = [
        (f"gradient: {name}", run(DeepDream(layer="efficientnet_lite0/block9", gradient=name, steps=10), image=PICTURES[0]))
        for name in SHAPERS
    ]
    contact_sheet(gradients, 2, 400).save(DOCS / "gradients.jpg", quality=85)
    for name in BUNDLED:
        recipe = DeepDream(layer=f"{name}/{next(iter(NETWORKS[name].layers))}", steps=8)
        cells = [(split(variant.layer)[1], preview.picture) for variant, preview in try_out(recipe, image=PICTURES[0])]
        contact_sheet(cells, 6, 200).save(DOCS / f"layers_{name}.jpg", quality=85)
    for recipe, name in ((ReconstructContent(), "content"), (ReconstructStyle(), "style")):
        source = {"image": PICTURES[1]} if name == "content" else {"style": presets.FOLDER / "great_wave.jpg"}
        cells = [
            (
                f"{differing(variant)} · {next(iter(preview.measures.values())):.1f}{' dB' if name == 'content' else 'x nearer'}",
                preview.picture,
            )
            for variant, preview in try_out(recipe, **source)
        ]
        contact_sheet(cells, 5, 240).save(DOCS / f"{name}.jpg", quality=85)
    named = [(preset.title, run(preset.recipe, image=picture)) for picture in PICTURES for preset in presets.read_presets()]
    contact_sheet(named, 4, 300).save(DOCS / "presets.jpg", quality=85)


if __name__ == "__main__":
    main()
