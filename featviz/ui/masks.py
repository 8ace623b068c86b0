"""Painting a mask on the picture, or regions on the picture and on its style."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import gradio as gr
from PIL import Image, ImageColor

from featviz.runtime.memory import open_reserved
from featviz.ui import text
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import file_of, in_cache

LONGEST = 800
"""Longest side of the painted picture in pixels: enough for painting by hand, and quick to send."""

OPACITY = 0.6
"""Opacity of the paint, so that the picture stays visible."""

COLOURS = ("#ff00ff", "#0080ff", "#ff8000", "#00ff00")
"""The paints, as `featviz.optimise.regions` names regions, in its order: the first one is for the first style."""


class Painting:
    """A button that opens the picture and its style for painting and closes them again. Without paint they are used as a whole.

    Paint of one colour is a mask. Paint of several colours, or paint on the style too, gives regions.
    """

    def __init__(self, action: str) -> None:
        """`action`: the text of the button while the painting is closed."""
        self.button = gr.Button(action, size="sm", visible=False, elem_classes="quiet", elem_id="painting-button")
        self.editor = _editor("painting", height=380)
        self.style_editor = _editor("style-painting", height=300, label=text.label("paint_style"), render=False)
        """Placed by the form that has a style."""
        self.source = gr.State()
        """The file of the picture under the paint; None while closed."""

    @property
    def outputs(self) -> list[gr.components.Component]:
        return [self.button, self.editor, self.style_editor, self.source]

    def toggled(self, action: str, sent: Mapping[str, Any] | None, style: Mapping[str, Any] | None, source: str | None) -> dict:
        """Open a picture and a style, if there is one, for painting, or close them if they are open.

        `action`: the text of the button while they are closed.
        """
        if source is not None:
            return self.closed(action)
        with error_sentences():
            opened = {self.editor: _opened(sent), **self.style_opened(style)}
        return {self.button: text.say("whole_picture"), **opened, self.source: sent["path"]}

    def style_opened(self, style: Mapping[str, Any] | None) -> dict:
        """Open a style for painting, without paint; close its editor if it is None."""
        return {self.style_editor: _opened(style) if style else _closed()}

    def closed(self, action: str) -> dict:
        """Close the painting and remove the paint."""
        return {self.button: action, self.editor: _closed(), self.style_editor: _closed(), self.source: None}

    def files(self, sent: Mapping[Any, Any], style: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
        """Return the files that paint gives, role → file of the page; those that it does not give are left out.

        `sent`: what the browser sends of the editors. `style`: the file of the style. If only the style has paint, it is
        returned with everything that is not painted transparent.
        """
        paint, style_paint = (_layers(sent.get(editor)) for editor in (self.editor, self.style_editor))
        found = roles_of(paint, style_paint if style else [])
        if "style" in found:
            opened = open_reserved(file_of(style), "style")
            opened.putalpha(found["style"].resize(opened.size))
            found["style"] = opened
        return {role: {"path": in_cache(picture)} for role, picture in found.items()}


def _closed() -> dict:
    """Close an editor and remove its paint. A new dict each time: Gradio 6.31 takes the value out of the dict that it gets."""
    return gr.update(value=None, visible=False)


def _editor(elem_id: str, **options: Any) -> gr.ImageEditor:
    paints = [(colour, OPACITY) for colour in COLOURS]
    return gr.ImageEditor(
        show_label="label" in options, type="pil", visible=False, sources=(), transforms=(), layers=False, buttons=[],
        elem_id=elem_id, format="png", eraser=gr.Eraser(default_size=48),
        brush=gr.Brush(default_size=48, colors=paints, default_color=paints[0], color_mode="fixed"), **options,
    )  # fmt: skip


def _opened(sent: Mapping[str, Any] | None) -> dict:
    """Show a picture in an editor, without paint."""
    picture = open_reserved(file_of(sent), "picture", LONGEST)
    picture.thumbnail((LONGEST, LONGEST))
    return gr.update(value={"background": picture, "layers": [], "composite": None}, visible=True)


def _layers(value: Mapping[str, Any] | None) -> list[Image.Image]:
    """Return the layers of paint that the browser sends of an editor."""
    return [open_reserved(file_of(layer)) for layer in (value or {}).get("layers") or []]


def roles_of(paint: Sequence[Image.Image], style_paint: Sequence[Image.Image]) -> dict[str, Image.Image]:
    """Return what the layers of paint on a picture and on its style are, by role.

    "mask" for paint of one colour on the picture alone; "regions", and "style_regions" if the style has paint; "style", the
    opacity of the style, for paint on the style alone. Nothing if nothing or everything is painted.
    """
    mask, style_mask = painted(paint), painted(style_paint)
    ours, theirs = (regions(layers) if layers else None for layers in (paint, style_paint))
    # A style that is painted all over in several colours has regions, although it has no mask.
    paired = bool(theirs) and (style_mask is not None or len(colours_of(theirs)) > 1)
    if ours and len(colours_of(ours)) > 1 and (paired or len(colours_of(ours) - {BLACK}) > 1):
        return {"regions": ours} | ({"style_regions": theirs} if paired else {})
    if mask:
        return {"mask": mask}
    return {"style": style_mask} if style_mask else {}


def painted(layers: Sequence[Image.Image]) -> Image.Image | None:
    """Return the mask of some layers of paint; None if nothing or everything is painted."""
    if not layers:
        return None
    mask = _flat(layers).getchannel("A").point(lambda alpha: min(255, round(alpha / OPACITY)))
    return mask if len(set(mask.getextrema())) == 2 else None


def regions(layers: Sequence[Image.Image]) -> Image.Image:
    """Return an image of the regions of some layers of paint, each of one of `COLOURS`, and black where there is no paint."""
    flat, palette = _flat(layers), Image.new("P", (1, 1))
    palette.putpalette([value for colour in COLOURS for value in ImageColor.getrgb(colour)])
    found = flat.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
    return Image.composite(
        found, Image.new("RGB", found.size), flat.getchannel("A").point(lambda alpha: 255 * (alpha > 127 * OPACITY))
    )


BLACK = (0, 0, 0)
"""The colour of a region without paint."""


def colours_of(image: Image.Image) -> set[tuple[int, int, int]]:
    """Return the colours of an image of regions."""
    return {colour for _, colour in image.getcolors()}


def _flat(layers: Sequence[Image.Image]) -> Image.Image:
    """Return layers of paint, one over the other."""
    return reduce(Image.alpha_composite, (layer.convert("RGBA") for layer in layers))


def mention_stretching(pictures: Mapping[str, Image.Image]) -> None:
    """Tell the visitor if a mask or regions have another aspect ratio than their picture. The run stretches them."""
    below = {"mask": next(iter(pictures), ""), "regions": "content", "style_regions": "style"}
    for role, mask in pictures.items():
        picture = pictures.get(below.get(role, ""))
        if picture and abs(mask.width * picture.height / (mask.height * picture.width) - 1) > 0.02:
            gr.Info(text.say("mask_stretched", width=mask.width, height=mask.height))
