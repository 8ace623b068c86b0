"""A sweep: small versions of a run that differ in a few fields, such as a dream at every layer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from featviz.recipes.recipe import Recipe, differing
from featviz.runtime.stream import Preview
from featviz.ui.controls import label
from featviz.ui.running import (
    PAGE_EVENT,
    RUN_QUEUE,
    Engine,
    RunState,
    download_line,
    in_cache,
    status_line,
    validate_request,
    without_disabled,
)

SCROLL = """(...values) => {{
    setTimeout(() => document.querySelector("#{}_sheet")?.scrollIntoView({{behavior: "smooth", block: "nearest"}}), 300);
    return values;
}}"""


class Sheet:
    """A gallery that fills picture by picture. A click on a picture sets the fields that it differs in."""

    def __init__(self, recipe: type[Recipe], engine: Engine, button: gr.Button):
        self.recipe, self.engine, self.button = recipe, engine, button
        large, fields = keeps_size(recipe), " and ".join(label(name).lower() for name in recipe.sweep_fields)
        with gr.Column(visible=False, elem_id=f"{recipe.name}_sheet") as self.box:
            self.status = gr.HTML(elem_classes="status")
            self.gallery = gr.Gallery(
                label=f"Click a picture to {'enlarge it and to ' * large}choose its {fields}",
                columns=3 if large or len(recipe.sweep_fields) > 1 else 5, height=400, allow_preview=large, preview=False,
                interactive=False, buttons=[], elem_classes=["sheet", "large"] if large else "sheet",
            )  # fmt: skip
            self.stop_button = gr.Button("Stop", variant="stop", size="sm")
            self.close_button = gr.Button("Close", size="sm", elem_classes="quiet", visible=False)
        self.shown = gr.State([])  # The recipes, in the order of the gallery.
        self.run_state = gr.State(RunState())

    def events(
        self,
        pictures: Sequence[gr.Image],
        controls: Mapping[str, gr.components.Component],
        extras: Sequence[gr.Image],
        paint: Mapping[str, Any],
    ) -> None:
        """Connect the events. `controls`: by field name. `paint`: the event that updates `extras` from the painting."""
        immediate = {"queue": False, **PAGE_EVENT}
        self.sweep_fields = {name: controls[name] for name in self.recipe.sweep_fields}
        outputs = [self.box, self.status, self.gallery, self.shown, self.stop_button, self.close_button]
        run = self.button.click(
            self.opened, outputs=outputs, js=SCROLL.format(self.recipe.name), **immediate
        ).then(**paint).then(
            self.show, [*pictures, *controls.values(), *extras, self.run_state], outputs,
            preprocess=False, trigger_mode="multiple", **RUN_QUEUE, **PAGE_EVENT,
        )  # fmt: skip
        self.stop_button.click(None, cancels=[run]).then(self.stop_run, self.run_state, outputs, **immediate)
        self.close_button.click(lambda: gr.update(visible=False), None, self.box, **immediate)
        self.gallery.select(self.chosen, self.shown, list(self.sweep_fields.values()), **immediate)

    def opened(self) -> dict:
        """Show the empty gallery."""
        return {
            self.box: gr.update(visible=True),
            self.status: status_line("Waiting in the queue…", 0),
            self.gallery: [],
            self.stop_button: gr.update(visible=True),
            self.close_button: gr.update(visible=False),
        }

    def show(self, *values: Any) -> Iterator[dict]:
        """Run the sweep and yield the gallery with one picture more each time. After an error the pictures stay."""
        *sent, state = values
        number, tiles, shown = state.begin(), [], []
        try:
            recipe, pictures = validate_request(self.recipe, without_disabled(self.recipe, sent))
            count = len(recipe.variants())
            yield {self.status: status_line("Getting ready…", 0)}
            for download in self.engine.prepare(recipe, **pictures):
                yield {self.status: download_line(download)}
            for variant, preview in self.engine.try_out(recipe, **pictures):
                if state.number != number:
                    yield {self.status: gr.skip()}
                    return
                if shown and shown[-1] == variant:  # A later preview of the same picture.
                    shown.pop(), tiles.pop()
                shown.append(variant)
                tiles.append((in_cache(preview.picture), self.caption(variant, preview)))
                status = status_line(f"{len(tiles)} of {count}", (len(tiles) - 1 + preview.work) / count)
                yield {self.gallery: list(tiles), self.shown: list(shown), self.status: status}
        except gr.Error as error:
            yield self.over(error.message)
            raise
        yield self.over(self.recipe.sweep_caption)

    def caption(self, variant: Recipe, preview: Preview) -> str:
        """Caption of a picture: the fields it differs in, and its measures."""
        measured = [variant.measure_label.format(*preview.measures.values())] if variant.measure_label else []
        return " · ".join([differing(variant), *measured])

    def stop_run(self, state: RunState) -> dict:
        """Stop the sweep and keep its pictures."""
        state.end()
        return self.over("Stopped. You can choose one of these.")

    def over(self, message: str) -> dict:
        """Show the end of the sweep."""
        return {
            self.status: status_line(message),
            self.stop_button: gr.update(visible=False),
            self.close_button: gr.update(visible=True),
        }

    def chosen(self, shown: list[Recipe], event: gr.SelectData) -> dict:
        """Set the fields of the clicked picture."""
        return {control: getattr(shown[event.index], name) for name, control in self.sweep_fields.items()}


def keeps_size(recipe: type[Recipe]) -> bool:
    """Whether the pictures of a sweep are as large as a run, so that it is worth to enlarge them."""
    return all(variant.size == recipe().size for variant in recipe().variants())
