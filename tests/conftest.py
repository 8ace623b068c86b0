"""Fixtures that several test files share, such as a live server with the real recipes."""

import asyncio
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import PUBLIC
from huggingface_hub import constants
from loopback_hub import LoopbackHub

from featviz.networks import cache, hub, table
from featviz.networks.user_network import remove_network
from featviz.recipes import presets
from scripts.visitor import serving

QUICK = {
    "deepdream": {"size": 192},
    "deepdream_zoom": {"size": 96, "seconds": 1.0},
    "style_transfer": {"size": 128, "steps": 10},
    "activation_maps": {"layer": "efficientnet_lite0/block4", "size": 96, "count": 4},
    "caricature": {"size": 96, "steps": 4},
    "classification": {},
    "feature_accentuation": {"size": 96, "steps": 4},
    "layer_time_lapse": {"size": 96, "steps": 1, "octaves": 1},
    "feature_visualization": {"layer": "efficientnet_lite0/block4", "channel": 3, "size": 64, "steps": 4},
    "reconstruct_content": {"layer": "vgg19/relu2_1", "size": 96, "steps": 10},
    "reconstruct_style": {"layers": 1, "size": 96, "steps": 4},
}
"""Smaller fields for the examples, so that a run ends in seconds and still shows previews."""


SERVE = f"""
import sys, pathlib
from featviz import ui
from featviz.ui.serving import request_limits

resolve = request_limits.public_address

async def resolve_test_host(host):
    return "127.0.0.1" if host == {PUBLIC!r} else await resolve(host)

request_limits.public_address = resolve_test_host
examples = pathlib.Path(sys.argv[1])  # Outside the temporary folder of the server.
ui.launch(ui.build(folder=examples), server_name="127.0.0.1", server_port=int(sys.argv[2]), allowed_paths=[str(examples)])
"""


@pytest.fixture(scope="session")
def tidy_gradio() -> Iterator[None]:
    """Gradio opens an event loop for every lock and closes none of them; since Python 3.10 a lock needs no loop."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("queueing.safe_get_lock", "utils.safe_get_lock"):
            patch.setattr(f"gradio.{place}", asyncio.Lock)
        patch.setattr("gradio.utils.safe_get_stop_event", asyncio.Event)
        yield


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forbid requests to the Hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub_on_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub without files, an empty cache, and no network loaded."""
    monkeypatch.setattr(cache, "_loaded", OrderedDict())
    with LoopbackHub().serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        monkeypatch.setattr(hub, "POLL_SECONDS", 0.05)
        yield server
        server.go_on.set()
        for download in unfinished():
            download.join()


@pytest.fixture
def remove_added_networks() -> Iterator[None]:
    """Remove the networks that the test adds."""
    yield
    for name in [name for name in table.NETWORKS if name not in table.SHIPPED]:
        remove_network(name)


def unfinished() -> list[hub._Download]:
    """Downloads under way, those that were abandoned among them."""
    return [thread for thread in threading.enumerate() if isinstance(thread, hub._Download)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the browser's file first, then large files before small ones. One worker runs a whole file: at the end of a long one the
    other would have nothing."""
    items.sort(key=lambda item: (item.path.name != "test_browser.py", -item.path.stat().st_size, item.path))


def pytest_terminal_summary(terminalreporter) -> None:
    """What the tests of `make trust` have counted, in one table."""
    totals = {}
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        for name, value in report.user_properties if getattr(report, "when", "") == "teardown" else ():
            totals[name] = totals.get(name, 0) + value
    if totals:
        wrong = [report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, ())]
        terminalreporter.section("trust")
        for name, value in {**totals, "tests that failed": len(wrong)}.items():
            terminalreporter.write_line(f"{value:8}  {name}")


@pytest.fixture(scope="session")
def quick_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as they are, only smaller."""
    folder = shutil.copytree(presets.FOLDER, tmp_path_factory.mktemp("app") / "examples")
    for path in folder.glob("*.json"):
        path.chmod(0o644)
        data = json.loads(path.read_text(encoding="utf-8"))
        data["fields"] |= QUICK[data["recipe"]]
        path.write_text(json.dumps(data), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def server(quick_examples: Path) -> Iterator[str]:
    """The address of the app on loopback, in a process of its own: its warnings and threads are not the tests'."""
    one_visitor = {"FEATVIZ_QUEUE": "64", "FEATVIZ_RUNS_PER_MINUTE": "100000"}  # All tests are one.
    with serving(("-c", SERVE, str(quick_examples)), kill=True, **one_visitor) as server:
        yield server.address
        log = server.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log
