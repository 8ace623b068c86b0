"""Compression and caching, without a server: a small ASGI app behind the middleware."""

import asyncio
import gzip

import pytest

from featviz.ui.serving.http_cache import HttpCache

PAGE = b"<p>featviz</p>" * 1000


def app(content: bytes, kind: str = "text/html", parts: int = 1):
    """An ASGI app that answers every request with the same content, in some parts."""

    async def answer(scope, receive, send):
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        step = len(content) // parts
        for i in range(parts):
            part = content[i * step :] if i == parts - 1 else content[i * step : (i + 1) * step]
            await send({"type": "http.response.body", "body": part, "more_body": i < parts - 1})

    return answer


def get(path: str, inner=None, **headers: str) -> tuple[int, dict[str, str], list[bytes]]:
    """The status, the headers and the parts of the body that a client receives."""
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": names}
    asyncio.run(HttpCache(inner or app(PAGE))(scope, None, send))
    start, *bodies = sent
    received = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], received, [message.get("body", b"") for message in bodies]


@pytest.mark.parametrize("path", ["/", "/config", "/config/"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_page_and_its_configuration_are_compressed(path, parts):
    status, headers, body = get(path, app(PAGE, parts=parts), accept_encoding="gzip, br")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert gzip.decompress(b"".join(body)) == PAGE
    assert int(headers["content-length"]) == len(b"".join(body)) < len(PAGE) / 10


def test_a_client_that_does_not_accept_gzip_gets_the_plain_page():
    _, headers, body = get("/")
    assert "content-encoding" not in headers
    assert b"".join(body) == PAGE


def test_a_page_that_has_not_changed_is_not_sent_again():
    _, headers, _ = get("/", accept_encoding="gzip")
    status, again, body = get("/", accept_encoding="gzip", if_none_match=headers["etag"])
    assert (status, b"".join(body), again["etag"]) == (304, b"", headers["etag"])
    assert headers["cache-control"] == "no-cache"
    status, changed, body = get("/", app(PAGE + b"!"), if_none_match=headers["etag"])
    assert (status, b"".join(body)) == (200, PAGE + b"!")
    assert changed["etag"] != headers["etag"]


def test_scripts_are_kept_for_a_year_and_pictures_as_long_as_the_server_keeps_them():
    assert get("/assets/index-DphvyggB.js")[1]["cache-control"] == "private, max-age=31536000, immutable"
    assert get(f"/gradio_api/file=/tmp/gradio/{'0a' * 32}/image.png")[1]["cache-control"] == "private, max-age=7200, immutable"
    for path in ("/assets/index.js", "/gradio_api/file=/tmp/image.png", "/gradio_api/info"):
        assert "cache-control" not in get(path)[1]


@pytest.mark.parametrize("path", ["/gradio_api/queue/data", "/gradio_api/call/deepdream/1", "/gradio_api/heartbeat/1"])
def test_an_event_stream_is_passed_on_part_by_part(path):
    _, headers, body = get(path, app(PAGE, "text/event-stream", parts=4), accept_encoding="gzip, br")
    assert len(body) == 4
    assert set(headers) == {"content-type", "content-length"}
