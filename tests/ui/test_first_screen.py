"""The first screen, without a server: its HTML, and the middleware that puts it into the page."""

import asyncio
from pathlib import Path

import gradio
import pytest

from featviz.ui import text
from featviz.ui.cards import Card
from featviz.ui.first_screen import DATA, FirstScreen, first_screen

PAGE = "<html><body>…<gradio-app></gradio-app></body></html>".encode()


def answered(path: str, method: str = "GET", page: bytes = PAGE) -> tuple[dict[str, str], bytes]:
    """The headers and the body that a client receives from an app that sends its page in two parts."""
    sent: list[dict] = []

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(page)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page[:20], "more_body": True})
        await send({"type": "http.response.body", "body": page[20:]})

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(FirstScreen(app, "<div>é</div>")({"type": "http", "method": method, "path": path, "headers": []}, None, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return headers, b"".join(message["body"] for message in sent[1:])


def test_the_first_screen_stands_before_the_page_whose_length_is_right():
    headers, body = answered("/")
    assert body.decode() == "<html><body>…<div>é</div><gradio-app></gradio-app></body></html>"
    assert headers["content-length"] == str(len(body))


def test_gradio_s_data_come_after_the_first_screen_and_nothing_is_lost():
    data = b'<script>window.gradio_config = {"a": 1};</script><script>window.gradio_api_info = {};</script>'
    page = b"<head>" + data + b'<link rel="manifest"></head><body><gradio-app></gradio-app></body>'
    headers, body = answered("/", page=page)
    assert (
        body == b'<head><link rel="manifest"></head><body>' + "<div>é</div>".encode() + data + b"<gradio-app></gradio-app></body>"
    )
    assert headers["content-length"] == str(len(body))


def test_gradio_s_own_page_has_the_data_where_they_are_looked_for():
    template = Path(gradio.__file__).parent / "templates" / "frontend" / "index.html"
    (found,) = DATA.findall(template.read_bytes())
    assert b"window.gradio_api_info" in found
    assert b'type="module"' not in found


@pytest.mark.parametrize(("path", "method"), [("/config", "GET"), ("/gradio_api/info", "GET"), ("/", "HEAD")])
def test_all_else_is_passed_through(path, method):
    assert answered(path, method) == ({"content-type": "text/html", "content-length": str(len(PAGE))}, PAGE)


def test_the_first_screen_has_its_words_in_every_language():
    made = {tag: f"{tag} {table['premade']}" for tag, table in text.TABLES.items()}
    html = first_screen([Card("Cat in patterns", "a.jpg"), Card("<b>", "b.jpg")], made, ["before.jpg", "after.jpg"])
    assert html.count('class="card"') == 2
    assert html.count("<b>") == 0
    for table in text.TABLES.values():
        for key in ("tagline", "examples", "first_kept"):
            assert table[key] in html
    assert all(sentence in html for sentence in made.values())
    assert "Katze in Mustern" in html


def test_without_examples_there_is_no_first_screen():
    assert first_screen([], {}, []) == ""
