"""The atlas on the page: what the channels of a layer look for, and a search for channels. `atlas.js` draws it."""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from featviz.errors import FieldError
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.recipe import Recipe
from featviz.runtime import atlas
from featviz.ui.instruments.server_functions import answered
from featviz.ui.runs import Channel
from featviz.ui.serving.files import address

LONGEST = 100
"""The most characters of a search."""


class AtlasBox:
    """The component. Its value is the text that is searched; its `select` event has {"layer", "channel"}."""

    def __init__(self) -> None:
        script = 'featviz.atlas(element, props, server, watch, value => trigger("select", {index: 0, value}))'
        self.html = gr.HTML(
            "", html_template="", js_on_load=script, server_functions=[answered(find_channels)], visible=False,
            apply_default_css=False, elem_id="atlas",
        )  # fmt: skip


def find_channels(sent: Any) -> dict:
    """Return the channels that match a search text. `sent`: {"text": the search text}.

    The answer is {"layers": {layer: what its thumbnails are}, "found": [[layer, channel, class]]}.
    """
    found = atlas.search(str(sent.get("text", ""))[:LONGEST])
    return {
        "layers": {layer: channels_json(layer) for layer in dict.fromkeys(match.layer for match in found)},
        "found": [[match.layer, match.channel, match.class_name] for match in found],
    }


def chosen(value: Any) -> Channel:
    """Return the channel that was clicked. Raises FieldError for anything else."""
    value = value if isinstance(value, Mapping) else {}
    recipe = FeatureVisualization(layer=value.get("layer"), channel=value.get("channel"))
    if channel := of_atlas(recipe):
        return channel
    raise FieldError(f"The atlas has no channel {recipe.channel} of {recipe.layer}.")


def of_atlas(recipe: Recipe) -> Channel | None:
    """Return the channel that a recipe visualises; None if the atlas does not have it, or if the recipe visualises something else."""
    if not isinstance(recipe, FeatureVisualization) or recipe.class_name:
        return None
    found = atlas.patches(recipe.layer)
    return Channel(recipe.layer, recipe.channel) if found and recipe.channel < len(found.channels) else None


@cache
def channels_json(layer: str) -> dict[str, Any]:
    """Return where the browser finds the pictures of a layer's channels; {} for a layer that the atlas does not have.

    "sheet": the sheet of optimised pictures, measured in thumbnails, None without one. "pictures": the natural pictures, measured in
    pixels. "side": of a patch, in pixels. "patches": for each channel [picture, left, top] of the strongest, None without one.
    """
    sheet, natural = atlas.sheets().get(layer), atlas.patches(layer)
    if natural is None:
        return {}
    first = [patches[0] if patches else None for patches in natural.channels]
    files = list(dict.fromkeys(patch.file for patch in first if patch))
    return {
        "sheet": sheet and _picture(sheet.file, atlas.COLUMNS, math.ceil(len(sheet.peaks) / atlas.COLUMNS)),
        "pictures": [_picture(file, *atlas.opened(file).size) for file in files],
        "side": next((patch.side for patch in first if patch), 0),
        "patches": [patch and [files.index(patch.file), patch.left, patch.top] for patch in first],
    }


def _picture(file: Path, width: int, height: int) -> dict[str, Any]:
    return {"url": address(str(file)), "width": width, "height": height}
