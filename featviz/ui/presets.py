"""Where to start from: presets, each with what it makes of one picture, and how finely they are worked out."""

import tempfile
from collections.abc import Sequence
from functools import partial

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from PIL import Image, ImageOps

from featviz.recipes.presets import FINISHES, STANDARD, Example, Preset, finishable
from featviz.recipes.recipe import Recipe
from featviz.ui.running import BEHIND_THE_PAGE


class Looks:
    """A row of looks to click on, of which the chosen one is marked, and the choice of a finish. They set controls."""

    def __init__(self, recipe: type[Recipe], looks: Sequence[Preset]):
        self.looks = looks
        self.buttons = []
        if looks:
            gr.Markdown("Choose a preset:", elem_classes="hint")
            with gr.Row(elem_classes="looks"):
                self.buttons = [card(look.title, [look.thumbnail], (144, 144), "look") for look in looks]
        self.finish = gr.Radio(
            list(FINISHES), value=STANDARD, show_label=False, container=False, visible=finishable(recipe), elem_classes="finish"
        )
        self.base = gr.State(recipe())  # What the finish is relative to.

    def events(self, controls: dict[str, gr.components.Component]) -> None:
        """`controls`: the recipe's, by the names of their fields."""
        at_once = {"queue": False, **BEHIND_THE_PAGE}
        self.controls = controls
        for button, look in zip(self.buttons, self.looks, strict=True):
            button.click(partial(self.chosen, look), self.finish, [*controls.values(), *self.outputs], **at_once)
        if "steps" in controls:
            self.finish.input(self.finished, [self.base, self.finish], [controls["size"], controls["steps"]], **at_once)

    def chosen(self, look: Preset, finish: str) -> dict:
        """A look in the controls, marked as the one that is set."""
        values = look.recipe.model_dump() | FINISHES[finish].of(look.recipe)
        marks = {button: _mark(one is look) for button, one in zip(self.buttons, self.looks, strict=True)}
        return {self.controls[name]: value for name, value in values.items()} | marks | {self.base: look.recipe}

    def finished(self, base: Recipe, finish: str) -> dict:
        return {self.controls[name]: value for name, value in FINISHES[finish].of(base).items()}

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.base, *self.buttons]

    def replaced(self, recipe: Recipe) -> dict:
        """No look, but a recipe of another origin."""
        return {button: _mark(False) for button in self.buttons} | {self.base: recipe, self.finish: STANDARD}


def _mark(chosen: bool) -> dict:
    return gr.update(elem_classes=["card", "look", *(["chosen"] if chosen else [])])


def card(title: str, pictures: Sequence, size: tuple[int, int], kind: str) -> gr.Button:
    """A button that shows pictures side by side above its title."""
    width, height = size
    sheet = Image.new("RGB", size)
    for i, path in enumerate(pictures):
        slot = width // len(pictures)
        with Image.open(path) as picture:
            sheet.paste(ImageOps.fit(picture.convert("RGB"), (slot, height)), (i * slot, 0))
    with tempfile.TemporaryDirectory() as folder:
        button = gr.Button(title, icon=save_pil_to_cache(sheet, folder, format="jpeg"), min_width=60, elem_classes=["card", kind])
    button.keep_in_cache.add(button.icon["path"])  # Or it would be deleted with the visitors' pictures.
    return button


def example_cards(shown: Sequence[Example]) -> list[gr.Button]:
    return [card(example.title, list(example.pictures.values()), (240, 160), "example") for example in shown]
