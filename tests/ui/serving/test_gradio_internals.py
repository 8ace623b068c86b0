"""What reaches below Gradio's public interface."""

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio import mcp, networking, queueing
from gradio.data_classes import PredictBodyInternal
from gradio.server_messages import ProcessCompletedMessage

from featviz.ui.serving import gradio_internals


@pytest.mark.parametrize("left", [0, 1])
def test_an_event_sent_while_the_stream_of_messages_ends_is_answered_after_its_end(tidy_gradio, monkeypatch, left):
    """Otherwise the client takes the stream for open, and reads none of the event's messages. `left`: other events of the session."""
    waits = []

    async def waited(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(gradio_internals, "asyncio", SimpleNamespace(sleep=waited))
    with gr.Blocks() as demo:
        gr.on([], lambda: None, api_name="some")
    queue = gradio_internals.Queue(False, 1, 0.05, None, demo, default_concurrency_limit=None)

    async def push() -> object:
        body = PredictBodyInternal(session_hash="me", fn_index=0, data=[], request=None)
        success, number, _ = await queue.push(body=body, request=SimpleNamespace(), username=None)
        assert success
        return queue.event_ids_to_events[number]

    async def events() -> None:
        first, *_ = [await push() for _ in range(1 + left)]
        assert waits == []
        queue.send_message(first, ProcessCompletedMessage(output={}, success=True))
        queue.pending_event_ids_session["me"].remove(first._id)  # The stream has read it.
        await push()

    asyncio.run(events())
    assert waits == [queue.CLOSING] * (not left)


def test_a_slow_first_answer_does_not_end_the_start(monkeypatch):
    for module, name in ((mcp, "GradioMCPServer"), (queueing, "Queue"), (networking, "url_ok")):
        monkeypatch.setattr(module, name, getattr(module, name))  # Restored at the end.
    nowhere = "http://127.0.0.1:1/"
    assert not networking.url_ok(nowhere)
    gradio_internals.install()
    assert networking.url_ok(nowhere)
