"""The first screen: what a visitor sees, and can click, while the browser builds the page.

Gradio builds the page by JavaScript, which takes seconds on a slow processor. The first screen comes in the HTML before it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from starlette.datastructures import MutableHeaders

from featviz.ui import text
from featviz.ui.cards import Card, drawn
from featviz.ui.serving.http_cache import App, collected

BEFORE = b"<gradio-app"
"""The place in Gradio's HTML, right before what becomes the page."""

DATA = re.compile(rb"<script>window\.gradio_config.*(?=<link rel=.manifest)", re.DOTALL)
"""The scripts in Gradio's head that hold the page's configuration, about 800 kB. They are moved behind the first screen, so that the
browser need not read them first. What uses them runs after the whole HTML."""

FOLDER = Path(__file__).parent

SAID = ("tagline", "examples", "first_kept")
"""Keys of the texts of the first screen, beside the titles of its cards."""


def first_screen(cards: Sequence[Card], premade: Mapping[str, str], pictures: Sequence[str]) -> str:
    """Return the first screen as HTML; "" without cards.

    Args:
        cards: each starts an example.
        premade: language → the sentence about the result that is shown at first.
        pictures: the addresses of its picture and of the result.
    """
    if not cards:
        return ""
    english = text.TABLES["en"]
    words = {
        tag: {english[key]: table[key] for key in SAID}
        | {card.title: text.translated(card.title, tag) for card in cards}
        | {premade["en"]: premade[tag]}
        for tag, table in text.TABLES.items()
    }
    known = json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")  # It stands in HTML.
    style, script = ((FOLDER / f"first_screen.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    say = {key: f'data-say="">{escape(english[key])}' for key in SAID}
    shown = "".join(f'<img src="{escape(picture)}" alt="" loading="lazy">' for picture in pictures)
    return (
        f'<div id="first-screen"><style>{style}</style><div><div class="masthead"><h1>{text.TITLE}</h1><span {say["tagline"]}</span></div>'
        f'<div class="columns"><div><div class="box"></div><div class="box"></div><p {say["examples"]}</p>'
        f'<div class="examples">{drawn(cards)}</div><p role="status" hidden {say["first_kept"]}</p></div>'
        f'<div class="result"><p data-say="">{escape(premade["en"])}</p><div>{shown}</div></div></div></div>'
        f"<script>{script}({known});</script></div>"
    )


class FirstScreen:
    """ASGI middleware: put the first screen into the page. Keeps the whole page in memory."""

    def __init__(self, app: App, html: str):
        self.app, self.html = app, html.encode()

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return

        async def finish(start: dict, body: bytes) -> None:
            data = DATA.search(body)
            moved = data[0] if data and BEFORE in body else b""
            page = body.replace(moved, b"", 1).replace(BEFORE, self.html + moved + BEFORE, 1)
            MutableHeaders(raw=start["headers"])["content-length"] = str(len(page))
            await send(start)
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, collected(finish))
