"""Settings as a link to copy, and settings restored from a link or from a picture that featviz made."""

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
from featviz.ui.running import PAGE_EVENT, error_sentences, file_of

COPY = """async (query, ...values) => {
    window.linked = JSON.stringify(values);
    const link = location.origin + location.pathname + query;
    try {
        await navigator.clipboard.writeText(link);
        return `<p role="status">Copied. The link opens this page with these settings, without your pictures.</p>`;
    } catch {  // Browsers may forbid it, and all do without https.
        return `<p>Copy the link from here: <input aria-label="Link" readonly value="${link}" onfocus="this.select()"></p>`;
    }
}"""

OUTDATED = """(line, ...values) => JSON.stringify(values) === window.linked ? line : ''"""
"""Clear the line if a setting has changed. Gradio can fire `change` twice for one change, so the values are compared."""


class CopyLink:
    """A button that copies a link to the settings, and a line that confirms it."""

    def __init__(self) -> None:
        self.button = gr.Button("Copy link", size="sm", elem_classes="quiet")
        self.query = gr.Textbox(label="Query", visible="hidden")
        self.line = gr.HTML(elem_classes=["forecast", "copied"])

    def events(self, recipe: type[Recipe], controls: Mapping[str, gr.components.Component]) -> None:
        """Connect the events. `controls`: by field name. The line stays until one of them changes."""
        immediate = {"queue": False, **PAGE_EVENT}
        linked = self.button.click(partial(query_of, recipe), list(controls.values()), self.query, preprocess=False, **immediate)
        linked.success(None, [self.query, *controls.values()], self.line, js=COPY, **PAGE_EVENT)
        watched = [self.line, *controls.values()]
        gr.on([control.change for control in controls.values()], None, watched, self.line, js=OUTDATED, **PAGE_EVENT)


def query_of(recipe: type[Recipe], *values: Any) -> str:
    """Return the query string of a link to these values of a recipe's fields."""
    with error_sentences():
        return metadata.link(recipe_of(recipe, values))


def settings_from_link(request: gr.Request) -> Restored | None:
    """Return the settings in the address of the page, None if there are none. Tell the visitor what cannot be used."""
    try:
        restored = metadata.follow(dict(request.query_params), RECIPES)
    except InputError as error:
        gr.Info(escape(str(error), quote=False))
        return None
    if restored and restored.remarks:
        gr.Info(escape(f"Some settings of this link cannot be used: {' '.join(restored.remarks)}", quote=False))
    return restored


class Origin:
    """A line under the pictures, shown when an uploaded picture was made by featviz.

    A picture of the same recipe restores its settings at once, and a button undoes that. For a picture of another recipe,
    a button opens that recipe with the settings.
    """

    def __init__(self) -> None:
        with gr.Row(visible=False, elem_classes="origin") as self.box:
            self.line = gr.HTML()
            self.undo = gr.Button("Undo", size="sm", min_width=80, scale=0, elem_classes="quiet")
            self.there = gr.Button("Open there", size="sm", min_width=80, scale=0, elem_classes="quiet")
        self.recipe = gr.State()
        """The settings of the visible button: those from before, or those of another recipe."""

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.box, self.line, self.undo, self.there, self.recipe]

    def read_settings(
        self, recipe: type[Recipe], sent: Mapping[str, Any] | None, values: Sequence[Any]
    ) -> tuple[dict, Recipe | None]:
        """Return the update of the line for an uploaded picture, and the settings to restore."""
        try:
            note = metadata.find(file_of(sent))
            if not note:
                return self.closed(), None
            restored = metadata.restore(note, RECIPES)
        except FeatvizError:
            return self.closed(), None  # The run reports what is wrong with the picture.
        missing = [f"Its {role} is not in the file." for role in restored.optional_images]
        stored, remarks = restored.recipe, " ".join([*restored.remarks, *missing])
        if type(stored) is not recipe:
            return self.opened(f"Made here, with {stored.title}. {remarks}", stored, there=True), None
        try:
            current = recipe_of(recipe, values)
        except FeatvizError:
            current = recipe()
        if current == stored:
            return self.opened(f"Made here, with the settings below. {remarks}", None), None
        return self.opened(f"Made here; its settings are restored below. {remarks}", current, undo=True), stored

    def opened(self, message: str, recipe: Recipe | None, *, undo: bool = False, there: bool = False) -> dict:
        return {
            self.box: gr.update(visible=True),
            self.line: f'<p role="status">{escape(message, quote=False)}</p>',
            self.undo: gr.update(visible=undo),
            self.there: gr.update(visible=there),
            self.recipe: recipe,
        }

    def closed(self) -> dict:
        return {self.box: gr.update(visible=False), self.recipe: None}
