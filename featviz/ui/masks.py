"""Painting a mask on the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from featviz.media.images import open_picture
from featviz.runtime.memory import open_reserved
from featviz.ui import text
from featviz.ui.running import error_sentences, file_of, in_cache

LONGEST = 800
"""Longest side of the painted picture in pixels: enough for painting by hand, and quick to send."""

OPACITY = 0.6
"""Opacity of the paint, so that the picture stays visible."""

VIOLET = "rgb(139, 92, 246)"


class Painting:
    """A button that opens the picture for painting and closes it again. Without paint the whole picture is used."""

    def __init__(self, action: str) -> None:
        """`action`: the text of the button while the painting is closed."""
        self.button = gr.Button(action, size="sm", visible=False, elem_classes="quiet", elem_id="painting-button")
        self.editor = gr.ImageEditor(
            show_label=False, type="pil", visible=False, sources=(), transforms=(), layers=False, buttons=[], height=380,
            elem_id="painting", format="png", eraser=gr.Eraser(default_size=48),
            brush=gr.Brush(default_size=48, colors=[(VIOLET, OPACITY)], default_color=(VIOLET, OPACITY), color_mode="fixed"),
        )  # fmt: skip
        self.source = gr.State()
        """The file of the picture under the paint; None while closed."""

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.button, self.editor, self.source]

    def toggled(self, action: str, sent: Mapping[str, Any] | None, source: str | None) -> dict:
        """Open the picture for painting, or close it if it is open. `action`: the text of the button while it is closed."""
        if source is not None:
            return self.closed(action)
        with error_sentences():
            picture = open_reserved(file_of(sent), "picture", LONGEST)
        picture.thumbnail((LONGEST, LONGEST))
        return {
            self.button: text.say("whole_picture"),
            self.editor: gr.update(value={"background": picture, "layers": [], "composite": None}, visible=True),
            self.source: sent["path"],
        }

    def closed(self, action: str) -> dict:
        """Close the painting and remove the paint."""
        return {self.button: action, self.editor: gr.update(value=None, visible=False), self.source: None}


def mask_of(value: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return the painted mask as a file of the page, white where there is paint; None if nothing or everything is painted.

    `value`: what the browser sends of the editor.
    """
    files = [file_of(layer) for layer in (value or {}).get("layers") or []]
    mask = painted([open_picture(file) for file in files])
    return mask and {"path": in_cache(mask)}


def painted(layers: Sequence[Image.Image]) -> Image.Image | None:
    """Return the mask of some layers of paint; None if nothing or everything is painted."""
    if not layers:
        return None
    first, *others = (layer.convert("RGBA").getchannel("A") for layer in layers)
    for other in others:
        first = ImageChops.lighter(first, other)
    mask = first.point(lambda alpha: min(255, round(alpha / OPACITY)))
    return mask if len(set(mask.getextrema())) == 2 else None


def mention_stretching(pictures: Mapping[str, Image.Image]) -> None:
    """Tell the visitor if a mask has another aspect ratio than the picture. The run stretches it."""
    first, mask = next(iter(pictures.values()), None), pictures.get("mask")
    if mask and abs(mask.width * first.height / (mask.height * first.width) - 1) > 0.02:
        gr.Info(text.say("mask_stretched", width=mask.width, height=mask.height))
