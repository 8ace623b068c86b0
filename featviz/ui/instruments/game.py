"""The game: in each of ten rounds, the visitor guesses which of two pictures activates a channel more. `game.js` draws it."""

import random
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import gradio as gr

from featviz.errors import InputError
from featviz.networks.table import split
from featviz.runtime import atlas
from featviz.runtime.exploration import Exploration
from featviz.runtime.game import rounds
from featviz.ui import text
from featviz.ui.instruments.lesson import SIZE, small
from featviz.ui.instruments.server_functions import answered, picture_of
from featviz.ui.runs import thumbnail
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import data_url

NETWORK = "efficientnet_lite0"

PICTURES, PLAYED = tuple(map(str, sorted((atlas.FOLDER / "pictures").glob("*.webp")))), 8
"""The pictures of the atlas, and how many of them a game uses beside the visitor's own."""

MOST_SEED = 10**6


class Game:
    """The component, and the function that its script calls."""

    def __init__(self, engine: Engine):
        layers = [layer for layer in atlas.sheets() if split(layer)[0] == NETWORK]
        recipe = Exploration(layer=layers[0], size=SIZE)

        @lru_cache(maxsize=100)
        def peaks(file: str) -> Mapping[str, list[float]]:
            """One forward pass for each picture."""
            return engine.peak_activations(recipe, layers, image=file)

        def game_rounds(sent: Any) -> dict:
            """Return a game. `sent`: {"picture", "seed"}."""
            seed = sent.get("seed")
            if not (isinstance(seed, int) and 0 <= seed <= MOST_SEED):
                raise InputError(f"seed is no whole number from 0 to {MOST_SEED}.")
            own = [picture_of(sent)] if sent.get("picture") else []
            files = [*own, *random.Random(seed).sample(PICTURES, PLAYED)]
            made = {layer: atlas.sheets()[layer].peaks for layer in layers}
            played = rounds(list(map(peaks, files)), made, seed, own=bool(own))
            return {
                "pictures": [data_url(small(file)) for file in files],
                "rounds": [
                    {
                        "layer": split(it.layer)[1],
                        "channel": it.channel,
                        "thumbnail": data_url(thumbnail(it.layer, it.channel)),
                        "pictures": it.pictures,
                        "activations": it.activations,
                    }
                    for it in played
                ],
            }

        self.html = gr.HTML(
            html_template="", js_on_load="featviz.game(element, props, server, watch)", apply_default_css=False, visible=False,
            elem_id="game", elem_classes="instead", render=False, server_functions=[answered(game_rounds)],
        )  # fmt: skip

    def add_tab(self) -> None:
        """Add the text of the tab."""
        gr.Markdown(text.label("game_intro"), elem_classes="prose-block")
