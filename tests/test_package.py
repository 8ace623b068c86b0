"""The wheel and the sdist: what is in them, and that the wheel works with the packages it names and no others."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image
from snippets import ROOT, snippets

import featviz
from featviz.recipes import presets

OPTIONAL = ("av", "gradio", "pillow_heif", "pytest", "httpx", "spaces")
"""Modules of the extras and of the lock that a plain installation does not have."""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of the sdist, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def python(built, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, the packages that it requires, and those that they require.

    The wheel is installed by pip. The packages are links to those of this environment, so nothing is downloaded; each is there
    only if the metadata of the wheel leads to it. This proves that the wheel is complete and names all it imports. It does not
    prove that pip finds these versions: `test_requirements.py` compares the ranges with the pins.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    (installed,) = metadata.distributions(path=[str(site)])
    for distribution in required(installed):
        for name in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / name).exists():
                (site / name).symlink_to(distribution.locate_file(name))
    return python


def required(distribution: metadata.Distribution) -> list[metadata.Distribution]:
    """The distributions that one requires, directly or not, here and with the extras that are asked for."""
    found: dict[tuple[str, frozenset[str]], metadata.Distribution] = {}
    waiting = [(distribution, frozenset[str]())]
    while waiting:
        current, extras = waiting.pop()
        for requirement in map(Requirement, current.requires or ()):
            key = requirement.name, frozenset(requirement.extras)
            marker = requirement.marker
            if key not in found and (not marker or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))):
                found[key] = metadata.distribution(requirement.name)
                waiting.append((found[key], key[1]))
    return list(found.values())


@pytest.fixture
def typed(python, tmp_path):
    """Runs a command of that environment in a folder that holds a picture, far from the repository."""
    shutil.copy(presets.FOLDER / "cat.jpg", tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")  # As the snippets of README.md have it.
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def typed(program: str, *words: str) -> subprocess.CompletedProcess:
        environment = {**inherited, "PATH": f"{python.parent}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
        command = [str(python.parent / program), *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)

    return typed


def longest_side(path: Path) -> int:
    with Image.open(path) as picture:
        return max(picture.size)


def data_files(folder: str) -> set[str]:
    """Every file of the repository's `examples`, as it is called under `folder`."""
    return {f"{folder}/{path.relative_to(ROOT / 'examples')}" for path in (ROOT / "examples").rglob("*.*") if path.is_file()}


def test_the_wheel_has_every_file_of_the_package_the_examples_and_the_command(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        (scripts,) = [wheel.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    files = (path for path in (ROOT / "featviz").rglob("*.*") if path.is_file() and "__pycache__" not in path.parts)
    information = {name for name in names if ".dist-info/" in name}
    assert names - information == {str(path.relative_to(ROOT)) for path in files} | data_files("featviz/examples")
    assert {"featviz/py.typed", "featviz/ui/page.css", "featviz/ui/page.js", "featviz/ui/languages/de.json"} <= names
    assert {"featviz/examples/presets/5_eyes.json", "featviz/examples/atlas/vgg19_relu3_1.webp"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in information)
    assert "featviz = featviz.cli:main" in scripts


def test_the_sdist_has_what_the_wheel_is_built_from(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert data_files("examples") | {"pyproject.toml", "README.md", "LICENSE", "featviz/py.typed", "featviz/ui/page.css"} <= names
    assert not [name for name in names if name.startswith(("tests", "scripts", "benchmarks", ".venv"))]


def test_the_command_runs_in_an_empty_environment(typed, tmp_path):
    done = typed("featviz", "deepdream", "cat.jpg", "dream.png", "--preset", "eyes", "--size", "64", "--steps", "1")
    assert (done.returncode, done.stdout) == (0, "dream.png\n"), done.stderr
    assert longest_side(tmp_path / "dream.png") == 64


def test_the_python_of_the_readme_runs_all_data_is_found_and_a_missing_extra_is_one_sentence(typed, tmp_path):
    script = f"""
{snippets("README.md", "python")[0]}
import importlib.util, runpy
import featviz
from featviz import cli
from featviz.recipes import presets
from featviz.runtime import atlas
print(featviz.__version__, featviz.__file__)
print([name for name in {OPTIONAL} if importlib.util.find_spec(name)])
print(len(presets.read_examples()), len(presets.read_presets()), len(atlas.sheets()))
print(cli.main(["deepdream-zoom", "cat.jpg", "journey.mp4"]))
runpy.run_module("featviz.ui", run_name="__main__")  # As `python -m featviz.ui`.
"""
    done = typed("python", "-W", "error", "-c", script)
    *previews, origin, optional, counts, code = done.stdout.splitlines()
    assert previews[-1].startswith("100% done")
    assert [longest_side(tmp_path / name) for name in ("dream.png", "painted.png", "castle.png")] == [256, 128, 256]
    version, file = origin.split()
    assert version == featviz.__version__
    assert not Path(file).is_relative_to(ROOT)
    assert optional == "[]"
    examples, presets, sheets = (len(list((ROOT / "examples").glob(one))) for one in ("*.json", "presets/*.json", "atlas/*.json"))
    assert counts == f"{examples} {presets} {sheets}"
    assert (code, done.returncode) == ("1", 1)
    assert done.stderr.splitlines() == [
        'Videos need PyAV, which is not installed: pip install "featviz[video]"',
        'The page needs Gradio, which is not installed: pip install "featviz[app]"',
    ]
    assert not (tmp_path / "journey.mp4").exists()
