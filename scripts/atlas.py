"""Compute the atlas: `make atlas`. Feature visualizations of every channel of some layers, many channels at a time.

About seven minutes of one core for all; `python -m scripts.atlas vgg19/relu3_1` makes the sheets of some layers only.
"""

import json
import sys

import torch
from PIL import Image

from featviz.media.images import to_picture
from featviz.networks.cache import load
from featviz.networks.table import split
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.runtime.atlas import COLUMNS, FOLDER

RECIPES = [
    *(FeatureVisualization(layer=f"efficientnet_lite0/block{i}", size=80, steps=40) for i in (2, 4, 6, 9, 11, 13)),
    FeatureVisualization(layer="vgg19/relu2_1", size=48, steps=32),
    FeatureVisualization(layer="vgg19/relu3_1", size=48, steps=32),
]
"""One sheet for each. A thumbnail has at most the size of the receptive field. Deep layers are taken from the smaller network."""

AT_ONCE = 16
"""Channels in a batch."""


def make(recipe: FeatureVisualization) -> None:
    """Write the sheet of a layer and its JSON file."""
    network, layer, size = load(recipe.network_name), split(recipe.layer)[1], recipe.size
    count = network.channels(layer)
    sheet, peaks = Image.new("RGB", (COLUMNS * size, -(-count // COLUMNS) * size)), []
    for first in range(0, count, AT_ONCE):
        channels = list(range(first, min(first + AT_ONCE, count)))
        *_, frame = recipe.each(network, channels)
        pictures = frame.image.split(size, dim=3)
        with torch.no_grad():
            activations = network.activations(torch.cat(pictures), [layer])[layer]
        for i, channel in enumerate(channels):
            row, column = divmod(channel, COLUMNS)
            sheet.paste(to_picture(pictures[i]), (column * size, row * size))
            peaks.append(round(activations[i, channel].max().item(), 4))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / recipe.layer.replace("/", "_")
    sheet.save(path.with_suffix(".webp"), quality=80, method=6)
    fields = {name: value for name, value in recipe.model_dump().items() if name not in ("layer", "channel")}
    data = {"layer": recipe.layer, "fields": fields, "peaks": peaks}
    path.with_suffix(".json").write_text(json.dumps(data) + "\n", encoding="utf-8")
    print(path.name, count, "channels", path.with_suffix(".webp").stat().st_size // 1000, "kB", flush=True)


if __name__ == "__main__":
    for recipe in RECIPES:
        if recipe.layer in (sys.argv[1:] or [recipe.layer]):
            make(recipe)
