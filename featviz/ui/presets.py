"""The presets as cards, each with a picture of its effect, and the choice of a finish."""

from collections.abc import Sequence
from functools import partial

import gradio as gr
from PIL import Image, ImageOps

from featviz.recipes.presets import FINISHES, STANDARD, Example, Preset, finishable
from featviz.recipes.recipe import Recipe
from featviz.ui.running import PAGE_EVENT, in_cache


class PresetCards:
    """A row of preset cards, the chosen one marked, and the choice of a finish. A click sets the controls."""

    def __init__(self, recipe: type[Recipe], presets: Sequence[Preset]):
        self.presets = presets
        self.buttons = []
        if presets:
            gr.Markdown("Choose a preset:", elem_classes="hint")
            with gr.Row(elem_classes="presets"):
                self.buttons = [card(preset.title, [preset.thumbnail], (144, 144), "preset") for preset in presets]
        self.finish = gr.Radio(
            list(FINISHES), value=STANDARD, show_label=False, container=False, visible=finishable(recipe), elem_classes="finish"
        )
        self.base = gr.State(recipe())  # The recipe that the finish changes.

    def events(self, controls: dict[str, gr.components.Component]) -> None:
        """Connect the events. `controls`: by field name."""
        immediate = {"queue": False, **PAGE_EVENT}
        self.controls = controls
        for button, preset in zip(self.buttons, self.presets, strict=True):
            button.click(partial(self.choose, preset), self.finish, [*controls.values(), *self.outputs], **immediate)
        if "steps" in controls:
            self.finish.input(self.apply_finish, [self.base, self.finish], [controls["size"], controls["steps"]], **immediate)

    def choose(self, preset: Preset, finish: str) -> dict:
        """Set the controls to a preset, and mark its card."""
        values = preset.recipe.model_dump() | FINISHES[finish].of(preset.recipe)
        marks = {button: _mark(other is preset) for button, other in zip(self.buttons, self.presets, strict=True)}
        return {self.controls[name]: value for name, value in values.items()} | marks | {self.base: preset.recipe}

    def apply_finish(self, base: Recipe, finish: str) -> dict:
        """Set the size and the steps to a finish."""
        return {self.controls[name]: value for name, value in FINISHES[finish].of(base).items()}

    @property
    def outputs(self) -> list[gr.components.Component]:
        """The components beside the controls that a preset changes."""
        return [self.base, *self.buttons]

    def replaced(self, recipe: Recipe) -> dict:
        """Mark no card, after the controls were set to a recipe from elsewhere."""
        return {button: _mark(False) for button in self.buttons} | {self.base: recipe, self.finish: STANDARD}


def _mark(chosen: bool) -> dict:
    return gr.update(elem_classes=["card", "preset", *(["chosen"] if chosen else [])])


def card(title: str, pictures: Sequence, size: tuple[int, int], kind: str) -> gr.Button:
    """Build a button with pictures side by side above its title. `size`: (width, height) in pixels; `kind`: CSS class."""
    width, height = size
    sheet = Image.new("RGB", size)
    for i, path in enumerate(pictures):
        slot = width // len(pictures)
        with Image.open(path) as picture:
            sheet.paste(ImageOps.fit(picture.convert("RGB"), (slot, height)), (i * slot, 0))
    button = gr.Button(title, icon=in_cache(sheet, "jpeg"), min_width=60, elem_classes=["card", kind])
    button.keep_in_cache.add(button.icon["path"])  # Otherwise the sweep deletes it with the visitors' pictures.
    return button


def example_cards(examples: Sequence[Example]) -> list[gr.Button]:
    """Build a card for each example."""
    return [card(example.title, list(example.pictures.values()), (240, 160), "example") for example in examples]
