"""ASGI middleware that saves bytes on the wire: the page is compressed and validated by ETag, its files are cached."""

import hashlib
import re
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware

from featviz import limits

App = Callable[..., Awaitable[None]]

PAGE = re.compile(r"/(config/?)?")
"""The page and its configuration: the same for all visitors until the server restarts."""

ASSETS = re.compile(r"/assets/.*-[\w-]{8,}\.\w+")
"""Gradio's scripts and styles, whose names contain a hash of their content."""

PICTURES = re.compile(r".*/file=.*/[0-9a-f]{64}/[^/]+")
"""Files of Gradio's cache, whose folders are a hash of their content."""


class HttpCache:
    """Let browsers keep the page and its files.

    Gradio 6.31 compresses only paths with a file extension, which the page and its configuration lack, and sets no
    `Cache-Control`. All other paths, event streams among them, are passed through unchanged.
    """

    def __init__(self, app: App):
        self.app, self.page = app, GZipMiddleware(ETag(app))

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        if PAGE.fullmatch(path):
            return await self.page(scope, receive, send)
        if ASSETS.fullmatch(path):
            send = _cached(send, seconds=365 * 86400)
        elif PICTURES.fullmatch(path):
            send = _cached(send, seconds=limits.HOURS_KEPT.value * 3600)  # No longer than the server keeps them.
        return await self.app(scope, receive, send)


class ETag:
    """Answer 304 Not Modified to a request whose `If-None-Match` has the hash of the response. Keeps the whole body in memory."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def finish(start: dict, body: bytes) -> None:
            headers = MutableHeaders(raw=start["headers"])
            if start["status"] == 200:
                headers["etag"] = f'W/"{hashlib.sha256(body).hexdigest()}"'
                headers["cache-control"] = "no-cache"  # Keep the page, but validate it at each visit.
                if Headers(scope=scope).get("if-none-match") == headers["etag"]:
                    start["status"] = 304
                    del headers["content-length"]
                    body = b""
            await send(start)
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, collected(finish))


def collected(finish: Callable[[dict, bytes], Awaitable[None]]) -> Callable:
    """Return what an ASGI app calls as `send`. It collects the body of a response and calls `finish` once that is whole.

    `finish` takes the message that starts the response, with status and headers, and the body.
    """
    start: dict = {}
    body = bytearray()

    async def collect(message: dict) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.extend(message.get("body", b""))
        if not message.get("more_body"):
            await finish(start, bytes(body))

    return collect


def _cached(send: Callable, seconds: float) -> Callable:
    """Let the browser, and no proxy, keep a successful response for some seconds."""

    async def wrapped(message: dict) -> None:
        if message["type"] == "http.response.start" and message["status"] in (200, 206, 304):
            MutableHeaders(raw=message["headers"])["cache-control"] = f"private, max-age={seconds:.0f}, immutable"
        await send(message)

    return wrapped
