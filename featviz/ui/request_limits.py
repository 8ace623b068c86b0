"""What comes in from the net, held to the limits: the bytes of a request, pictures fetched from an address, runs of a visitor."""

import asyncio
import ipaddress
import json
import logging
import math
import re
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

import gradio as gr
import httpx
from gradio import processing_utils
from gradio.context import LocalContext
from gradio.exceptions import InvalidPathError

from featviz import limits
from featviz.errors import LimitError

FILES_IN_A_REQUEST = 4
"""As large as they may be. Inside a request they grow by a third."""

SECONDS_TO_FETCH = 20

MINUTE = 60.0

logger = logging.getLogger(__name__)


class Body:
    """ASGI middleware: a request with more bytes than any picture needs is refused before it is read."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = int(FILES_IN_A_REQUEST * limits.MEGABYTES.value * 1e6)
        said, started, got = dict(scope["headers"]).get(b"content-length", b"0"), False, 0

        async def counted() -> dict:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            return message if got <= most else {"type": "http.disconnect"}

        async def answer(message: dict) -> None:
            nonlocal started
            if got <= most:  # Else the refusal below is the answer.
                started = True
                await send(message)

        if not (said.isdigit() and int(said) > most):
            try:
                await self.app(scope, counted, answer)
            except Exception:
                if got <= most:
                    raise
            if got <= most or started:
                return None
        while got <= 2 * most:  # Who is still sending does not hear. Whoever sends still more is cut off.
            message = await receive()
            got += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        detail = f"A request may have {most / 1e6:.0f} megabytes, and a picture {limits.MEGABYTES.value}."
        return await _answer(send, 413, detail)


class OwnFiles:
    """ASGI middleware: Gradio's address of files serves those of this server, and is no way to fetch others through it.

    Gradio 6.31 forwards `file=http://…` to any public host, without an end to the bytes.
    """

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


class Ending:
    """ASGI middleware: what ends early ends quietly, and is not logged as a crash. Whoever has left is told nothing any more; and a
    stream may be refused after it has begun, as Gradio refuses whoever asks for a run or a session that is not there."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        left = False

        async def heard() -> dict:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        try:
            await self.app(scope, heard, send)
        except Exception as error:
            refused = isinstance(error, RuntimeError) and hasattr(error.__cause__, "status_code")
            if not (left or refused):
                raise
            logger.debug("A request ended early.", exc_info=True)
            if not left:
                await send({"type": "http.response.body"})


class Blocks(gr.Blocks):
    """Gradio's, but what was sent and cannot be taken is said in a sentence, and leaves no trace of itself in the log."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Describe undocumented endpoints as well, since clients read the names and defaults of parameters here."""
        return super().get_api_info(all_endpoints=True, page=page)

    async def preprocess_data(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().preprocess_data(*arguments, **options)
        except gr.Error:
            raise
        except InvalidPathError:
            raise gr.Error("Only files that were uploaded here can be used; upload it first.", print_exception=False) from None
        except Exception:
            logger.debug("What was sent does not fit.", exc_info=True)
            raise gr.Error("What was sent does not fit what this takes; see 'Use via API'.", print_exception=False) from None


class PublicOnly(httpx.AsyncBaseTransport):
    """Fetches from public addresses, at most as many bytes as a picture may have, within `SECONDS_TO_FETCH`.

    It takes the place of Gradio's own transport for pictures that are sent as an address: that one asks dns.google for names
    that the system does not know, trusts some hosts unseen, and limits neither bytes nor time.
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
        # Connect to the address that was checked, wherever the name leads by then. The certificate has to be the name's.
        request.url = request.url.copy_with(host=await public_address(host))
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.headers["accept-encoding"] = "identity"  # What is packed could unpack to anything.
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
    """The first address of a host, as the system resolves it.

    Raises:
        OSError: it has none.
        ValueError: one of its addresses is not public, but inside some network, or of a group.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [entry[4][0] for entry in found]
    for address in map(ipaddress.ip_address, addresses):
        tunnel = getattr(address, "sixtofour", None)  # An IPv4 address inside, which may be any.
        if not address.is_global or address.is_multicast or address.is_reserved or tunnel:
            raise ValueError(f"{host} leads to {address}, which is not public.")
    return addresses[0]


def _refused(what: str, host: str) -> gr.Error:
    return gr.Error(f"{what} ({escape(host[:80], quote=False)}); upload it instead.", print_exception=False)


class Rate:
    """Runs that each visitor has started within a minute. Constant time for each start, however many visitors there are."""

    def __init__(self) -> None:
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()
        """By visitor; those whose latest start is longest ago come first."""
        self._lock = threading.Lock()

    def take(self, visitor: str) -> None:
        """Note the start of a run.

        Raises:
            LimitError: the visitor has started as many as are granted.
        """
        now, most = time.monotonic(), limits.RUNS_PER_MINUTE.value
        with self._lock:
            while self._starts and next(iter(self._starts.values()))[-1] <= now - MINUTE:
                self._starts.popitem(last=False)  # Each start is forgotten once.
            starts = self._starts.setdefault(visitor, deque(maxlen=most))
            if len(starts) == most and starts[0] > now - MINUTE:
                wait = math.ceil(starts[0] + MINUTE - now)
                raise LimitError(f"{most} runs a minute are granted to each visitor; the next one can start in {wait} s.")
            starts.append(now)
            self._starts.move_to_end(visitor)


RATE = Rate()


def visitor() -> str | None:
    """Who asks, as far as the server can tell: the address, and those that proxies on the way name. None outside a request.

    A visitor can write anything into that header and so count as many; the queue and the turns on the device hold all the same.
    """
    request = LocalContext.request.get(None)
    if request is None or getattr(request, "client", None) is None:
        return None
    return f"{request.headers.get('x-forwarded-for', '')} {request.client.host}"


def closed() -> dict[str, Any]:
    """Put the guards up, and return what `launch` has to pass to the web server for it."""
    processing_utils.async_transport = PublicOnly()
    return {"middleware": [(Ending, (), {}), (Body, (), {}), (OwnFiles, (), {})]}
