"""Limits on requests: their size, the pictures fetched from a URL, the runs of each visitor. And ASGI middleware for answers."""

import asyncio
import ipaddress
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

import gradio as gr
import httpx
from gradio import processing_utils
from starlette.requests import Request
from starlette.responses import JSONResponse

from featviz import limits
from featviz.errors import short
from featviz.runtime.jobs import INTERNAL_ERROR
from featviz.ui.serving import gradio_internals
from featviz.ui.serving.http_cache import HttpCache

FILES_IN_A_REQUEST = 4
"""Files of the greatest size that a request may hold. Base64 makes them a third larger."""

SECONDS_TO_FETCH = 20


ABOUT_ARGUMENTS = ("Parameter `", "No value provided for required argument: ")
"""How the errors begin that `gradio_client.utils.construct_args` raises for arguments that do not fit, in Gradio 6.31."""

logger = logging.getLogger(__name__)


class BodyLimit:
    """ASGI middleware: refuse a request that is too large before it is read."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        limit = int(FILES_IN_A_REQUEST * limits.MEGABYTES.value * 1e6)
        declared, started, received = dict(scope["headers"]).get(b"content-length", b"0"), False, 0

        async def counted() -> dict:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message if received <= limit else {"type": "http.disconnect"}

        async def answer(message: dict) -> None:
            nonlocal started
            if received <= limit:  # Otherwise the refusal below is the answer.
                started = True
                await send(message)

        if not (declared.isdigit() and int(declared) > limit):
            try:
                await self.app(scope, counted, answer)
            except Exception:
                if received <= limit:
                    raise
            if received <= limit or started:
                return None
        while received <= 2 * limit:  # A client reads no answer while it sends. Beyond this it is cut off.
            message = await receive()
            received += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        detail = f"A request may have {limit / 1e6:.0f} megabytes, and a picture {limits.MEGABYTES.value}."
        return await _answer(send, 413, detail)


class NoFileProxy:
    """ASGI middleware: refuse `file=http://…`, which Gradio 6.31 forwards to any public host without a size limit."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] == "http" and re.search(r"/file=https?://", scope["path"]):
            return await _answer(send, 403, "Only files of this server are served.")
        return await self.app(scope, receive, send)


async def _answer(send: Callable, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": detail}).encode()})


async def refuse_arguments(request: Request, error: Exception) -> JSONResponse:
    """Answer a call whose arguments do not fit an endpoint with one sentence. Gradio 6.31 itself answers with an error 500."""
    path, _, name = request.scope["path"].rstrip("/").rpartition("/")
    if not path.endswith("/call/v2"):
        raise error
    if isinstance(error, KeyError) and error.args == (f"/{name}",):  # Gradio looks the name up in its table of endpoints.
        return JSONResponse({"detail": f"There is no endpoint '{short(name)}'."}, 422)
    if isinstance(error, TypeError) and str(error).startswith(ABOUT_ARGUMENTS):
        return JSONResponse({"detail": str(error).partition(" Please click")[0]}, 422)
    logger.error("A call failed.", exc_info=error)
    return JSONResponse({"detail": INTERNAL_ERROR}, 500)


class QuietDisconnects:
    """ASGI middleware: end a request without a traceback if its client has left, or if Gradio refuses it after the stream began.

    Gradio does the latter for a run or a session that does not exist.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        left = False

        async def watched() -> dict:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        try:
            await self.app(scope, watched, send)
        except Exception as error:
            refused = isinstance(error, RuntimeError) and hasattr(error.__cause__, "status_code")
            if not (left or refused):
                raise
            logger.debug("A request ended early.", exc_info=True)
            if not left:
                await send({"type": "http.response.body"})


class PublicTransport(httpx.AsyncBaseTransport):
    """Fetch pictures from public addresses only, with a limit on bytes and on time (`SECONDS_TO_FETCH`).

    Replaces Gradio's transport for pictures sent as a URL, which asks dns.google for unknown names, trusts some hosts
    unchecked, and limits neither bytes nor time.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        try:
            return await asyncio.wait_for(self._fetch(request), SECONDS_TO_FETCH)
        except gr.Error:
            raise
        except (ValueError, OSError, httpx.HTTPError, asyncio.TimeoutError):
            raise _refused("The picture cannot be fetched from there", host) from None

    async def _fetch(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if request.url.scheme not in ("http", "https"):
            raise _refused("Only http and https addresses are fetched", host)
        # Connect to the address that was checked: the name may resolve to another one by now. The certificate is the name's.
        request.url = request.url.copy_with(host=await public_address(host))
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.headers["accept-encoding"] = "identity"  # A small compressed body can become very large.
        async with httpx.AsyncHTTPTransport(trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            if response.status_code >= 400:
                raise _refused(f"The picture's server answers {response.status_code}", host)
            content = bytearray()
            async for part in response.stream:
                content += part
                if len(content) > limits.MEGABYTES.value * 1e6:
                    raise _refused(
                        f"The picture has more than {limits.MEGABYTES.value} megabytes, which are the most accepted", host
                    )
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))


async def public_address(host: str) -> str:
    """Return the first address of a host, as the system resolves it.

    Raises:
        OSError: the host has no address.
        ValueError: one of its addresses is not public, or is multicast.
    """
    entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [entry[4][0] for entry in entries]
    for address in map(ipaddress.ip_address, addresses):
        tunnel = getattr(address, "sixtofour", None)  # It contains an IPv4 address, which may be private.
        if not address.is_global or address.is_multicast or address.is_reserved or tunnel:
            raise ValueError(f"{host} leads to {address}, which is not public.")
    return addresses[0]


def _refused(what: str, host: str) -> gr.Error:
    return gr.Error(f"{what} ({escape(host[:80], quote=False)}); upload it instead.", print_exception=False)


def server_options(*more: tuple[Callable, tuple, dict]) -> dict[str, Any]:
    """Install the transport, and return the middleware and the handlers of errors as options for the web server.

    `more`: other middleware, inside the cache: (class, arguments, options).
    """
    processing_utils.async_transport = PublicTransport()
    return {
        "middleware": [
            (HttpCache, (), {}),
            *more,
            *((app, (), {}) for app in (QuietDisconnects, BodyLimit, NoFileProxy, gradio_internals.McpSessions)),
        ],
        "exception_handlers": dict.fromkeys((TypeError, KeyError), refuse_arguments),
    }
