"""What several test files share: a live server with the real recipes."""

import asyncio
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from featviz import examples

QUICK = {"deepdream": {"size": 256}, "style_transfer": {"size": 128, "steps": 10}}
"""What the examples are turned down to, so that a run ends in seconds and still shows previews on the way."""


@pytest.fixture(scope="session")
def tidy_gradio() -> Iterator[None]:
    """Gradio opens an event loop for every lock and closes none of them; since Python 3.10 a lock needs no loop."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("queueing.safe_get_lock", "utils.safe_get_lock"):
            patch.setattr(f"gradio.{place}", asyncio.Lock)
        patch.setattr("gradio.utils.safe_get_stop_event", asyncio.Event)
        yield


@pytest.fixture(scope="session")
def quick_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as they are, only smaller."""
    folder = shutil.copytree(examples.FOLDER, tmp_path_factory.mktemp("app") / "examples")
    for path in folder.glob("*.json"):
        path.chmod(0o644)
        data = json.loads(path.read_text(encoding="utf-8"))
        data["fields"] |= QUICK[data["recipe"]]
        path.write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def server(tidy_gradio: None, quick_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, served on loopback as `app.py` serves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        from featviz import ui  # Here, since it takes seconds, and other tests need none of it.

        demo = ui.build(folder=quick_examples)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        _, address, _ = ui.launch(demo, server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
        yield address
        demo.close(verbose=False)
