"""Try before you commit: small versions of a run that differ in a few fields, such as a dream at every layer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from featviz.recipes.recipe import Recipe, differing
from featviz.runtime.sheet import on_one_sheet
from featviz.runtime.stream import Preview
from featviz.ui.controls import label, named_after
from featviz.ui.running import BEHIND_THE_PAGE, RUNS_AT_ONCE, Engine, Turn, arriving, checked, in_cache, line, without_disabled

SCROLL = """(...values) => {{
    setTimeout(() => document.querySelector("#{}_sheet")?.scrollIntoView({{behavior: "smooth", block: "nearest"}}), 300);
    return values;
}}"""


MEANING = "Small versions of one run, labelled, on one picture: try before you commit."


class Sheet:
    """A gallery that fills up picture by picture. Clicking one sets the fields that it differs in."""

    def __init__(self, recipe: type[Recipe], engine: Engine, button: gr.Button):
        self.recipe, self.engine, self.button = recipe, engine, button
        with gr.Column(visible=False, elem_id=f"{recipe.name}_sheet") as self.box:
            self.status = gr.HTML(elem_classes="status")
            self.gallery = gr.Gallery(
                label=f"Click one to choose its {' and '.join(label(name).lower() for name in recipe.sweep_fields)}", columns=5 if len(recipe.sweep_fields) == 1 else 3, height=400, allow_preview=False, interactive=False, buttons=[],
                elem_classes="sheet",
            )  # fmt: skip
            self.stop = gr.Button("Stop", variant="stop", size="sm")
            self.close = gr.Button("Close", size="sm", elem_classes="quiet", visible=False)
        self.shown = gr.State([])  # The recipes, in the order of the gallery.
        self.turn = gr.State(Turn())

    def events(
        self,
        pictures: Sequence[gr.Image],
        controls: Mapping[str, gr.components.Component],
        extras: Sequence[gr.Image],
        paint: Mapping[str, Any],
    ) -> None:
        """`controls`: the recipe's, by the names of their fields. `paint`: the event that brings `extras` up to date."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        self.sweep_fields = {name: controls[name] for name in self.recipe.sweep_fields}
        outputs = [self.box, self.status, self.gallery, self.shown, self.stop, self.close]
        run = self.button.click(
            self.opened, outputs=outputs, js=SCROLL.format(self.recipe.name), **at_once
        ).then(**paint).then(
            self.show, [*pictures, *controls.values(), *extras, self.turn], outputs,
            preprocess=False, trigger_mode="multiple", **RUNS_AT_ONCE, **BEHIND_THE_PAGE,
        )  # fmt: skip
        self.stop.click(None, cancels=[run]).then(self.stopped, self.turn, outputs, **at_once)
        self.close.click(lambda: gr.update(visible=False), None, self.box, **at_once)
        self.gallery.select(self.chosen, self.shown, list(self.sweep_fields.values()), **at_once)
        gr.Button(visible=False).click(
            named_after(self.recipe, self.answers, f"{self.recipe.name}_sheet", MEANING),
            [*pictures, *controls.values(), *extras], gr.Image(label="Result", format="png", visible=False),
            api_name=f"{self.recipe.name}_sheet", preprocess=False, **RUNS_AT_ONCE,
        )  # fmt: skip

    def opened(self) -> dict:
        return {
            self.box: gr.update(visible=True),
            self.status: line("Waiting for its turn…", 0),
            self.gallery: [],
            self.stop: gr.update(visible=True),
            self.close: gr.update(visible=False),
        }

    def show(self, *values: Any) -> Iterator[dict]:
        """The gallery, one picture more each time. What is there stays, whatever goes wrong."""
        *sent, turn = values
        mine, tiles, shown = turn.take(), [], []
        try:
            recipe, pictures = checked(self.recipe, without_disabled(self.recipe, sent))
            count = len(recipe.variants())
            yield {self.status: line("Getting ready…", 0)}
            for download in self.engine.prepare(recipe, **pictures):
                yield {self.status: arriving(download)}
            for variant, preview in self.engine.try_out(recipe, **pictures):
                if turn.number != mine:
                    yield {self.status: gr.skip()}
                    return
                if shown and shown[-1] == variant:  # It was there already, and has come further.
                    shown.pop(), tiles.pop()
                shown.append(variant)
                tiles.append((in_cache(preview.picture), self.under(variant, preview)))
                said = line(f"{len(tiles)} of {count}", (len(tiles) - 1 + preview.work) / count)
                yield {self.gallery: list(tiles), self.shown: list(shown), self.status: said}
        except gr.Error as error:
            yield self.over(error.message)
            raise
        yield self.over(self.recipe.sweep_caption)

    def under(self, variant: Recipe, preview: Preview) -> str:
        """What stands under a picture: what sets it apart, and how near it has come where that is measured."""
        measured = [variant.measure_label.format(*preview.measures.values())] if variant.measure_label else []
        return " · ".join([differing(variant), *measured])

    def answers(self, sent: Sequence[Any]) -> Iterator[Image.Image]:
        """For programs: one picture of them all, as it fills up."""
        recipe, pictures = checked(self.recipe, sent)
        for preview in on_one_sheet(recipe, self.engine.try_out(recipe, **pictures)):
            yield preview.picture

    def stopped(self, turn: Turn) -> dict:
        turn.rest()
        return self.over("Stopped; those so far can be chosen.")

    def over(self, said: str) -> dict:
        return {self.status: line(said), self.stop: gr.update(visible=False), self.close: gr.update(visible=True)}

    def chosen(self, shown: list[Recipe], event: gr.SelectData) -> dict:
        """The fields of the picture that was clicked."""
        return {control: getattr(shown[event.index], name) for name, control in self.sweep_fields.items()}
