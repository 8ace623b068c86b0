"""Every snippet of docs/clients.md runs as typed against a live server."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from snippets import ROOT, run, snippets

from featviz import aliases, recipe_of
from featviz.recipes import presets
from featviz.recipes.table import RECIPES

DOCUMENT = "docs/clients.md"
NODE = ROOT / "tests" / "node"


@pytest.fixture(scope="module")
def local(server: str) -> Callable[[str], str]:
    """A function that puts the address of the live server into a snippet."""

    def replaced(code: str) -> str:
        assert "http://127.0.0.1:7860" in code
        return code.replace("http://127.0.0.1:7860", server.rstrip("/"))

    return replaced


ONE_AFTER_ANOTHER = """
import sys
for code in sys.argv[1:]:
    print("snippet")
    exec(code, {"__name__": "__main__"})
"""


@pytest.fixture(scope="module")
def printed(local, tmp_path_factory) -> tuple[Path, list[list[str]]]:
    """The folder of the Python snippets, and the lines that each prints, in one process: each start would import the clients again."""
    folder = tmp_path_factory.mktemp("clients")
    done = run([sys.executable, "-c", ONE_AFTER_ANOTHER, *map(local, snippets(DOCUMENT, "python"))], folder)
    return folder, [text.splitlines() for text in done.stdout.split("snippet\n")[1:]]


@pytest.fixture(scope="session")
def gradio_client_for_node() -> Path:
    """The folder node_modules with the pinned client. If it cannot be installed, the test is skipped; on CI it fails."""
    if not (NODE / "node_modules" / "@gradio" / "client").is_dir():
        npm = shutil.which("npm")
        done = npm and subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, capture_output=True, text=True, check=False
        )
        if not done or done.returncode:
            message = f"@gradio/client cannot be installed: {done.stderr if done else 'there is no npm'}"
            pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    return NODE / "node_modules"


def test_every_endpoint_is_named(server):
    with urllib.request.urlopen(f"{server}gradio_api/info", timeout=60) as answer:
        published = {name.removeprefix("/") for name in json.load(answer)["named_endpoints"]}
    rows = re.findall(r"^\| (.*?) \|", (ROOT / DOCUMENT).read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named <= published
    current = published - set(RECIPES) - set(aliases.ENDPOINTS)  # Earlier names still work and are not documented.
    assert {name for name in current if not name.endswith("_sheet")} <= named


def test_python_submits_iterates_cancels_and_gets_the_result(printed):
    _, ((_, *previews, stopped), *_) = printed
    assert len(previews) >= 2
    assert recipe_of(previews[-1]) == RECIPES["deepdream"](layer="vgg19/relu3_3", size=128, steps=4)
    assert recipe_of(stopped) == RECIPES["deepdream"](size=512, steps=100)


def test_python_makes_a_result_again(printed):
    _, (_, (_, estimate, castle), *_) = printed
    assert estimate.startswith("About ")
    assert recipe_of(castle) == presets.read_presets()[0].recipe.replace(size=128)


def test_python_starts_a_run_and_asks_until_it_is_done(printed):
    _, (_, _, (_, *asked, stopped), _) = printed
    state, _, picture = asked[-1].partition(" ")
    assert (state, stopped) == ("done", "stopped")
    assert recipe_of(picture) == RECIPES["deepdream"](size=128, steps=4)


def test_javascript_submits_iterates_cancels_and_gets_the_result(local, gradio_client_for_node, tmp_path):
    (code,) = snippets(DOCUMENT, "js")
    (tmp_path / "node_modules").symlink_to(gradio_client_for_node)
    (tmp_path / "dream.mjs").write_text(local(code), encoding="utf-8")
    *stages, sentence = run(["node", "dream.mjs"], tmp_path).stdout.splitlines()
    assert [stages[0], stages[-1]] == ["pending", "complete"]
    assert "generating" in stages
    assert sentence in code
    assert recipe_of(tmp_path / "dream.png") == RECIPES["deepdream"](size=128, steps=4)


def test_curl_uploads_calls_listens_and_gets_the_result(local, tmp_path):
    (code,) = snippets(DOCUMENT, "bash")
    events = re.findall(r"^event: (\w+)$", run(["bash", "-euc", local(code)], tmp_path).stdout, re.MULTILINE)
    assert events[-1] == "complete"
    assert "generating" in events
    assert recipe_of(tmp_path / "dream.png") == RECIPES["deepdream"](size=128, steps=2)


def test_mcp_is_configured_and_called(local, printed):
    (configuration,) = snippets(DOCUMENT, "json")
    url = json.loads(local(configuration))["mcpServers"]["featviz"]["url"]
    with urllib.request.urlopen(f"{url}schema", timeout=60) as schema:
        assert set(RECIPES) <= {tool["name"] for tool in json.load(schema)}
    folder, (*_, (line,)) = printed
    address = line.removeprefix("Image URL: ")
    with Image.open(folder / "dream.png") as picture, urllib.request.urlopen(address, timeout=60) as file:
        assert max(picture.size) == 128
        assert recipe_of(Image.open(file)) == RECIPES["deepdream"](size=128, steps=2)
