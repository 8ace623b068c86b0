"""What reaches below Gradio's public interface, with the reason for each. Written for Gradio 6.31.

| what | why |
| --- | --- |
| `endpoint`, `value` | `gr.api` takes no components, and a picture needs one: only a component's file is uploaded and checked. |
| `end_event` | Gradio's own cancelling ends every event of a session and function, and all MCP calls share one session. |
| `McpServer` | Gradio waits for a tool in a thread that cannot be interrupted, so a run goes on after its client has left. |
| `McpSessions` | Gradio serves MCP without sessions, so `notifications/cancelled` says nothing about whose call it means. |
| `Reader` | Gradio runs a call to its end even if its client never asks for the answer. |
| `Blocks` | Gradio sends the page the API's schemas of all components, which it does not read, and a long list once for each menu. A slider's maximum is also the greatest value that the API accepts. Input that does not fit is a traceback in the log, with the input. |
| `Queue` | Gradio notices a lost connection, but lets the step under way and one more go on. It loses an event that is sent while a stream of messages ends: a click on Start shows nothing. |
| `networking.url_ok` | Gradio ends the start if its first answer takes more than three seconds, as on a busy machine. |
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import anyio
import gradio as gr
from anyio.to_thread import run_sync
from gradio import mcp, networking, queueing
from gradio.components.api_component import Api
from gradio.context import LocalContext, get_blocks_context
from gradio.exceptions import InvalidPathError
from gradio.server_messages import ProcessCompletedMessage
from gradio_client.utils import is_file_obj_with_meta, python_type_to_json_schema

logger = logging.getLogger(__name__)

SESSION = b"mcp-session-id"

MOST_BYTES = 20_000
"""The largest message in which `McpSessions` looks for a method. Calls may hold pictures and are passed on unread."""

_calls: dict[tuple[str, str], anyio.CancelScope] = {}
"""The MCP calls under way, by session and number. Used by the event loop only."""


UNREAD = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "skip_api", "component_class_id", "key")
"""What the page does not read of a component: schemas of the API, and what only custom and rendered components have."""


class Blocks(gr.Blocks):
    """Blocks that send the page a small configuration, and refuse input that does not fit with a sentence.

    A menu has its chosen entry only. The page gets the lists of all menus once, from `Page.script`.
    """

    narrowed: Mapping[gr.components.Component, Mapping[str, Any]] = MappingProxyType({})
    """Component → properties that the page gets instead of its own ones. The API keeps its own ones."""

    def get_config_file(self) -> Any:
        config, narrowed = super().get_config_file(), {part._id: properties for part, properties in self.narrowed.items()}
        for component in config["components"]:
            props = component["props"]
            props.update(narrowed.get(component["id"], {}))
            props.pop("preserved_by_key", None)
            if component["type"] == "dropdown":
                props["choices"] = [choice for choice in props["choices"] if choice[1] == props["value"]]
            for unread in UNREAD:
                component.pop(unread, None)
            component["props"].pop("_api_info", None)
        return config

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """Describe the API, which needs the schemas. Undocumented endpoints too: clients read names and defaults of parameters here."""
        sent, self.config = self.config, super().get_config_file()
        try:
            return super().get_api_info(all_endpoints=True, page=page)
        finally:
            self.config = sent

    async def preprocess_data(self, *arguments: Any, **options: Any) -> Any:
        """Refuse input that does not fit with one sentence, and log no input."""
        try:
            return await super().preprocess_data(*arguments, **options)
        except gr.Error:
            raise
        except InvalidPathError:
            raise gr.Error("Only files that were uploaded here can be used; upload it first.", print_exception=False) from None
        except Exception:
            logger.debug("The input does not fit.", exc_info=True)
            raise gr.Error("The input does not fit the parameters; see 'Use via API'.", print_exception=False) from None


def endpoint(
    fn: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    api_name: str,
    **options: Any,
) -> None:
    """Publish a function as an endpoint, with the inputs as they are sent. `options`: those of `gr.api`."""
    blocks = get_blocks_context()
    for event in blocks.fns.values():
        if event.api_name == api_name and event.api_visibility == "private":
            event.api_name = f"page_{api_name}"  # Gradio names the page's events after their functions.
    blocks.set_event_trigger(
        [],
        fn,
        list(inputs),
        list(outputs),
        api_name=api_name,
        preprocess=False,
        show_progress="hidden",
        trigger_mode=None,
        **options,
    )


def value(annotation: Any, label: str, default: Any = None, choices: Sequence[str] = ()) -> gr.components.Component:
    """Return a component for a plain value of a type, as `gr.api` makes it. `gr.JSON` has no valid schema for MCP.

    `choices`: the only values that are accepted; empty for any.
    """
    accepted = {"type": "string", "enum": list(choices)} if choices else python_type_to_json_schema(annotation)
    return Api(default, accepted, label)


async def end_event(queue: queueing.Queue, event_id: str) -> None:
    """Take an event from the queue, or cancel it at once, and tell its client that it is over."""
    event = queue.event_ids_to_events.get(event_id)
    await queue.clean_events(event_id=event_id)
    if event and (messages := queue.pending_messages_per_session.get(event.session_hash)):
        messages.put_nowait(ProcessCompletedMessage(output={}, success=True, event_id=event_id))


class Reader:
    """Whoever reads the messages of the event that the caller handles. The caller has to yield, so that there are messages."""

    def __init__(self) -> None:
        request, served = LocalContext.request.get(None), LocalContext.blocks.get(None)
        self._messages = served and request and served._queue.pending_messages_per_session.get(request.session_hash)
        self._count, self._last_read = 0, time.monotonic()

    def seconds_away(self) -> float:
        """Return the seconds since a message was read, as far as there are any. Messages of a session share one queue."""
        count = self._messages._unfinished_tasks - self._messages.qsize() if self._messages else 0
        if not self._messages or self._messages.empty() or count > self._count:
            self._count, self._last_read = count, time.monotonic()
        return time.monotonic() - self._last_read


class Queue(queueing.Queue):
    """Gradio's queue. An event that is cleaned, since its client has gone, is cancelled at once.

    Gradio ends a session's stream of messages when no event is left, and a client opens it again with its next event. An event sent
    while the end of the stream is on its way would find it open, and its messages would never arrive. So the answer to such an
    event waits for `CLOSING` seconds: the client reads the end first.
    """

    CLOSING = 0.25

    def send_message(self, event: queueing.Event, event_message: Any) -> None:
        super().send_message(event, event_message)
        if isinstance(event_message, ProcessCompletedMessage):
            self.pending_messages_per_session[event.session_hash].completed = time.monotonic()

    async def push(self, body: Any, *arguments: Any, **options: Any) -> Any:
        messages = self.pending_messages_per_session.get(body.session_hash)
        closing = not self.pending_event_ids_session.get(body.session_hash)
        pushed = await super().push(body, *arguments, **options)
        if messages and closing and time.monotonic() < getattr(messages, "completed", 0) + 2:
            await asyncio.sleep(self.CLOSING)
        return pushed

    async def clean_events(self, *, session_hash: str | None = None, event_id: str | None = None) -> None:
        running = [event for job in self.active_jobs for event in job or ()]
        await super().clean_events(session_hash=session_hash, event_id=event_id)
        gone = {event._id for event in running if not event.alive}
        for task in asyncio.all_tasks():
            if task.get_name().rpartition("<gradio-sep>")[2] in gone:  # Gradio names its tasks after their events.
                task.cancel()


class McpServer(mcp.GradioMCPServer):
    """Gradio's MCP server. A call ends when its client closes the connection, cancels it, or closes its session."""

    async def _execute_tool_without_progress(self, job: Any) -> list[Any]:
        result = await self._until_cancelled(job, run_sync(job.result, abandon_on_cancel=True))
        return list(result) if isinstance(result, tuple) else [result]

    async def _execute_tool_with_progress(self, job: Any, progress: str | int) -> Any:
        return await self._until_cancelled(job, super()._execute_tool_with_progress(job, progress))

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        plain = [
            json.dumps(output) if isinstance(output, dict | list) and not is_file_obj_with_meta(output) else output
            for output in data
        ]
        return super().postprocess_output_data(plain, root_url)

    async def _until_cancelled(self, job: Any, result: Awaitable[Any]) -> Any:
        context = self.mcp_server.request_context
        call = context.request.headers.get(SESSION.decode(), secrets.token_hex()), str(context.request_id)
        with anyio.CancelScope() as scope:
            _calls[call] = scope
            try:
                return await result
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    while not job.communicator.event_id and not job.done():  # It is being sent to the queue.
                        await anyio.sleep(0.02)
                    await end_event(self.blocks._queue, job.communicator.event_id)
                raise
            finally:
                _calls.pop(call, None)
        raise gr.Error("The call was cancelled.", print_exception=False)


