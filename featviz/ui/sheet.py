"""Which layer does what? The visitor's picture, small, dreamt at every layer of the chosen network."""

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from featviz.recipe import Recipe, choices
from featviz.ui.running import BEHIND_THE_PAGE, RUNS_AT_ONCE, Engine, Turn, arriving, checked, line

SCROLL = """(...values) => {{
    setTimeout(() => document.querySelector("#{}_sheet")?.scrollIntoView({{behavior: "smooth", block: "nearest"}}), 300);
    return values;
}}"""


class Sheet:
    """A gallery that fills up layer by layer. Clicking a picture in it sets the layer."""

    def __init__(self, recipe: type[Recipe], engine: Engine, button: gr.Button):
        self.recipe, self.engine, self.button = recipe, engine, button
        with gr.Column(visible=False, elem_id=f"{recipe.name}_sheet") as self.box:
            self.status = gr.HTML(elem_classes="status")
            self.gallery = gr.Gallery(
                label="Click one to choose its layer", columns=5, height=400, allow_preview=False, interactive=False, buttons=[],
                elem_classes="sheet",
            )  # fmt: skip
            self.stop = gr.Button("Stop", variant="stop", size="sm")
            self.close = gr.Button("Close", size="sm", elem_classes="quiet", visible=False)
        self.layers = gr.State([])  # Their addresses, in the order of the gallery.
        self.turn = gr.State(Turn())

    def events(self, pictures: list[gr.Image], controls: dict[str, gr.components.Component]) -> None:
        """`controls`: the recipe's, by the names of their fields."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        outputs = [self.box, self.status, self.gallery, self.layers, self.stop, self.close]
        run = self.button.click(
            self.opened, outputs=outputs, js=SCROLL.format(self.recipe.name), **at_once
        ).then(
            self.show, [*pictures, *controls.values(), self.turn], outputs,
            preprocess=False, trigger_mode="multiple", **RUNS_AT_ONCE, **BEHIND_THE_PAGE,
        )  # fmt: skip
        self.stop.click(None, cancels=[run]).then(self.stopped, self.turn, outputs, **at_once)
        self.close.click(lambda: gr.update(visible=False), None, self.box, **at_once)
        self.gallery.select(self.chosen, self.layers, controls["layer"], **at_once)

    def opened(self) -> dict:
        return {
            self.box: gr.update(visible=True),
            self.status: line("Waiting for its turn…", 0),
            self.gallery: [],
            self.stop: gr.update(visible=True),
            self.close: gr.update(visible=False),
        }

    def show(self, *values: Any) -> Iterator[dict]:
        """The gallery, one layer more each time. What is there stays, whatever goes wrong."""
        *sent, turn = values
        mine, tiles, layers = turn.take(), [], []
        try:
            recipe, pictures = checked(self.recipe, [*sent, *[None] * len(self.recipe.extras)])
            count = sum(layer.startswith(f"{recipe.network_name}/") for layer in choices(self.recipe.model_fields["layer"]))
            yield {self.status: line("Getting ready…", 0)}
            for download in self.engine.prepare(recipe, **pictures):
                yield {self.status: arriving(download)}
            for preview in self.engine.sheet(recipe, **pictures):
                if turn.number != mine:
                    yield {self.status: gr.skip()}
                    return
                layers.append(preview.stage)
                tiles.append((save_pil_to_cache(preview.picture, get_upload_folder(), format="png"), short(preview.stage)))
                said = line(f"Layer {len(tiles)} of {count}", len(tiles) / count)
                yield {self.gallery: list(tiles), self.layers: list(layers), self.status: said}
        except gr.Error as error:
            yield self.over(error.message)
            raise
        yield self.over("The same dream at every layer, from shallow to deep.")

    def stopped(self, turn: Turn) -> dict:
        turn.rest()
        return self.over("Stopped; the layers so far can be chosen.")

    def over(self, said: str) -> dict:
        return {self.status: line(said), self.stop: gr.update(visible=False), self.close: gr.update(visible=True)}

    def chosen(self, layers: list[str], event: gr.SelectData) -> str:
        """The layer whose picture was clicked."""
        return layers[event.index]


def short(layer: str) -> str:
    """An address without its network, which is the same for all."""
    return layer.rpartition("/")[2]
