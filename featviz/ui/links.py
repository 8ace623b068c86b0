"""Settings restored from the address of the page, or from a picture that featviz made, and what is said about them."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from featviz.errors import FeatvizError, InputError
from featviz.recipes import metadata
from featviz.recipes.metadata import Restored
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import TABS
from featviz.ui import text
from featviz.ui.serving.files import file_of


def read_link(request: gr.Request) -> Restored | None:
    """Return the settings in the address of the page, None if there are none. Tell the visitor what cannot be used."""
    try:
        restored = metadata.follow(dict(request.query_params), TABS)
    except InputError as error:
        gr.Info(escape(str(error), quote=False))
        return None
    if restored and restored.remarks:
        gr.Info(escape(text.say("link_partly", remarks=" ".join(restored.remarks)), quote=False))
    return restored


def read_file(sent: Mapping[str, Any] | None) -> tuple[Recipe | None, str]:
    """Return the recipe in an uploaded picture and remarks on it; None if featviz did not make the picture."""
    try:
        note = metadata.find(file_of(sent))
        if not note:
            return None, ""
        restored = metadata.restore(note, TABS)
    except FeatvizError:
        return None, ""  # The run reports what is wrong with the picture.
    missing = [f"Its {role} is not in the file." for role in restored.optional_images]
    return restored.recipe, " ".join([*restored.remarks, *missing])


class Origin:
    """A row with a message: where the settings are from, or that pictures of the visitor were replaced. Its buttons undo that, or open
    the tab of the recipe that was found."""

    def __init__(self) -> None:
        shared = {"visible": False, "size": "sm", "min_width": 80, "scale": 0, "elem_classes": "quiet"}
        with gr.Row(visible=False, elem_classes="origin") as self.row:
            self.line = gr.HTML()
            self.undo = gr.Button(text.label("undo"), **shared)
            self.there = gr.Button(text.label("open_there"), **shared)
        self.found = gr.State()
        """The recipe that the buttons set; or the pictures that Undo puts back, as the id of a box → a file."""

    @property
    def outputs(self) -> list[Any]:
        return [self.row, self.line, self.undo, self.there, self.found]

    def shown(self, message: str, found: Recipe | dict[str, str] | None, *, undo: bool = False, there: bool = False) -> dict:
        """Show a message and the buttons that apply; no row for an empty message."""
        return {
            self.row: gr.update(visible=bool(message)),
            self.line: f'<p role="status">{escape(message, quote=False)}</p>',
            self.undo: gr.update(visible=undo),
            self.there: gr.update(visible=there),
            self.found: found,
        }

    def replaced(self, pictures: Mapping[str, str]) -> dict:
        """Say that these pictures of the visitor were replaced, and offer Undo. Hide the row if there are none."""
        return self.shown(text.say("replaced") if pictures else "", dict(pictures), undo=bool(pictures))

    def cleared(self) -> dict:
        """Hide the row."""
        return self.shown("", None)
