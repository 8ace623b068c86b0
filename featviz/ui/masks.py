"""Painting a mask on the picture."""

from collections.abc import Mapping
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from featviz.recipes.recipe import Recipe
from featviz.runtime.memory import open_reserved
from featviz.ui.running import PAGE_EVENT, error_sentences, file_of

LONGEST = 800
"""Longest side of the painted picture in pixels: enough for painting by hand, and quick to send."""

OPACITY = 0.6
"""Opacity of the paint, so that the picture stays visible."""

VIOLET = "rgb(139, 92, 246)"


class Painting:
    """A button that opens the picture for painting and closes it again. Without paint the whole picture is used."""

    def __init__(self, picture: gr.Image, recipe: type[Recipe]):
        self.picture = picture
        self.open, self.everywhere = recipe.mask_action, "Use the whole picture"
        self.button = gr.Button(self.open, size="sm", elem_classes="quiet")
        self.editor = gr.ImageEditor(
            label=f"{self.open}; the rest stays as it is", type="pil", visible=False, sources=(), transforms=(),
            layers=False, buttons=[], height=380, elem_id=f"{recipe.name}_painting", format="png",
            brush=gr.Brush(default_size=48, colors=[(VIOLET, OPACITY)], default_color=(VIOLET, OPACITY), color_mode="fixed"),
            eraser=gr.Eraser(default_size=48),
        )  # fmt: skip
        self.source = gr.State()  # The file of the picture under the paint; None while closed.

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.button, self.editor, self.source]

    def events(self) -> None:
        immediate = {"queue": False, "preprocess": False, **PAGE_EVENT}
        self.button.click(self.toggled, [self.picture, self.source], self.outputs, **immediate)
        # "multiple": two "always_last" events on one trigger would start each other without end.
        self.picture.change(self.changed, [self.picture, self.source], self.outputs, trigger_mode="multiple", **immediate)

    def toggled(self, sent: Mapping[str, Any] | None, source: str | None) -> dict:
        """Open the picture for painting, or close it if it is open."""
        if source is not None:
            return self.closed()
        with error_sentences():
            picture = open_reserved(file_of(sent), "picture", LONGEST)
        picture.thumbnail((LONGEST, LONGEST))
        return {
            self.button: self.everywhere,
            self.editor: gr.update(value={"background": picture, "layers": [], "composite": None}, visible=True),
            self.source: sent["path"],
        }

    def changed(self, sent: Mapping[str, Any] | None, source: str | None) -> dict:
        """Close the painting when the picture was replaced."""
        return {self.source: gr.skip()} if source is None or (sent or {}).get("path") == source else self.closed()

    def closed(self) -> dict:
        """Close the painting and remove the paint."""
        return {self.button: self.open, self.editor: gr.update(value=None, visible=False), self.source: None}


def painted(value: Mapping[str, Any] | None) -> Image.Image | None:
    """Return the painted mask, white where there is paint; None if nothing or everything is painted."""
    layers = [layer.getchannel("A") for layer in (value or {}).get("layers") or []]
    if not layers:
        return None
    mask = layers[0]
    for layer in layers[1:]:
        mask = ImageChops.lighter(mask, layer)
    mask = mask.point(lambda alpha: min(255, round(alpha / OPACITY)))
    return mask if len(set(mask.getextrema())) == 2 else None


def mention_stretching(pictures: Mapping[str, Image.Image]) -> None:
    """Tell the visitor if a mask has another aspect ratio than the picture. The run stretches it."""
    first, mask = next(iter(pictures.values()), None), pictures.get("mask")
    if mask and abs(mask.width * first.height / (mask.height * first.width) - 1) > 0.02:
        gr.Info(f"The mask is {mask.width}×{mask.height} and was stretched to fit the picture.")
