"""Settings on their way: out as a link to copy, in through a link that was followed or a picture that was made here."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from featviz.errors import FeatvizError, InputError
from featviz.recipes import metadata
from featviz.recipes.metadata import Restored
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.ui.controls import recipe_of
from featviz.ui.running import BEHIND_THE_PAGE, file_of, sentences

COPY = """async (query, ...values) => {
    window.linked = JSON.stringify(values);
    const link = location.origin + location.pathname + query;
    try {
        await navigator.clipboard.writeText(link);
        return `<p role="status">Copied. The link opens this page with these settings; pictures are not in it.</p>`;
    } catch {  // Not every browser lets a page do that, and none does without https.
        return `<p>Copy it from here: <input aria-label="Link" readonly value="${link}" onfocus="this.select()"></p>`;
    }
}"""

OUTDATED = """(line, ...values) => JSON.stringify(values) === window.linked ? line : ''"""
"""Gradio tells everybody of a change once more when somebody was busy the first time, though nothing changes then."""


class CopyLink:
    """A button that copies a link to the settings, and a line that says so."""

    def __init__(self) -> None:
        self.button = gr.Button("Copy link", size="sm", elem_classes="quiet")
        self.query = gr.Textbox(label="Query", visible="hidden")
        self.line = gr.HTML(elem_classes=["forecast", "copied"])

    def events(self, recipe: type[Recipe], controls: Mapping[str, gr.components.Component]) -> None:
        """`controls`: the recipe's, by the names of their fields. The line stands until one of them changes."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        linked = self.button.click(partial(query_of, recipe), list(controls.values()), self.query, preprocess=False, **at_once)
        linked.success(None, [self.query, *controls.values()], self.line, js=COPY, **BEHIND_THE_PAGE)
        said = [self.line, *controls.values()]
        gr.on([control.change for control in controls.values()], None, said, self.line, js=OUTDATED, **BEHIND_THE_PAGE)


def query_of(recipe: type[Recipe], *values: Any) -> str:
    """The link to these values of a recipe's fields."""
    with sentences():
        return metadata.link(recipe_of(recipe, values))


def followed(request: gr.Request) -> Restored | None:
    """What the link says by which a visitor has come. What cannot be used of it is said politely."""
    try:
        restored = metadata.follow(dict(request.query_params), RECIPES)
    except InputError as error:
        gr.Info(escape(str(error), quote=False))
        return None
    if restored and restored.remarks:
        gr.Info(escape(f"Not everything in this link can be used: {' '.join(restored.remarks)}", quote=False))
    return restored


class Origin:
    """A line under the pictures when one that is dropped there was made here: its settings come back, or a way to them.

    A picture of the same recipe restores its settings at once, and a button brings back those that were there before.
    Of another recipe, it is a picture like any other; a button opens that recipe with its settings.
    """

    def __init__(self) -> None:
        with gr.Row(visible=False, elem_classes="origin") as self.box:
            self.line = gr.HTML()
            self.undo = gr.Button("Undo", size="sm", min_width=80, scale=0, elem_classes="quiet")
            self.there = gr.Button("Open there", size="sm", min_width=80, scale=0, elem_classes="quiet")
        self.recipe = gr.State()
        """What the visible button leads to: the settings before, or those of another recipe."""

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.box, self.line, self.undo, self.there, self.recipe]

    def found(self, recipe: type[Recipe], sent: Mapping[str, Any] | None, values: Sequence[Any]) -> tuple[dict, Recipe | None]:
        """What the line says of a picture, and the settings that come with it."""
        try:
            note = metadata.find(file_of(sent))
            if not note:
                return self.closed(), None
            restored = metadata.restore(note, RECIPES)
        except FeatvizError:
            return self.closed(), None  # Whatever is wrong with the picture is said when a run is asked for.
        without = [f"Its {role} is not in it." for role in restored.extras]
        theirs, aside = restored.recipe, " ".join([*restored.remarks, *without])
        if type(theirs) is not recipe:
            return self.opened(f"Made here, with {theirs.title}. {aside}", theirs, there=True), None
        try:
            ours = recipe_of(recipe, values)
        except FeatvizError:
            ours = recipe()
        if ours == theirs:
            return self.opened(f"Made here, with the settings below. {aside}", None), None
        return self.opened(f"Made here; its settings are restored below. {aside}", ours, undo=True), theirs

    def opened(self, said: str, recipe: Recipe | None, *, undo: bool = False, there: bool = False) -> dict:
        return {
            self.box: gr.update(visible=True),
            self.line: f'<p role="status">{escape(said, quote=False)}</p>',
            self.undo: gr.update(visible=undo),
            self.there: gr.update(visible=there),
            self.recipe: recipe,
        }

    def closed(self) -> dict:
        return {self.box: gr.update(visible=False), self.recipe: None}
