"""Cards: buttons with a picture above a title. Any number of them is one component with one event."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from PIL import Image, ImageOps

from featviz.ui.serving.files import address, in_cache

SELECT = """element.addEventListener("click", ({target}) => {
    const card = target.closest("[data-index]");
    if (card) trigger("select", {index: Number(card.dataset.index), value: null});
});
element.dataset.ready = "";"""
"""Marks the element as ready for clicks, for the first screen."""


CENTRING = (0.5, 0.1)
"""Where a picture is cropped to the shape of a card: faces are in the upper part of a picture."""


@dataclass(frozen=True)
class Card:
    """A title, the address of its picture and, where it has one, its time in seconds since 1970."""

    title: str
    source: str
    time: int | None = None


class Cards:
    """A row of cards. The `select` event of its component has the index of the card."""

    def __init__(self, cards: Sequence[Card] = (), *, kind: str, **options: Any):
        self.cards = tuple(cards)
        self.html = gr.HTML(drawn(cards), js_on_load=SELECT, elem_classes=["cards", kind], **options)


def drawn(cards: Sequence[Card], chosen: int | None = None, say: Callable[[str], str] = str) -> str:
    """Return cards as HTML.

    `chosen`: the index of the card that is marked as pressed; None for cards that start a run. `say` translates their titles.
    """
    pressed = ["" if chosen is None else f' aria-pressed="{str(i == chosen).lower()}"' for i in range(len(cards))]
    buttons = "".join(
        f'<button type="button" class="card" data-index="{i}"{pressed[i]}>'
        f'<img src="{escape(card.source)}" alt="">{_clock(card.time)}<span>{escape(say(card.title))}</span></button>'
        for i, card in enumerate(cards)
    )
    return f'<div class="grid">{buttons}</div>'


def _clock(time: int | None) -> str:
    """Return the HTML element that shows a time in the time zone of the browser; "" without a time. `page.js` defines it."""
    return "" if time is None else f'<featviz-time at="{time}"></featviz-time>'


def thumbnail(pictures: Sequence[Image.Image], size: tuple[int, int], keeper: gr.components.Component) -> str:
    """Return the address of a small picture of some pictures side by side. It is kept as long as the page."""
    width, height = size
    sheet = Image.new("RGB", size)
    for i, picture in enumerate(pictures):
        slot = width // len(pictures)
        with picture:
            sheet.paste(ImageOps.fit(picture.convert("RGB"), (slot, height), centering=CENTRING), (i * slot, 0))
    return kept(sheet, keeper)


def kept(picture: Image.Image, keeper: gr.components.Component) -> str:
    """Return the address of a picture that is kept as long as the page."""
    file = in_cache(picture, "jpeg")
    keeper.keep_in_cache.add(file)  # Otherwise the sweep deletes it with the visitors' pictures.
    return address(file)
