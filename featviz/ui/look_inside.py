"""What "Look Inside" has beside a result: a channel and what it looks for, and the Gram matrix."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from featviz.networks.table import class_names, split
from featviz.recipes import metadata
from featviz.recipes.feature_visualization import FeatureVisualization
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime import atlas
from featviz.runtime.jobs import deleted_error
from featviz.ui import text
from featviz.ui.controls import spoken
from featviz.ui.runs import Channel, enlarged, thumbnail
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import in_cache


class ChannelBox:
    """A channel that was clicked: where it is active in the picture, and what it looks for."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_id="channel") as self.box:
            self.title = gr.HTML()
            with gr.Row():
                shared = {"height": 260, "interactive": False, "buttons": [], "min_width": 140}
                self.map = gr.Image(label=text.label("where_active"), alt_text="Its activation map.", **shared)
                self.visualization = gr.Image(
                    label=text.label("looks_for"), alt_text="The picture that activates it most.", **shared
                )
                self.natural = gr.Gallery(
                    label=text.label("natural"), columns=2, allow_preview=False, elem_classes=["sheet", "natural"], **shared
                )
            self.patches = gr.Gallery(
                label=text.label("patches"), columns=4, rows=1, height=170, allow_preview=False, interactive=False, buttons=[],
                elem_classes="sheet",
            )  # fmt: skip
            with gr.Row(elem_classes="onward"):
                self.dream = gr.Button(text.label("dream_channel"), size="sm", min_width=120)
                self.visualize = gr.Button(text.label("see_channel"), size="sm", min_width=120)
        self.chosen = gr.State()
        """(address of the layer, index of the channel)."""

    @property
    def outputs(self) -> list[Any]:
        return [self.box, self.title, self.map, self.visualization, self.natural, self.patches, self.chosen]

    def show(self, channel: Channel) -> dict:
        """Show a channel."""
        if not all(Path(file).is_file() for file in (*channel.patches, *filter(None, [channel.activation_map]))):
            with error_sentences():
                raise deleted_error()
        visualization = thumbnail(channel.layer, channel.channel)
        found = atlas.patches(channel.layer)
        natural = [in_cache(enlarged(patch.picture()), "jpeg") for patch in found.channels[channel.channel]] if found else []
        notes = [] if visualization else [text.say("no_thumbnail", action=text.say("see_channel"))]
        if found and found.classes:
            names = class_names(split(channel.layer)[0])
            notes.append(text.say("speaks_for", names=", ".join(names[i] for i in found.classes[channel.channel])))
        link = escape(metadata.link(FeatureVisualization(layer=channel.layer, channel=channel.channel)))
        title = f'<a href="{link}">{escape(spoken(channel.layer))}, channel {channel.channel}</a>'
        return {
            self.box: gr.update(visible=True),
            self.title: f'<h3 tabindex="-1">{title}</h3>' + "".join(f"<p>{escape(note, quote=False)}</p>" for note in notes),
            self.map: gr.update(value=channel.activation_map, visible=channel.activation_map is not None),
            self.visualization: gr.update(value=visualization, visible=visualization is not None),
            self.natural: gr.update(
                value=natural, visible=bool(natural), columns=2 if visualization or channel.activation_map else 4
            ),
            self.patches: gr.update(value=list(channel.patches), visible=bool(channel.patches)),
            self.chosen: (channel.layer, channel.channel),
        }


def gram_picture(engine: Engine, recipe: Recipe, pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Return the Gram matrix of the deepest layer that a style reconstruction uses, large enough to see its cells."""
    deepest = f"{recipe.network}/{recipe.places[-1]}"
    picture = engine.gram_picture(RECIPES["activation_maps"](layer=deepest, size=recipe.size), image=pictures["style"])
    side = max(320, picture.width)
    return picture.resize((side, side), Image.Resampling.NEAREST)
