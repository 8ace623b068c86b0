"""Where to dream: a region that is painted on the picture, as the mask that a recipe takes."""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from featviz.media.images import open_picture
from featviz.recipes.recipe import Recipe
from featviz.ui.running import BEHIND_THE_PAGE, file_of, sentences

LONGEST = 800
"""Pixels that the picture is painted on at: enough for a hand, and quick to send."""

OPACITY = 0.6
"""Of the paint, so that the picture shines through."""

VIOLET = "rgb(139, 92, 246)"


class Painting:
    """A button under the picture that opens it for painting, and closes it again. Nothing painted means everywhere."""

    def __init__(self, picture: gr.Image, recipe: type[Recipe]):
        self.picture = picture
        self.open, self.everywhere = recipe.mask_action, "Everywhere again"
        self.button = gr.Button(self.open, size="sm", elem_classes="quiet")
        self.editor = gr.ImageEditor(
            label=f"{self.open}; the rest stays as it is", type="pil", visible=False, sources=(), transforms=(),
            layers=False, buttons=[], height=380, elem_id=f"{recipe.name}_painting", format="png",
            brush=gr.Brush(default_size=48, colors=[(VIOLET, OPACITY)], default_color=(VIOLET, OPACITY), color_mode="fixed"),
            eraser=gr.Eraser(default_size=48),
        )  # fmt: skip
        self.of = gr.State()  # The file that is being painted on.

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.button, self.editor, self.of]

    def events(self) -> None:
        at_once = {"queue": False, "preprocess": False, **BEHIND_THE_PAGE}
        self.button.click(self.toggled, [self.picture, self.of], self.outputs, **at_once)
        # "multiple": of two that wait for their turn on the same event, each would wake the other for ever.
        self.picture.change(self.changed, [self.picture, self.of], self.outputs, trigger_mode="multiple", **at_once)

    def toggled(self, sent: Mapping[str, Any] | None, of: str | None) -> dict:
        """The picture, opened for painting; or closed, where it was open."""
        if of is not None:
            return self.closed()
        with sentences():
            picture = open_picture(file_of(sent), "picture")
        picture.thumbnail((LONGEST, LONGEST))
        return {
            self.button: self.everywhere,
            self.editor: gr.update(value={"background": picture, "layers": [], "composite": None}, visible=True),
            self.of: sent["path"],
        }

    def changed(self, sent: Mapping[str, Any] | None, of: str | None) -> dict:
        """Another picture has nothing to do with what was painted on the one before."""
        return {self.of: gr.skip()} if of is None or (sent or {}).get("path") == of else self.closed()

    def closed(self) -> dict:
        return {self.button: self.open, self.editor: gr.update(value=None, visible=False), self.of: None}


def painted(value: Mapping[str, Any] | None) -> Image.Image | None:
    """The mask that was painted in an editor: white there, black elsewhere; None where nothing was painted, or everything."""
    layers = [layer.getchannel("A") for layer in (value or {}).get("layers") or []]
    if not layers:
        return None
    mask = layers[0]
    for layer in layers[1:]:
        mask = ImageChops.lighter(mask, layer)
    mask = mask.point(lambda alpha: min(255, round(alpha / OPACITY)))
    return mask if len(set(mask.getextrema())) == 2 else None


def mention_stretching(pictures: Mapping[str, Image.Image]) -> None:
    """A word to whoever sent a mask of another shape than the picture: it is used all the same."""
    first, mask = next(iter(pictures.values()), None), pictures.get("mask")
    if mask and abs(mask.width * first.height / (mask.height * first.width) - 1) > 0.02:
        gr.Info(f"The mask is {mask.width}×{mask.height} and was stretched to the shape of the picture.")
