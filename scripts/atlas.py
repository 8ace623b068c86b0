"""Compute the optimised pictures of the atlas, part of `make atlas`: feature visualizations of the channels, a row at a time.

`python -m scripts.atlas` makes what is missing; `python -m scripts.atlas vgg19/relu3_1` only the sheets of some layers. A sheet takes
about half a second of one core for each channel. Rows that are done are kept in `out/atlas` until their sheet is written, so that
the program can be stopped at any time. To make a sheet anew, delete its JSON file.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

from featviz.media.images import to_picture
from featviz.networks.cache import load
from featviz.networks.network import Network
from featviz.networks.table import NETWORKS, split
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.runtime.atlas import COLUMNS, FOLDER

ROWS = Path(__file__).parents[1] / "out" / "atlas"
"""Where rows are kept."""

LEFT_OUT = {"stem", "block0", "relu1_1", "relu1_2"}
"""Layers that see less than ten pixels. An optimised picture of them is saturated colours; the natural patches show more."""

SIZES = {"block1": 48, "head": 64}
"""Sides of thumbnails in pixels, where they differ from `SIZE`: of a small receptive field, and of the layer with the most channels."""

SIZE, VGG_SIZE, QUALITY, HEAD_QUALITY = 80, 40, 65, 50
"""So that all sheets together stay under 12 MB."""

RECIPES = [
    *(
        FeatureVisualization(layer=f"efficientnet_lite0/{layer}", size=SIZES.get(layer, SIZE), steps=40)
        for layer in NETWORKS["efficientnet_lite0"].layers
        if layer not in LEFT_OUT
    ),
    *(
        FeatureVisualization(layer=f"vgg19/{layer}", size=VGG_SIZE, steps=32)
        for layer in NETWORKS["vgg19"].layers
        if layer not in LEFT_OUT
    ),
]
"""One sheet for each other layer. The smaller network goes first: it takes less time, and its thumbnails are larger."""


def row(recipe: FeatureVisualization, network: Network, channels: list[int]) -> tuple[Image.Image, list[float]]:
    """Return the thumbnails of some channels side by side, and the highest activation of each on its own."""
    *_, frame = recipe.each(network, channels)
    layer = split(recipe.layer)[1]
    with torch.no_grad():
        activations = network.activations(torch.cat(frame.image.split(recipe.size, dim=3)), [layer])[layer]
    peaks = [activations[i, channel].max().item() for i, channel in enumerate(channels)]
    return to_picture(frame.image), [round(peak, 4) for peak in peaks]


def make(recipe: FeatureVisualization, sheet: Path) -> None:
    """Write the sheet of a layer and its JSON file."""
    network, size = load(recipe.network_name), recipe.size
    count = network.channels(split(recipe.layer)[1])
    starts = range(0, count, COLUMNS)
    picture, peaks = Image.new("RGB", (COLUMNS * size, len(starts) * size)), []
    ROWS.mkdir(parents=True, exist_ok=True)
    for start in starts:
        kept = ROWS / f"{sheet.name}_{start}.png"
        if not kept.with_suffix(".json").is_file():
            made, activations = row(recipe, network, list(range(start, min(start + COLUMNS, count))))
            made.save(kept)
            kept.with_suffix(".json").write_text(json.dumps(activations), encoding="utf-8")
        picture.paste(Image.open(kept), (0, start // COLUMNS * size))
        peaks += json.loads(kept.with_suffix(".json").read_text(encoding="utf-8"))
    quality = HEAD_QUALITY if sheet.name.endswith("_head") else QUALITY
    picture.save(sheet.with_suffix(".webp"), quality=quality, method=6)
    fields = {name: value for name, value in recipe.model_dump().items() if name not in ("layer", "channel")}
    data = {"layer": recipe.layer, "fields": fields, "peaks": peaks}
    sheet.with_suffix(".json").write_text(json.dumps(data) + "\n", encoding="utf-8")
    for kept in ROWS.glob(f"{sheet.name}_*"):
        kept.unlink()
    print(sheet.name, count, "channels", sheet.with_suffix(".webp").stat().st_size // 1000, "kB", flush=True)


if __name__ == "__main__":
    for recipe in RECIPES:
        sheet = FOLDER / recipe.layer.replace("/", "_")
        if recipe.layer in (sys.argv[1:] or [recipe.layer]) and not sheet.with_suffix(".json").is_file():
            make(recipe, sheet)
