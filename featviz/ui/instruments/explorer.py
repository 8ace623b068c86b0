"""The explorer: point at a picture, see what the network sees there, why the picture has its name, and what changes without a part.

One component. `explorer.js` draws it from data that the functions below send, so that following the pointer takes no request.
"""

import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from featviz.networks.table import FASTEST, NETWORKS, split
from featviz.recipes.ablation import Ablation
from featviz.recipes.activation_maps import ActivationMaps
from featviz.recipes.evidence import Evidence
from featviz.recipes.feature_accentuation import FeatureAccentuation
from featviz.recipes.presets import Example
from featviz.runtime.exploration import PER_PLACE, Exploration, Places
from featviz.ui import text
from featviz.ui.cards import Card, Cards, drawn, thumbnail
from featviz.ui.controls import needs_download
from featviz.ui.instruments.atlas import channels_json
from featviz.ui.instruments.server_functions import instead, picture_of
from featviz.ui.serving.admission import unqueued_run
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import data_url, file_of, in_cache

SIZE = 224
"""Longest side at which the network looks at the picture, in pixels."""

STARTS = {FASTEST: "block6", "vgg19": "relu3_1"}
"""Network → the layer that is open first, where it is not the one that style transfer takes the content from."""

TAB, TAB_GROUP = "explore", "Look Inside"
"""The id of the tab, and the group of tabs that it opens."""

CHANNELS = 6
"""Channels for a name, and against it."""


class Explorer:
    """The component, and the functions that its script calls."""

    def __init__(self, engine: Engine):
        self.engine = engine
        starts = [f"{name}/{STARTS.get(name, spec.content_layer)}" for name, spec in NETWORKS.items()]
        ordered = sorted(starts, key=lambda layer: (needs_download(layer), split(layer)[0] != FASTEST))
        networks = [(f"{NETWORKS[split(layer)[0]].title}{' (download)' * needs_download(layer)}", layer) for layer in ordered]
        self.html = instead("explorer", self.look, self.explain, self.without, self.accentuate, networks=networks)

    def add_tab(self, examples: Sequence[Example]) -> None:
        """Add what stands in the tab: how it is used, and some pictures."""
        gr.Markdown(text.label("explore_intro"), elem_classes="prose-block")
        photographs = [path for example in examples for role, path in example.pictures.items() if role == "image"]
        self.pictures = list(dict.fromkeys(map(str, photographs)))
        hint = gr.Markdown(text.label("explore_examples"), elem_classes="hint")
        cards = [Card(Path(file).stem.capitalize(), thumbnail([Image.open(file)], (240, 120), hint)) for file in self.pictures]
        self.cards = Cards(cards, kind="examples")

    def texts(self, say: Callable[[str], str]) -> dict[gr.components.Component, dict[str, str]]:
        """Return component → {property: text}. `say` translates an English text."""
        return {self.cards.html: {"value": drawn(self.cards.cards, say=say)}}

    def take(self, event: gr.SelectData) -> str:
        """Return the example picture that was clicked."""
        return self.pictures[event.index]

    def look(self, sent: Any) -> dict:
        """Return everything about a picture that is drawn at once. `sent`: {"picture", "layer"}."""
        recipe = Exploration(layer=sent.get("layer"), size=SIZE, count=PER_PLACE)
        explored = self.engine.explore(recipe, image=picture_of(sent))
        last = list(NETWORKS[recipe.network_name].layers)[-1]
        return {
            "picture": {"path": in_cache(explored.image)},
            "size": explored.image.size,
            "layers": [
                {"layer": it.layer, "shape": it.shape, "map": encoded(it.activity), "side": it.size} for it in explored.layers
            ],
            "names": list(explored.names.items()),
            "last": f"{recipe.network_name}/{last}",
            "places": places_json(explored.places),
            "atlas": {layer: channels_json(layer) for layer in (recipe.layer, f"{recipe.network_name}/{last}")},
        }

    def explain(self, sent: Any) -> dict:
        """Return why a picture has a name. `sent`: {"picture", "network", "name", "rather"}."""
        fields = {"class_name": sent.get("name", ""), "rather_than": sent.get("rather", "")}
        recipe = Evidence(network=sent.get("network"), count=CHANNELS, size=SIZE, **fields)
        found = self.engine.explain_name(recipe, image=picture_of(sent))
        sums = {"logit": found.logit, "bias": found.bias, "rest": found.rest}
        channels = [
            {"channel": channel, "value": value, "map": map_}
            for (channel, value), map_ in zip(found.channels.items(), found.maps, strict=True)
        ]
        return {"name": found.name, **sums, "channels": channels, "side": found.size, "map": found.places}

    def without(self, sent: Any) -> dict:
        """Return the names without a part. `sent`: {"picture", "layer", "channels", "names", "mask"}."""
        recipe = Ablation(layer=sent.get("layer"), channels=sent.get("channels", ""), size=SIZE)
        mask = {"mask": file_of({"url": str(sent["mask"]), "path": None})} if sent.get("mask") else {}
        names, off = self.engine.switch_off(recipe, sent.get("names", []), image=picture_of(sent), **mask)
        return {"names": list(names.items()), "channels": off}

    def accentuate(self, sent: Any) -> dict:
        """Return what a channel sees in a picture, and where it responds most. `sent`: {"picture", "layer", "channel"}."""
        layer, channel, picture = sent.get("layer"), sent.get("channel"), picture_of(sent)
        recipe = FeatureAccentuation(layer=layer, channel=channel, size=SIZE)
        with unqueued_run():
            (cell,) = self.engine.inspect_layer(ActivationMaps(layer=layer, size=SIZE), [recipe.channel], image=picture).cells
            *_, last = self.engine.run(recipe, image=picture)
        return {
            "picture": data_url(last.picture),
            "map": data_url(cell.picture),
            "patches": list(map(data_url, cell.patches)),
        }


def places_json(places: Places) -> dict[str, Any]:
    """Return what JSON can hold: bytes as base64, infinity as null."""
    field = {name: [side if math.isfinite(side) else None for side in getattr(places.field, name)] for name in ("first", "last")}
    arrays = {"channels": encoded(places.channels), "shares": encoded(places.shares)}
    plain = {"layer": places.layer, "shape": places.shape, "count": places.count, "strides": places.field.strides}
    return plain | field | arrays


def encoded(content: bytes) -> str:
    return b64encode(content).decode()