class McpSessions:
    """ASGI middleware: give each MCP client a session id, and end its calls when it cancels them or closes the session.

    An id is a name only. Any is accepted, so clients do not notice that the server was restarted.
    """

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or not scope["path"].rstrip("/").endswith(("/gradio_api/mcp", "/gradio_api/mcp/http")):
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        session = headers.get(SESSION, b"").decode("latin-1")
        if scope["method"] == "DELETE":
            _cancel(lambda call: call[0] == session)
            return await _answer(send, 204)
        if scope["method"] == "GET" and b"text/event-stream" in headers.get(b"accept", b""):
            return await _answer(send, 405)  # There are no messages but answers.
        length = headers.get(b"content-length", b"")
        if scope["method"] != "POST" or not length.isdigit() or int(length) > MOST_BYTES:
            return await self.app(scope, receive, send)
        parts = [message := await receive()]
        while message.get("more_body"):
            parts.append(message := await receive())
        method, params = _method(b"".join(part.get("body", b"") for part in parts))
        if method == "notifications/cancelled":
            _cancel(lambda call: call == (session, str(params.get("requestId"))))
        new_session = secrets.token_urlsafe().encode()

        async def replayed() -> dict:
            return parts.pop(0) if parts else await receive()

        async def named(message: dict) -> None:
            if message["type"] == "http.response.start" and method == "initialize":
                message = {**message, "headers": [*message["headers"], (SESSION, new_session)]}
            await send(message)

        return await self.app(scope, replayed, named)


def _cancel(which: Callable[[tuple[str, str]], bool]) -> None:
    for call, scope in list(_calls.items()):
        if which(call):
            scope.cancel()


def _method(body: bytes) -> tuple[str, dict]:
    """Return the method and the parameters of a message; neither if it is none."""
    try:
        message = json.loads(body)
        return str(message.get("method")), message.get("params") or {}
    except (ValueError, AttributeError):
        return "", {}


async def _answer(send: Callable, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


def install() -> None:
    """Let Gradio use the classes of this module. Call it before `Blocks.queue`."""
    mcp.GradioMCPServer = McpServer
    queueing.Queue = Queue
    networking.url_ok = lambda url: True
