"""What README.md says is so: its tables are fresh, its snippets run as typed, its links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from featviz.stream import RECIPES
from scripts import readme

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def snippet(language: str, containing: str) -> str:
    (found,) = [block for block in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if containing in block]
    return found


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    """As if typed in the repository's folder with its environment active, except that it writes to `folder`."""
    (folder / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def longest_side(path: Path) -> int:
    with Image.open(path) as picture:
        picture.load()
        return max(picture.size)


def test_the_tables_are_fresh():
    assert readme.fresh(TEXT) == TEXT, "run `make readme`"


@pytest.mark.parametrize("table", ["networks", *RECIPES])
def test_every_table_is_there_once(table):
    assert TEXT.count(f"<!-- table: {table} -->") == 1


def test_a_stale_table_is_noticed():
    stale = re.sub(r"\| `(\w+)` \|.*\n", "", TEXT, count=1)
    assert stale != TEXT
    assert readme.fresh(stale) == TEXT


def test_what_the_space_reads():
    front = dict(re.findall(r"^(\w+): (.+)$", TEXT.split("---\n")[1], re.MULTILINE))
    assert TEXT.startswith("---\n")
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60
    assert {front["colorFrom"], front["colorTo"]} <= {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert front["license"] == "mit"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(link):
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]+)\)", TEXT))
def test_links_lead_to_headings(anchor):
    assert anchor in [heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)]


def test_python_runs_as_typed(tmp_path):
    done = run([sys.executable, "-W", "error", "-c", snippet("python", "import")], tmp_path)
    assert "100% done" in done.stdout.splitlines()[-1]
    assert longest_side(tmp_path / "dream.png") == 256
    assert longest_side(tmp_path / "painted.png") == 128


def test_the_command_line_runs_as_typed(tmp_path):
    done = run(["bash", "-euc", snippet("bash", "python -m featviz")], tmp_path)
    assert done.stdout.splitlines() == ["dream.jpg", "painted.png"]
    assert longest_side(tmp_path / "dream.jpg") == 128
    assert longest_side(tmp_path / "painted.png") == 128


def test_mcp_configuration_is_json():
    configuration = json.loads(snippet("json", "mcpServers"))
    assert configuration["mcpServers"]["featviz"]["url"].endswith("/gradio_api/mcp/")
