"""The tab of a recipe: what belongs to it alone, its examples, presets and controls. The picture and the result are shared."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from featviz.networks.cache import load_untrained
from featviz.networks.table import split
from featviz.recipes.presets import FINISHES, STANDARD, Example, Preset, finishable
from featviz.recipes.recipe import Recipe, group
from featviz.runtime import atlas
from featviz.ui import text
from featviz.ui.cards import Card, Cards, drawn, kept, thumbnail
from featviz.ui.controls import control, enabled_unless, label, recipe_of
from featviz.ui.masks import Painting

IN_SIGHT = 2
"""Controls that are visible at once. All others are folded away."""

BESIDE = {"guide": "What", **dict.fromkeys(("style2", "style3", "style4", "regions", "style_regions"), "Style")}
"""Optional picture → the group of controls that it stands in. A mask is painted, and a start is a result."""


def picture_input(name: Any, meaning: str, **options: Any) -> gr.Image:
    """Build a box for a picture of the visitor."""
    return gr.Image(
        label=name, type="filepath", image_mode=None, format="png", sources=["upload", "clipboard", "webcam"],
        webcam_options=gr.WebcamOptions(mirror=False), buttons=[], alt_text=meaning, min_width=140, **options,
    )  # fmt: skip


LAYERS_WITH_CARD = (
    "vgg19/relu2_1",
    "efficientnet_lite0/block2",
    "vgg19/relu3_1",
    *(f"efficientnet_lite0/block{block}" for block in (4, 6, 9, 11, 13)),
)
"""Each card has pictures of four channels of the layer from the atlas: from edges to whole animals."""


class Form:
    """The controls of a recipe."""

    def __init__(
        self,
        recipe: type[Recipe],
        picture: gr.Image,
        clip: gr.Video,
        painting: Painting,
        examples: Sequence[Example],
        presets: Sequence[Preset],
    ):
        """`picture` and `clip`: the shared boxes, of which one has the recipe's first picture. `painting`: what paints on it."""
        self.recipe, self.clip, self.examples, self.presets = recipe, clip, examples, presets
        self.parts: dict[str, gr.components.Component] = dict.fromkeys(list(recipe.images)[:1], picture)
        """Pictures by role and controls by field name. A mask and a start have no box of their own."""
        self.headings: dict[gr.components.Component, str] = {}
        """Of the groups of controls."""
        self.example_cards = self._cards("examples", examples, [example_pictures(e) for e in examples], (240, 120))
        for role in list(recipe.images)[1:]:
            self._picture(role, recipe.images[role], height=150)
        if "style_regions" in recipe.optional_images:
            painting.style_editor.render()
        self.preset_cards = self._cards("presets", presets, [[Image.open(p.thumbnail)] for p in presets], (144, 144))
        self.finish = gr.Radio(
            list(FINISHES),
            value=STANDARD,
            label="Finish",
            show_label=False,
            container=False,
            visible=finishable(recipe),
            elem_classes="finish",
        )
        self._add_controls()
        with gr.Accordion(text.label("how"), open=False, elem_classes="prose-block"):
            self.how = gr.Markdown(how(recipe))

    def _add_controls(self) -> None:
        """Add the controls in sight, and those that are folded away, by groups."""
        recipe = self.recipe
        plain = [name for name, field in recipe.model_fields.items() if not group(field)]
        with gr.Row(elem_classes="in-sight"):
            for name in plain[:IN_SIGHT]:
                self._control(name)
        self.layers = LAYERS_WITH_CARD if plain[0] == "layer" else ()
        self.layer_cards = self._layer_cards()
        self.sweep_button = gr.Button(recipe.sweep_action, size="sm", elem_classes="quiet", visible=bool(recipe.sweep_fields))
        self.atlas_button = gr.Button(
            text.label("atlas"), size="sm", elem_classes="quiet", visible="channel" in recipe.model_fields
        )
        groups = dict.fromkeys(group(field) for field in recipe.model_fields.values() if group(field))
        with gr.Accordion(text.label("more"), open=False, visible=len(recipe.model_fields) > IN_SIGHT):
            for name in plain[IN_SIGHT:]:
                self._control(name)
            for title in groups:
                self.headings[gr.Markdown(title, elem_classes="group")] = title
                for name, field in recipe.model_fields.items():
                    if group(field) == title:
                        self._control(name)
                for role in recipe.optional_images:
                    if BESIDE.get(role) == title:
                        self._picture(role, recipe.optional_images[role], height=150)

    def _control(self, name: str) -> None:
        self.parts[name] = control(name, self.recipe.model_fields[name])

    def _picture(self, role: str, meaning: str, **options: Any) -> None:
        visible = role not in self.recipe.unused({}, ())  # One more of a list is shown once those before it are there.
        options |= {"elem_id": f"{self.recipe.name}_{role}", "visible": visible or role not in self.further}
        self.parts[role] = picture_input(label(role), meaning, **options)

    def _cards(self, kind: str, items: Sequence[Any], pictures: Iterable[Any], size: tuple[int, int]) -> Cards:
        hint = gr.Markdown(text.label(kind), elem_classes="hint", visible=bool(items))
        cards = [Card(item.title, thumbnail(files, size, hint)) for item, files in zip(items, pictures, strict=True)]
        return Cards(cards, kind=kind, visible=bool(items))

    def _layer_cards(self) -> Cards:
        """A scale of layers, each as what some of its channels look for."""
        hint = gr.Markdown(text.label("layers_scale"), elem_classes="hint", visible=bool(self.layers))
        cards = [Card(split(layer)[1], layer_picture(layer, hint)) for layer in self.layers]
        return Cards(cards, kind="layers", visible=bool(self.layers))

    @property
    def controls(self) -> dict[str, gr.components.Component]:
        """The controls by field name."""
        return {name: self.parts[name] for name in self.recipe.model_fields}

    def texts(self, say: Callable[[str], str]) -> dict[gr.components.Component, dict[str, str]]:
        """Return what the recipe says of itself: component → {property: text}. `say` translates an English text."""
        controls = {
            control: {"label": say(label(name)), "info": say(self.recipe.model_fields[name].description)}
            for name, control in self.controls.items()
        }
        boxes = {
            self.parts[role]: {"label": say(label(role))}
            for role in [*self.recipe.images, *self.recipe.optional_images][1:]
            if role in self.parts
        }
        headings = {heading: {"value": say(title)} for heading, title in self.headings.items()}
        cards = {row.html: {"value": drawn(row.cards, say=say)} for row in (self.example_cards, self.preset_cards)}
        actions = {self.sweep_button: {"value": say(self.recipe.sweep_action)}} if self.recipe.sweep_action else {}
        return controls | boxes | headings | cards | actions | {self.how: {"value": how(self.recipe, say)}}

    @property
    def pictures(self) -> list[gr.Image]:
        """The boxes for pictures."""
        return [self.parts[role] for role in (*self.recipe.images, *self.recipe.optional_images) if role in self.parts]

    def values(self, sent: Mapping[Any, Any], **others: Any) -> dict[str, Any]:
        """Return the values by name in the order of an endpoint: pictures, fields, optional pictures.

        `sent`: component → value. `others`: the pictures without a box. A video goes before the first picture.
        """
        names = (*self.recipe.images, *self.recipe.model_fields, *self.recipe.optional_images)
        if self.recipe.follows_video and (clip := sent.get(self.clip)):
            others = others | {names[0]: clip}
        return {name: others[name] if name in others else sent.get(self.parts.get(name)) for name in names}

    def set(self, recipe: Recipe) -> dict:
        """Return updates that set every control to the value of its field in `recipe`."""
        return {self.parts[name]: value for name, value in recipe}

    def reset_conflicts(self, name: str) -> dict:
        """Return updates that reset each field beside which the field `name` has no effect."""
        others = [rule.beside for rule in self.recipe.rules if name in rule.unused and rule.beside]
        fields = self.recipe.model_fields
        return {self.parts[other]: fields[other].default if other in fields else None for other in others}

    def finished(self, recipe: Recipe, finish: str) -> Recipe:
        """Return a recipe at a level of finish."""
        return recipe.replace(**FINISHES[finish].of(recipe)) if finishable(self.recipe) else recipe

    def marks(self, recipe: Recipe | None) -> dict:
        """Mark the preset and the layer that a recipe has, None for none."""
        changes = {}
        if self.presets:
            same = [recipe in (self.finished(p.recipe, finish) for finish in FINISHES) for p in self.presets]
            changes[self.preset_cards.html] = drawn(
                self.preset_cards.cards, same.index(True) if True in same else -1, text.translated
            )
        if self.layers:
            layer = getattr(recipe, "layer", None)
            place = self.layers.index(layer) if layer in self.layers else -1
            changes[self.layer_cards.html] = drawn(self.layer_cards.cards, place)
        return changes

    @property
    def further(self) -> list[str]:
        """The roles of the pictures of a list after its first."""
        return [role for roles in self.recipe.lists.values() for role in roles[1:]]

    @property
    def disableable(self) -> list[str]:
        """The names of the controls and boxes that a rule can disable."""
        return [name for rule in self.recipe.rules for name in rule.unused if name in self.parts]

    def disabled(self, values: Mapping[str, Any]) -> dict:
        """Enable or disable everything in `disableable`. `values`: by name."""
        given = [role for role in self.recipe.optional_images if values[role] is not None]
        unused, changes = self.recipe.unused(values, given), {}
        for name in self.disableable:
            field = self.recipe.model_fields.get(name)
            texts = {"info": field.description} if field else {"label": label(name)}
            changes[self.parts[name]] = enabled_unless(unused.get(name), **texts)
            if name in self.further:
                changes[self.parts[name]] |= {"visible": name not in unused or values[name] is not None}
        if "channel" in self.parts:  # No more than the layer has.
            network, layer = split(values["layer"])
            changes[self.parts["channel"]] |= {"maximum": load_untrained(network).channels(layer) - 1}
        return changes

    def recipe_or_none(self, values: Mapping[str, Any]) -> Recipe | None:
        """Return the recipe of the values; None while one is not accepted."""
        try:
            return recipe_of(self.recipe, [values[name] for name in self.recipe.model_fields])
        except ValueError:
            return None


def how(recipe: type[Recipe], say: Callable[[str], str] = str) -> str:
    """Return how a recipe works, in Markdown. `say` translates an English text."""
    return f"*{say(recipe.__doc__.splitlines()[0])}*\n\n{say(recipe.explanation)}"


def example_pictures(example: Example) -> list[Image.Image]:
    """Return the pictures of an example; without any, what its channel looks for."""
    if example.pictures:
        return [Image.open(path) for path in example.pictures.values()]
    fields = dict(example.recipe)
    return [atlas.sheets()[fields["layer"]].thumbnail(fields["channel"])]


def layer_picture(address: str, keeper: gr.components.Component) -> str:
    """Return the address of a picture of what four channels of a layer look for."""
    sheet = atlas.sheets()[address]
    side = sheet.fields["size"]
    square = Image.new("RGB", (2 * side, 2 * side))
    for i in range(4):
        square.paste(sheet.thumbnail(i * len(sheet.peaks) // 4), (i % 2 * side, i // 2 * side))
    return kept(square.resize((96, 96)), keeper)
